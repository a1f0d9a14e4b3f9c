//! Forecasts for machines: `get_plan_metrics`, one number a metric in the form of Kubernetes' external
//! metrics, and the whole outlook in the Prometheus text format. Looking raises no alarm.

use std::fmt::Write;

use opsroom_analytics::forecast::contract::{RuntimeEnv, ServiceType};
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advice::WhatIf;
use super::context::{PlanContext, Subject, understand};
use super::model::Plan;
use super::{Planning, moment, sources::Source, team};

/// The most metrics of one look.
const MOST_METRICS: u64 = 32;
/// The metrics of the older system, looked for where a source cannot list what it has.
const USUAL: [&str; 3] = ["total_events", "avg_cpu", "avg_memory"];

/// Gets the forecast of a service's metrics as Kubernetes external metrics, one number a metric, for a
/// KEDA (metrics-api) or HPA scaler to read. With KEDA, `valueLocation` is `items.0.value`.
///
/// Nothing is guessed: a metric without a history is left out, and a service without any is not found.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetPlanMetrics {
    /// The service.
    #[schemars(length(min = 1, max = 256))]
    pub service_id: String,
    /// The metrics; by default all that are known of the service, at most 32.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    pub metric_names: Vec<String>,
    /// Which number: `peak` (the highest hour forecast), `mean`, `upper95` (the highest end of the 95 %
    /// interval), `limit` (the capacity to reserve) or `replicas` (of the recommended flavor).
    #[serde(default)]
    pub what: What,
    /// How many hours ahead `peak`, `mean` and `upper95` look, from 1 to 24.
    #[serde(default = "day")]
    #[schemars(range(min = 1, max = 24))]
    pub hours: usize,
    /// `web`, `api` or `db`, as in a plan's context.
    #[serde(default = "web")]
    pub service_type: ServiceType,
    /// `prod` or `dev`, as in a plan's context.
    #[serde(default)]
    pub runtime_env: RuntimeEnv,
}

fn day() -> usize {
    24
}

fn web() -> ServiceType {
    ServiceType::Web
}

/// Which number of a plan is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The highest hour forecast.
    #[default]
    Peak,
    /// The mean of the hours.
    Mean,
    /// The highest end of the 95 % interval.
    Upper95,
    /// The capacity to reserve.
    Limit,
    /// Instances of the recommended flavor.
    Replicas,
}

/// Numbers as `external.metrics.k8s.io/v1beta1` has them.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalMetrics {
    /// `ExternalMetricValueList`.
    pub kind: String,
    /// `external.metrics.k8s.io/v1beta1`.
    pub api_version: String,
    /// Always empty.
    pub metadata: NoMetadata,
    /// One a metric, in order of their names.
    pub items: Vec<ExternalMetric>,
}

/// Nothing, where Kubernetes expects an object.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NoMetadata {}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalMetric {
    /// The metric.
    pub metric_name: String,
    /// Whose number it is, and which.
    pub metric_labels: MetricLabels,
    /// When the forecast counts from.
    pub timestamp: String,
    /// A Kubernetes quantity: whole, or in thousandths with the suffix `m`.
    pub value: String,
}

/// What an external metric is of.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct MetricLabels {
    /// The service.
    pub service_id: String,
    /// Which number it is.
    pub what: What,
}

pub(super) async fn get_plan_metrics(
    service: Planning,
    call: Call,
    input: GetPlanMetrics,
) -> Result<ExternalMetrics> {
    let plans = service.look(&call, &input).await?;
    let hours = input.hours.clamp(1, 24);
    let item = |plan: &Plan| {
        Some(ExternalMetric {
            metric_name: plan.prediction.metric_name.clone(),
            metric_labels: MetricLabels { service_id: input.service_id.clone(), what: input.what },
            timestamp: plan.generated_at.clone(),
            value: quantity(number(plan, input.what, hours)?),
        })
    };
    Ok(ExternalMetrics {
        kind: "ExternalMetricValueList".to_owned(),
        api_version: "external.metrics.k8s.io/v1beta1".to_owned(),
        metadata: NoMetadata {},
        items: plans.iter().filter_map(item).collect(),
    })
}

impl Planning {
    /// The outlook of a service in the Prometheus text format; `None` names all its metrics.
    ///
    /// # Errors
    /// `NotFound` for a service without a history, and those of the source.
    pub async fn exposition(&self, call: &Call, service: &str, metrics: Vec<String>) -> Result<String> {
        let input = GetPlanMetrics {
            service_id: service.to_owned(),
            metric_names: metrics,
            what: What::Peak,
            hours: 24,
            service_type: web(),
            runtime_env: RuntimeEnv::default(),
        };
        Ok(render(&self.look(call, &input).await?))
    }

    /// The plans of those metrics that have a history; no alarm is raised.
    async fn look(&self, call: &Call, input: &GetPlanMetrics) -> Result<Vec<Plan>> {
        let context = PlanContext::plain(input.service_type, input.runtime_env);
        let subject = understand(Some(&input.service_id), None, None, &context, self.clock.now())?;
        let mut metrics = input.metric_names.clone();
        if metrics.is_empty() {
            metrics = self.known_metrics(call, &subject).await?;
        }
        metrics.sort();
        metrics.dedup();
        metrics.truncate(MOST_METRICS as usize);
        let mut plans = Vec::new();
        for metric in metrics {
            let plan = self.make(call, &subject, &metric, &WhatIf::default()).await?;
            if plan.history.hours > 0 && plan.engine.name != "prior" {
                plans.push(plan);
            }
        }
        if plans.is_empty() {
            let text = format!("there is no history that a forecast of {} could rest on", input.service_id);
            return Err(Error::not_found(text));
        }
        Ok(plans)
    }

