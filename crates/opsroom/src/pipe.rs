//! The pipe: this side dials out over WebSocket to a remote MCP client, and serves it there.
//!
//! One WebSocket message is one JSON-RPC message; the remote end is the client (it sends `initialize` or
//! asks in the words of 2026-07-28). Each connection is a conversation of its own. When it ends, the pipe
//! connects again, with growing pauses that begin anew after a connection that lasted. The endpoint may
//! hold a token, so it is never shown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use opsroom_core::caller::Face;
use opsroom_core::egress::Egress;
use opsroom_core::{Caller, Error, Result, Role, Secret};
use opsroom_gateway::{Gateway, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::client::Client;
use crate::faces::mcp::relay::Relay;

/// The first pause and the longest, before connecting again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A connection that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// How often the other end is asked whether it is there, and after how long it is given up.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(60));
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);
/// The largest message.
const LARGEST: usize = 16 << 20;

/// A remote MCP client that the server dials and serves, as `opsroom pipe` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PipeConfig {
    /// Its name in the records of what it did: 1 to 40 of `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    /// The WebSocket URL of the remote client, such as `wss://example.com/mcp/?token=...`.
    pub endpoint: Secret,
    /// What it may do: `viewer`, `operator` or `administrator`.
    pub role: Role,
    /// The profile that it is served; empty: every tool that its role may use.
    pub profile: String,
}

impl Default for PipeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoint: Secret::default(),
            role: Role::Operator,
            profile: String::new(),
        }
    }
}

impl PipeConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(all: &[Self]) -> Result<()> {
        let wrong = |what: String| Err(Error::invalid(format!("pipes: {what}")));
        for (at, pipe) in all.iter().enumerate() {
            let name = pipe.name.escape_debug();
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
            if !(1..=40).contains(&pipe.name.len()) || !pipe.name.bytes().all(plain) {
                return wrong(format!("`{name}` is no name; use 1 to 40 of a-z, 0-9, _ and -"));
            }
            if all[..at].iter().any(|other| other.name == pipe.name) {
                return wrong(format!("two are named `{name}`"));
            }
            if let Err(error) = place(&pipe.endpoint) {
                return wrong(format!("`{name}`: {error}"));
            }
        }
        Ok(())
    }

    /// What is served to it by the gateway of this process.
    pub fn served(&self, gateway: Gateway) -> Served {
        let caller = Caller {
            subject: format!("pipe:{}", self.name),
            name: self.name.clone(),
            role: self.role,
            ..Caller::operator(Face::Mcp)
        };
        let view = match self.profile.as_str() {
            "" => View::All,
            profile => View::Profile(profile.to_owned()),
        };
        Served::Here(gateway, Box::new((caller, view)))
    }
}

/// What is served at the other end.
#[derive(Clone)]
pub enum Served {
    /// The gateway of this process, for this caller.
    Here(Gateway, Box<(Caller, View)>),
    /// A running server.
    Server(Client),
}

