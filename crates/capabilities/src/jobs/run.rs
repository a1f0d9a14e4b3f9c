//! One job from its acceptance to its end.
//!
//! Two tasks: the operation itself, in a task of its own so that its panic is only its own, and the one
//! that watches over it, which writes progress, passes the wish to stop on, and records the end.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use opsroom_core::clock::Clock;
use opsroom_core::error::{Error, Result};
use opsroom_core::events::Events;
use opsroom_core::id::new_id;
use opsroom_core::job::{Progress, Started, State, Step};
use opsroom_core::operation::{BACKGROUND, Call, Effect, Operation};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Jobs;
use super::end::End;
use super::model::{LogLine, MOST_MESSAGE, add_line, clean};
use super::store::NewJob;

/// How often progress is written to the row, at most.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How often progress is published as an event, at most.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// A job that was accepted.
pub struct Running {
    /// The job's id.
    pub id: String,
    /// What comes of it. When it answers, the end is in the database. Dropped before that, the job is
    /// cancelled: the caller went away.
    pub result: BoxFuture<'static, Result<Value>>,
    live: Arc<Live>,
}

impl Running {
    /// Lets the job go on whether anybody waits for it or not; answers what a caller gets who asked for
    /// the background. The result may still be waited for, to record it.
    pub fn detach(&self) -> Started {
        self.live.detached.store(true, Ordering::SeqCst);
        let state = if self.live.running.load(Ordering::SeqCst) { State::Running } else { State::Queued };
        Started { job_id: self.id.clone(), state }
    }
}

/// What this server keeps in memory of a job that has not ended.
pub struct Live {
    pub id: String,
    pub operation: &'static str,
    pub team: String,
    /// Whose it is.
    subject: String,
    /// Asks the work to stop.
    pub cancel: CancellationToken,
    /// Set when the end is recorded.
    pub ended: CancellationToken,
    /// Why it was asked to stop: the first reason stays.
    why: OnceLock<String>,
    /// Nobody waits for it.
    pub detached: AtomicBool,
    running: AtomicBool,
    /// Its row is in the database.
    pub stored: AtomicBool,
    shown: Mutex<Shown>,
}

/// How far a job is, as it was last said.
#[derive(Clone, Default)]
pub struct Shown {
    pub fraction: Option<f64>,
    pub message: String,
    pub log: VecDeque<LogLine>,
    unwritten: bool,
    unpublished: bool,
    published: Option<Instant>,
}

impl Live {
    fn new(operation: &Operation, call: &Call) -> Self {
        Self {
            id: new_id(),
            operation: operation.name,
            team: call.caller.team().to_owned(),
            subject: call.caller.subject.clone(),
            cancel: call.cancel.child_token(),
            ended: CancellationToken::new(),
            why: OnceLock::new(),
            detached: AtomicBool::new(false),
            running: AtomicBool::new(false),
            stored: AtomicBool::new(false),
            shown: Mutex::new(Shown::default()),
        }
    }

    /// Asks the work to stop, and says why.
    pub fn stop(&self, why: impl Into<String>) {
        // Only the first reason counts.
        let _earlier = self.why.set(why.into());
        self.cancel.cancel();
    }

    pub(super) fn stopped(&self) -> Error {
        let why = self.why.get().map_or("the caller stopped the request", String::as_str);
        Error::cancelled(format!("{} was cancelled: {why}", self.operation))
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step in, and publishes it when the last event is old enough.
    fn report(&self, step: &Step, clock: &Clock, events: &Events) {
        let message = clean(&step.message, MOST_MESSAGE);
        let mut shown = self.shown();
        shown.fraction = step.fraction.or(shown.fraction);
        if !message.is_empty() && message != shown.message {
            let time = clock.now().to_rfc3339();
            add_line(&mut shown.log, LogLine { time, message: message.clone() });
            shown.message = message;
        }
        (shown.unwritten, shown.unpublished) = (true, true);
        if shown.published.is_none_or(|at| at.elapsed() >= PUBLISH_EVERY) {
            self.publish(&mut shown, events);
        }
    }

    fn publish(&self, shown: &mut Shown, events: &Events) {
        (shown.unpublished, shown.published) = (false, Some(Instant::now()));
        let data = json!({
            "job_id": self.id,
            "operation": self.operation,
            "state": State::Running,
            "fraction": shown.fraction,
            "message": shown.message,
        });
        events.publish("job.progress", &self.team, &self.id, data);
    }
}

/// Cancels the job when the one who waits for it goes away.
struct Waiting {
    live: Arc<Live>,
    answered: bool,
}

impl Waiting {
    fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered && !self.live.detached.load(Ordering::SeqCst) {
            self.live.stop("the caller went away");
        }
    }
}

