//! Logs: reading them, and what their templates, levels and times say.
//!
//! # Words
//!
//! - A *source* is one thing to read: a file, a stream, a text. See [`input`].
//! - A *record* is a line and those that continue it, such as a stack trace.
//! - A *template* is what messages of one kind share, with `<*>` where they vary.
//!
//! # Invariants
//!
//! - Served operations read below the configured roots or what came inline, and nothing else.
//! - Text of a log in an answer is data: see [`shown`].

pub mod analyze;
pub mod config;
pub mod entry;
mod ingest;
pub mod input;
pub mod lines;
pub mod model;
pub(crate) mod operations;
pub mod push;
pub mod query;
mod search;
pub mod shown;
pub mod store;
pub mod templates;

use std::path::Path;
use std::sync::Arc;

use opsroom_core::capability::{Check, Component, Status};
use opsroom_core::db::Db;
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Capability, Clock, Effect, Error, Operation, Result};
use tokio::sync::broadcast;

pub use config::LogsConfig;
pub use ingest::{Format, Kept, Received};
pub use search::{Follow, FoundLine};
pub use store::MIGRATIONS;

use input::Limits;
use store::{Batch, Embedded};

/// The operations on logs. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    roots: Roots,
    clock: Clock,
    store: Option<Embedded>,
}

impl Logs {
    /// Logs below these roots, without a store.
    pub fn new(roots: Roots) -> Self {
        Self { roots, clock: Clock::System, store: None }
    }

    /// Logs with the store in the data folder.
    ///
    /// # Errors
    /// `Unavailable` when the store's folder cannot be used.
    pub async fn open(
        roots: Roots,
        data_dir: &Path,
        db: Db,
        clock: Clock,
        lifecycle: &Lifecycle,
        config: &LogsConfig,
    ) -> Result<Self> {
        let folder = data_dir.join("logs");
        let store = Embedded::open(&folder, db, clock.clone(), lifecycle, config.store.clone()).await?;
        Ok(Self { roots, clock, store: Some(store) })
    }

    /// What is kept from now on, as it is kept.
    ///
    /// # Errors
    /// `Unavailable` when nothing is kept here.
    pub fn listen(&self) -> Result<broadcast::Receiver<Arc<Batch>>> {
        Ok(self.store()?.listen())
    }

    /// The store.
    fn store(&self) -> Result<Embedded> {
        self.store.clone().ok_or_else(|| Error::unavailable("no log lines are kept here"))
    }

    /// Microseconds since 1970.
    fn now(&self) -> i64 {
        self.clock.now().0
    }

    /// How the store is.
    fn checks(&self) -> Vec<Check> {
        let Some(store) = self.store.clone() else { return Vec::new() };
        let run = move || -> futures_util::future::BoxFuture<'static, Component> {
            let (rows, plain, stored, segments, trouble) = store.state();
            let status = if trouble.is_some() { Status::Degraded } else { Status::Healthy };
            let kept = format!("{rows} lines, {plain} bytes as {stored} in {segments} segments");
            let message = trouble.map_or(kept.clone(), |trouble| format!("{kept}; {trouble}"));
            Box::pin(std::future::ready(Component { status, message }))
        };
        vec![Check { name: "log_store", critical: false, run: Arc::new(run) }]
    }

    /// The operations of this capability.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("logs");
        let (read, name) = (Effect::Read, "logs");
        capability.operations = vec![
            Operation::new(name, "analyze_logs", read, "POST /logs/analyze", self, operations::analyze_logs)
                .long(),
            Operation::new(
                name,
                "list_log_templates",
                read,
                "POST /logs/templates",
                self,
                operations::list_log_templates,
            )
            .long(),
            Operation::new(name, "ingest_logs", Effect::Write, "POST /logs/ingest", self, ingest::ingest_logs),
            Operation::new(name, "search_logs", read, "POST /logs/search", self, search::search_logs),
            Operation::new(name, "count_logs", read, "POST /logs/count", self, search::count_logs),
        ];
        capability.checks = self.checks();
        capability
    }

    /// The folders below which logs may be named.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// What reading may cost on behalf of a caller.
    pub(crate) fn limits(&self) -> Limits {
        Limits::served()
    }
}
