//! The rules of the MCP Core seed as pure functions: routing, baseline, policy, hourly flavors.
//!
//! Both of its dialects are kept: `At::Seed` is the release that answers by `service_id`, `At::Head`
//! the later one by `github_url`. What was wrong in both is right here and said at the function: no
//! noise in the baseline, and no clamp to 1 for what is a count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stats;

/// The path that every route has.
pub const PATH: &str = "forecast_24h";

/// Kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// Serves pages.
    Web,
    /// Serves programs.
    Api,
    /// Holds data.
    Db,
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeEnv {
    /// Production.
    #[default]
    Prod,
    /// Development.
    Dev,
}

/// How busy the hours asked about are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeSlot {
    /// The busiest hours.
    Peak,
    /// Hours like most.
    #[default]
    Normal,
    /// Quiet hours.
    Low,
    /// Saturday and Sunday.
    Weekend,
}

/// Which of the seed's dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// By `service_id`.
    Seed,
    /// By `github_url`.
    Head,
}

/// What the router and the policy look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Context {
    /// Kind of service.
    pub service_type: ServiceType,
    /// Where it runs.
    pub runtime_env: RuntimeEnv,
    /// How busy the hours are.
    pub time_slot: TimeSlot,
    /// Factor on every value; at least 0.
    pub weight: f64,
    /// Users expected, when known.
    pub expected_users: Option<u64>,
}

impl ServiceType {
    fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Api => "api",
            Self::Db => "db",
        }
    }
}

impl TimeSlot {
    fn name(self) -> &'static str {
        match self {
            Self::Peak => "peak",
            Self::Normal => "normal",
            Self::Low => "low",
            Self::Weekend => "weekend",
        }
    }
}

/// The model version that a context is routed to.
#[must_use]
pub fn route(context: &Context, at: At) -> String {
    let (kind, slot) = (context.service_type.name(), context.time_slot.name());
    let web = context.service_type == ServiceType::Web;
    let prod = context.runtime_env == RuntimeEnv::Prod;
    match at {
        At::Seed if web && prod => format!("web_{slot}_v1"),
        At::Seed if web => format!("web_dev_{slot}_v1"),
        At::Seed => "default_fallback_v1".to_owned(),
        At::Head => {
            let busy = matches!(context.time_slot, TimeSlot::Peak | TimeSlot::Normal);
            let many = context.expected_users.is_some_and(|users| users >= 1000);
            if prod && busy && many {
                format!("{kind}_{slot}_lstm_v1")
            } else if web && prod {
                format!("web_{slot}_lstm_v1")
            } else if web {
                "web_dev_baseline_v1".to_owned()
            } else {
                "baseline_fallback_v1".to_owned()
            }
        }
    }
}

/// Whether a model version asks for the learnt engine.
#[must_use]
pub fn wants_learnt(model_version: &str) -> bool {
    model_version.contains("lstm")
}

/// Kind of a metric, which decides what its values are clamped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// A share of something, 0 to 1.
    Ratio,
    /// A number of something, 0 or more.
    Count,
}

/// The kind of a metric by its name without labels; what is not known as a ratio is a count.
#[must_use]
pub fn metric_kind(metric: &str) -> MetricKind {
    match metric.split('{').next().unwrap_or_default() {
        "avg_cpu" | "avg_memory" | "cpu_utilization" | "memory_utilization" => MetricKind::Ratio,
        _ => MetricKind::Count,
    }
}

/// The policy: each value times the weight of the context, then clamped by the metric's kind. The
/// seed clamped counts to 1 as well, which made every answer `large`; a count is only kept at 0 or
/// above. A value that is not a number becomes 0, as there.
#[must_use]
pub fn apply_policy(values: &[f64], weight: f64, kind: MetricKind) -> Vec<f64> {
    let most = match kind {
        MetricKind::Ratio => 1.0,
        MetricKind::Count => f64::MAX,
    };
    let apply = |value: &f64| {
        let weighted = value * weight;
        if weighted.is_nan() { 0.0 } else { weighted.clamp(0.0, most) }
    };
    values.iter().map(apply).collect()
}

