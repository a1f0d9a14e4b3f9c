//! A service of the legacy era over streamable HTTP: a session for each owner.
//!
//! Sessions are begun when they are needed and ended when their owner is gone or they were not used for a
//! while. A session that the service forgot is begun anew, once for a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use opsroom_core::lifecycle::Lifecycle;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use super::call::{Abilities, Ask, Call, Event, Events, Notice, Owner, Reply, Trouble};
use super::endpoint::{Endpoint, LARGEST_ANSWER, body, push_header};
use super::wire::Answer;
use crate::message::{self, Members};
use crate::sse::Decoder;

/// The newest revision of the era.
pub const NEWEST: &str = "2025-11-25";
/// Every revision of the era, newest first.
pub const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// How long a session is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(600);
/// How many sessions are kept with one service.
const MOST_SESSIONS: usize = 512;
/// How often a stream that the service ended is taken up again while an answer is missing.
const MOST_RESUMED: usize = 8;
/// The longest pause before that.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a request waits for the session's own stream, on which the service may ask for something. Some
/// services begin that stream only with its first message.
const STREAM: Duration = Duration::from_millis(500);

/// A service of the legacy era.
pub struct Legacy {
    endpoint: Arc<Endpoint>,
    lifecycle: Lifecycle,
    sessions: Mutex<HashMap<Owner, Arc<Slot>>>,
}

struct Slot {
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    used: Mutex<Instant>,
}

/// A session with the service.
pub struct Session {
    endpoint: Arc<Endpoint>,
    /// The headers of its requests.
    headers: Vec<u8>,
    has_id: bool,
    /// What the service said in the handshake.
    pub greeting: Box<RawValue>,
    next: AtomicU64,
    /// The newest request: to it belong the log messages that name none.
    newest: AtomicU64,
    /// What the service sends that belongs to no request.
    pub notices: broadcast::Sender<Arc<Notice>>,
    at_work: Arc<AtWork>,
    gone: CancellationToken,
}

/// Where the events of the requests at work go, by their numbers.
#[derive(Default)]
struct AtWork(Mutex<BTreeMap<u64, Events>>);

impl AtWork {
    fn calls(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Events>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest: to it belongs what a service asks without saying for which.
    fn newest(&self) -> Option<Events> {
        self.calls().last_key_value().map(|(_, events)| events.clone())
    }
}

/// Takes a request out when it is answered or given up.
struct Leaves<'a>(&'a AtWork, u64);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.calls().remove(&self.1);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Legacy {
    /// A service at this endpoint.
    pub fn new(endpoint: Endpoint, lifecycle: Lifecycle) -> Self {
        Self { endpoint: Arc::new(endpoint), lifecycle, sessions: Mutex::default() }
    }

