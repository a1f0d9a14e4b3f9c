//! `list_forecasters`, `backtest_forecaster` and `train_forecaster`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use opsroom_analytics::forecast::backtest::{self, Plan as Origins};
use opsroom_analytics::forecast::choice::{Choice, Policy};
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::model::{Model, Training};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::context::{Moment, check_name};
use super::model::{BacktestShown, HistoryUsed};
use super::sources::Query;
use super::store::SeriesKey;
use super::{Planning, forecaster, plan, team};

/// The most series that a model is learnt from.
const MOST_SERIES: u64 = 5_000;

/// The models of teams that were read, and when they were trained.
pub type Models = Arc<Mutex<HashMap<String, (Time, Arc<Model>)>>>;

/// Lists the forecast engines that are at hand, and how much history each needs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListForecasters {}

/// The engines.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Forecasters {
    /// The floor first.
    pub items: Vec<Forecaster>,
    /// The model that was learnt from all series; null before `train_forecaster` ran.
    pub learnt: Option<Learnt>,
}

/// One engine.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Forecaster {
    /// Its name.
    pub name: String,
    /// Hours of history that it needs.
    pub needs_hours: usize,
    /// Whether a plan of a series without a stored choice tries it, too.
    pub quick: bool,
}

/// A learnt model.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Learnt {
    /// When it was trained.
    pub trained_at: String,
    /// Series that it learnt from.
    pub series: usize,
    /// Days that it learnt from.
    pub windows: usize,
    /// Its digest: the same data gives the same model.
    pub sha256: String,
}

/// Compares all forecast engines on one series' own past, and keeps the choice for its plans.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct BacktestForecaster {
    /// The service.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub service_id: Option<String>,
    /// The service, under the name of the other dialect.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub github_url: Option<String>,
    /// The metric.
    #[schemars(length(min = 1, max = 128))]
    pub metric_name: String,
    /// The time that counts as now; by default it is the time of the call.
    #[serde(default)]
    pub timestamp: Option<Moment>,
    /// How many past days are forecast, each from what was before it, from 3 to 100.
    #[serde(default = "fourteen")]
    #[schemars(range(min = 3, max = 100))]
    pub origins: usize,
}

fn fourteen() -> usize {
    14
}

/// How the engines did.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Backtested {
    /// The service.
    pub service_id: String,
    /// The metric.
    pub metric_name: String,
    /// The engines that plans will use, and their shares.
    pub chosen: Vec<Share>,
    /// Why.
    pub reason: String,
    /// The errors.
    pub backtest: Option<BacktestShown>,
    /// What it rests on.
    pub history: HistoryUsed,
}

/// An engine's share of a forecast.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Share {
    /// The engine.
    pub engine: String,
    /// Its share; all add up to 1.
    pub weight: f64,
}

/// Learns one model from all stored series, which then takes part in backtests and plans.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainForecaster {}

pub(super) async fn list_forecasters(
    service: Planning,
    call: Call,
    _: ListForecasters,
) -> Result<Forecasters> {
    let learnt = service.model(&team(&call.caller)).await?;
    let quick = forecaster::quick_engines();
    let engines = learnt.as_ref().map_or_else(Engine::local, |(_, model)| model.engines());
    let items = engines.iter().map(|engine| Forecaster {
        name: engine.name().to_owned(),
        needs_hours: engine.needs(),
        quick: quick.contains(engine) || engine.is_learnt(),
    });
    Ok(Forecasters { items: items.collect(), learnt: learnt.as_ref().map(|(at, model)| shown(*at, model)) })
}

fn shown(at: Time, model: &Model) -> Learnt {
    Learnt {
        trained_at: at.to_rfc3339(),
        series: model.trained.series,
        windows: model.trained.windows,
        sha256: model.hash(),
    }
}

