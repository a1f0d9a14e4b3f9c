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
pub mod batches;
pub mod config;
pub mod entry;
pub mod explain;
mod export;
mod ingest;
pub mod input;
mod likeness;
pub mod lines;
pub mod model;
pub(crate) mod operations;
mod passing;
pub mod push;
pub mod query;
mod search;
pub mod shown;
pub mod sources;
pub mod store;
mod tally;
pub mod templates;

use std::path::Path;
use std::sync::Arc;

use opsroom_core::capability::{Check, Component, Status};
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::events::Events;
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::{Capability, Clock, Effect, Error, Operation, Result};
use tokio::sync::broadcast;

pub use config::LogsConfig;
pub use ingest::{Format, Kept, Received};
pub use search::{Follow, FoundLine};
pub use store::MIGRATIONS;

use batches::Batches;
use input::Limits;
use sources::{Sources, operations as on};
use store::{Batch, Embedded};

use crate::services::Services;

/// The operations on logs. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    roots: Roots,
    clock: Clock,
    store: Option<Embedded>,
    sources: Option<Sources>,
    batches: Option<Batches>,
    events: Option<Events>,
}

impl Logs {
    /// Logs below these roots, without a store.
    pub fn new(roots: Roots) -> Self {
        Self { roots, clock: Clock::System, store: None, sources: None, batches: None, events: None }
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
        let store =
            Embedded::open(&folder, db.clone(), clock.clone(), lifecycle, config.store.clone()).await?;
        let batch_store = batches::store::BatchStore { db };
        let batches = Some(Batches::new(batch_store, clock.clone(), lifecycle.clone()));
        Ok(Self { roots, clock, store: Some(store), sources: None, batches, events: None })
    }

    /// With places where logs lie that are not ours.
    pub fn with_sources(self, data_dir: &Path, db: Db, egress: Egress, secrets: Resolver) -> Self {
        let sources = Sources {
            store: sources::store::SourceStore { db },
            egress,
            secrets,
            roots: self.roots.clone(),
            clock: self.clock.clone(),
            spool: Arc::new(data_dir.join("downloads")),
            programs: None,
        };
        Self { sources: Some(sources), ..self }
    }

    /// With what services write, and containers whose names are like one of these.
    pub fn with_services(self, services: Services, containers: &[String]) -> Self {
        let programs = Some((services, containers.into()));
        Self { sources: self.sources.map(|sources| Sources { programs, ..sources }), ..self }
    }

    /// With the bus on which findings are told.
    pub fn with_events(self, events: Events) -> Self {
        Self { events: Some(events), ..self }
    }

    /// What calls many operations.
    ///
    /// # Errors
    /// `Unavailable` when nothing is kept here.
    pub fn batches(&self) -> Result<&Batches> {
        self.batches.as_ref().ok_or_else(|| Error::unavailable("no batches are kept here"))
    }

    /// The sources.
    fn sources(&self) -> Result<&Sources> {
        self.sources.as_ref().ok_or_else(|| Error::unavailable("no log sources are known here"))
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
            Operation::new(
                name,
                "export_logs",
                Effect::Write,
                "POST /logs/export",
                self,
                export::export_logs,
            )
            .long(),
            Operation::new(name, "explain_logs", read, "POST /logs/explain", self, explain::explain_logs)
                .long(),
            Operation::new(
                name,
                "process_log_batch",
                Effect::Write,
                "POST /logs/batches",
                self,
                batches::process_log_batch,
            ),
            Operation::new(
                name,
                "get_log_batch",
                read,
                "GET /logs/batches/{id}",
                self,
                batches::get_log_batch,
            ),
            Operation::new(
                name,
                "cancel_log_batch",
                Effect::Write,
                "POST /logs/batches/{id}/cancel",
                self,
                batches::cancel_log_batch,
            )
            .idempotent(),
            Operation::new(
                name,
                "ingest_logs",
                Effect::Write,
                "POST /logs/ingest",
                self,
                ingest::ingest_logs,
            ),
            Operation::new(name, "search_logs", read, "POST /logs/search", self, search::search_logs)
                .long()
                .prompt(),
            Operation::new(name, "count_logs", read, "POST /logs/count", self, search::count_logs)
                .long()
                .prompt(),
            Operation::new(
                name,
                "add_log_source",
                Effect::Write,
                "POST /logs/sources",
                self,
                on::add_log_source,
            ),
            Operation::new(name, "list_log_sources", read, "GET /logs/sources", self, on::list_log_sources),
            Operation::new(
                name,
                "update_log_source",
                Effect::Write,
                "PUT /logs/sources/{name}",
                self,
                on::update_log_source,
            )
            .idempotent(),
            Operation::new(
                name,
                "delete_log_source",
                Effect::Destroy,
                "DELETE /logs/sources/{name}",
                self,
                on::delete_log_source,
            ),
            Operation::new(
                name,
                "test_log_source",
                read,
                "POST /logs/sources/{name}/test",
                self,
                on::test_log_source,
            ),
            Operation::new(
                name,
                "list_log_objects",
                read,
                "POST /logs/sources/{name}/objects",
                self,
                on::list_log_objects,
            )
            .long(),
            Operation::new(
                name,
                "estimate_logs",
                read,
                "POST /logs/sources/{name}/estimate",
                self,
                on::estimate_logs,
            )
            .long(),
            Operation::new(
                name,
                "download_logs",
                Effect::Write,
                "POST /logs/sources/{name}/download",
                self,
                on::download_logs,
            )
            .idempotent()
            .long(),
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
