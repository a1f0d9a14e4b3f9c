//! HTTP+SSE of 2024-11-05, for old clients: `GET /sse` is an event stream whose first event names the URL
//! to which messages are posted; their answers come on the stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use opsroom_core::id::new_token;
use opsroom_core::{Caller, Error};
use opsroom_gateway::lines::Conversation;
use opsroom_gateway::{Gateway, View};
use tokio::sync::mpsc;

use crate::faces::Server;
use crate::faces::rest::{self, Failure};

/// The most streams at once, of all callers.
const MOST: usize = 1_024;
/// How often a comment keeps a quiet stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The streams that are open. Cheap to clone.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Open>>);

/// Who opened each stream, and its conversation, by the stream's id.
type Open = HashMap<String, (String, Arc<Conversation>)>;

impl Streams {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a conversation when its stream is dropped.
struct Ends {
    streams: Streams,
    id: String,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.id);
    }
}

/// Opens a stream.
pub fn open(server: &Server, gateway: &Gateway, caller: Caller, method: &Method) -> Response {
    if method != Method::GET {
        return rest::method_not_allowed();
    }
    let (out, messages) = mpsc::channel::<Bytes>(64);
    let (id, subject) = (new_token(""), caller.subject.clone());
    let conversation = Arc::new(gateway.converse(caller, View::All, out));
    {
        let mut all = server.streams.lock();
        if all.len() >= MOST {
            let error = Error::new(
                opsroom_core::Kind::Busy,
                format!("{MOST} streams are open, the most there may be"),
            );
            return Failure(error).into_response();
        }
        all.insert(id.clone(), (subject, conversation));
    }
    let ends = Ends { streams: server.streams.clone(), id: id.clone() };
    let first = sse::Event::default().event("endpoint").data(format!("/messages/?session_id={id}"));
    let rest = futures_util::stream::unfold((messages, ends), async |(mut messages, ends)| {
        let message = messages.recv().await?;
        let text = String::from_utf8_lossy(&message).replace(['\n', '\r'], " ");
        Some((sse::Event::default().event("message").data(text), (messages, ends)))
    });
    let stop = server.room.lifecycle.stopping();
    let all = futures_util::stream::iter([first]).chain(rest).map(Ok::<_, std::convert::Infallible>);
    let all = all.take_until(async move { stop.cancelled().await });
    let mut answer = Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    answer.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    answer
}

/// Takes a message for a stream, from the one who opened it.
pub async fn post(server: &Server, caller: Caller, request: Request<Body>) -> Response {
    if request.method() != Method::POST {
        return rest::method_not_allowed();
    }
    let query = request.uri().query().unwrap_or_default();
    let id =
        query.split('&').find_map(|pair| pair.strip_prefix("session_id=")).unwrap_or_default().to_owned();
    let conversation = {
        let all = server.streams.lock();
        all.get(&id).filter(|(subject, _)| *subject == caller.subject).map(|(_, talk)| talk.clone())
    };
    let Some(conversation) = conversation else {
        return Failure(Error::not_found("there is no such stream: open one with GET /sse")).into_response();
    };
    let (head, body) = request.into_parts();
    match rest::bytes(server, &head.headers, body).await {
        Ok(bytes) => {
            conversation.receive(bytes).await;
            StatusCode::ACCEPTED.into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}