/// The seed's baseline without its noise: the last value, and the slope over the last 24 hours,
/// steeper at peak and flatter in low hours. `None` when there are less than 24 values.
#[must_use]
pub fn baseline(history: &[f64], slot: TimeSlot, metric: &str, horizon: usize) -> Option<Vec<f64>> {
    let window = history.get(history.len().checked_sub(24)?..)?;
    let trend = (window[23] - window[0]) / 24.0;
    let factor = match slot {
        TimeSlot::Peak => 1.2,
        TimeSlot::Low => 0.8,
        TimeSlot::Normal | TimeSlot::Weekend => 1.0,
    };
    let whole = metric == "total_events";
    let value = |k: usize| (window[23] + trend * k as f64 * factor).max(0.0);
    Some((1..=horizon).map(value).map(|v| if whole { v.round() } else { v }).collect())
}

/// The seed's answer for a service that nothing is known of: a base and a slope by metric, number
/// of users and slot.
#[must_use]
pub fn prior(context: &Context, metric: &str, horizon: usize, at: At) -> Vec<f64> {
    let users = context.expected_users.map_or(100.0, |users| users as f64);
    let ratio = metric_kind(metric) == MetricKind::Ratio;
    let (base, slope) = match at {
        At::Seed if metric == "total_events" => (50.0, 0.5),
        At::Seed if ratio => (0.3, 0.01),
        At::Seed => (10.0, 0.1),
        At::Head if metric == "total_events" => by_users(10.0_f64.max(0.05 * users), 0.01),
        At::Head if ratio => (0.2, 0.005),
        At::Head => by_users(5.0_f64.max(0.1 * users), 0.02),
    };
    let (base_factor, slope_factor) = match (at, context.time_slot) {
        (At::Seed, TimeSlot::Peak) => (1.0, 2.0),
        (At::Head, TimeSlot::Peak) => (1.5, 2.0),
        (At::Seed, TimeSlot::Low) => (1.0, 0.5),
        // The later dialect lowered the base by 0.7 twice by accident; once is what it meant.
        (At::Head, TimeSlot::Low) => (0.7, 0.5),
        _ => (1.0, 1.0),
    };
    (1..=horizon).map(|k| base * base_factor + slope * slope_factor * k as f64).collect()
}

fn by_users(base: f64, share: f64) -> (f64, f64) {
    (base, share * base)
}

/// Bounds between the flavors of an hourly plan, their names and their hourly prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HourlyRules {
    /// Up to this value an hour needs `small` (`HOURLY_FLAVOR_SMALL_MAX`).
    pub small_max: f64,
    /// Up to this value an hour needs `medium` (`HOURLY_FLAVOR_MEDIUM_MAX`).
    pub medium_max: f64,
    /// Names of the three.
    pub names: [String; 3],
    /// US dollars an hour of each.
    pub hourly_usd: [f64; 3],
}

impl Default for HourlyRules {
    fn default() -> Self {
        let names = ["small", "medium", "large"].map(str::to_owned);
        Self { small_max: 300.0, medium_max: 900.0, names, hourly_usd: [0.05, 0.117, 0.229] }
    }
}

/// One hour of an hourly plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HourlyFlavor {
    /// Hour of the plan, 0 to 23.
    pub hour_index: usize,
    /// The value forecast.
    pub predicted_value: f64,
    /// Share of the 24 hours that are not above this one, in per cent.
    pub percentile: f64,
    /// One of the three.
    pub recommended_flavor: String,
    /// US dollars for the hour.
    pub hourly_cost: f64,
}

/// Where the hours of a plan lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breakpoints {
    /// Lower quartile.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// Upper quartile.
    pub p75: f64,
    /// Mean.
    pub mean: f64,
    /// Population standard deviation.
    pub stdev: f64,
}

