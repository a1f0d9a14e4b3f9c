//! The DevTools protocol over two pipes: JSON messages, each ended by a zero byte.
//!
//! Whoever reads events never waits for an answer while it does: the reader hands events on in their order
//! and would wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The longest message of the browser: a picture in base64, and what is around it.
const LONGEST: u64 = 96 << 20;
/// Events that wait for a page's reader.
const WAITING: usize = 1024;

/// Something that happened in a page.
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub method: String,
    /// The session it happened in; empty for the browser's own.
    pub session: String,
    /// The details.
    pub params: Value,
}

#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    method: Option<String>,
    #[serde(rename = "sessionId", default)]
    session: String,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Value>,
}

/// A connection to a browser. Cheap to clone.
#[derive(Clone)]
pub struct Devtools(Arc<Inner>);

struct Inner {
    out: mpsc::UnboundedSender<Vec<u8>>,
    next: AtomicU64,
    table: Mutex<Table>,
    ended: CancellationToken,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, oneshot::Sender<Result<Value, String>>>,
    sessions: HashMap<String, mpsc::Sender<Event>>,
}

impl Devtools {
    /// Speaks over these pipes until one of them ends.
    pub fn start(
        lifecycle: &Lifecycle,
        input: impl AsyncWrite + Send + Unpin + 'static,
        output: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        let (out, messages) = mpsc::unbounded_channel();
        let ended = CancellationToken::new();
        let inner = Inner { out, next: AtomicU64::new(1), table: Mutex::default(), ended };
        let this = Self(Arc::new(inner));
        let served = this.clone();
        drop(lifecycle.spawn_work(async move {
            tokio::select! {
                () = write(input, messages) => {}
                () = served.read(output) => {}
                () = served.0.ended.cancelled() => {}
            }
            served.end();
            Ok(())
        }));
        this
    }

    /// Set when the browser is gone.
    pub fn ended(&self) -> CancellationToken {
        self.0.ended.clone()
    }

    /// Lets go of the pipes, at which the browser ends.
    pub fn end(&self) {
        self.0.ended.cancel();
        let mut table = self.table();
        table.waiting.clear();
        table.sessions.clear();
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// `Unavailable` when the browser refuses, is gone or is late.
    pub async fn call(&self, session: &str, method: &str, params: Value, limit: Duration) -> Result<Value> {
        let (sender, receiver) = oneshot::channel();
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.table().waiting.insert(id, sender);
        self.send(id, session, method, params);
        let answer = tokio::time::timeout(limit, receiver).await;
        self.table().waiting.remove(&id);
        match answer {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(why))) => Err(Error::unavailable(format!("the browser refused {method}: {why}"))),
            Ok(Err(_)) => Err(Error::unavailable("the browser ended in the middle of its work")),
            Err(_) => Err(Error::unavailable(format!(
                "the page does not let the browser answer within {} s ({method})",
                limit.as_secs_f64()
            ))),
        }
    }

    /// Calls a method whose answer nobody needs.
    pub fn tell(&self, session: &str, method: &str, params: Value) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.send(id, session, method, params);
    }

    /// The events of a session from now on, those of its frames and workers too, and the browser's own.
    pub fn listen(&self, session: &str) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.table().sessions.insert(session.to_owned(), sender);
        receiver
    }

    fn send(&self, id: u64, session: &str, method: &str, params: Value) {
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !session.is_empty() {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        // Without a reader the browser is gone, and who waits for an answer learns it.
        let _gone = self.0.out.send(bytes);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, output: impl AsyncRead + Unpin) {
        let mut reader = BufReader::with_capacity(64 << 10, output);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match (&mut reader).take(LONGEST).read_until(0, &mut bytes).await {
                Ok(read) if read > 0 && bytes.last() == Some(&0) => {}
                _ => return,
            }
            bytes.pop();
            match serde_json::from_slice::<Message>(&bytes) {
                Ok(message) => self.take(message).await,
                Err(error) => tracing::debug!(error = %error, "the browser said what is no message"),
            }
            if bytes.capacity() > 1 << 20 {
                bytes = Vec::new();
            }
        }
    }

    async fn take(&self, message: Message) {
        if let Some(id) = message.id {
            let waiting = self.table().waiting.remove(&id);
            let answer = match message.error {
                None => Ok(message.result),
                Some(error) => Err(error["message"].as_str().unwrap_or("no reason given").to_owned()),
            };
            if let Some(waiting) = waiting {
                // Who asked may have stopped waiting.
                let _gone = waiting.send(answer);
            }
            return;
        }
        let Some(method) = message.method else { return };
        let event = Event { method, session: message.session, params: message.params };
        let to: Vec<mpsc::Sender<Event>> = {
            let mut table = self.table();
            let of_session = table.sessions.get(&event.session).cloned();
            let child = || event.params["sessionId"].as_str().unwrap_or_default().to_owned();
            match (event.method.as_str(), &of_session) {
                // A frame's or worker's events belong to the page, from the first on.
                ("Target.attachedToTarget", Some(page)) => {
                    let page = page.clone();
                    table.sessions.insert(child(), page);
                }
                ("Target.detachedFromTarget", _) => {
                    table.sessions.remove(&child());
                }
                _ => {}
            }
            if event.session.is_empty() {
                table.sessions.values().cloned().collect()
            } else {
                of_session.into_iter().collect()
            }
        };
        for page in to {
            // A page whose capture has ended does not listen any more.
            let _gone = page.send(event.clone()).await;
        }
    }

    /// Forgets the sessions of a page that is closed.
    pub fn forget(&self) {
        self.table().sessions.retain(|_, page| !page.is_closed());
    }
}

