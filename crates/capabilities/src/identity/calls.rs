//! The call record: who read what, and how long it took.
//!
//! It is kept for what is not in the audit trail. Recording never blocks and never fails: calls gather
//! in memory and are written each second, so a crash loses at most the last second; a shutdown loses
//! nothing. When calls come faster than the database takes them, those beyond [`MOST_WAITING`] are
//! dropped, and the drops are counted. While the database does not answer, calls wait for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opsroom_core::db::Db;
use opsroom_core::id::new_id;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Caller, Clock, Error, Kind, Result, Time};

use super::store;

/// Calls that may wait to be written.
const MOST_WAITING: usize = 20_000;

/// Calls in one statement.
const BATCH: usize = 500;

/// How often what waits is written.
const PERIOD: Duration = Duration::from_secs(1);

/// A call that is over.
pub struct CallRecord<'a> {
    /// Who called.
    pub caller: &'a Caller,
    /// What was called: an operation, or a service's tool.
    pub operation: &'a str,
    /// `None` when it went well, or the error.
    pub error: Option<&'a Error>,
    /// How long it took.
    pub took: Duration,
    /// The request it came with.
    pub request_id: Option<&'a str>,
}

/// A call as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Sorts by time.
    pub id: String,
    /// When it was over.
    pub time: Time,
    /// The team of the one who called.
    pub team_id: String,
    /// Who called.
    pub subject: String,
    /// The name of the one who called.
    pub name: String,
    /// By which face.
    pub face: String,
    /// From which address.
    pub address: Option<String>,
    /// What was called.
    pub operation: String,
    /// `ok` or the error's kind.
    pub outcome: String,
    /// How long it took, in microseconds.
    pub took_us: i64,
    /// The request it came with.
    pub request_id: Option<String>,
}

/// Which calls a list shows.
pub struct CallFilter<'a> {
    /// Of these teams.
    pub teams: &'a [String],
    /// Of this operation.
    pub operation: Option<&'a str>,
    /// By this subject.
    pub subject: Option<&'a str>,
    /// That ended so.
    pub outcome: Option<&'a str>,
    /// From this moment on.
    pub since: Option<Time>,
    /// Before this moment.
    pub until: Option<Time>,
    /// Older than this id.
    pub before: Option<&'a str>,
}

/// The writing end of the call record. Cheap to clone.
#[derive(Clone)]
pub struct Calls {
    db: Db,
    clock: Clock,
    lifecycle: Lifecycle,
    waiting: Arc<Mutex<Waiting>>,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<Recorded>,
    writing: bool,
}

impl Calls {
    /// The call record of this database.
    pub fn new(db: Db, clock: Clock, lifecycle: Lifecycle) -> Self {
        Self { db, clock, lifecycle, waiting: Arc::default(), dropped: Arc::default() }
    }

    /// Notes a call; it is written within a second.
    pub fn record(&self, call: &CallRecord<'_>) {
        let recorded = Recorded {
            id: new_id(),
            time: self.clock.now(),
            team_id: cut(call.caller.team(), 64),
            subject: cut(&call.caller.subject, 190),
            name: cut(&call.caller.name, 190),
            face: call.caller.face.as_str().to_owned(),
            address: call.caller.address.as_deref().map(|address| cut(address, 64)),
            operation: cut(call.operation, 190),
            outcome: call.error.map_or("ok", |error| error.kind.as_str()).to_owned(),
            took_us: i64::try_from(call.took.as_micros()).unwrap_or(i64::MAX),
            request_id: call.request_id.map(|id| cut(id, 190)),
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.calls.len() >= MOST_WAITING {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.calls.push(recorded);
        if !std::mem::replace(&mut waiting.writing, true) {
            let calls = self.clone();
            drop(self.lifecycle.spawn_work(async move { calls.write_each_second().await }));
        }
    }

    /// How many calls were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Writes until a second passes in which nothing came; at shutdown without waiting.
    async fn write_each_second(&self) -> Result<()> {
        let stop = self.lifecycle.stopping();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => {}
            }
            let Some(calls) = self.take() else { return Ok(()) };
            for (at, batch) in calls.chunks(BATCH).enumerate() {
                let Err(error) = store::calls::insert(&self.db, batch).await else { continue };
                let away = matches!(error.kind, Kind::Busy | Kind::Unavailable) && !stop.is_cancelled();
                let unwritten = &calls[at * BATCH..];
                let lost = if away { self.put_back(unwritten) } else { batch.len() };
                self.dropped.fetch_add(lost as u64, Ordering::Relaxed);
                let (error, causes) = (error.message.as_str(), error.causes());
                tracing::warn!(error, causes, lost, "calls cannot be recorded");
                if away {
                    break;
                }
            }
        }
    }

    /// Lets calls wait again, before those that came meanwhile; answers how many do not fit.
    fn put_back(&self, calls: &[Recorded]) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let fit = calls.len().min(MOST_WAITING.saturating_sub(waiting.calls.len()));
        waiting.calls.splice(0..0, calls[..fit].iter().cloned());
        calls.len() - fit
    }

    /// What waits; when that is nothing, the next call starts another writer.
    fn take(&self) -> Option<Vec<Recorded>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.writing = !waiting.calls.is_empty();
        waiting.writing.then(|| std::mem::take(&mut waiting.calls))
    }
}

/// A text that every database keeps: cut to `most` bytes, control characters replaced.
fn cut(text: &str, most: usize) -> String {
    let text = &text[..text.floor_char_boundary(most)];
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
