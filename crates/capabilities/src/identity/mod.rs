//! Who may come in, and what they did.
//!
//! Words: an *API key* is a token that a program or a person calls with; the *operator key* is the one
//! in the data folder, whose reader may do everything; the *setup token* is exchanged once for the first
//! administrator's key. The *audit trail* holds every call that was not only a look, in a chain that shows
//! tampering; the *call record* holds the looks. Accounts, sessions and teams of people join them here
//! later: a caller is known by its `subject`, and whatever stands behind it is a matter of this folder.
//!
//! Invariants: a token is stored as its SHA-256 and shown once; nobody gives more than they have; every
//! list is narrowed to the caller's teams; a call is let in without asking the database; what cannot be
//! written to the trail is not answered.

pub mod access;
pub mod accounts;
pub mod audit;
mod authenticate;
mod cache;
pub mod calls;
pub mod cloud;
pub mod export;
pub mod keys;
pub mod lists;
mod model;
pub mod oauth;
pub mod oidc;
mod operator;
mod setup;
mod setup_operations;
mod store;
mod throttle;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};

use opsroom_core::capability::{Check, Component, Status};
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::files::Roots;
use opsroom_core::job::Progress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Caller, Capability, Clock, Effect, Error, Operation, Result, Role};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use audit::{AuditConfig, AuditEntry, Broken, Verdict, Verify};
pub use calls::CallRecord;
pub use model::{ApiKey, CreatedKey, ExchangeSetupToken, Page};
pub use operator::OPERATOR_FILE;
pub use setup::SETUP_SECONDS;
pub use store::MIGRATIONS;

use accounts::config::AccountsConfig;
use accounts::people::People;
use cache::KeyCache;
use calls::Calls;
use oauth::live::Agents;
use throttle::Throttle;

/// How API keys begin.
pub const KEY_PREFIX: &str = "opk_";

/// How operator keys begin.
pub const OPERATOR_PREFIX: &str = "opo_";

/// How setup tokens begin.
pub const SETUP_PREFIX: &str = "ops_";

/// How often uses of keys are written, in rounds of three seconds.
const ROUNDS: u32 = 4;

/// How often sessions that are over are removed, in the same rounds.
const OLD_SESSIONS: u32 = 200;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    db: Db,
    clock: Clock,
    data_dir: Arc<Path>,
    cache: Arc<KeyCache>,
    trail: audit::Trail,
    calls: Calls,
    throttle: Arc<Throttle>,
    operator: Arc<RwLock<Option<cache::Hash>>>,
    people: Arc<People>,
    agents: Arc<Agents>,
    lifecycle: Lifecycle,
    /// The folders that are open to callers.
    files: Option<Roots>,
    /// Every operation of the room, once there is one.
    operations: Arc<OnceLock<Vec<Operation>>>,
}

impl Identity {
    /// Opens the service on a database that has the tables of [`MIGRATIONS`], and reads the keys.
    pub async fn open(db: Db, clock: Clock, lifecycle: Lifecycle, data_dir: &Path) -> Result<Self> {
        Self::open_with(db, clock, lifecycle, data_dir, AccountsConfig::default(), AuditConfig::default())
            .await
    }

    /// The same, with how long sessions last and records are kept.
    pub async fn open_with(
        db: Db,
        clock: Clock,
        lifecycle: Lifecycle,
        data_dir: &Path,
        accounts: AccountsConfig,
        records: AuditConfig,
    ) -> Result<Self> {
        let identity = Self {
            cache: Arc::new(KeyCache::new(db.clone(), clock.clone())),
            trail: audit::Trail::new(db.clone(), clock.clone(), lifecycle.clone(), records),
            calls: Calls::new(db.clone(), clock.clone(), lifecycle.clone()),
            throttle: Arc::default(),
            operator: Arc::default(),
            people: Arc::new(People::new(db.clone(), clock.clone(), accounts)),
            agents: Arc::new(Agents::new(db.clone(), clock.clone())),
            lifecycle: lifecycle.clone(),
            files: None,
            operations: Arc::default(),
            data_dir: PathBuf::from(data_dir).into(),
            db,
            clock,
        };
        identity.cache.refresh().await?;
        identity.people.refresh().await?;
        identity.agents.refresh().await?;
        let (cache, people, stop) = (identity.cache.clone(), identity.people.clone(), lifecycle.stopping());
        let (trail, agents) = (identity.trail.clone(), identity.agents.clone());
        lifecycle.spawn("api keys", async move {
            keep_fresh(&cache, (&people, &agents), &trail, &stop).await;
            Ok(())
        });
        Ok(identity)
    }

    /// With the folders in which callers may let files be written.
    #[must_use]
    pub fn with_files(self, roots: Roots) -> Self {
        Self { files: Some(roots), ..self }
    }

    /// Tells which operations there are, for `explain_access`. The first time counts.
    pub fn set_operations(&self, operations: Vec<Operation>) {
        drop(self.operations.set(operations));
    }

    /// Sends the audit trail to where `audit.sinks` says, until the server stops.
    pub fn start_sinks(&self, egress: &Egress) {
        for config in self.trail.sinks() {
            let (db, clock) = (self.db.clone(), self.clock.clone());
            audit::Sink { db, clock, egress: egress.clone(), config: config.clone() }.start(&self.lifecycle);
        }
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        Capability {
            operations: self.own_operations(),
            migrations: MIGRATIONS.into(),
            checks: self.checks(),
            ..Capability::new("identity")
        }
    }