/// A place among the jobs that run: one of its caller's share, and one of the server's.
pub struct Slot {
    _share: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

/// What one caller may take of what the server has, so that there is room for another one.
#[derive(Default)]
pub struct Shares(Mutex<HashMap<String, Weak<Semaphore>>>);

impl Shares {
    /// The caller's places among those that run: all but one, and at least one.
    fn of(&self, subject: &str, max_running: usize) -> Arc<Semaphore> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(subject).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(max_running.saturating_sub(1).max(1)));
        shares.insert(subject.to_owned(), Arc::downgrade(&share));
        share
    }
}

/// Takes a job off the list of the living, whatever happened to its task.
struct Listed {
    jobs: Jobs,
    live: Arc<Live>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.jobs.live().remove(&self.live.id);
        self.live.ended.cancel();
    }
}

impl Jobs {
    /// Accepts a job for a caller who was authorised: stores it, and begins it when there is room.
    ///
    /// # Errors
    /// `Busy` when too many wait already, `Unavailable` when the server is stopping or the database
    /// does not answer. Nothing was started then.
    pub async fn start(&self, operation: &Operation, call: Call, mut input: Value) -> Result<Running> {
        if self.inner.lifecycle.stopping().is_cancelled() {
            return Err(Error::unavailable("the server is stopping and takes no new jobs; try again later"));
        }
        if let (true, Some(fields)) = (operation.long, input.as_object_mut()) {
            fields.remove(BACKGROUND);
        }
        let (listed, slot) = self.admit(operation, &call)?;
        let live = listed.live.clone();
        let now = self.inner.clock.now();
        self.inner
            .store
            .insert(NewJob {
                id: &live.id,
                operation: operation.name,
                state: if slot.is_some() { State::Running } else { State::Queued },
                input: &operation.redact(&input),
                subject: &call.caller.subject,
                owner_name: &clean(&call.caller.name, 190),
                team: &live.team,
                now,
                server: &self.inner.server,
                lease_until: self.lease_until(),
            })
            .await?;
        live.stored.store(true, Ordering::SeqCst);
        let work = self.clone().watch_over(listed, operation.clone(), call, input, slot);
        let work = self.inner.lifecycle.spawn_work(work.in_current_span());
        let mut waiting = Waiting { live: live.clone(), answered: false };
        let result = Box::pin(async move {
            let answer = work.await;
            waiting.answered();
            answer
        });
        Ok(Running { id: live.id.clone(), result, live })
    }

    /// Finds room for one more, in the order of asking.
    fn admit(&self, operation: &Operation, call: &Call) -> Result<(Listed, Option<Slot>)> {
        let config = &self.inner.config;
        let mut living = self.live();
        let subject = &call.caller.subject;
        let share = self.inner.shares.of(subject, config.max_running).try_acquire_owned().ok();
        let place = share.is_some().then(|| self.inner.slots.clone().try_acquire_owned().ok()).flatten();
        let slot = share.zip(place).map(|(share, place)| Slot { _share: share, _place: place });
        let own = living.values().filter(|live| live.subject == *subject).count();
        let all = config.max_running + config.max_waiting;
        let most = all - all / 4;
        if slot.is_none() && own >= most {
            return Err(Error::busy(format!(
                "{own} jobs of yours run or wait, which is three quarters of what the server takes and the \
                 most for one caller; try again later, or stop one with cancel_job"
            )));
        }
        if slot.is_none() && living.len() >= config.max_running + config.max_waiting {
            return Err(Error::busy(format!(
                "{} jobs run and {} wait, which is the most; try again later, or stop one with cancel_job",
                config.max_running, config.max_waiting
            )));
        }
        let live = Arc::new(Live::new(operation, call));
        live.running.store(slot.is_some(), Ordering::SeqCst);
        living.insert(live.id.clone(), live.clone());
        drop(living);
        Ok((Listed { jobs: self.clone(), live }, slot))
    }

    /// A place, when it is this caller's turn: who has taken his share does not stand before others.
    async fn next_slot(&self, subject: &str) -> Result<Slot> {
        let share = self.inner.shares.of(subject, self.inner.config.max_running);
        let share = share.acquire_owned().await.map_err(Error::internal)?;
        let place = self.inner.slots.clone().acquire_owned().await.map_err(Error::internal)?;
        Ok(Slot { _share: share, _place: place })
    }

    pub(super) fn lease_until(&self) -> opsroom_core::Time {
        self.inner.clock.now().plus_seconds(i64::from(self.inner.config.lease_seconds))
    }

