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
mod alarm;
mod analyze;
pub mod config;
mod context;
pub mod demo;
pub mod file;
mod forecaster;
mod ingest;
mod kept;
mod model;
mod moment;
mod operations;
mod outlook;
mod plan;
pub mod remote_write;
pub mod sources;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_advice;
#[cfg(test)]
mod tests_series;
mod training;
mod upkeep;

use std::sync::Arc;

use opsroom_analytics::forecast::engine::Engine;
use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Capability, Clock, Effect, Error, Operation, Result};

use advice::WhatIf;
use config::{Backend, PlanningConfig};
use context::Subject;
use kept::{Kept, Of, Outlook};
use model::Plan;
use sources::prometheus::Prometheus;
use sources::{Query, Source};
use store::external::External;
use store::{SeriesKey, Store};
use tokio::sync::Notify;
use training::Models;

use crate::notifications::Notifications;

pub use store::MIGRATIONS;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Planning {
    store: Store,
    clock: Clock,
    events: Events,
    notifications: Notifications,
    source: Source,
    config: Arc<PlanningConfig>,
    models: Models,
    kept: Kept,
    egress: Egress,
    arrived: Arc<Notify>,
    /// Held while arrivals are looked at.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Planning {
    /// Planning over a database that has been migrated.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(
        db: Db,
        clock: Clock,
        events: Events,
        notifications: Notifications,
        egress: Egress,
        config: PlanningConfig,
    ) -> Result<Self> {
        let config = config.with_price_list()?;
        config.validate()?;
        let store = Store { db };
        let source = match (config.source, &config.csv_path) {
            (Backend::Store, _) => Source::Store(store.clone()),
            (Backend::Csv, Some(path)) => Source::Csv(Arc::new(path.clone())),
            (Backend::Csv, None) => {
                return Err(Error::invalid("planning.csv_path: the source `csv` needs it"));
            }
            (Backend::Mysql | Backend::Postgres, _) => {
                let (database, connection) = (&config.database, config.database.connection(config.source));
                Source::Database(External::new(connection, &database.table, &database.service_column))
            }
            (Backend::Prometheus, _) => {
                Source::Prometheus(Prometheus::new(egress.clone(), config.prometheus.clone()))
            }
        };
        let (config, models) = (Arc::new(config), Models::default());
        let arrived = Arc::new(Notify::new());
        Ok(Self {
            store,
            clock,
            events,
            notifications,
            source,
            config,
            models,
            kept: Kept::default(),
            egress,
            arrived,
            looking: Arc::default(),
        })
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
                "analyze_repository",
                Effect::Write,
                "POST /api/analyze",
                self,
                analyze::analyze_repository,
            )
            .idempotent(),
            Operation::new(
                "planning",
                "list_forecasters",
                Effect::Read,
                "GET /forecasters",
                self,
                training::list_forecasters,
            ),
            Operation::new(
                "planning",
                "backtest_forecaster",
                Effect::Write,
                "POST /forecasters/backtest",
                self,
                training::backtest_forecaster,
            )
            .long()
            .detail_errors(),
            Operation::new(
                "planning",
                "train_forecaster",
                Effect::Write,
                "POST /forecasters/train",
                self,
                training::train_forecaster,
            )
            .long(),
            Operation::new(
                "planning",
                "get_plan_metrics",
                Effect::Read,
                "GET /plans/{service_id}/external-metrics",
                self,
                outlook::get_plan_metrics,
            ),
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

    /// The plan for one metric; what is abnormal in it is told.
    async fn plan(&self, call: &Call, subject: &Subject, metric: &str, what_if: &WhatIf) -> Result<Plan> {
        let plan = self.make(call, subject, metric, what_if).await?;
        self.tell_plan(call, subject, &plan).await?;
        Ok(plan)
    }

    /// The plan for one metric.
    async fn make(&self, call: &Call, subject: &Subject, metric: &str, what_if: &WhatIf) -> Result<Plan> {
        let key = SeriesKey { service: subject.service.clone(), metric: metric.to_owned() };
        let outlook = self.forecast(&team(&call.caller), &key, subject).await?;
        let (config, asked, what_if) = (self.config.clone(), subject.clone(), what_if.clone());
        Lifecycle::blocking(move || {
            Ok(plan::make(&plan::Ingredients {
                subject: &asked,
                metric: &key.metric,
                history: &outlook.history,
                source: config.source.as_str(),
                notes: &outlook.notes,
                made: &outlook.made,
                what_if: &what_if,
                config: &config,
            }))
        })
        .await
    }

    /// What is known of a series and the hours ahead of it: as kept, when nothing has changed since.
    async fn forecast(&self, team: &str, key: &SeriesKey, subject: &Subject) -> Result<Arc<Outlook>> {
        context::check_name("metric_name", &key.metric)?;
        let model = self.model(team).await?;
        let of = Of::new(team, key, subject.now, model.as_ref().map(|(at, _)| *at));
        let version = match &self.source {
            // Read first: what is written after it is at worst forecast once more.
            Source::Store(store) => store.version(team, key).await?,
            _ => None,
        };
        if let Some(kept) = version.as_deref().and_then(|version| self.kept.get(&of, version, subject.now)) {
            return Ok(kept);
        }
        let found = self.source.history(&self.query(team, key, subject.now)).await?;
        let present = subject.now.div_euclid(3600) + 1;
        let oldest = present - i64::from(self.config.history_hours);
        let stored = self.store.choice(team, key, oldest, present).await?;
        let span = kept::Span {
            from: found.readings.iter().map(|reading| reading.at).max().unwrap_or(i64::MIN),
            until: match version {
                Some(_) => self.store.next(team, key, subject.now).await?.unwrap_or(i64::MAX),
                None => i64::MIN,
            },
        };
        let (metric, asked) = (key.metric.clone(), subject.clone());
        let outlook = Lifecycle::blocking(move || {
            let history = forecaster::history(&metric, &found.readings, asked.now);
            let engines = model.map_or_else(Engine::local, |(_, model)| model.engines());
            let made = forecaster::forecast(&history, stored, &engines, &asked, &metric);
            Ok(Arc::new(Outlook { history, made, notes: found.notes }))
        })
        .await?;
        // A guess from the context is this request's alone.
        if let Some(version) = version.filter(|_| outlook.made.choice.is_some()) {
            self.kept.keep(of, version, span, outlook.clone());
        }
        Ok(outlook)
    }

    /// The input of `ingest_metrics` that a request of Prometheus remote-write stands for, if it has values.
    ///
    /// # Errors
    /// `Invalid` for what is no such request.
    pub async fn remote_write(&self, body: &[u8]) -> Result<Option<serde_json::Value>> {
        if body.len() > remote_write::MAX_PACKED {
            return Err(Error::invalid("the body is larger than 8 MiB; send fewer samples at a time"));
        }
        let (body, config) = (body.to_vec(), self.config.clone());
        Lifecycle::blocking(move || remote_write::input(&body, &config.remote_write)).await
    }

    /// What is asked of the source for a plan at `now` (seconds since 1970).
    fn query(&self, team: &str, key: &SeriesKey, now: i64) -> Query {
        let from = (now.div_euclid(3600) - i64::from(self.config.history_hours) + 1) * 3600;
        Query { team: team.to_owned(), key: key.clone(), from, now }
    }
}

/// The team whose series a caller sees: the first of theirs.
fn team(caller: &Caller) -> String {
    caller.teams.first().cloned().unwrap_or_else(|| DEFAULT_TEAM.to_owned())
}