/// The flavor of each hour, where the hours lie, and the price of all to a tenth of a cent.
#[must_use]
pub fn hourly_plan(values: &[f64], rules: &HourlyRules) -> (Vec<HourlyFlavor>, Breakpoints, f64) {
    let pick = |(hour_index, value): (usize, &f64)| {
        let size = usize::from(*value > rules.small_max) + usize::from(*value > rules.medium_max);
        let below = values.iter().filter(|v| *v <= value).count();
        HourlyFlavor {
            hour_index,
            predicted_value: *value,
            percentile: 100.0 * below as f64 / values.len() as f64,
            recommended_flavor: rules.names[size].clone(),
            hourly_cost: rules.hourly_usd[size],
        }
    };
    let hours: Vec<HourlyFlavor> = values.iter().enumerate().map(pick).collect();
    let total: f64 = hours.iter().map(|h| h.hourly_cost).sum();
    let breakpoints = Breakpoints {
        p25: stats::quantile(values, 0.25),
        p50: stats::quantile(values, 0.5),
        p75: stats::quantile(values, 0.75),
        mean: stats::mean(values),
        stdev: stats::deviation(values),
    };
    (hours, breakpoints, (total * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(service_type: ServiceType, runtime_env: RuntimeEnv, time_slot: TimeSlot) -> Context {
        Context { service_type, runtime_env, time_slot, weight: 1.0, expected_users: None }
    }

    #[test]
    fn both_dialects_route_as_their_tables_say() {
        use {RuntimeEnv::*, ServiceType::*, TimeSlot::*};
        let prod = context(Web, Prod, Peak);
        assert_eq!(route(&prod, At::Seed), "web_peak_v1");
        assert_eq!(route(&prod, At::Head), "web_peak_lstm_v1");
        let dev = context(Web, Dev, Low);
        assert_eq!(route(&dev, At::Seed), "web_dev_low_v1");
        assert_eq!(route(&dev, At::Head), "web_dev_baseline_v1");
        let db = context(Db, Prod, Normal);
        assert_eq!(route(&db, At::Seed), "default_fallback_v1");
        assert_eq!(route(&db, At::Head), "baseline_fallback_v1");
        let busy = Context { expected_users: Some(1000), ..db };
        assert_eq!(route(&busy, At::Head), "db_normal_lstm_v1");
        assert!(wants_learnt("db_normal_lstm_v1") && !wants_learnt("web_peak_v1"));
    }

    #[test]
    fn counts_are_not_clamped_to_one_and_ratios_are() {
        assert_eq!(apply_policy(&[50.0, -1.0, f64::NAN], 2.0, MetricKind::Count), [100.0, 0.0, 0.0]);
        assert_eq!(apply_policy(&[0.4, 0.7], 2.0, metric_kind("avg_cpu")), [0.8, 1.0]);
        assert_eq!(metric_kind("total_events"), MetricKind::Count);
    }

    #[test]
    fn the_baseline_is_the_same_every_time_and_follows_the_slot() {
        let history: Vec<f64> = (0..30).map(f64::from).collect();
        let normal = baseline(&history, TimeSlot::Normal, "x", 24).unwrap();
        assert_eq!(normal, baseline(&history, TimeSlot::Normal, "x", 24).unwrap());
        assert!((normal[0] - (29.0 + 23.0 / 24.0)).abs() < 1e-12);
        let peak = baseline(&history, TimeSlot::Peak, "x", 24).unwrap();
        assert!(peak[23] > normal[23]);
        let events = baseline(&history, TimeSlot::Low, "total_events", 24).unwrap();
        assert!(events.iter().all(|v| v.fract() == 0.0));
        assert!(baseline(&history[..23], TimeSlot::Low, "x", 24).is_none());
    }

    #[test]
    fn the_prior_grows_with_users_in_the_later_dialect_only() {
        let few = context(ServiceType::Api, RuntimeEnv::Prod, TimeSlot::Normal);
        let many = Context { expected_users: Some(10_000), ..few };
        assert_eq!(prior(&few, "total_events", 2, At::Seed), [50.5, 51.0]);
        assert_eq!(prior(&many, "total_events", 1, At::Seed), [50.5]);
        assert_eq!(prior(&many, "total_events", 1, At::Head), [505.0]);
        assert!((prior(&few, "avg_cpu", 1, At::Head)[0] - 0.205).abs() < 1e-12);
    }

    #[test]
    fn each_hour_of_an_hourly_plan_has_its_flavor_and_price() {
        let (hours, breakpoints, total) = hourly_plan(&[100.0, 300.0, 301.0, 901.0], &HourlyRules::default());
        let flavors: Vec<&str> = hours.iter().map(|h| h.recommended_flavor.as_str()).collect();
        assert_eq!(flavors, ["small", "small", "medium", "large"]);
        assert_eq!(hours[1].percentile, 50.0);
        assert_eq!(total, 0.446);
        assert_eq!(breakpoints.mean, 400.5);
    }
}