    async fn watch_over(
        self,
        listed: Listed,
        operation: Operation,
        call: Call,
        input: Value,
        slot: Option<Slot>,
    ) -> Result<Value> {
        let live = &listed.live;
        let keeps_result = operation.effect != Effect::Reveal;
        let outcome = match self.wait_for_slot(live, slot).await {
            Ok(slot) => {
                self.inner.metrics.jobs_running.inc();
                let outcome = self.perform(live, operation, call, input).await;
                self.inner.metrics.jobs_running.dec();
                drop(slot);
                outcome
            }
            Err(error) => Err(error),
        };
        self.record(live, End::of(live, &outcome, keeps_result, self.inner.clock.now())).await?;
        outcome
    }

    async fn wait_for_slot(&self, live: &Arc<Live>, slot: Option<Slot>) -> Result<Slot> {
        let slot = match slot {
            Some(slot) => slot,
            None => {
                let stopping = self.inner.lifecycle.stopping();
                let slot = tokio::select! {
                    biased;
                    () = live.cancel.cancelled() => return Err(live.stopped()),
                    () = stopping.cancelled() => {
                        live.stop(SERVER_STOPPED);
                        return Err(live.stopped());
                    }
                    slot = self.next_slot(&live.subject) => slot?,
                };
                let (store, server) = (&self.inner.store, &self.inner.server);
                if !store.begin(&live.id, server, self.inner.clock.now(), self.lease_until()).await? {
                    return Err(taken(&live.id));
                }
                slot
            }
        };
        live.running.store(true, Ordering::SeqCst);
        let data = json!({ "job_id": live.id, "operation": live.operation, "state": State::Running });
        self.inner.events.publish("job.started", &live.team, &live.id, data);
        Ok(slot)
    }

    /// Runs the operation, and writes how far it is meanwhile.
    async fn perform(
        &self,
        live: &Arc<Live>,
        operation: Operation,
        call: Call,
        input: Value,
    ) -> Result<Value> {
        let (progress, job) = (self.progress(live, &call), Some(live.id.clone()));
        let call = Call { progress, cancel: live.cancel.clone(), job, ..call };
        let watched = live.clone();
        let patience = Duration::from_secs(u64::from(self.inner.config.stop_seconds));
        let work = async move { stoppable(&watched, patience, operation.run(call, input)).await };
        let mut work = pin!(self.inner.lifecycle.spawn_work(work.in_current_span()));
        let stopping = self.inner.lifecycle.stopping();
        let mut write = tokio::time::interval(WRITE_EVERY);
        write.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = stopping.cancelled(), if !live.cancel.is_cancelled() => live.stop(SERVER_STOPPED),
                _ = write.tick() => self.write_progress(live).await,
            }
        }
    }

    fn progress(&self, live: &Arc<Live>, call: &Call) -> Progress {
        let (live, outer) = (live.clone(), call.progress.clone());
        let (clock, events) = (self.inner.clock.clone(), self.inner.events.clone());
        Progress::to(move |step| {
            live.report(&step, &clock, &events);
            outer.report(step.fraction, step.message);
        })
    }

    async fn write_progress(&self, live: &Live) {
        let (fraction, message, log) = {
            let mut shown = live.shown();
            if shown.unpublished {
                live.publish(&mut shown, &self.inner.events);
            }
            if !std::mem::take(&mut shown.unwritten) {
                return;
            }
            (shown.fraction, shown.message.clone(), Vec::from(shown.log.clone()))
        };
        let written = self.inner.store.progress(&live.id, &self.inner.server, fraction, &message, &log).await;
        match written {
            Ok(true) => {}
            Ok(false) => live.stop("another server took the job over"),
            Err(error) => {
                live.shown().unwritten = true;
                tracing::debug!(job.id = live.id, error = %error, "progress was not written");
            }
        }
    }
}

/// What a job says that was stopped with its server.
const SERVER_STOPPED: &str = "the server was stopped";

/// Work that is abandoned when it does not stop soon after it was asked to.
async fn stoppable(
    live: &Live,
    patience: Duration,
    work: impl Future<Output = Result<Value>>,
) -> Result<Value> {
    let patience = async {
        live.cancel.cancelled().await;
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        biased;
        outcome = work => outcome,
        () = patience => Err(live.stopped()),
    }
}

/// What became of a job whose row was taken away.
pub fn taken(id: &str) -> Error {
    Error::conflict(format!(
        "job {id} was marked as interrupted because this server did not renew its lease in time; what it did is not kept, start it again"
    ))
}
