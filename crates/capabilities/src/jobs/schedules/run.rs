//! Running what is due: the loop, the claim, and one run from its claim to its outcome.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use opsroom_core::caller::Caller;
use opsroom_core::clock::Time;
use opsroom_core::db::Db;
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::id::new_id;
use opsroom_core::job::State;
use opsroom_core::operation::BACKGROUND;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::model::{Due, Timing, decide};
use super::store::{Ended, Store, Stored};
use crate::jobs::model::{MOST_MESSAGE, clean};
use crate::jobs::{Jobs, counts};

/// Calls an operation by its name, as a face would: authorised, audited, counted.
pub type CallOperation =
    Arc<dyn Fn(Caller, String, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;
/// Who a subject (`key:...`, `operator`) is now and what they may do; `None` when they are gone.
pub type Rights = Arc<dyn Fn(&str) -> BoxFuture<'static, Option<Caller>> + Send + Sync>;

/// The most runs that one server has under way.
const MOST_RUNS: usize = 16;
/// How long the loop sleeps at most: schedules that other servers wrote are seen by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// How long it sleeps at least, whatever is due.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);
/// How often a job of another server is looked at.
const POLL: Duration = Duration::from_secs(1);

/// What the scheduler was wired with, and what it keeps in memory.
pub struct Scheduler {
    pub store: Store,
    wiring: OnceLock<(CallOperation, Rights)>,
    slots: Arc<Semaphore>,
    /// Told when a schedule was written.
    pub changed: Notify,
}

impl Scheduler {
    /// A scheduler that is not wired yet.
    pub fn new(db: Db) -> Self {
        let slots = Arc::new(Semaphore::new(MOST_RUNS));
        Self { store: Store { db }, wiring: OnceLock::new(), slots, changed: Notify::new() }
    }
}

/// A schedule that this server took to run.
pub struct Claim {
    schedule: Stored,
    token: String,
    job: OnceLock<String>,
    /// Set when the run has a job, or has ended without one.
    pub begun: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Jobs {
    /// Tells how operations are called and whose rights are whose. The first wiring stays.
    pub fn wire_scheduler(&self, call: CallOperation, rights: Rights) {
        let _already = self.inner.scheduler.wiring.set((call, rights));
    }

    /// Runs schedules when they are due, until the server stops. `call` calls an operation as a face
    /// would, `rights` tells what a subject may do now.
    pub fn start_scheduler(&self, call: CallOperation, rights: Rights) {
        self.wire_scheduler(call, rights);
        let jobs = self.clone();
        let stopping = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("scheduler", async move {
            loop {
                let sleep = match jobs.spawn_due().await {
                    Ok(sleep) => sleep,
                    // A database that is away for a while must not end the server.
                    Err(error) => {
                        tracing::warn!(error = %error, "the scheduler could not read what is due; trying again");
                        LONGEST_SLEEP
                    }
                };
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = jobs.inner.scheduler.changed.notified() => {}
                    () = tokio::time::sleep(sleep) => {}
                }
            }
        });
    }

    /// Runs what is due now, and waits for it; answers how many were run.
    pub async fn run_due(&self) -> Result<usize> {
        let claims = self.claim_due().await?;
        let runs = join_all(claims.into_iter().map(|claim| self.run(claim))).await;
        Ok(runs.len())
    }

    async fn spawn_due(&self) -> Result<Duration> {
        for claim in self.claim_due().await? {
            self.spawn_run(claim);
        }
        let now = self.inner.clock.now();
        let wait = match self.inner.scheduler.store.next_due().await? {
            Some(next) => u64::try_from(next.0.saturating_sub(now.0)).unwrap_or(0),
            None => u64::MAX,
        };
        Ok(Duration::from_micros(wait).clamp(SHORTEST_SLEEP, LONGEST_SLEEP))
    }

    /// Runs a claim on its own.
    pub(super) fn spawn_run(&self, claim: Claim) {
        let jobs = self.clone();
        // What comes of it is in the row; nobody waits here.
        drop(self.inner.lifecycle.spawn_work(async move {
            jobs.run(claim).await;
            Ok(())
        }));
    }

    /// Takes what is due and there is room for.
    async fn claim_due(&self) -> Result<Vec<Claim>> {
        let scheduler = &self.inner.scheduler;
        let now = self.inner.clock.now();
        let mut claims = Vec::new();
        for schedule in scheduler.store.due(now, 100).await? {
            let Some(due) = schedule.next_run_at else { continue };
            let next = Timing::parse(&schedule.cron, &schedule.zone).ok().and_then(|timing| timing.next(now));
            match decide(now, due, schedule.missed, schedule.busy(now)) {
                Due::Later => {}
                Due::Skip => self.skip(&schedule, next).await?,
                Due::Run => {
                    let Ok(slot) = scheduler.slots.clone().try_acquire_owned() else { break };
                    let token = new_id();
                    if scheduler.store.claim(&schedule, next, &token, now, self.lease_until()).await? {
                        let begun = CancellationToken::new();
                        claims.push(Claim { schedule, token, job: OnceLock::new(), begun, _slot: slot });
                    }
                }
            }
        }
        Ok(claims)
    }

    async fn skip(&self, schedule: &Stored, next: Option<Time>) -> Result<()> {
        if self.inner.scheduler.store.skip(schedule, next).await? {
            let data = json!({ "name": schedule.name, "operation": schedule.operation });
            self.inner.events.publish("schedule.skipped", &schedule.team, &schedule.id, data);
        }
        Ok(())
    }

    /// Takes a schedule to run it out of turn.
    ///
    /// # Errors
    /// `Conflict` when it runs already, `Busy` when too many do.
    pub(super) async fn claim_now(&self, schedule: Stored) -> Result<Claim> {
        let scheduler = &self.inner.scheduler;
        let slot = scheduler.slots.clone().try_acquire_owned().map_err(|_| {
            Error::busy(format!(
                "{MOST_RUNS} scheduled runs are under way, which is the most; try again later"
            ))
        })?;
        let (token, now) = (new_id(), self.inner.clock.now());
        if !scheduler.store.claim_now(&schedule.id, &token, now, self.lease_until()).await? {
            return Err(Error::conflict(format!(
                "the schedule {:?} runs already; wait for that run to end, or cancel its job with cancel_job",
                schedule.name
            )));
        }
        Ok(Claim { schedule, token, job: OnceLock::new(), begun: CancellationToken::new(), _slot: slot })
    }

    /// Runs a claimed schedule, keeps the claim meanwhile, and records what came of it.
    async fn run(&self, claim: Claim) {
        let store = &self.inner.scheduler.store;
        let (id, token) = (claim.schedule.id.as_str(), claim.token.as_str());
        let (outcome, message) = tokio::select! {
            outcome = self.perform_run(&claim) => outcome.unwrap_or_else(|error| failed(id, &error)),
            () = self.keep_claim(&claim) => (State::Cancelled, "another server took the schedule over".to_owned()),
        };
        let message = clean(&message, MOST_MESSAGE);
        let ended = Ended { outcome, message: &message };
        match store.finish(id, token, &ended).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(schedule.id = id, "a scheduled run lost its claim; its outcome was not kept")
            }
            // The lease runs out, and the run is shown as interrupted.
            Err(error) => {
                tracing::warn!(schedule.id = id, error = %error, "the outcome of a scheduled run was not stored")
            }
        }
        claim.begun.cancel();
        self.inner.counts.schedule_runs.get_or_create(&counts::Run { outcome: outcome.as_str() }).inc();
        let data = json!({
            "name": claim.schedule.name,
            "operation": claim.schedule.operation,
            "outcome": outcome,
            "message": message,
        });
        self.inner.events.publish("schedule.ran", &claim.schedule.team, id, data);
    }

    /// Renews the lease of a claim; answers when it was lost, and then the job of the run is stopped.
    async fn keep_claim(&self, claim: &Claim) {
        let every = Duration::from_secs(u64::from(self.inner.config.lease_seconds / 3));
        loop {
            tokio::time::sleep(every).await;
            match self.renew_claim(claim).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let id = &claim.schedule.id;
                    tracing::warn!(schedule.id = id, error = %error, "a schedule's lease was not renewed; trying again");
                }
            }
        }
        let live = claim.job.get().and_then(|job| self.live().get(job).cloned());
        if let Some(live) = live {
            live.stop("another server took the schedule over");
        }
    }

    /// Renews a claim once; `false` when somebody else has taken it.
    async fn renew_claim(&self, claim: &Claim) -> Result<bool> {
        let (store, id) = (&self.inner.scheduler.store, &claim.schedule.id);
        Ok(store.renew(id, &claim.token, self.lease_until()).await? || !store.taken(id, &claim.token).await?)
    }

    /// Calls the operation with what its owner may do now; answers how it ended.
    async fn perform_run(&self, claim: &Claim) -> Result<(State, String)> {
        let schedule = &claim.schedule;
        let (call, rights) = self.wiring()?;
        let operation = self.operation(&schedule.operation).ok_or_else(|| {
            Error::not_found(format!(
                "there is no operation {} any more; change or delete the schedule",
                schedule.operation
            ))
        })?;
        let owner = rights(&schedule.created_by).await.ok_or_else(|| {
            Error::forbidden(format!(
                "{}, who owns the schedule, has no access any more",
                schedule.owner_name
            ))
        })?;
        let caller = schedule.owner.acting(&schedule.team, owner, &operation)?;
        let mut input = schedule.input.clone();
        if let (true, Some(fields)) = (operation.long, input.as_object_mut()) {
            fields.insert(BACKGROUND.to_owned(), Value::Bool(true));
        }
        let answer = call(caller, schedule.operation.clone(), input).await?;
        match answer.get("job_id").and_then(Value::as_str) {
            Some(job) if operation.long => {
                self.inner.scheduler.store.note_job(&schedule.id, &claim.token, job).await?;
                let _first = claim.job.set(job.to_owned());
                claim.begun.cancel();
                self.wait_for(&schedule.team, job).await
            }
            _ => Ok((State::Succeeded, String::new())),
        }
    }

    /// Waits until a job has ended, here or on another server.
    async fn wait_for(&self, team: &str, id: &str) -> Result<(State, String)> {
        let teams = [team.to_owned()];
        let stopping = self.inner.lifecycle.stopping();
        loop {
            let live = self.live().get(id).cloned();
            match live {
                Some(live) => live.ended.cancelled().await,
                None => {
                    let job = self.inner.store.get(&teams, id).await?;
                    let Some(stored) = job else {
                        return Err(Error::not_found(format!("the job {id} of the run was removed")));
                    };
                    if stored.job.state.ended() {
                        return Ok((stored.job.state, stored.job.message));
                    }
                    tokio::select! {
                        () = stopping.cancelled() => return Err(Error::cancelled("the server was stopped")),
                        () = tokio::time::sleep(POLL) => {}
                    }
                }
            }
        }
    }

    /// How operations are called here.
    pub(super) fn wiring(&self) -> Result<&(CallOperation, Rights)> {
        let wiring = self.inner.scheduler.wiring.get();
        wiring.ok_or_else(|| Error::unavailable("this server runs no schedules; ask one that does"))
    }
}

fn failed(id: &str, error: &Error) -> (State, String) {
    if error.kind == Kind::Internal {
        tracing::error!(schedule.id = id, error = error.causes(), "a scheduled run failed");
    }
    let state = if error.kind == Kind::Cancelled { State::Cancelled } else { State::Failed };
    (state, error.message.clone())
}
