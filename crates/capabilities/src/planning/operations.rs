//! `create_plan`, `create_plans`, `create_hourly_plan` and `list_series`.

use std::collections::BTreeMap;

use opsroom_analytics::forecast::contract::{HourlyRules, MetricKind, hourly_plan, metric_kind};
use opsroom_core::fields::{FieldError, FieldErrors};
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advice::{self, Chosen, Need, WhatIf};
use super::context::{PlanContext, Subject, check_name, understand};
use super::model::{HourlyPlan, Plan, PlannedHour, Plans};
use super::store::SeriesRow;
use super::{Planning, moment};

/// The most metrics of one request.
const MOST_METRICS: usize = 32;

/// The service and the situation, as every request for a plan has them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Asked {
    /// The service.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub service_id: Option<String>,
    /// The service, under the name of the other dialect.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub github_url: Option<String>,
    /// The situation.
    pub context: PlanContext,
}

/// What may be said besides.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Wishes {
    /// Wishes in words; accepted, and not used.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    pub requirements: Option<String>,
    /// Assumptions to try.
    #[serde(default)]
    pub what_if: Option<WhatIf>,
}

/// Plans the 24 hours ahead of a service: the forecast of a metric with intervals, the flavor to take and
/// what it costs, whether the forecast is abnormal, and why.
///
/// `service_id` and `github_url` are two names of the same thing; give either.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct CreatePlan {
    #[serde(flatten)]
    asked: Asked,
    /// The metric, in whose own unit the answer is.
    #[serde(default = "total_events")]
    #[schemars(length(min = 1, max = 128))]
    pub metric_name: String,
    #[serde(flatten)]
    wishes: Wishes,
}

/// Plans the 24 hours ahead of a service for several metrics at once, and the flavor that holds them all.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct CreatePlans {
    #[serde(flatten)]
    asked: Asked,
    /// The metrics.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 128)))]
    pub metric_names: Vec<String>,
    #[serde(flatten)]
    wishes: Wishes,
}

/// Plans a flavor for each of the 24 hours ahead of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct CreateHourlyPlan {
    #[serde(flatten)]
    asked: Asked,
    /// The metric.
    #[serde(default = "total_events")]
    #[schemars(length(min = 1, max = 128))]
    pub metric_name: String,
    /// Shown in the answer in place of what the router chooses.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    pub model_version: Option<String>,
    /// Whether a guess from the context may stand in where there is no history.
    #[serde(default = "yes")]
    pub fallback_to_baseline: bool,
}

impl Asked {
    fn subject(&self, requirements: Option<&str>, service: &Planning) -> Result<Subject> {
        let (id, url) = (self.service_id.as_deref(), self.github_url.as_deref());
        understand(id, url, requirements, &self.context, service.clock.now())
    }
}

fn total_events() -> String {
    "total_events".to_owned()
}

fn yes() -> bool {
    true
}

pub(super) async fn create_plan(service: Planning, call: Call, input: CreatePlan) -> Result<Plan> {
    let subject = input.asked.subject(input.wishes.requirements.as_deref(), &service)?;
    let what_if = checked(&service, input.wishes.what_if)?;
    service.plan(&call, &subject, &input.metric_name, &what_if).await
}

pub(super) async fn create_plans(service: Planning, call: Call, input: CreatePlans) -> Result<Plans> {
    let subject = input.asked.subject(input.wishes.requirements.as_deref(), &service)?;
    let what_if = checked(&service, input.wishes.what_if)?;
    let mut results = BTreeMap::new();
    let mut metrics: Vec<String> = input.metric_names.into_iter().take(MOST_METRICS).collect();
    metrics.sort();
    metrics.dedup();
    for metric in metrics {
        let plan = service.plan(&call, &subject, &metric, &what_if).await?;
        results.insert(metric, plan);
    }
    let joint = together(&service, &subject, &what_if, &results);
    Ok(Plans {
        generated_at: moment::show(subject.now),
        recommended_flavor: joint.as_ref().map(|(chosen, _)| chosen.flavor.name.clone()),
        replicas: joint.as_ref().map(|(chosen, _)| chosen.replicas),
        expected_cost_per_day: joint.as_ref().map(|(chosen, _)| chosen.daily_usd),
        driver: joint.and_then(|(_, driver)| driver),
        results,
    })
}

/// What holds all metrics for which there is an advice at once, and the one that fills it most.
fn together<'a>(
    service: &'a Planning,
    subject: &Subject,
    what_if: &WhatIf,
    plans: &BTreeMap<String, Plan>,
) -> Option<(Chosen<'a>, Option<String>)> {
    let users = what_if.users.unwrap_or(1.0);
    let need = |(metric, plan): (&'_ String, &'_ Plan)| {
        let advice = Some(&plan.recommendation).filter(|advice| advice.given)?;
        Some((metric.clone(), advice.limit? * users * (1.0 + advice.headroom)))
    };
    let needs: Vec<(String, f64)> = plans.iter().filter_map(need).collect();
    let asked: Vec<Need<'_>> =
        needs.iter().map(|(metric, amount)| Need { metric, amount: *amount }).collect();
    let chosen = (!asked.is_empty())
        .then(|| advice::hold(&asked, subject, what_if.flavor.as_deref(), &service.config.flavors))?
        .ok()?;
    let driver = chosen.fullest.map(|(at, _)| needs[at].0.clone());
    Some((chosen, driver))
}

