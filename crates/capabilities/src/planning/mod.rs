//! Planning: the hours ahead of a service, what to reserve for them, and what is abnormal in them.
//!
//! # Words
//!
//! - A *service* has *metrics*; one metric of one service is a *series*, whose *points* come from a
//!   *source*: our own store, or where the metrics are already.
//! - A *plan* is the forecast of 24 hours with what follows from it: an *advice* (a flavor, how many, the
//!   price), a judgement whether it is abnormal, and what all of it rests on.
//! - A *choice* says which engines a series is forecast with, by a backtest on that very series.
//!
//! # Invariants
//!
//! - The same request on the same history gives the same answer: `context.timestamp` is the time.
//! - What stood in for what was asked is named in the answer. Where the data carries no advice, none is
//!   given, with the reason.
//! - What `ingest_metrics` answered as stored is durable.

mod advice;
pub mod config;
mod context;
mod forecaster;
mod ingest;
mod model;
mod moment;
mod operations;
mod plan;
pub mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::db::Db;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Capability, Clock, Effect, Error, Operation, Result};

use advice::WhatIf;
use config::{Backend, PlanningConfig};
use context::Subject;
use model::Plan;
use sources::{Query, Source};
use store::{SeriesKey, Store};

pub use store::MIGRATIONS;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Planning {
    store: Store,
    clock: Clock,
    source: Source,
    config: Arc<PlanningConfig>,
}

impl Planning {
    /// Planning over a database that has been migrated.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(db: Db, clock: Clock, config: PlanningConfig) -> Result<Self> {
        config.validate()?;
        let store = Store { db };
        let source = match (config.source, &config.csv_path) {
            (Backend::Store, _) => Source::Store(store.clone()),
            (Backend::Csv, Some(path)) => Source::Csv(Arc::new(path.clone())),
            (Backend::Csv, None) => {
                return Err(Error::invalid("planning.csv_path: the source `csv` needs it"));
            }
        };
        Ok(Self { store, clock, source, config: Arc::new(config) })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("planning");
        capability.operations = vec![
            Operation::new(
                "planning",
                "ingest_metrics",
                Effect::Write,
                "POST /metrics/ingest",
                self,
                ingest::ingest_metrics,
            )
            .idempotent()
            .detail_errors(),
            Operation::new(
                "planning",
                "create_plan",
                Effect::Write,
                "POST /plans",
                self,
                operations::create_plan,
            )
            .idempotent()
            .detail_errors(),
            Operation::new(
                "planning",
                "create_plans",
                Effect::Write,
                "POST /plans/multi",
                self,
                operations::create_plans,
            )
            .idempotent()
            .detail_errors(),
            Operation::new(
                "planning",
                "create_hourly_plan",
                Effect::Write,
                "POST /hourly-flavor",
                self,
                operations::create_hourly_plan,
            )
            .idempotent()
            .detail_errors(),
            Operation::new(
                "planning",
                "list_series",
                Effect::Read,
                "GET /metrics/series",
                self,
                operations::list_series,
            ),
        ];
        capability.migrations = MIGRATIONS.into();
        capability
    }

    /// The plan for one metric.
    async fn plan(&self, call: &Call, subject: &Subject, metric: &str, what_if: &WhatIf) -> Result<Plan> {
        let hours = i64::from(self.config.history_hours);
        let query = Query {
            team: team(&call.caller),
            key: SeriesKey { service: subject.service.clone(), metric: metric.to_owned() },
            from: (subject.now.div_euclid(3600) - hours + 1) * 3600,
            now: subject.now,
        };
        let found = self.source.history(&query).await?;
        let (config, subject) = (self.config.clone(), subject.clone());
        let (metric, what_if) = (metric.to_owned(), what_if.clone());
        Lifecycle::blocking(move || {
            let history = forecaster::history(&found.readings, subject.now);
            let engines = forecaster::quick_engines();
            Ok(plan::make(&plan::Ingredients {
                subject: &subject,
                metric: &metric,
                history: &history,
                source: config.source.as_str(),
                notes: &found.notes,
                stored: None,
                engines: &engines,
                what_if: &what_if,
                config: &config,
            }))
        })
        .await
    }
}

/// The team whose series a caller sees: the first of theirs.
fn team(caller: &Caller) -> String {
    caller.teams.first().cloned().unwrap_or_else(|| DEFAULT_TEAM.to_owned())
}
