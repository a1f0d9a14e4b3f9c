//! One service behind the gateway: its connection, its limits, and who looks after both.

pub mod call;
pub mod duplex;
pub mod endpoint;
pub mod legacy;
pub mod lists;
pub mod modern;
mod old_sse;
mod probe;
mod stdio;
pub mod watch;
pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Clock, Time};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch as channel};
use tokio_util::sync::CancellationToken;

use crate::catalogue::Era;
use crate::world::Upstream;
use call::{Call, Events, Reply, Trouble};

/// So many calls in a row without a connection, and the next ones are refused at once until the watcher
/// has reached the service again.
const PATIENCE: u32 = 3;

/// A connection to a service.
#[derive(Clone)]
pub enum Connection {
    /// Modern, over HTTP.
    Modern(Arc<modern::Modern>),
    /// Legacy, over streamable HTTP.
    Legacy(Arc<legacy::Legacy>),
    /// Of either era, on one stream in each direction.
    Duplex(Arc<duplex::Duplex>, Era),
}

impl Connection {
    /// Which era is spoken on it.
    pub fn era(&self) -> Era {
        match self {
            Connection::Modern(_) => Era::Modern,
            Connection::Legacy(_) => Era::Legacy,
            Connection::Duplex(_, era) => *era,
        }
    }

    /// Sends a request and follows its answer to the end. `id` is what the client calls it.
    pub async fn call(&self, call: &Call, id: &RawValue, events: &Events) -> Result<Reply, Trouble> {
        match self {
            Connection::Modern(modern) => modern.call(call, id, events).await,
            Connection::Legacy(legacy) => legacy.call(call, events).await,
            Connection::Duplex(duplex, _) => duplex.call(call, events).await,
        }
    }

    /// The same for a request of the gateway itself: what comes before the answer is not for anybody, and
    /// what the service asks is refused.
    pub async fn ask(&self, call: &Call, id: &RawValue) -> Result<Reply, Trouble> {
        let (events, mut heard) = tokio::sync::mpsc::channel(8);
        let reply = self.call(call, id, &events);
        tokio::pin!(reply);
        loop {
            tokio::select! {
                reply = &mut reply => return reply,
                Some(_unheard) = heard.recv() => {}
            }
        }
    }
}

#[derive(Clone, Default)]
struct State {
    connection: Option<Connection>,
    trouble: Option<String>,
}

/// What a connection needs of the house.
#[derive(Clone)]
pub struct Means {
    /// The way out.
    pub egress: Egress,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// The time.
    pub clock: Clock,
    /// How often a service is asked for its lists although it says nothing of a change.
    pub refresh: Duration,
}

/// One service behind the gateway.
pub struct Link {
    /// What it is.
    pub upstream: Arc<Upstream>,
    means: Means,
    state: channel::Sender<State>,
    permits: Semaphore,
    failures: AtomicU32,
    wake: Notify,
    /// Set when the service is taken out of the world.
    pub stop: CancellationToken,
}

impl Link {
    /// A service that nobody has connected to yet; [`watch::run`] does.
    pub fn new(upstream: Arc<Upstream>, means: Means) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(upstream.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            upstream,
            means,
            state: channel::channel(State::default()).0,
            failures: AtomicU32::new(0),
            wake: Notify::new(),
            stop: CancellationToken::new(),
        })
    }

    /// One of the requests that may be at work at once.
    pub async fn permit(&self, patience: Duration) -> Result<SemaphorePermit<'_>, Trouble> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        match tokio::time::timeout(patience, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Trouble::Busy(self.upstream.concurrency)),
        }
    }

    /// The connection, when there is one now.
    pub fn connected(&self) -> Option<Connection> {
        self.state.borrow().connection.clone()
    }

    /// The connection; waits for the first attempt to make one.
    pub async fn connection(&self, patience: Duration) -> Result<Connection, Trouble> {
        let refused = |what: &str| Trouble::Unreachable { begun: false, what: what.to_owned() };
        {
            let state = self.state.borrow();
            if self.failures.load(Ordering::Relaxed) >= PATIENCE
                && let Some(what) = &state.trouble
            {
                return Err(refused(what));
            }
            if let Some(connection) = &state.connection {
                return Ok(connection.clone());
            }
            if let Some(what) = &state.trouble {
                self.wake.notify_one();
                return Err(refused(what));
            }
        }
        let mut changes = self.state.subscribe();
        let tried = changes.wait_for(|state| state.connection.is_some() || state.trouble.is_some());
        match tokio::time::timeout(patience, tried).await {
            Ok(Ok(state)) => match (&state.connection, &state.trouble) {
                (Some(connection), _) => Ok(connection.clone()),
                (None, what) => Err(refused(what.as_deref().unwrap_or("it is not connected"))),
            },
            Ok(Err(_)) => Err(refused("it was taken out")),
            Err(_) => Err(Trouble::Late(patience)),
        }
    }

    /// Learns from what became of a call whether the service is there.
    pub fn learn(&self, trouble: Option<&Trouble>) {
        match trouble {
            Some(Trouble::Unreachable { .. }) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.wake.notify_one();
            }
            // Its token may have ended: what its lists say then is its state. One call that wants more scopes is not.
            Some(Trouble::Unauthorized(challenge))
                if !challenge.as_ref().is_some_and(|text| text.contains("insufficient_scope")) =>
            {
                self.wake.notify_one();
            }
            Some(_) => {}
            None if self.failures.load(Ordering::Relaxed) > 0 => self.failures.store(0, Ordering::Relaxed),
            None => {}
        }
    }

    fn set(&self, connection: Option<Connection>, trouble: Option<String>) {
        if trouble.is_none() {
            self.failures.store(0, Ordering::Relaxed);
        }
        self.state.send_replace(State { connection, trouble });
    }

    fn now(&self) -> Time {
        self.means.clock.now()
    }
}