/// The older system's bounds between three sizes, with the names and prices of the list. A share has bounds of
/// its own.
fn hourly_rules(service: &Planning, metric: &str) -> HourlyRules {
    let flavors = &service.config.flavors;
    let three = ["small", "medium", "large"].map(|name| flavors.iter().find(|flavor| flavor.name == name));
    let of = |at: usize| three[at].or(flavors.get(at)).or(flavors.last());
    let (small_max, medium_max) = match metric_kind(metric) {
        MetricKind::Ratio => (0.7, 0.9),
        MetricKind::Count => (service.config.hourly_small_max, service.config.hourly_medium_max),
    };
    HourlyRules {
        small_max,
        medium_max,
        names: [0, 1, 2].map(|at| of(at).map(|flavor| flavor.name.clone()).unwrap_or_default()),
        hourly_usd: [0, 1, 2].map(|at| of(at).map_or(0.0, |flavor| flavor.hourly_usd)),
    }
}

pub(super) async fn create_hourly_plan(
    service: Planning,
    call: Call,
    input: CreateHourlyPlan,
) -> Result<HourlyPlan> {
    let subject = input.asked.subject(None, &service)?;
    let plan = service.plan(&call, &subject, &input.metric_name, &WhatIf::default()).await?;
    if plan.engine.name == "prior" && !input.fallback_to_baseline {
        return Err(Error::conflict(format!(
            "{} of {} cannot be forecast ({}), and fallback_to_baseline is off",
            input.metric_name, subject.service, plan.engine.reason
        )));
    }
    let values: Vec<f64> = plan.prediction.predictions.iter().map(|hour| hour.value).collect();
    let rules = hourly_rules(&service, &input.metric_name);
    let (hours, breakpoints, total_expected_cost_24h) = hourly_plan(&values, &rules);
    let planned = hours.into_iter().zip(&plan.prediction.predictions).map(|(hour, predicted)| PlannedHour {
        hour_index: hour.hour_index,
        timestamp: predicted.time.clone(),
        predicted_value: hour.predicted_value,
        percentile: hour.percentile,
        recommended_flavor: hour.recommended_flavor,
        hourly_cost: hour.hourly_cost,
    });
    Ok(HourlyPlan {
        github_url: subject.service.clone(),
        service_id: subject.service,
        metric_name: input.metric_name,
        model_version: input.model_version.unwrap_or(plan.prediction.model_version),
        generated_at: plan.generated_at,
        hourly_recommendations: planned.collect(),
        breakpoints,
        total_expected_cost_24h,
        notes: plan.notes,
        engine: plan.engine,
    })
}

/// The assumptions, held against the price list.
fn checked(service: &Planning, what_if: Option<WhatIf>) -> Result<WhatIf> {
    let what_if = what_if.unwrap_or_default();
    let Some(name) = &what_if.flavor else { return Ok(what_if) };
    if service.config.flavors.iter().any(|flavor| flavor.name == *name) {
        return Ok(what_if);
    }
    let known: Vec<&str> =
        service.config.flavors.iter().take(20).map(|flavor| flavor.name.as_str()).collect();
    let message = format!("the price list has no such flavor; it has {}", known.join(", "));
    Err(FieldErrors(vec![FieldError::new("what_if.flavor", "literal_error", message)]).into())
}

/// Lists the metrics that `ingest_metrics` stored: which services have which.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSeries {
    /// Only those of this service.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service_id: Option<String>,
    /// The most entries, from 1 to 1000.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u64,
}

fn hundred() -> u64 {
    100
}

/// The stored metrics.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SeriesList {
    /// In order of service and metric.
    pub items: Vec<StoredSeries>,
    /// Whether there are further ones.
    pub more: bool,
}

/// One stored metric.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct StoredSeries {
    /// The service.
    pub service_id: String,
    /// The metric.
    pub metric_name: String,
    /// When its first values arrived.
    pub created_at: String,
}

pub(super) async fn list_series(service: Planning, call: Call, input: ListSeries) -> Result<SeriesList> {
    if let Some(name) = &input.service_id {
        check_name("service_id", name)?;
    }
    let limit = input.limit.clamp(1, 1000);
    let team = super::team(&call.caller);
    let mut rows = service.store.series(&team, input.service_id.as_deref(), limit + 1).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(limit as usize);
    let item = |row: SeriesRow| StoredSeries {
        service_id: row.key.service,
        metric_name: row.key.metric,
        created_at: row.created_at.to_rfc3339(),
    };
    Ok(SeriesList { items: rows.into_iter().map(item).collect(), more })
}
