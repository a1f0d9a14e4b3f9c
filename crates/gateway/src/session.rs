//! Sessions of legacy clients: bound to who began them, counted, and forgotten when nobody uses them.
//!
//! Most clients never end a session, so an abandoned one must cost little and not last: there is a cap for
//! each principal and one for all, and the one that was unused the longest makes room.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use opsroom_core::id::new_token;
use opsroom_core::{Caller, Clock};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::message::{self, raw};
use crate::routes::View;
use crate::upstream::call::{Abilities, Reply};

/// How long a session lasts that nobody uses, in seconds.
const KEPT: i64 = 1_800;
/// The most sessions of one principal.
const MOST_OF_ONE: usize = 256;
/// The most sessions of all.
const MOST: usize = 4_096;
/// The most messages that wait for a client to fetch them.
const MOST_WAITING: usize = 256;
/// The most subscriptions of one session.
pub const MOST_SUBSCRIPTIONS: usize = 64;

/// A session of a legacy client.
pub struct Session {
    /// Its id: 256 random bits, which open nothing without the key of the one who began it.
    pub id: String,
    subject: String,
    /// The endpoint where it was begun.
    pub view: View,
    /// What the client can be asked for.
    pub abilities: Abilities,
    /// What the client said in the handshake: its capabilities and who it is.
    pub hello: Hello,
    used: AtomicI64,
    level: Mutex<Option<String>>,
    next: AtomicU64,
    asked: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    at_work: Mutex<HashMap<String, CancellationToken>>,
    /// What runs on for the session: subscriptions, by URI.
    pub subscriptions: Mutex<HashMap<String, CancellationToken>>,
    back: Back,
    /// Set when it ended.
    pub ended: CancellationToken,
}

/// What a client said in the handshake.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// Its capabilities.
    pub capabilities: Option<Box<RawValue>>,
    /// Who it says it is.
    pub info: Option<Box<RawValue>>,
}

/// Where messages go that belong to no request.
enum Back {
    /// They wait for the client's event stream.
    Stored(Mutex<VecDeque<Bytes>>, Notify),
    /// They go to the client's one stream.
    Live(mpsc::Sender<Bytes>),
}

impl Session {
    /// A session on one stream in each direction, such as standard input and output.
    pub fn live(
        caller: &Caller,
        view: View,
        hello: Hello,
        out: mpsc::Sender<Bytes>,
        clock: &Clock,
    ) -> Arc<Self> {
        Arc::new(Self::new(caller, view, hello, Back::Live(out), clock))
    }

    fn new(caller: &Caller, view: View, hello: Hello, back: Back, clock: &Clock) -> Self {
        Self {
            id: new_token(""),
            subject: caller.subject.clone(),
            view,
            abilities: Abilities::of(hello.capabilities.as_deref()),
            hello,
            used: AtomicI64::new(clock.now().0),
            level: Mutex::default(),
            next: AtomicU64::new(1),
            asked: Mutex::default(),
            at_work: Mutex::default(),
            subscriptions: Mutex::default(),
            back,
            ended: CancellationToken::new(),
        }
    }

    /// From which level on the client wants log messages.
    pub fn level(&self) -> Option<String> {
        lock(&self.level).clone()
    }

    /// Sets it.
    pub fn set_level(&self, level: String) {
        *lock(&self.level) = Some(level);
    }

    /// Puts a request to the client on `out`, or, without, on the session's own stream, and waits for the
    /// answer, at most until the session ends.
    pub async fn ask(
        &self,
        out: Option<&mpsc::Sender<Bytes>>,
        method: &str,
        params: Option<&RawValue>,
    ) -> Reply {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = raw(&json!(number));
        let (reply, answered) = oneshot::channel();
        lock(&self.asked).insert(number, reply);
        let _forget = Forget { session: self, number };
        let message = message::request(Some(&id), method, params);
        let sent = match out {
            Some(out) => out.send(message).await.is_ok(),
            None => {
                self.push(message);
                true
            }
        };
        let gone = || Reply::error(message::INTERNAL_ERROR, "the client went away");
        if !sent {
            return gone();
        }
        tokio::select! {
            reply = answered => reply.unwrap_or_else(|_| gone()),
            () = self.ended.cancelled() => gone(),
        }
    }

    /// Takes the client's answer; `false` when nothing was asked under that id.
    pub fn answered(&self, id: &RawValue, reply: Reply) -> bool {
        let number = id.get().trim_matches('"').parse::<u64>().ok();
        let waiting = number.and_then(|number| lock(&self.asked).remove(&number));
        waiting.is_some_and(|waiting| waiting.send(reply).is_ok())
    }

    /// Notes a request that can be cancelled by its id.
    pub fn begin(&self, id: &RawValue, cancel: CancellationToken) {
        lock(&self.at_work).insert(id.get().to_owned(), cancel);
    }

    /// Forgets it.
    pub fn end(&self, id: &RawValue) {
        lock(&self.at_work).remove(id.get());
    }

    /// Cancels a request.
    pub fn cancel(&self, id: &RawValue) {
        if let Some(cancel) = lock(&self.at_work).get(id.get()) {
            cancel.cancel();
        }
    }

    /// Sends a message that belongs to no request.
    pub fn push(&self, message: Bytes) {
        match &self.back {
            Back::Live(out) => {
                // A client that does not read misses what it does not read.
                let _full = out.try_send(message);
            }
            Back::Stored(waiting, notify) => {
                let mut waiting = lock(waiting);
                if waiting.len() >= MOST_WAITING {
                    waiting.pop_front();
                }
                waiting.push_back(message);
                drop(waiting);
                notify.notify_one();
            }
        }
    }

