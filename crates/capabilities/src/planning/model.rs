//! What plans look like: every field of the older contract, and ours beside them.

use std::collections::BTreeMap;

use opsroom_analytics::forecast::anomaly::{Finding, ZScore};
use opsroom_analytics::forecast::clean::CleaningReport;
use opsroom_analytics::forecast::contract::{Breakpoints, MetricKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plan for one metric of one service: the 24 hours ahead, what to reserve for them, and why.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    /// The forecast.
    pub prediction: Prediction,
    /// The flavor to take: the advice where there is one, else the rule of the older system (see
    /// `recommendation`).
    pub recommended_flavor: String,
    /// What it costs a day, in US dollars, with all its instances.
    pub expected_cost_per_day: f64,
    /// When the plan counts from.
    pub generated_at: String,
    /// What a reader should know, in words; null when there is nothing.
    pub notes: Option<String>,
    /// How the request was understood.
    pub context: ContextUsed,
    /// The engine that was really used, and why.
    pub engine: EngineUsed,
    /// How the engine did on this very series; null when the series is too short for a backtest.
    pub backtest: Option<BacktestShown>,
    /// What the forecast was made from.
    pub history: HistoryUsed,
    /// Whether the forecast is abnormal for this series.
    pub anomaly: Anomaly,
    /// What to reserve, and what drove it.
    pub recommendation: Advice,
}

/// How a request was understood, with what was filled in.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ContextUsed {
    /// The caller's id, or one that follows from the request.
    pub context_id: String,
    /// Where it runs, as the caller said.
    pub region: Option<String>,
    /// The wishes of the caller, which were not used.
    pub requirements: Option<String>,
    /// The factor on every value.
    pub weight: f64,
    /// How many users are expected.
    pub expected_users: Option<u64>,
}

/// The forecast of 24 hours.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Prediction {
    /// The service.
    pub service_id: String,
    /// The service under the name of the other dialect.
    pub github_url: String,
    /// The metric.
    pub metric_name: String,
    /// What the router chose, and with a suffix what stood in: `_statistical` or `_fallback`.
    pub model_version: String,
    /// When the plan counts from.
    pub generated_at: String,
    /// The hours, beginning with the next full one.
    pub predictions: Vec<PredictedHour>,
}

/// One hour of a forecast, in the metric's own unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictedHour {
    /// Its beginning.
    pub time: String,
    /// The value forecast.
    pub value: f64,
    /// Lower end of the interval that holds 80 of 100 such hours; null without a backtest.
    pub lower80: Option<f64>,
    /// Its upper end.
    pub upper80: Option<f64>,
    /// Lower end of the interval that holds 95 of 100 such hours.
    pub lower95: Option<f64>,
    /// Its upper end.
    pub upper95: Option<f64>,
}

/// Which engine a plan was made with.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EngineUsed {
    /// What the router asked for: `lstm` or `baseline`.
    pub asked: String,
    /// What was used, the largest share first; `prior` when nothing is known of the service.
    pub name: String,
    /// Each engine's share.
    pub shares: BTreeMap<String, f64>,
    /// Why.
    pub reason: String,
}

/// How the choice did on the series' own past.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BacktestShown {
    /// Past days that were forecast, each from what was before it.
    pub origins: usize,
    /// Mean absolute error, in the metric's unit.
    pub error: f64,
    /// The same of the seasonal naive forecast: the same hour yesterday.
    pub seasonal_naive_error: f64,
    /// The first relative to the second; null where the naive forecast was never wrong.
    pub relative_error: Option<f64>,
    /// The error of each engine that took part.
    pub engines: BTreeMap<String, f64>,
}

/// What a forecast was made from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HistoryUsed {
    /// Where it came from.
    pub source: String,
    /// Hours, gaps included.
    pub hours: usize,
    /// The first hour; null without history.
    pub from: Option<String>,
    /// The last hour.
    pub to: Option<String>,
    /// Hours between the last one known and the time of the plan.
    pub hours_behind: i64,
    /// What was found in the readings and done about it.
    pub cleaning: CleaningReport,
}

/// The judgement on a forecast: the fields of the older system, and the other checks.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Anomaly {
    /// Whether any check found something; then it is an event, and a message where one is configured.
    pub abnormal: bool,
    /// The highest hour forecast against the last 168.
    #[serde(flatten)]
    pub score: ZScore,
    /// Robust deviation of the forecast, drift and level shift of the history.
    pub findings: Vec<Finding>,
}

/// What to reserve.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Advice {
    /// Whether the data carries an advice.
    pub given: bool,
    /// The flavor; null without advice.
    pub flavor: Option<String>,
    /// How many instances of it.
    pub replicas: u32,
    /// What it costs a day, in US dollars.
    pub daily_usd: Option<f64>,
    /// What is reserved and by the forecast not used, relative to the mean use.
    pub slack: Option<f64>,
    /// The constant capacity for these hours, in the metric's unit: at most `share_over` of hours lie above.
    pub limit: Option<f64>,
    /// The share of hours that may exceed the limit.
    pub share_over: f64,
    /// What is kept free above the limit, as a share of it.
    pub headroom: f64,
    /// The rules that were applied: `prod` or `dev`.
    pub profile: String,
    /// What the metric is: `ratio` or `count`.
    pub metric_kind: MetricKind,
    /// What decided: the metric's name.
    pub driver: String,
    /// Why, in words; without advice, why not.
    pub reason: String,
}

/// Plans for several metrics of one service.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plans {
    /// The plan for each metric.
    pub results: BTreeMap<String, Plan>,
    /// When the plans count from.
    pub generated_at: String,
    /// The flavor whose instances hold every metric for which there is an advice at once; null when there is none.
    pub recommended_flavor: Option<String>,
    /// How many instances of it.
    pub replicas: Option<u32>,
    /// What it costs a day, in US dollars.
    pub expected_cost_per_day: Option<f64>,
    /// The metric that fills them most.
    pub driver: Option<String>,
}

/// A flavor for each of the 24 hours ahead.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HourlyPlan {
    /// The service under the name of the other dialect.
    pub github_url: String,
    /// The service.
    pub service_id: String,
    /// The metric.
    pub metric_name: String,
    /// What the router chose, and with a suffix what stood in.
    pub model_version: String,
    /// When the plan counts from.
    pub generated_at: String,
    /// The hours, beginning with the next full one.
    pub hourly_recommendations: Vec<PlannedHour>,
    /// Where the hours lie.
    pub breakpoints: Breakpoints,
    /// What the 24 hours cost, in US dollars.
    pub total_expected_cost_24h: f64,
    /// What a reader should know, in words.
    pub notes: Option<String>,
    /// The engine that was really used, and why.
    pub engine: EngineUsed,
}

/// One hour of an hourly plan.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PlannedHour {
    /// 0 to 23.
    pub hour_index: usize,
    /// Its beginning.
    pub timestamp: String,
    /// The value forecast.
    pub predicted_value: f64,
    /// Share of the 24 hours that are not above this one, in per cent.
    pub percentile: f64,
    /// The flavor.
    pub recommended_flavor: String,
    /// US dollars for the hour.
    pub hourly_cost: f64,
}