/// Serves the remote client at `endpoint` until `stop`.
///
/// # Errors
/// `Invalid` for what is no WebSocket URL.
pub async fn run(
    endpoint: &Secret,
    served: Served,
    egress: &Egress,
    stop: tokio_util::sync::CancellationToken,
) -> Result<()> {
    place(endpoint)?;
    let mut pause = PAUSES.0;
    loop {
        let begun = Instant::now();
        let ended = tokio::select! {
            ended = converse(endpoint, &served, egress) => ended,
            () = stop.cancelled() => return Ok(()),
        };
        if begun.elapsed() >= GOOD {
            pause = PAUSES.0;
        }
        let why = ended.err().map(|error| error.message).unwrap_or_else(|| "it was closed".to_owned());
        tracing::warn!(error = why, pause_ms = pause.as_millis() as u64, "the pipe ended; it connects again");
        // Many pipes that lost one server do not come back in one moment.
        let jitter = pause.mul_f64(0.5 + f64::from(begun.elapsed().subsec_micros() % 1000) / 2000.0);
        tokio::select! {
            () = tokio::time::sleep(jitter) => {}
            () = stop.cancelled() => return Ok(()),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// The scheme, the host and the port of an endpoint.
fn place(endpoint: &Secret) -> Result<(bool, String, u16)> {
    let wrong = || Error::invalid("the pipe's endpoint is not such as wss://example.com/mcp/?token=...");
    let uri: http::Uri = endpoint.expose().parse().map_err(|_| wrong())?;
    let tls = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(wrong()),
    };
    let host = uri.host().ok_or_else(wrong)?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((tls, host, uri.port_u16().unwrap_or(if tls { 443 } else { 80 })))
}

async fn converse(endpoint: &Secret, served: &Served, egress: &Egress) -> Result<()> {
    let (tls, host, port) = place(endpoint)?;
    let late = |_| Error::unavailable("the pipe's endpoint does not answer in time");
    let connect = async {
        // The administrator of this machine names the endpoint: it may be anywhere.
        let stream = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|error| Error::unavailable(format!("{host} port {port} cannot be reached: {error}")))?;
        stream.set_nodelay(true).map_err(Error::internal)?;
        Ok::<_, Error>(stream)
    };
    let stream = tokio::time::timeout(CONNECT, connect).await.map_err(late)??;
    if !tls {
        return speak(endpoint, served, stream).await;
    }
    let name = rustls::pki_types::ServerName::try_from(host)
        .map_err(|_| Error::invalid("the pipe's endpoint names no server"))?;
    let connector = tokio_rustls::TlsConnector::from(egress.tls_for_http1());
    let secured = tokio::time::timeout(CONNECT, connector.connect(name, stream)).await.map_err(late)?;
    let secured =
        secured.map_err(|error| Error::unavailable(format!("TLS with the endpoint failed: {error}")))?;
    speak(endpoint, served, secured).await
}

async fn speak<S>(endpoint: &Secret, served: &Served, stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let request =
        endpoint.expose().into_client_request().map_err(|_| Error::invalid("the endpoint is no URL"))?;
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    let shaken = tokio::time::timeout(CONNECT, shaken).await;
    let shaken = shaken.map_err(|_| Error::unavailable("the endpoint does not answer in time"))?;
    // The error's text could repeat the request's line, with the token in it.
    let (socket, _) = shaken.map_err(|_| Error::unavailable("the endpoint refuses the WebSocket"))?;
    tracing::info!("the pipe is connected");
    let (mut to, mut from) = socket.split();
    let (out, mut said) = mpsc::channel::<Bytes>(64);
    let mut talk = Talk::new(served, out);
    let mut heard = Instant::now();
    let mut pings = tokio::time::interval(PING.0);
    let broken = |_| Error::unavailable("the connection broke");
    loop {
        tokio::select! {
            message = from.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => talk.receive(text.as_bytes()).await,
                    Some(Ok(Message::Binary(bytes))) => talk.receive(&bytes).await,
                    Some(Ok(Message::Close(_))) | None => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(broken(error)),
                }
            }
            Some(message) = said.recv() => {
                let text = String::from_utf8_lossy(&message).into_owned();
                to.send(Message::text(text)).await.map_err(broken)?;
            }
            _ = pings.tick() => {
                if heard.elapsed() > PING.1 {
                    return Err(Error::unavailable("the other end is silent"));
                }
                to.send(Message::Ping(Vec::new().into())).await.map_err(broken)?;
            }
        }
    }
}

/// One connection's conversation.
enum Talk {
    Here(Box<opsroom_gateway::lines::Conversation>),
    Server(Arc<Relay>, tokio::task::JoinSet<()>),
}

impl Talk {
    fn new(served: &Served, out: mpsc::Sender<Bytes>) -> Self {
        match served {
            Served::Here(gateway, whom) => {
                let (caller, view) = (**whom).clone();
                Talk::Here(Box::new(gateway.converse(caller, view, out)))
            }
            Served::Server(client) => {
                Talk::Server(Relay::new(client.clone(), out), tokio::task::JoinSet::new())
            }
        }
    }

    async fn receive(&mut self, message: &[u8]) {
        // Some ends keep the line's end of the program that they speak for.
        let message = message.trim_ascii();
        if message.is_empty() {
            return;
        }
        match self {
            Talk::Here(conversation) => conversation.receive(Bytes::copy_from_slice(message)).await,
            Talk::Server(relay, requests) => relay.receive(message.to_vec(), requests).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_cannot_be_dialled_is_named_without_its_token() {
        let good = || PipeConfig {
            name: "desk".to_owned(),
            endpoint: Secret::new("wss://a.example/?token=hunter2"),
            ..PipeConfig::default()
        };
        assert!(PipeConfig::validate(&[good()]).is_ok());
        let wrong = [
            vec![good(), good()],
            vec![PipeConfig { name: "A b".to_owned(), ..good() }],
            vec![PipeConfig { endpoint: Secret::new("https://a.example/?token=hunter2"), ..good() }],
        ];
        for pipes in wrong {
            let error = PipeConfig::validate(&pipes).unwrap_err();
            assert!(error.message.starts_with("pipes: ") && !error.message.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_endpoint_is_a_websocket_url_and_its_token_is_in_no_error() {
        let place = |text: &str| place(&Secret::new(text));
        assert_eq!(place("wss://a.example/mcp/?token=hunter2").unwrap(), (true, "a.example".to_owned(), 443));
        assert_eq!(place("ws://127.0.0.1:8004/mcp").unwrap(), (false, "127.0.0.1".to_owned(), 8004));
        for text in ["", "https://a.example/?token=hunter2", "wss:///?token=hunter2", "hunter2"] {
            let error = place(text).unwrap_err();
            assert!(!error.message.contains("hunter2"), "{text}");
        }
    }
}