    fn own_operations(&self) -> Vec<Operation> {
        macro_rules! operation {
            ($name:literal, $effect:ident, $route:literal, $run:path) => {
                Operation::new("identity", $name, Effect::$effect, $route, self, $run)
                    .role(Role::Administrator)
            };
        }
        vec![
            operation!("create_api_key", Reveal, "POST /api-keys", keys::create),
            operation!("list_api_keys", Read, "GET /api-keys", keys::list),
            operation!("get_api_key", Read, "GET /api-keys/{id}", keys::get),
            operation!("rotate_api_key", Reveal, "POST /api-keys/{id}/rotate", keys::rotate),
            operation!("revoke_api_key", Destroy, "DELETE /api-keys/{id}", keys::revoke).idempotent(),
            operation!("create_setup_token", Reveal, "POST /setup/token", setup_operations::create),
            operation!("exchange_setup_token", Reveal, "POST /setup", setup_operations::exchange).open(),
            operation!("list_audit", Read, "GET /audit", lists::list_audit),
            operation!("export_audit", Write, "POST /audit/export", export::export).long(),
            operation!("explain_access", Read, "GET /access", access::explain),
            operation!("verify_audit", Read, "GET /audit/verify", lists::verify_audit),
            operation!("list_calls", Read, "GET /calls", lists::list_calls),
        ]
    }

    /// Notes that an entry is about to be done, so that a crash before its record leaves a trace.
    ///
    /// # Errors
    /// When it could not be noted; it must not be done then.
    pub async fn begin_audit(&self, entry: AuditEntry) -> Result<AuditEntry> {
        self.trail.begin(entry).await
    }

    /// Puts on record what an earlier server began and did not end. Whoever calls this on SQLite holds the data
    /// folder's lock.
    pub async fn recover_audit(&self) -> Result<()> {
        self.trail.recover(true).await
    }

    /// Writes an entry to the audit trail; answers when it would survive a crash.
    ///
    /// # Errors
    /// When it could not be written; the operation's answer must then be withheld.
    pub async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.trail.write(entry).await
    }

    /// Puts on record what is no operation, or what an open one did: the room records the others. `details` has no
    /// secrets.
    async fn record(
        &self,
        caller: &Caller,
        action: &str,
        details: &Value,
        result: Result<(), &Error>,
    ) -> Result<()> {
        let entry = AuditEntry::action(caller, action, Effect::Write, details);
        let entry = match result {
            Ok(()) => entry.ok(),
            Err(error) => entry.failed(error),
        };
        self.audit(entry).await
    }

    /// Notes a call that is not audited, within a second, without waiting and without failing.
    pub fn record_call(&self, call: &CallRecord<'_>) {
        self.calls.record(call);
    }

    /// Checks the whole audit trail, as `verify_audit` does, for commands that run without a caller.
    pub async fn verify_audit(&self, input: &Verify, progress: &Progress) -> Result<Verdict> {
        let watch = audit::Watch { progress, cancel: &CancellationToken::new() };
        audit::verify(&self.db, input, watch).await
    }

    fn checks(&self) -> Vec<Check> {
        let (trail, calls) = (self.clone(), self.clone());
        vec![
            Check {
                name: "audit_trail",
                critical: true,
                run: Arc::new(move || {
                    let identity = trail.clone();
                    Box::pin(async move { identity.trail_state().await })
                }),
            },
            Check {
                name: "call_record",
                critical: false,
                run: Arc::new(move || {
                    let dropped = calls.calls.dropped();
                    Box::pin(std::future::ready(calls_state(dropped)))
                }),
            },
        ]
    }

    async fn trail_state(&self) -> Component {
        match store::audit::head(&self.db).await {
            Ok(Some(head)) => Component { status: Status::Healthy, message: format!("{} records", head.seq) },
            Ok(None) => Component {
                status: Status::Unhealthy,
                message: "the head of the audit trail is missing; `verify_audit` says more".to_owned(),
            },
            Err(error) => Component { status: Status::Unhealthy, message: error.message },
        }
    }
}

fn calls_state(dropped: u64) -> Component {
    match dropped {
        0 => Component { status: Status::Healthy, message: "every call was recorded".to_owned() },
        dropped => Component {
            status: Status::Degraded,
            message: format!(
                "{dropped} calls were not recorded since the start: the database was too slow for them"
            ),
        },
    }
}

/// Asks every few seconds whether another server changed a key, and writes now and then when keys were
/// used. Trouble is logged and tried again: calls are refused by the cache when it lasts.
async fn keep_fresh(
    cache: &KeyCache,
    (people, agents): (&People, &Agents),
    trail: &audit::Trail,
    stop: &CancellationToken,
) {
    let mut failing = false;
    for round in 1u32.. {
        let stopping = tokio::select! {
            () = tokio::time::sleep(cache::PERIOD) => false,
            () = stop.cancelled() => true,
        };
        let mut result = Ok(());
        if stopping || round % ROUNDS == 0 {
            result = cache.write_last_used().await.and(people.write_seen().await);
        }
        if !stopping && round % OLD_SESSIONS == 0 {
            result = result
                .and(people.remove_old().await)
                .and(agents.remove_old().await)
                .and(trail.recover(false).await)
                .and(trail.remove_old().await);
        }
        if stopping {
            return;
        }
        let result =
            result.and(cache.refresh().await).and(people.refresh().await).and(agents.refresh().await);
        if let Err(error) = &result
            && !failing
        {
            tracing::warn!(error = error.message, causes = error.causes(), "keys cannot be read or written");
        }
        failing = result.is_err();
    }
}

#[cfg(test)]
mod tests;
