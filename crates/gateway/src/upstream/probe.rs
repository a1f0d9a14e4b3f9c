//! Finding out how a service speaks: 2026-07-28, a revision before, or HTTP+SSE.
//!
//! A status of 200 proves nothing: what counts is an answer to `server/discover` that names the revision.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::call::{Abilities, Call, Owner, Reply, Trouble};
use super::duplex::Duplex;
use super::endpoint::Endpoint;
use super::legacy::{Legacy, greeted, hello};
use super::modern::{Modern, VERSION};
use super::{Connection, Link, old_sse, stdio};
use crate::catalogue::Era;
use crate::message::{self, Members, raw, text};
use crate::world::Transport;

/// How long a service may take to say how it speaks.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a child process may take to answer a question that it may not know.
const PROBE: Duration = Duration::from_secs(5);

/// What a service says about itself.
pub struct Greeting {
    /// The revision.
    pub version: String,
    /// Its capabilities.
    pub capabilities: Option<Box<RawValue>>,
    /// Who it says it is.
    pub info: Option<Box<RawValue>>,
    /// What it tells agents.
    pub instructions: Option<String>,
}

impl Greeting {
    fn of(version: String, result: &RawValue) -> Self {
        let members = Members::of(result).unwrap_or_default();
        let info = members.get("serverInfo").map(ToOwned::to_owned).or_else(|| {
            let meta = Members::of(members.get("_meta")?)?;
            Some(meta.get("io.modelcontextprotocol/serverInfo")?.to_owned())
        });
        Self {
            version,
            capabilities: members.get("capabilities").map(ToOwned::to_owned),
            info,
            instructions: members.get("instructions").and_then(text).map(String::from),
        }
    }
}

/// Connects to a service. `stop` ends what the connection holds open.
pub async fn connect(link: &Link, stop: &CancellationToken) -> Result<(Connection, Greeting), Trouble> {
    let connected = async {
        match &link.upstream.transport {
            Transport::Http { url, headers, dial } => {
                let endpoint = || Endpoint::new(url, headers, *dial, &link.means.egress).map_err(wrong);
                http(link, endpoint, stop).await
            }
            Transport::LegacySse { url, headers, dial } => {
                let endpoint = Endpoint::new(url, headers, *dial, &link.means.egress).map_err(wrong)?;
                let duplex = old_sse::open(&link.means.lifecycle, &endpoint, stop.clone()).await?;
                handshake(duplex).await
            }
            Transport::Stdio { argv, env, cwd } => {
                let start = || {
                    let name = &link.upstream.name;
                    stdio::start(&link.means.lifecycle, name, argv, env, cwd.as_deref(), stop.clone())
                        .map_err(wrong)
                };
                child(start).await
            }
        }
    };
    match tokio::time::timeout(PATIENCE, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(Trouble::Late(PATIENCE)),
    }
}

fn wrong(error: opsroom_core::Error) -> Trouble {
    Trouble::Unreachable { begun: false, what: error.message }
}

async fn http(
    link: &Link,
    endpoint: impl Fn() -> Result<Endpoint, Trouble>,
    stop: &CancellationToken,
) -> Result<(Connection, Greeting), Trouble> {
    let modern = Connection::Modern(Arc::new(Modern { endpoint: endpoint()? }));
    let mut asked = modern.ask(&discover(), &raw(&json!("discover"))).await;
    if asked.as_ref().is_ok_and(names_revision) {
        asked = modern.ask(&discover(), &raw(&json!("discover-again"))).await;
    }
    match asked {
        Ok(reply) => {
            if let Some(greeting) = discovered(&reply) {
                return Ok((modern, greeting));
            }
        }
        // Whoever cannot be reached speaks nothing.
        Err(trouble @ (Trouble::Unreachable { begun: false, .. } | Trouble::Unauthorized(_))) => {
            return Err(trouble);
        }
        Err(_) => {}
    }
    let legacy = Legacy::new(endpoint()?, link.means.lifecycle.clone());
    match legacy.session(&Owner::gateway()).await {
        Ok(session) => {
            let (version, greeting) = greeted(Reply::Result(session.greeting.clone()))?;
            let greeting = Greeting::of(version, &greeting);
            Ok((Connection::Legacy(Arc::new(legacy)), greeting))
        }
        Err(trouble @ (Trouble::Unreachable { .. } | Trouble::Unauthorized(_))) => Err(trouble),
        // Where initialize cannot be posted, there may be an event stream of the oldest kind.
        Err(trouble) => match old_sse::open(&link.means.lifecycle, &endpoint()?, stop.clone()).await {
            Ok(duplex) => handshake(duplex).await,
            Err(_) => Err(trouble),
        },
    }
}

async fn child(start: impl Fn() -> Result<Arc<Duplex>, Trouble>) -> Result<(Connection, Greeting), Trouble> {
    let duplex = start()?;
    let modern = Connection::Duplex(duplex.clone(), Era::Modern);
    let asked = tokio::time::timeout(PROBE, modern.ask(&discover(), RawValue::NULL)).await;
    if let Ok(Ok(reply)) = &asked
        && let Some(greeting) = discovered(reply)
    {
        return Ok((modern, greeting));
    }
    // A service may end because of a question that it does not know.
    let duplex = if duplex.ended.is_cancelled() { start()? } else { duplex };
    handshake(duplex).await
}

async fn handshake(duplex: Arc<Duplex>) -> Result<(Connection, Greeting), Trouble> {
    let connection = Connection::Duplex(duplex.clone(), Era::Legacy);
    let reply = connection.ask(&Call::own("initialize", hello(Abilities::ALL)), RawValue::NULL).await?;
    let (version, greeting) = greeted(reply)?;
    duplex.tell(message::request(None, "notifications/initialized", None)).await?;
    Ok((connection, Greeting::of(version, &greeting)))
}

/// The `_meta` of the gateway's own requests to modern services.
pub fn own_meta() -> serde_json::Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": { "name": "opsroom", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn discover() -> Call {
    Call::own("server/discover", raw(&json!({ "_meta": own_meta() })))
}

/// Whether a refusal of the revision names the one that we speak: then the same question is put once more.
fn names_revision(reply: &Reply) -> bool {
    let Reply::Error(error) = reply else { return false };
    if crate::era::code(error) != message::UNSUPPORTED_VERSION {
        return false;
    }
    let error = Members::of(error).unwrap_or_default();
    let supported = error
        .get("data")
        .and_then(Members::of)
        .and_then(|data| serde_json::from_str::<Vec<String>>(data.get("supported")?.get()).ok());
    supported.is_some_and(|versions| versions.iter().any(|version| version == VERSION))
}

fn discovered(reply: &Reply) -> Option<Greeting> {
    let Reply::Result(result) = reply else { return None };
    let members = Members::of(result)?;
    let versions: Vec<String> = serde_json::from_str(members.get("supportedVersions")?.get()).ok()?;
    versions.iter().any(|version| version == VERSION).then(|| Greeting::of(VERSION.to_owned(), result))
}