async fn write(mut input: impl AsyncWrite + Unpin, mut messages: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(message) = messages.recv().await {
        if input.write_all(&message).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// A browser that the test plays: what it reads, and where it writes.
    fn played() -> (Devtools, BufReader<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (out, answers) = tokio::io::duplex(1 << 16);
        (Devtools::start(&Lifecycle::new(), ours, answers), BufReader::new(theirs), out)
    }

    async fn heard(from: &mut BufReader<tokio::io::DuplexStream>) -> Value {
        let mut bytes = Vec::new();
        from.read_until(0, &mut bytes).await.unwrap();
        bytes.pop();
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn say(to: &mut tokio::io::DuplexStream, message: Value) {
        to.write_all(format!("{message}\0").as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn answers_find_those_who_asked_in_whatever_order_they_come() {
        let (devtools, mut from, mut to) = played();
        let ask = |method: &'static str| devtools.call("s", method, json!({}), LIMIT);
        let browser = async {
            let (first, second) = (heard(&mut from).await, heard(&mut from).await);
            for asked in [second, first] {
                assert_eq!(asked["sessionId"], "s");
                say(&mut to, json!({ "id": asked["id"], "result": { "of": asked["method"] } })).await;
            }
        };
        let (a, b, ()) = tokio::join!(ask("A"), ask("B"), browser);
        assert_eq!((a.unwrap()["of"].clone(), b.unwrap()["of"].clone()), (json!("A"), json!("B")));
    }

    #[tokio::test]
    async fn a_refusal_and_an_end_are_errors_of_those_who_wait() {
        let (devtools, mut from, mut to) = played();
        let browser = async {
            let asked = heard(&mut from).await;
            say(&mut to, json!({ "id": asked["id"], "error": { "message": "no such page" } })).await;
        };
        let (refused, ()) = tokio::join!(devtools.call("", "A", json!({}), LIMIT), browser);
        assert!(refused.unwrap_err().message.contains("no such page"));
        let end = async {
            heard(&mut from).await;
            drop(to);
        };
        let (gone, ()) = tokio::join!(devtools.call("", "B", json!({}), LIMIT), end);
        assert!(gone.unwrap_err().message.contains("ended"));
        assert!(devtools.ended().is_cancelled());
    }

    #[tokio::test]
    async fn events_of_a_frame_come_to_its_page_and_to_no_other() {
        let (devtools, _from, mut to) = played();
        let (mut page, mut other) = (devtools.listen("page"), devtools.listen("other"));
        say(&mut to, json!({ "method": "Target.attachedToTarget", "sessionId": "page", "params": { "sessionId": "frame" } })).await;
        say(&mut to, json!({ "method": "Network.x", "sessionId": "frame", "params": {} })).await;
        say(&mut to, json!({ "method": "Target.targetCrashed", "params": { "targetId": "t" } })).await;
        let seen =
            [page.recv().await, page.recv().await, page.recv().await].map(|event| event.unwrap().method);
        assert_eq!(seen, ["Target.attachedToTarget", "Network.x", "Target.targetCrashed"]);
        assert_eq!(other.recv().await.unwrap().method, "Target.targetCrashed");
    }
}