    /// The session of an owner, begun if there is none.
    pub async fn session(&self, owner: &Owner) -> Result<Arc<Session>, Trouble> {
        let slot = self.slot(owner);
        let mut session = slot.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| !session.gone.is_cancelled()) {
            return Ok(session.clone());
        }
        let begun = Arc::new(self.begin(owner.abilities).await?);
        *session = Some(begun.clone());
        Ok(begun)
    }

    fn slot(&self, owner: &Owner) -> Arc<Slot> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(slot) = sessions.get(owner) {
            *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
            return slot.clone();
        }
        let used = |slot: &Arc<Slot>| *slot.used.lock().unwrap_or_else(PoisonError::into_inner);
        let ended: Vec<Owner> = sessions
            .iter()
            .filter(|(owner, slot)| !owner.subject.is_empty() && now - used(slot) > KEPT)
            .map(|(owner, _)| owner.clone())
            .collect();
        let oldest = || {
            let others = sessions.iter().filter(|(owner, _)| !owner.subject.is_empty());
            others.min_by_key(|(_, slot)| used(slot)).map(|(owner, _)| owner.clone())
        };
        let ended = if ended.is_empty() && sessions.len() >= MOST_SESSIONS {
            oldest().into_iter().collect()
        } else {
            ended
        };
        for owner in ended {
            if let Some(slot) = sessions.remove(&owner) {
                self.end(slot);
            }
        }
        let slot = Arc::new(Slot { session: tokio::sync::Mutex::new(None), used: Mutex::new(now) });
        sessions.insert(owner.clone(), slot.clone());
        slot
    }

    /// Ends the sessions that belong to a client's session.
    pub fn end_sessions_of(&self, session: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let owners: Vec<Owner> =
            sessions.keys().filter(|owner| owner.session.as_deref() == Some(session)).cloned().collect();
        for owner in owners {
            if let Some(slot) = sessions.remove(&owner) {
                self.end(slot);
            }
        }
    }

    fn end(&self, slot: Arc<Slot>) {
        let work = async move {
            if let Some(session) = slot.session.lock().await.take() {
                session.end().await;
            }
            Ok(())
        };
        drop(self.lifecycle.spawn_work(work));
    }

    async fn begin(&self, abilities: Abilities) -> Result<Session, Trouble> {
        let (version, greeting, id) = handshake(&self.endpoint, abilities).await?;
        let mut headers = Vec::new();
        push_header(&mut headers, "mcp-protocol-version", &version);
        if let Some(id) = &id {
            push_header(&mut headers, "mcp-session-id", id);
        }
        let session = Session {
            endpoint: self.endpoint.clone(),
            headers,
            has_id: id.is_some(),
            greeting,
            next: AtomicU64::new(1),
            newest: AtomicU64::new(0),
            notices: broadcast::channel(64).0,
            at_work: Arc::default(),
            gone: CancellationToken::new(),
        };
        session.tell(&message::request(None, "notifications/initialized", None)).await?;
        let (opened, open) = oneshot::channel();
        self.listen(&session, opened);
        if abilities != Abilities::default() {
            // What is asked on a stream that is not open yet is lost with some services.
            let _without = tokio::time::timeout(STREAM, open).await;
        }
        Ok(session)
    }

    /// Follows the stream of what belongs to no request, for as long as the session lasts. A service that
    /// has none says so, which is no error.
    fn listen(&self, session: &Session, opened: oneshot::Sender<()>) {
        let (endpoint, headers) = (session.endpoint.clone(), session.headers.clone());
        let (heard, gone) = ((session.notices.clone(), session.at_work.clone()), session.gone.clone());
        let stop = self.lifecycle.stopping();
        let work = async move {
            let follow = async {
                let (mut last, mut opened) = (None, Some(opened));
                let mut pause = Duration::from_secs(1);
                loop {
                    let begun = Instant::now();
                    match backchannel(&endpoint, &headers, &mut last, &heard, &mut opened).await {
                        Followed::None => return,
                        Followed::Ended(retry) => {
                            pause = if begun.elapsed() > Duration::from_secs(60) {
                                Duration::from_secs(1)
                            } else {
                                (pause * 2).min(Duration::from_secs(60))
                            };
                            tokio::time::sleep(retry.unwrap_or(pause)).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = follow => {}
                () = gone.cancelled() => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        };
        drop(self.lifecycle.spawn_work(work));
    }

    /// Sends a request on its owner's session and follows its answer to the end.
    pub async fn call(&self, call: &Call, events: &Events) -> Result<Reply, Trouble> {
        let session = self.session(&call.owner).await?;
        match session.call(call, events).await {
            Err(Trouble::SessionGone) => {
                session.gone.cancel();
                self.session(&call.owner).await?.call(call, events).await
            }
            other => other,
        }
    }
}

/// The handshake: the revision that was agreed on, the whole result, and the session's id.
async fn handshake(
    endpoint: &Endpoint,
    abilities: Abilities,
) -> Result<(String, Box<RawValue>, Option<String>), Trouble> {
    let id = message::raw(&json!(0));
    let hello = message::request(Some(&id), "initialize", Some(&hello(abilities)));
    let answer = endpoint.post(&[], &hello).await?;
    let head = &answer.head;
    match head.status {
        200 => {}
        401 | 403 => return Err(Trouble::Unauthorized(head.challenge.clone())),
        status => return Err(Trouble::garbled(format!("status {status} to the handshake"))),
    }
    let session = head.session.clone();
    if session.as_ref().is_some_and(|id| id.is_empty() || !id.bytes().all(|b| (0x21..0x7f).contains(&b))) {
        return Err(Trouble::garbled("a session id with other than visible characters"));
    }
    let (events, _none) = tokio::sync::mpsc::channel(1);
    let reply = match (head.json, head.events) {
        (true, _) => super::modern::whole(&body(answer).await?, &id)?,
        (_, true) => super::modern::follow(super::modern::Opened::Stream(answer), &id, &events).await?,
        _ => return Err(Trouble::garbled("neither JSON nor a stream to the handshake")),
    };
    let (version, greeting) = greeted(reply)?;
    Ok((version, greeting, session))
}

/// The parameters of `initialize`.
pub fn hello(abilities: Abilities) -> Box<RawValue> {
    let mut hello = json!({
        "protocolVersion": NEWEST,
        "clientInfo": { "name": "opsroom", "version": env!("CARGO_PKG_VERSION") },
    });
    hello["capabilities"] = serde_json::from_str(abilities.to_raw().get()).unwrap_or_default();
    message::raw(&hello)
}

/// The revision and the greeting that an answer to `initialize` holds.
pub fn greeted(reply: Reply) -> Result<(String, Box<RawValue>), Trouble> {
    let Reply::Result(greeting) = reply else {
        return Err(Trouble::garbled("an error to the handshake"));
    };
    let version =
        Members::of(&greeting).and_then(|members| members.text("protocolVersion").map(String::from));
    match version {
        Some(version) if VERSIONS.contains(&version.as_str()) => Ok((version, greeting)),
        Some(other) => Err(Trouble::garbled(format!("revision {other:?} is not spoken here"))),
        None => Err(Trouble::garbled("a handshake without a revision")),
    }
}

enum Followed {
    /// There is no such stream.
    None,
    /// It ended.
    Ended(Option<Duration>),
}

async fn backchannel(
    endpoint: &Arc<Endpoint>,
    headers: &[u8],
    last: &mut Option<String>,
    (notices, at_work): &(broadcast::Sender<Arc<Notice>>, Arc<AtWork>),
    opened: &mut Option<oneshot::Sender<()>>,
) -> Followed {
    let mut own = headers.to_vec();
    if let Some(last) = last {
        push_header(&mut own, "last-event-id", last);
    }
    let got = endpoint.get(&own).await;
    // Whether it is open or there is none: nobody needs to wait for it any more.
    drop(opened.take());
    let mut answer = match got {
        Ok(answer) if answer.head.events => answer,
        Ok(answer) if (400..500).contains(&answer.head.status) => return Followed::None,
        _ => return Followed::Ended(None),
    };
    let (mut decoder, mut retry) = (Decoder::default(), None);
    let mut asked = FuturesUnordered::new();
    loop {
        let piece = tokio::select! {
            piece = answer.next() => piece,
            Some(said) = asked.next(), if !asked.is_empty() => {
                let said: bytes::Bytes = said;
                let _ignored = endpoint.post(headers, &said).await;
                continue;
            }
        };
        let Ok(Some(piece)) = piece else { break };
        let Ok(read) = decoder.push(&piece, LARGEST_ANSWER) else { break };
        for event in read {
            retry = event.retry.map(Duration::from_millis).or(retry);
            *last = event.id.or_else(|| last.take());
            let Ok(envelope) = message::parse(event.data.as_bytes()) else { continue };
            match (&envelope.method, envelope.id) {
                (Some(method), None) => {
                    let params = envelope.params.map(ToOwned::to_owned);
                    let notice = Notice { method: method.as_str().to_owned(), params };
                    // It is told to whoever listens now.
                    let _nobody = notices.send(Arc::new(notice));
                }
                // What is asked here is asked for the newest request, in whose middle the service is. Without
                // one there is no client to whom it could be put; a ping can be answered.
                (Some(method), Some(id)) => {
                    let method = method.as_str();
                    if method != "ping"
                        && let Some(events) = at_work.newest()
                    {
                        let (reply, answered) = oneshot::channel();
                        let params = envelope.params.map(ToOwned::to_owned);
                        let ask = Ask { method: method.to_owned(), params, reply };
                        if events.send(Event::Ask(ask)).await.is_ok() {
                            asked.push(said(id.to_owned(), answered));
                            continue;
                        }
                    }
                    let reply = own_answer(method).message(id);
                    let _ignored = endpoint.post(headers, &reply).await;
                }
                _ => {}
            }
        }
    }
    Followed::Ended(retry.map(|retry| retry.min(LONGEST_PAUSE)))
}

/// What the gateway itself answers to a request of a service.
pub fn own_answer(method: &str) -> Reply {
    match method {
        "ping" => Reply::Result(message::raw(&json!({}))),
        _ => Reply::error(message::METHOD_NOT_FOUND, "there is no client to whom this request can be put"),
    }
}

impl Session {
    /// Sends a notification or an answer.
    pub async fn tell(&self, message: &[u8]) -> Result<(), Trouble> {
        let answer = self.endpoint.post(&self.headers, message).await?;
        match answer.head.status {
            200..=299 => Ok(()),
            404 if self.has_id => Err(Trouble::SessionGone),
            status => Err(Trouble::garbled(format!("status {status} to a notification"))),
        }
    }

    async fn end(&self) {
        self.gone.cancel();
        if self.has_id {
            // It forgets an abandoned session by itself.
            let _ended =
                tokio::time::timeout(Duration::from_secs(2), self.endpoint.delete(&self.headers)).await;
        }
    }

    async fn call(self: &Arc<Self>, call: &Call, events: &Events) -> Result<Reply, Trouble> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = message::raw(&json!(number));
        let message = message::request(Some(&id), &call.method, Some(&call.params));
        self.newest.store(number, Ordering::Relaxed);
        let logged = self.notices.subscribe();
        self.at_work.calls().insert(number, events.clone());
        let _leaves = Leaves(&self.at_work, number);
        let answer = self.endpoint.post(&self.headers, &message).await?;
        match answer.head.status {
            404 if self.has_id => return Err(Trouble::SessionGone),
            401 | 403 => return Err(Trouble::Unauthorized(answer.head.challenge.clone())),
            _ => {}
        }
        if answer.head.json {
            return super::modern::whole(&body(answer).await?, &id);
        }
        if !answer.head.events {
            return Err(Trouble::garbled(format!("status {} without an answer", answer.head.status)));
        }
        let mut cancel = CancelOnDrop { session: Some(self.clone()), id: number };
        let reply = tokio::select! {
            reply = self.follow(answer, &id, events) => reply,
            never = self.forward(number, logged, events) => match never {},
        };
        cancel.session = None;
        reply
    }

    /// Hands on the log messages that a service sends beside the request's own stream.
    async fn forward(
        &self,
        number: u64,
        mut logged: broadcast::Receiver<Arc<Notice>>,
        events: &Events,
    ) -> std::convert::Infallible {
        loop {
            match logged.recv().await {
                Ok(notice) if notice.method == "notifications/message" => {
                    if self.newest.load(Ordering::Relaxed) == number {
                        // A slow client misses some of them.
                        let _full = events.try_send(Event::Notice((*notice).clone()));
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Follows the answer's stream, and takes it up again where the service ends it early (SEP-1699).
    async fn follow(&self, mut answer: Answer, id: &RawValue, events: &Events) -> Result<Reply, Trouble> {
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        let mut pause = Duration::from_secs(1);
        for _ in 0..=MOST_RESUMED {
            let mut decoder = Decoder::default();
            loop {
                let piece = tokio::select! {
                    piece = answer.next() => piece,
                    Some(said) = asked.next(), if !asked.is_empty() => {
                        let said: bytes::Bytes = said;
                        self.tell(&said).await?;
                        continue;
                    }
                };
                // A broken stream is taken up again like an ended one, when it can be.
                let Ok(Some(piece)) = piece else { break };
                let read = decoder.push(&piece, LARGEST_ANSWER);
                for event in read.map_err(|_| Trouble::garbled("a message is larger than what is taken"))? {
                    pause = event.retry.map_or(pause, Duration::from_millis);
                    last = event.id.or(last);
                    if event.data.is_empty() {
                        continue;
                    }
                    match self.message(event.data.as_bytes(), id, events).await? {
                        Message::Answer(reply) => return Ok(reply),
                        Message::Asked(wanted, reply) => asked.push(said(wanted, reply)),
                        Message::Told => {}
                    }
                }
            }
            let Some(last) = &last else { break };
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            let mut headers = self.headers.clone();
            push_header(&mut headers, "last-event-id", last);
            answer = self.endpoint.get(&headers).await?;
            if !answer.head.events {
                break;
            }
        }
        Err(Trouble::garbled("the stream ended before the answer"))
    }

    async fn message(&self, bytes: &[u8], id: &RawValue, events: &Events) -> Result<Message, Trouble> {
        let envelope = message::parse(bytes).map_err(|(_, what)| Trouble::Garbled(what))?;
        let Some(method) = &envelope.method else {
            return super::modern::whole(bytes, id).map(Message::Answer);
        };
        let (method, params) = (method.as_str().to_owned(), envelope.params.map(ToOwned::to_owned));
        let Some(wanted) = envelope.id else {
            let gone = events.send(Event::Notice(Notice { method, params })).await.is_err();
            return if gone { Err(Trouble::garbled("the caller went away")) } else { Ok(Message::Told) };
        };
        if method == "ping" {
            self.tell(&own_answer("ping").message(wanted)).await?;
            return Ok(Message::Told);
        }
        let (reply, answered) = oneshot::channel();
        match events.send(Event::Ask(Ask { method, params, reply })).await {
            Ok(()) => Ok(Message::Asked(wanted.to_owned(), answered)),
            Err(_) => Err(Trouble::garbled("the caller went away")),
        }
    }
}

enum Message {
    Answer(Reply),
    Asked(Box<RawValue>, oneshot::Receiver<Reply>),
    Told,
}

/// The client's answer to a request of the service, as a message.
async fn said(wanted: Box<RawValue>, reply: oneshot::Receiver<Reply>) -> bytes::Bytes {
    reply.await.unwrap_or_else(|_| own_answer("")).message(&wanted)
}

/// Tells the service that nobody waits any more.
struct CancelOnDrop {
    session: Option<Arc<Session>>,
    id: u64,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let params = message::raw(&json!({ "requestId": self.id, "reason": "the caller went away" }));
        let message = message::request(None, "notifications/cancelled", Some(&params));
        #[expect(clippy::disallowed_methods, reason = "a last word of a request; nothing is lost with it")]
        drop(tokio::spawn(async move {
            let _told = tokio::time::timeout(Duration::from_secs(5), session.tell(&message)).await;
        }));
    }
}