pub(super) async fn backtest_forecaster(
    service: Planning,
    call: Call,
    input: BacktestForecaster,
) -> Result<Backtested> {
    let name = input.service_id.or(input.github_url);
    let name =
        name.ok_or_else(|| Error::invalid("service_id: name the service, or give github_url in its place"))?;
    check_name("service_id", &name)?;
    check_name("metric_name", &input.metric_name)?;
    let now = match &input.timestamp {
        None => service.clock.now().0.div_euclid(1_000_000),
        Some(time) => time.seconds().ok_or_else(|| Error::invalid("timestamp: it is an ISO 8601 time"))?,
    };
    let team = team(&call.caller);
    let key = SeriesKey { service: name, metric: input.metric_name };
    let found = service.source.history(&service.query(&team, &key, now)).await?;
    let model = service.model(&team).await?;
    let engines = model.map_or_else(Engine::local, |(_, model)| model.engines());
    let source = service.config.source.as_str();
    let origins = input.origins.clamp(3, 100);
    let metric = key.metric.clone();
    let (history, choice) = Lifecycle::blocking(move || {
        let history = forecaster::history(&metric, &found.readings, now);
        let series =
            history.series.as_ref().ok_or_else(|| Error::not_found("there is no history of this metric"))?;
        let plan = Origins { origins, ..Origins::default() };
        let backtest = backtest::run(series, &engines, &plan).map_err(invalid)?;
        let choice = Choice::from_backtest(&backtest, series.observed(), &Policy::default());
        Ok((history, choice))
    })
    .await?;
    let end = history.series.as_ref().map_or(0, |series| series.end());
    service.store.keep_choice(&team, &key, end, &choice, service.clock.now()).await?;
    let share = |member: &opsroom_analytics::forecast::choice::Member| Share {
        engine: member.engine.clone(),
        weight: member.weight,
    };
    Ok(Backtested {
        chosen: choice.members.iter().map(share).collect(),
        reason: choice.reason.clone(),
        backtest: plan::backtest(&choice),
        history: plan::used(&history, source),
        service_id: key.service,
        metric_name: key.metric,
    })
}

fn invalid(error: opsroom_analytics::forecast::error::ForecastError) -> Error {
    Error::invalid(error.to_string())
}

pub(super) async fn train_forecaster(service: Planning, call: Call, _: TrainForecaster) -> Result<Learnt> {
    let team = team(&call.caller);
    let now = service.clock.now();
    let rows = service.store.series(&team, None, MOST_SERIES).await?;
    let mut histories = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        if call.cancel.is_cancelled() {
            return Err(Error::cancelled("the training was stopped"));
        }
        let seconds = now.0.div_euclid(1_000_000);
        let Query { from, now, .. } = service.query(&team, &row.key, seconds);
        let points = service.store.points(&team, &row.key, from, now).await?;
        let readings: Vec<_> = points
            .into_iter()
            .map(|point| opsroom_analytics::forecast::clean::Reading { at: point.at, value: point.value })
            .collect();
        histories.extend(forecaster::history(&row.key.metric, &readings, now).series);
        call.progress.report(Some(0.8 * (at + 1) as f64 / rows.len() as f64), "reading the series");
    }
    call.progress.report(Some(0.8), "learning");
    // Without a time in its name, the same data gives the same bytes.
    let train = move || Model::train("all series", &histories, &Training::default()).map_err(invalid);
    let model = Lifecycle::blocking(train).await?;
    service.store.keep_model(&team, model.to_bytes(), now).await?;
    Ok(shown(now, &model))
}

impl Planning {
    /// The model of a team, if it has one.
    pub(super) async fn model(&self, team: &str) -> Result<Option<(Time, Arc<Model>)>> {
        let Some(at) = self.store.model_time(team).await? else { return Ok(None) };
        let known = self.models.lock().unwrap_or_else(PoisonError::into_inner).get(team).cloned();
        if let Some(known) = known.filter(|(known, _)| *known == at) {
            return Ok(Some(known));
        }
        let Some(bytes) = self.store.model(team).await? else { return Ok(None) };
        // A model that this version cannot read is none; the next training makes another.
        let Ok(model) = Model::from_bytes(&bytes) else { return Ok(None) };
        let read = (at, Arc::new(model));
        self.models.lock().unwrap_or_else(PoisonError::into_inner).insert(team.to_owned(), read.clone());
        Ok(Some(read))
    }
}
