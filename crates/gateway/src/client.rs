//! Who asks, in which era, and how it can be talked to while its request is at work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opsroom_core::{Caller, Kind};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::routes::View;
use crate::session::Session;
use crate::upstream::call::{Abilities, Owner};

/// The one who sent a request.
#[derive(Clone)]
pub struct Client {
    /// With which rights.
    pub caller: Caller,
    /// At which endpoint.
    pub view: View,
    /// How it speaks.
    pub speech: Speech,
    /// The longest time, where the client of the house says it.
    pub deadline: Option<Duration>,
    /// Set when the client cancels the request, or went away.
    pub cancel: CancellationToken,
    /// Whether it knows the tasks extension.
    pub tasks: bool,
    /// Headers of the request that the service must see as they came (`Mcp-Param-*`).
    pub headers: Vec<(String, String)>,
}

/// How a client speaks.
#[derive(Clone)]
pub enum Speech {
    /// 2026-07-28: everything is in the request.
    Modern(Abilities),
    /// Before: in a session.
    Legacy(Arc<Session>),
    /// The house itself, which can be asked for nothing.
    House,
}

impl Client {
    /// The house itself on behalf of a caller.
    pub fn of_house(caller: Caller, view: View, deadline: Option<Duration>) -> Self {
        Self {
            caller,
            view,
            speech: Speech::House,
            deadline,
            cancel: CancellationToken::new(),
            tasks: false,
            headers: Vec::new(),
        }
    }

    /// The session of a legacy client.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match &self.speech {
            Speech::Legacy(session) => Some(session),
            _ => None,
        }
    }

    /// Whether results have the form of 2026-07-28.
    pub fn is_modern(&self) -> bool {
        !matches!(self.speech, Speech::Legacy(_))
    }

    /// What it can be asked for.
    pub fn abilities(&self) -> Abilities {
        match &self.speech {
            Speech::Modern(abilities) => *abilities,
            Speech::Legacy(session) => session.abilities,
            Speech::House => Abilities::default(),
        }
    }

    /// Whose sessions with services its requests go by.
    pub fn owner(&self) -> Owner {
        Owner::caller(&self.caller, self.session().map(|session| session.id.as_str()), self.abilities())
    }
}

/// Where messages go that come before an answer.
#[derive(Clone)]
pub struct Out(mpsc::Sender<Bytes>);

impl Out {
    /// They go here.
    pub fn new(sink: mpsc::Sender<Bytes>) -> Self {
        Self(sink)
    }

    /// Sends one; a client that reads slowly is waited for.
    pub async fn send(&self, message: Bytes) {
        // Whoever went away needs no message.
        let _gone = self.0.send(message).await;
    }

    /// Sends one if there is room.
    pub fn offer(&self, message: Bytes) {
        let _full = self.0.try_send(message);
    }

    /// The sink itself.
    pub fn sink(&self) -> &mpsc::Sender<Bytes> {
        &self.0
    }
}

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// The whole message.
    pub message: Bytes,
    /// The HTTP status, for a client of 2026-07-28.
    pub status: u16,
    /// What went wrong with us or the service, for a client that is the house itself.
    pub kind: Option<Kind>,
}

impl Answer {
    /// A result.
    pub fn result(id: &RawValue, result: &RawValue) -> Self {
        Self { message: crate::message::result(id, result), status: 200, kind: None }
    }

    /// A message as it is.
    pub fn whole(message: Bytes) -> Self {
        Self { message, status: 200, kind: None }
    }

    /// An error.
    pub fn error(id: &RawValue, code: i64, text: &str) -> Self {
        Self::error_raw(id, code, &crate::message::error_object(code, text, None))
    }

    /// An error object that is there already.
    pub fn error_raw(id: &RawValue, code: i64, error: &RawValue) -> Self {
        use crate::message::{HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
        let status = match code {
            METHOD_NOT_FOUND => 404,
            HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => 400,
            _ => 200,
        };
        Self { message: crate::message::error_raw(Some(id), error), status, kind: None }
    }

    /// The same with a kind.
    pub fn because(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }
}