    /// The next message that belongs to no request, for the client's event stream.
    pub async fn next(&self) -> Bytes {
        let Back::Stored(waiting, notify) = &self.back else { return std::future::pending().await };
        loop {
            if let Some(message) = lock(waiting).pop_front() {
                return message;
            }
            notify.notified().await;
        }
    }

    fn close(&self) {
        self.ended.cancel();
        lock(&self.at_work).drain().for_each(|(_, cancel)| cancel.cancel());
        lock(&self.subscriptions).drain().for_each(|(_, cancel)| cancel.cancel());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

struct Forget<'a> {
    session: &'a Session,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.session.asked).remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every session.
pub struct Sessions {
    clock: Clock,
    all: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, all: Mutex::default() }
    }

    /// Begins a session, and gives those that had to make room.
    pub fn begin(&self, caller: &Caller, view: View, hello: Hello) -> (Arc<Session>, Vec<Arc<Session>>) {
        let back = Back::Stored(Mutex::default(), Notify::new());
        let session = Arc::new(Session::new(caller, view, hello, back, &self.clock));
        let mut all = lock(&self.all);
        let mine = all.values().filter(|other| other.subject == caller.subject).count();
        let mut ended = Vec::new();
        if mine >= MOST_OF_ONE || all.len() >= MOST {
            let now = self.clock.now().0;
            let used = |session: &Session| session.used.load(Ordering::Relaxed);
            let old = |session: &&Arc<Session>| now - used(session) > KEPT * 1_000_000;
            let mut leave: Vec<String> = all.values().filter(old).map(|session| session.id.clone()).collect();
            if leave.is_empty() {
                let candidates =
                    all.values().filter(|other| mine < MOST_OF_ONE || other.subject == caller.subject);
                leave.extend(candidates.min_by_key(|other| used(other)).map(|other| other.id.clone()));
            }
            ended.extend(leave.iter().filter_map(|id| all.remove(id)));
        }
        all.insert(session.id.clone(), session.clone());
        drop(all);
        ended.iter().for_each(|session| session.close());
        (session, ended)
    }

    /// A session of this caller at this endpoint.
    pub fn get(&self, id: &str, caller: &Caller, view: &View) -> Option<Arc<Session>> {
        let now = self.clock.now().0;
        let all = lock(&self.all);
        let session =
            all.get(id).filter(|session| session.subject == caller.subject && session.view == *view)?;
        if now - session.used.load(Ordering::Relaxed) > KEPT * 1_000_000 {
            return None;
        }
        session.used.store(now, Ordering::Relaxed);
        Some(session.clone())
    }

    /// Ends a session.
    pub fn end(&self, id: &str) {
        if let Some(session) = lock(&self.all).remove(id) {
            session.close();
        }
    }

    /// Ends those that nobody used for long, and gives them.
    pub fn sweep(&self) -> Vec<Arc<Session>> {
        let now = self.clock.now().0;
        let mut all = lock(&self.all);
        let old: Vec<String> = all
            .values()
            .filter(|session| now - session.used.load(Ordering::Relaxed) > KEPT * 1_000_000)
            .map(|session| session.id.clone())
            .collect();
        let ended: Vec<_> = old.iter().filter_map(|id| all.remove(id)).collect();
        drop(all);
        ended.iter().for_each(|session| session.close());
        ended
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        lock(&self.all).len()
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::Time;
    use opsroom_core::caller::Face;

    use super::*;

    fn caller(subject: &str) -> Caller {
        Caller { subject: subject.to_owned(), ..Caller::operator(Face::Mcp) }
    }

    #[test]
    fn abandoned_sessions_are_bounded_for_one_principal_and_do_not_push_out_others() {
        let sessions = Sessions::new(Clock::manual(Time(0)));
        let begin = |who: &str| sessions.begin(&caller(who), View::All, Hello::default()).0;
        let kept = begin("key:quiet");
        for _ in 0..10_000 {
            begin("key:greedy");
        }
        assert_eq!(sessions.count(), MOST_OF_ONE + 1);
        assert!(sessions.get(&kept.id, &caller("key:quiet"), &View::All).is_some());
    }

    #[test]
    fn a_hijacked_session_id_opens_nothing() {
        let sessions = Sessions::new(Clock::manual(Time(0)));
        let (session, _) = sessions.begin(&caller("key:1"), View::All, Hello::default());
        assert!(sessions.get(&session.id, &caller("key:2"), &View::All).is_none(), "another principal");
        let other = View::Service("other".to_owned());
        assert!(sessions.get(&session.id, &caller("key:1"), &other).is_none(), "another endpoint");
        assert!(sessions.get(&session.id, &caller("key:1"), &View::All).is_some());
        assert_eq!(session.id.len(), 64);
    }

    #[test]
    fn an_unused_session_ends() {
        let clock = Clock::manual(Time(0));
        let sessions = Sessions::new(clock.clone());
        let (session, _) = sessions.begin(&caller("key:1"), View::All, Hello::default());
        clock.advance_seconds(KEPT + 1);
        assert!(sessions.get(&session.id, &caller("key:1"), &View::All).is_none());
        assert_eq!(sessions.sweep().len(), 1);
        assert!(session.ended.is_cancelled() && sessions.count() == 0);
    }
}
