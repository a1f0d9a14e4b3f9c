//! What is asked of an upstream, and what comes back, whatever the transport and the era.

use std::fmt;

use opsroom_core::Caller;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::wire::Failure;
use crate::message::{self, Envelope, Members};

/// A request to a service, in the words of the service's own era.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Box<RawValue>,
    /// What stands in `Mcp-Name`: the tool, the prompt or the resource.
    pub name: Option<String>,
    /// `Mcp-Param-*` headers, with their values as they are sent.
    pub headers: Vec<(String, String)>,
    /// Whose connection it goes by, where the service keeps sessions.
    pub owner: Owner,
}

impl Call {
    /// A request of the gateway itself.
    pub fn own(method: &str, params: Box<RawValue>) -> Self {
        Self { method: method.to_owned(), params, name: None, headers: Vec::new(), owner: Owner::gateway() }
    }
}

/// Whose session a request goes by. Sessions are never shared between principals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Who: a caller's subject, or nobody for the gateway's own.
    pub subject: String,
    /// The client's own session, for a legacy client.
    pub session: Option<String>,
    /// What the client can do: it is told to the service at the handshake.
    pub abilities: Abilities,
}

impl Owner {
    /// The gateway itself, which lists and probes.
    pub fn gateway() -> Self {
        Self { subject: String::new(), session: None, abilities: Abilities::default() }
    }

    /// A caller.
    pub fn caller(caller: &Caller, session: Option<&str>, abilities: Abilities) -> Self {
        Self { subject: caller.subject.clone(), session: session.map(str::to_owned), abilities }
    }
}

/// What a client can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Abilities {
    /// `elicitation/create` with a form.
    pub elicitation: bool,
    /// `elicitation/create` with a URL.
    pub elicitation_url: bool,
    /// `sampling/createMessage`.
    pub sampling: bool,
    /// The same with tools.
    pub sampling_tools: bool,
    /// `roots/list`.
    pub roots: bool,
}

impl Abilities {
    /// Every one.
    pub const ALL: Abilities = Abilities {
        elicitation: true,
        elicitation_url: true,
        sampling: true,
        sampling_tools: true,
        roots: true,
    };

    /// What a client's capabilities say.
    pub fn of(capabilities: Option<&RawValue>) -> Self {
        let Some(members) = capabilities.and_then(Members::of) else { return Self::default() };
        let has = |within: &str, name: &str| {
            members.get(within).and_then(Members::of).is_some_and(|inner| inner.get(name).is_some())
        };
        let elicitation = members.get("elicitation").is_some();
        Self {
            // An empty object meant forms before there were URLs.
            elicitation: elicitation && (has("elicitation", "form") || !has("elicitation", "url")),
            elicitation_url: has("elicitation", "url"),
            sampling: members.get("sampling").is_some(),
            sampling_tools: has("sampling", "tools"),
            roots: members.get("roots").is_some(),
        }
    }

    /// Whether a request of this method can be put to the client.
    pub fn can(&self, method: &str) -> bool {
        match method {
            "elicitation/create" => self.elicitation || self.elicitation_url,
            "sampling/createMessage" => self.sampling,
            "roots/list" => self.roots,
            _ => false,
        }
    }

    /// As `ClientCapabilities`.
    pub fn to_raw(self) -> Box<RawValue> {
        let mut capabilities = serde_json::Map::new();
        if self.elicitation || self.elicitation_url {
            let mut modes = serde_json::Map::new();
            if self.elicitation {
                modes.insert("form".to_owned(), serde_json::json!({}));
            }
            if self.elicitation_url {
                modes.insert("url".to_owned(), serde_json::json!({}));
            }
            capabilities.insert("elicitation".to_owned(), modes.into());
        }
        if self.sampling {
            let tools =
                if self.sampling_tools { serde_json::json!({ "tools": {} }) } else { serde_json::json!({}) };
            capabilities.insert("sampling".to_owned(), tools);
        }
        if self.roots {
            capabilities.insert("roots".to_owned(), serde_json::json!({}));
        }
        message::raw(&capabilities.into())
    }
}

/// What a service sends before its answer.
#[derive(Debug)]
pub enum Event {
    /// A notification that belongs to the request.
    Notice(Notice),
    /// A request of the service to the client.
    Ask(Ask),
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Option<Box<RawValue>>,
}

/// A request of a service, to be put to the client.
#[derive(Debug)]
pub struct Ask {
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Option<Box<RawValue>>,
    /// Takes the client's answer; dropped, the service is told that there is none.
    pub reply: oneshot::Sender<Reply>,
}

/// An answer: the service's, or a client's to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// A result.
    Result(Box<RawValue>),
    /// An error object.
    Error(Box<RawValue>),
}

impl Reply {
    /// The answer that a message is.
    pub fn of(envelope: &Envelope<'_>) -> Option<Self> {
        match (envelope.result, envelope.error) {
            (Some(result), None) => Some(Reply::Result(result.to_owned())),
            (None, Some(error)) => Some(Reply::Error(error.to_owned())),
            _ => None,
        }
    }

    /// An error of ours.
    pub fn error(code: i64, message: &str) -> Self {
        Reply::Error(message::error_object(code, message, None))
    }

    /// As a message.
    pub fn message(&self, id: &RawValue) -> bytes::Bytes {
        match self {
            Reply::Result(result) => message::result(id, result),
            Reply::Error(error) => message::error_raw(Some(id), error),
        }
    }
}

/// Where a request's events go.
pub type Events = mpsc::Sender<Event>;

/// Why there is no answer of the service.
#[derive(Debug)]
pub enum Trouble {
    /// It was not in time.
    Late(std::time::Duration),
    /// Too many requests are at work.
    Busy(usize),
    /// It cannot be reached.
    Unreachable {
        /// Whether it may have acted on the request.
        begun: bool,
        /// What was seen.
        what: String,
    },
    /// It answered what is no answer.
    Garbled(String),
    /// Its session is gone; a new one has to be begun.
    SessionGone,
    /// It wants credentials; the `WWW-Authenticate` header says which.
    Unauthorized(Option<String>),
}

impl Trouble {
    /// What came back is no answer.
    pub fn garbled(what: impl Into<String>) -> Self {
        Trouble::Garbled(what.into())
    }

    /// Whether the same request may be sent again without being done twice.
    pub fn was_not_begun(&self) -> bool {
        matches!(self, Trouble::Unreachable { begun: false, .. } | Trouble::Busy(_))
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect(what) => Trouble::Unreachable { begun: false, what },
            Failure::Broken { begun, .. } => Trouble::Unreachable { begun, what: failure.to_string() },
            Failure::Garbled(_) | Failure::TooLarge => Trouble::Garbled(failure.to_string()),
        }
    }
}

/// For the caller, after `the service NAME `.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Late(limit) => write!(f, "did not answer within {} s", limit.as_secs_f64()),
            Trouble::Busy(most) => write!(f, "has {most} requests at work, its limit; try again later"),
            Trouble::Unreachable { what, .. } => write!(f, "cannot be reached: {what}"),
            Trouble::Garbled(what) => write!(f, "gave no usable answer: {what}"),
            Trouble::SessionGone => f.write_str("ended its session"),
            Trouble::Unauthorized(challenge) => {
                f.write_str(
                    "refuses without other credentials; configure some, or log in with `connect_service`",
                )?;
                let scope =
                    challenge.as_deref().and_then(|text| text.split("scope=\"").nth(1)?.split('"').next());
                scope.map_or(Ok(()), |scope| write!(f, "; it wants the scope {scope}"))
            }
        }
    }
}
