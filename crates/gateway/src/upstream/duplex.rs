//! A service on one stream of messages in each direction: a child process, or HTTP+SSE of 2024-11-05.
//!
//! Requests of many callers share the stream, so each has an id and a progress token of ours. What the
//! service asks of "the client" belongs to no request that it names: it is put to the caller whose request
//! is at work, and refused when there are several callers, for else one might answer what another was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::call::{Ask, Call, Event, Events, Notice, Reply, Trouble};
use super::legacy::own_answer;
use crate::message::{self, Members, raw, raw_text};

/// The prefix of progress tokens of ours, so that a service's own are not taken for them.
const TOKEN: &str = "opsroom-";

/// One such service.
pub struct Duplex {
    out: mpsc::Sender<bytes::Bytes>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    /// What the service sends that belongs to no request.
    pub notices: broadcast::Sender<Arc<Notice>>,
    /// Set when the stream has ended.
    pub ended: CancellationToken,
}

struct Waiting {
    answer: oneshot::Sender<Reply>,
    events: Events,
    subject: String,
}

impl Duplex {
    /// A service to which `out` leads.
    pub fn new(out: mpsc::Sender<bytes::Bytes>) -> Arc<Self> {
        Arc::new(Self {
            out,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            notices: broadcast::channel(64).0,
            ended: CancellationToken::new(),
        })
    }

    /// Sends a notification.
    pub async fn tell(&self, message: bytes::Bytes) -> Result<(), Trouble> {
        self.out.send(message).await.map_err(|_| ended(true))
    }

    /// Sends a request and waits for its answer.
    pub async fn call(self: &Arc<Self>, call: &Call, events: &Events) -> Result<Reply, Trouble> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = raw(&json!(number));
        let params = with_token(&call.params, number);
        let message = message::request(Some(&id), &call.method, Some(&params));
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { answer, events: events.clone(), subject: call.owner.subject.clone() };
        self.waiting().insert(number, waiting);
        let guard = Guard { duplex: self, number, answered: false };
        if self.ended.is_cancelled() || self.out.send(message).await.is_err() {
            return Err(ended(false));
        }
        tokio::select! {
            reply = answered => {
                let mut guard = guard;
                guard.answered = true;
                reply.map_err(|_| ended(true))
            }
            () = self.ended.cancelled() => Err(ended(true)),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message of the service. A message that is none is left out: it cannot be answered.
    pub fn receive(self: &Arc<Self>, bytes: &[u8]) {
        let envelope = match message::parse(bytes) {
            Ok(envelope) => envelope,
            Err((_, what)) => {
                tracing::debug!(error = what, "a service sent what is no message");
                return;
            }
        };
        let params = || envelope.params.map(ToOwned::to_owned);
        match (&envelope.method, envelope.id) {
            (None, Some(id)) => {
                let number = id.get().parse::<u64>().ok();
                let waiting = number.and_then(|number| self.waiting().remove(&number));
                // An answer to nothing that was asked is left out.
                if let (Some(waiting), Some(reply)) = (waiting, Reply::of(&envelope)) {
                    let _gone = waiting.answer.send(reply);
                }
            }
            (Some(method), None) => {
                self.notice(Notice { method: method.as_str().to_owned(), params: params() });
            }
            (Some(method), Some(id)) => self.asked(method.as_str(), params(), id),
            (None, None) => {}
        }
    }

    fn notice(&self, notice: Notice) {
        let members = notice.params.as_deref().and_then(Members::of);
        let token = members.as_ref().and_then(|members| members.text("progressToken"));
        let number = token.and_then(|token| token.strip_prefix(TOKEN)?.parse::<u64>().ok());
        if notice.method == "notifications/progress" {
            let events = number.and_then(|number| Some(self.waiting().get(&number)?.events.clone()));
            if let Some(events) = events {
                // A slow client misses steps; it does not hold the others up.
                let _full = events.try_send(Event::Notice(notice));
            }
            return;
        }
        if notice.method == "notifications/message"
            && let Some(events) = self.only()
        {
            let _full = events.try_send(Event::Notice(notice));
            return;
        }
        let _nobody = self.notices.send(Arc::new(notice));
    }

    /// Where the events of the only principal at work go.
    fn only(&self) -> Option<Events> {
        let waiting = self.waiting();
        let mut all = waiting.iter().filter(|(_, waiting)| !waiting.subject.is_empty());
        let first = all.next()?;
        let mut newest = first;
        for one in all {
            if one.1.subject != first.1.subject {
                return None;
            }
            if one.0 > newest.0 {
                newest = one;
            }
        }
        Some(newest.1.events.clone())
    }

    fn asked(self: &Arc<Self>, method: &str, params: Option<Box<RawValue>>, id: &RawValue) {
        let (reply, answered) = oneshot::channel();
        let put = match self.only() {
            Some(events) if method != "ping" => {
                let ask = Ask { method: method.to_owned(), params, reply };
                events.try_send(Event::Ask(ask)).is_ok()
            }
            _ => false,
        };
        let (duplex, id, method) = (self.clone(), id.to_owned(), method.to_owned());
        #[expect(clippy::disallowed_methods, reason = "it ends with the answer or with the stream")]
        drop(tokio::spawn(async move {
            let reply = if put {
                tokio::select! {
                    reply = answered => reply.unwrap_or_else(|_| own_answer("")),
                    () = duplex.ended.cancelled() => return,
                }
            } else {
                own_answer(&method)
            };
            let _ended = duplex.tell(reply.message(&id)).await;
        }));
    }
}

/// The parameters with a progress token of ours, where they have one.
fn with_token(params: &RawValue, number: u64) -> Box<RawValue> {
    let rewritten = || {
        let mut members = Members::of(params)?;
        let meta = members.get("_meta")?.to_owned();
        let mut meta = Members::of(&meta)?;
        meta.get("progressToken")?;
        meta.set("progressToken", raw_text(&format!("{TOKEN}{number}")));
        let meta = meta.to_raw();
        members.set("_meta", meta);
        Some(members.to_raw())
    };
    rewritten().unwrap_or_else(|| params.to_owned())
}

fn ended(begun: bool) -> Trouble {
    Trouble::Unreachable { begun, what: "its stream ended".to_owned() }
}

/// Forgets a request, and tells the service that nobody waits when there was no answer.
struct Guard<'a> {
    duplex: &'a Duplex,
    number: u64,
    answered: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.duplex.waiting().remove(&self.number);
        if !self.answered {
            let params = raw(&json!({ "requestId": self.number, "reason": "the caller went away" }));
            let message = message::request(None, "notifications/cancelled", Some(&params));
            // A service that reads nothing learns it by its stream's end.
            let _full = self.duplex.out.try_send(message);
        }
    }
}
