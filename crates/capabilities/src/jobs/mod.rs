//! Jobs: long work that can be watched, listed, cancelled and found again after a crash; and schedules,
//! which start work by the clock.
//!
//! Words: a *job* is one run of a long operation, a row in the database from before it begins. It is
//! *queued*, then *running*, then *ended*: succeeded, failed, cancelled or interrupted. The *server* that
//! accepted a job runs it; its *lease* on the row is renewed while it lives. A job whose lease ran out is
//! *interrupted*, and what its server would still write is refused.
//!
//! Invariants: the row is stored before the work begins, and the end is stored before the answer is
//! given; a job of another team does not exist for the caller; progress is never waited for.

mod counts;
mod end;
mod model;
mod operations;
mod run;
mod schedules;
mod store;
mod upkeep;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use opsroom_core::capability::Status;
use opsroom_core::clock::Clock;
use opsroom_core::db::Db;
use opsroom_core::error::{Error, Result};
use opsroom_core::events::Events;
use opsroom_core::id::new_id;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::metrics::Metrics;
use opsroom_core::operation::Operation;
use opsroom_core::{Capability, Check, Component};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use model::{Failure, Job, JobDetails, LogLine, Standing};
pub use operations::JobPage;
pub use run::Running;
pub use schedules::{CallOperation, INPUT_OF, Missed, Rights, Schedule, SchedulePage};
pub use store::MIGRATIONS;

/// How many jobs run, how many wait, and how long they are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JobsConfig {
    /// The most jobs that run at once on one server, from 1 to 1000. Further ones wait in their order; of
    /// one caller's, all places but one are taken, so that another one need not wait for them.
    pub max_running: usize,
    /// The most jobs that wait on one server, from 0 to 10000. Beyond it a new job is refused as busy.
    pub max_waiting: usize,
    /// How many days a job is kept after its end, with its result and log, from 1 to 3650.
    pub retention_days: u32,
    /// For how many seconds a server may be silent before another one marks its jobs as interrupted,
    /// from 10 to 3600. The clocks of servers that share a database must agree better than this.
    pub lease_seconds: u32,
    /// The most schedules of one team, from 1 to 100000.
    pub max_schedules: usize,
    /// For how many seconds a job that was asked to stop may go on before it is abandoned, from 0 to 60.
    pub stop_seconds: u32,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            max_running: 4,
            max_waiting: 100,
            retention_days: 30,
            lease_seconds: 30,
            max_schedules: 1000,
            stop_seconds: 5,
        }
    }
}

impl JobsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value out of its range.
    pub fn validate(&self) -> Result<()> {
        let within = |name: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("jobs.{name}: {value} is not from {least} to {most}")))
        };
        within("max_running", self.max_running, 1, 1000)?;
        within("max_waiting", self.max_waiting, 0, 10_000)?;
        within("retention_days", self.retention_days as usize, 1, 3650)?;
        within("lease_seconds", self.lease_seconds as usize, 10, 3600)?;
        within("max_schedules", self.max_schedules, 1, 100_000)?;
        within("stop_seconds", self.stop_seconds as usize, 0, 60)
    }
}

/// The service: starts, finds and stops jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::Store,
    clock: Clock,
    lifecycle: Lifecycle,
    events: Events,
    metrics: Metrics,
    counts: counts::Counts,
    config: JobsConfig,
    /// New with every start: whose row a job is.
    server: String,
    slots: Arc<Semaphore>,
    shares: run::Shares,
    live: Mutex<HashMap<String, Arc<run::Live>>>,
    operations: RwLock<Arc<Vec<Operation>>>,
    scheduler: schedules::Scheduler,
}

impl Jobs {
    /// Whether this server has a job that has not ended.
    pub fn is_live(&self, id: &str) -> bool {
        self.live().contains_key(id)
    }

    /// Where a job of these teams stands; `None` when it is not kept, or no longer.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn standing(&self, teams: &[String], id: &str) -> Result<Option<Standing>> {
        self.inner.store.standing(teams, id).await
    }

    /// The service over a database that has been migrated. Nothing runs yet: [`Jobs::recover`] marks what
    /// an earlier server left, [`Jobs::start_upkeep`] renews the leases.
    ///
    /// # Errors
    /// `Invalid` when the configuration is out of its ranges.
    pub fn open(
        db: Db,
        clock: Clock,
        lifecycle: Lifecycle,
        events: Events,
        metrics: Metrics,
        config: JobsConfig,
    ) -> Result<Jobs> {
        config.validate()?;
        let slots = Arc::new(Semaphore::new(config.max_running));
        let scheduler = schedules::Scheduler::new(db.clone());
        let inner = Inner {
            store: store::Store { db },
            clock,
            lifecycle,
            events,
            counts: counts::Counts::new(&metrics),
            metrics,
            config,
            server: new_id(),
            slots,
            shares: run::Shares::default(),
            live: Mutex::new(HashMap::new()),
            operations: RwLock::new(Arc::new(Vec::new())),
            scheduler,
        };
        Ok(Jobs { inner: Arc::new(inner) })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let jobs = self.clone();
        let check = Check {
            name: "jobs",
            critical: false,
            run: Arc::new(move || {
                let component = jobs.state();
                Box::pin(async move { component })
            }),
        };
        Capability {
            operations: [operations::operations(self), schedules::operations(self)].concat(),
            migrations: MIGRATIONS.into(),
            checks: vec![check],
            ..Capability::new("jobs")
        }
    }

    /// Tells which operations there are: those a schedule may call, and whose jobs' results a caller may
    /// see who may call them.
    pub fn set_operations(&self, operations: Vec<Operation>) {
        let mut known = self.inner.operations.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(operations);
    }

    /// An operation by its name, among those that were told.
    fn operation(&self, name: &str) -> Option<Operation> {
        let known = self.inner.operations.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.iter().find(|operation| operation.name == name).cloned()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Arc<run::Live>>> {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> Component {
        let live = self.live().len();
        let running = self.inner.config.max_running - self.inner.slots.available_permits();
        let waiting = live.saturating_sub(running);
        let full = waiting >= self.inner.config.max_waiting && running == self.inner.config.max_running;
        let status = if full { Status::Degraded } else { Status::Healthy };
        Component { status, message: format!("{running} running, {waiting} waiting") }
    }
}

#[cfg(test)]
mod tests;
