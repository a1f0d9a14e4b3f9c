//! A service of 2026-07-28 over HTTP: each request is whole in itself.

use serde_json::value::RawValue;

use super::call::{Call, Event, Events, Notice, Reply, Trouble};
use super::endpoint::{Endpoint, LARGEST_ANSWER, body, push_header};
use super::wire::Answer;
use crate::header::encode;
use crate::message;
use crate::sse::Decoder;

/// The revision that is spoken.
pub const VERSION: &str = "2026-07-28";

/// A service of the modern era.
pub struct Modern {
    /// Where it is.
    pub endpoint: Endpoint,
}

/// An answer that has begun.
pub enum Opened {
    /// All of it, as it came.
    Whole(bytes::Bytes),
    /// A stream of messages, the last of which is the answer.
    Stream(Answer),
}

impl Modern {
    /// Sends a message as it is.
    pub async fn open(
        &self,
        method: &str,
        name: Option<&str>,
        headers: &[(String, String)],
        message: &[u8],
    ) -> Result<Opened, Trouble> {
        let mut own = Vec::with_capacity(160);
        own.extend_from_slice(b"mcp-protocol-version: 2026-07-28\r\nmcp-method: ");
        own.extend_from_slice(method.as_bytes());
        own.extend_from_slice(b"\r\n");
        if let Some(name) = name {
            push_header(&mut own, "mcp-name", &encode(name));
        }
        for (name, value) in headers {
            push_header(&mut own, name, value);
        }
        let answer = self.endpoint.post(&own, message).await?;
        match answer.head.status {
            401 | 403 => Err(Trouble::Unauthorized(answer.head.challenge.clone())),
            _ if answer.head.events => Ok(Opened::Stream(answer)),
            _ if answer.head.json => Ok(Opened::Whole(body(answer).await?)),
            status => Err(Trouble::garbled(format!("status {status} without JSON"))),
        }
    }

    /// Sends a request and follows its answer to the end.
    pub async fn call(&self, call: &Call, id: &RawValue, events: &Events) -> Result<Reply, Trouble> {
        let message = message::request(Some(id), &call.method, Some(&call.params));
        let opened = self.open(&call.method, call.name.as_deref(), &call.headers, &message).await?;
        follow(opened, id, events).await
    }
}

/// Follows an answer to its end.
pub async fn follow(opened: Opened, id: &RawValue, events: &Events) -> Result<Reply, Trouble> {
    let mut answer = match opened {
        Opened::Whole(bytes) => return whole(&bytes, id),
        Opened::Stream(answer) => answer,
    };
    let mut decoder = Decoder::default();
    while let Some(piece) = answer.next().await? {
        let read = decoder.push(&piece, LARGEST_ANSWER);
        for event in read.map_err(|_| Trouble::garbled("a message is larger than what is taken"))? {
            if event.data.is_empty() {
                continue;
            }
            let bytes = event.data.as_bytes();
            let envelope = message::parse(bytes).map_err(|(_, what)| Trouble::Garbled(what))?;
            match &envelope.method {
                Some(method) if envelope.id.is_none() => {
                    let params = envelope.params.map(ToOwned::to_owned);
                    let notice = Notice { method: method.as_str().to_owned(), params };
                    // Nobody listens any more: then the answer is not wanted either.
                    if events.send(Event::Notice(notice)).await.is_err() {
                        return Err(Trouble::garbled("the caller went away"));
                    }
                }
                // The era has no requests of servers.
                Some(_) => {}
                None => return whole(bytes, id),
            }
        }
    }
    Err(Trouble::garbled("the stream ended before the answer"))
}

/// The answer that a whole message is.
pub fn whole(bytes: &[u8], id: &RawValue) -> Result<Reply, Trouble> {
    let envelope = message::parse(bytes).map_err(|(_, what)| Trouble::Garbled(what))?;
    let reply = Reply::of(&envelope).ok_or_else(|| Trouble::garbled("neither a result nor an error"))?;
    match envelope.id {
        Some(given) if given.get() == id.get() => Ok(reply),
        // A message that it could not read has no id it could repeat.
        None if matches!(reply, Reply::Error(_)) => Ok(reply),
        _ => Err(Trouble::garbled("the answer has the id of another request")),
    }
}