    async fn known_metrics(&self, call: &Call, subject: &Subject) -> Result<Vec<String>> {
        match &self.source {
            Source::Store(store) => {
                let rows = store.series(&team(&call.caller), Some(&subject.service), MOST_METRICS).await?;
                Ok(rows.into_iter().map(|row| row.key.metric).collect())
            }
            Source::Prometheus(_) => Ok(self.config.prometheus.queries.keys().cloned().collect()),
            Source::Csv(_) | Source::Database(_) => Ok(USUAL.map(str::to_owned).to_vec()),
        }
    }
}

/// The number asked for; `None` where the plan has none.
fn number(plan: &Plan, what: What, hours: usize) -> Option<f64> {
    let ahead = &plan.prediction.predictions[..hours.min(plan.prediction.predictions.len())];
    let highest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    match what {
        What::Peak => highest(&mut ahead.iter().map(|hour| hour.value)),
        What::Mean => Some(ahead.iter().map(|hour| hour.value).sum::<f64>() / ahead.len().max(1) as f64),
        What::Upper95 => highest(&mut ahead.iter().filter_map(|hour| hour.upper95)),
        What::Limit => plan.recommendation.limit,
        What::Replicas => plan.recommendation.given.then(|| f64::from(plan.recommendation.replicas)),
    }
}

/// A number as a Kubernetes quantity, to a thousandth.
fn quantity(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1e12 {
        return format!("{value:.0}");
    }
    format!("{:.0}m", value * 1000.0)
}

/// One family of numbers: its name, what it is, and its samples of a plan as labels and value.
type Family = (&'static str, &'static str, fn(&Plan) -> Vec<(String, f64)>);

const FAMILIES: [Family; 8] = [
    ("opsroom_plan_value", "The forecast, in the metric's own unit.", |plan| {
        let hours = plan.prediction.predictions.iter().enumerate();
        hours.map(|(at, hour)| (format!(",hours_ahead=\"{}\"", at + 1), hour.value)).collect()
    }),
    ("opsroom_plan_bound", "Ends of the intervals that hold 80 and 95 of 100 such hours.", |plan| {
        let hours = plan.prediction.predictions.iter().enumerate();
        let of_hour = |(at, hour): (usize, &super::model::PredictedHour)| {
            let sides = [
                ("lower80", hour.lower80),
                ("upper80", hour.upper80),
                ("lower95", hour.lower95),
                ("upper95", hour.upper95),
            ];
            let shown = move |(side, value): (&str, Option<f64>)| {
                Some((format!(",hours_ahead=\"{}\",bound=\"{side}\"", at + 1), value?))
            };
            sides.into_iter().filter_map(shown).collect::<Vec<_>>()
        };
        hours.flat_map(of_hour).collect()
    }),
    (
        "opsroom_plan_limit",
        "The constant capacity to reserve for the 24 hours, in the metric's unit.",
        |plan| plan.recommendation.limit.map(|limit| (String::new(), limit)).into_iter().collect(),
    ),
    ("opsroom_plan_replicas", "Instances of the recommended flavor.", |plan| {
        let flavor = escaped(&plan.recommended_flavor);
        let replicas = f64::from(plan.recommendation.replicas);
        plan.recommendation.given.then(|| (format!(",flavor=\"{flavor}\""), replicas)).into_iter().collect()
    }),
    ("opsroom_plan_cost_usd_per_day", "What the recommendation costs a day.", |plan| {
        plan.recommendation.daily_usd.map(|usd| (String::new(), usd)).into_iter().collect()
    }),
    ("opsroom_plan_abnormal", "1 when the forecast is abnormal for this series.", |plan| {
        vec![(String::new(), f64::from(u8::from(plan.anomaly.abnormal)))]
    }),
    ("opsroom_plan_relative_error", "Backtest error relative to the same hour yesterday.", |plan| {
        let error = plan.backtest.as_ref().and_then(|backtest| backtest.relative_error);
        error.map(|error| (String::new(), error)).into_iter().collect()
    }),
    ("opsroom_plan_history_seconds", "How much history the forecast rests on.", |plan| {
        vec![(String::new(), 3600.0 * plan.history.hours as f64)]
    }),
];

fn render(plans: &[Plan]) -> String {
    let mut text = String::new();
    for (name, help, samples) in FAMILIES {
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for plan in plans {
            let service = escaped(&plan.prediction.service_id);
            let metric = escaped(&plan.prediction.metric_name);
            for (labels, value) in samples(plan) {
                let _infallible =
                    writeln!(text, "{name}{{service=\"{service}\",metric=\"{metric}\"{labels}}} {value}");
            }
        }
    }
    if let Some(plan) = plans.first() {
        let at = moment::parse(&plan.generated_at).unwrap_or_default();
        let _infallible = writeln!(
            text,
            "# HELP opsroom_plan_time_seconds When the forecast counts from.\n# TYPE opsroom_plan_time_seconds gauge\nopsroom_plan_time_seconds{{service=\"{}\"}} {at}",
            escaped(&plan.prediction.service_id)
        );
    }
    text
}

/// A label's value: it must not end its string.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_quantities_or_thousandths() {
        let shown: Vec<String> = [0.0, 3.0, 0.1234, 12.5, -0.5, 2e15].map(quantity).to_vec();
        assert_eq!(shown, ["0", "3", "123m", "12500m", "-500m", "2000000000000000"]);
    }

    #[test]
    fn a_services_name_cannot_end_the_string_of_its_label() {
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
    }
}
