//! What to reserve for a forecast: the cheapest flavor whose capacity lies above the limit that at most a
//! stated share of hours exceeds, with the room of the profile. CPU and memory have rules of their own.

use opsroom_analytics::forecast::capacity;
use opsroom_analytics::forecast::conformal::Spread;
use opsroom_analytics::forecast::contract::{MetricKind, RuntimeEnv, metric_kind};
use opsroom_analytics::forecast::flavor::{MAX_REPLICAS, Profile, Rule};
use opsroom_analytics::forecast::series::Series;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::FlavorConfig;
use super::context::Subject;
use super::model::Advice;

/// Assumptions to try on a plan.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
pub struct WhatIf {
    /// Users relative to now: 2 doubles what is needed.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub users: Option<f64>,
    /// The share kept free above the limit, such as 0.3, in place of the profile's.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub headroom: Option<f64>,
    /// Only this flavor, by its name.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub flavor: Option<String>,
    /// The rules of `prod` or `dev` in place of those of the context.
    #[serde(default)]
    pub profile: Option<RuntimeEnv>,
}

/// Which resource a metric is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Cpu,
    Memory,
    Events,
}

/// What is advised upon.
pub struct Question<'a> {
    /// The metric.
    pub metric: &'a str,
    /// Its history; `None` when there is none that carries an advice.
    pub series: Option<&'a Series>,
    /// The hours ahead, after the policy.
    pub values: &'a [f64],
    /// How far such forecasts were off, where a backtest says so.
    pub errors: Option<&'a Spread>,
    /// The request.
    pub subject: &'a Subject,
    /// The assumptions.
    pub what_if: &'a WhatIf,
    /// The price list.
    pub flavors: &'a [FlavorConfig],
}

fn resource(metric: &str) -> Resource {
    let name = metric.to_ascii_lowercase();
    if name.contains("cpu") {
        Resource::Cpu
    } else if name.contains("mem") {
        Resource::Memory
    } else {
        Resource::Events
    }
}

/// The advice on one metric.
pub fn advise(question: &Question<'_>) -> Advice {
    let environment = question.what_if.profile.unwrap_or(question.subject.context.runtime_env);
    let (profile, name) = match environment {
        RuntimeEnv::Prod => (Profile::PROD, "prod"),
        RuntimeEnv::Dev => (Profile::DEV, "dev"),
    };
    let rule = if resource(question.metric) == Resource::Memory { profile.memory } else { profile.cpu };
    let rule = Rule { headroom: question.what_if.headroom.unwrap_or(rule.headroom), ..rule };
    let mut advice = Advice {
        given: false,
        flavor: None,
        replicas: 0,
        daily_usd: None,
        slack: None,
        limit: None,
        share_over: rule.over,
        headroom: rule.headroom,
        profile: name.to_owned(),
        metric_kind: metric_kind(question.metric),
        driver: question.metric.to_owned(),
        reason: String::new(),
    };
    match limit(question, rule.over) {
        Err(reason) => advice.reason = reason,
        Ok(limit) => {
            advice.limit = Some(limit);
            match choose(question, limit, rule.headroom) {
                Err(reason) => advice.reason = reason,
                Ok(chosen) => chosen.write(&mut advice, question, limit),
            }
        }
    }
    advice
}

/// The capacity that the stated share of hours exceeds, weighted as the forecast is.
fn limit(question: &Question<'_>, over: f64) -> Result<f64, String> {
    let series = question.series.ok_or("there is no history that an advice could rest on")?;
    let weight = question.subject.context.weight;
    let highest = question.values.iter().copied().fold(0.0, f64::max);
    // The history knows nothing of the weight, and a limit of 0 hours is no limit.
    let unweighted: Vec<f64> =
        question.values.iter().map(|value| if weight > 0.0 { value / weight } else { *value }).collect();
    let limit =
        capacity::limit(series, &unweighted, question.errors, over).map_err(|error| error.to_string())?;
    let limit = limit.ok_or("an advice needs a day of history")?;
    Ok((limit * weight).max(highest))
}

struct Chosen<'a> {
    flavor: &'a FlavorConfig,
    replicas: u32,
    daily_usd: f64,
    /// Capacity of all instances in the metric's unit; `None` without a bound.
    capacity: Option<f64>,
    need: f64,
}

fn choose<'a>(question: &Question<'a>, limit: f64, headroom: f64) -> Result<Chosen<'a>, String> {
    let users = question.what_if.users.unwrap_or(1.0);
    let need = limit * users * (1.0 + headroom);
    let mut best: Option<Chosen<'a>> = None;
    let named =
        |flavor: &&FlavorConfig| question.what_if.flavor.as_ref().is_none_or(|name| *name == flavor.name);
    let mut candidates = question.flavors.iter().filter(named).peekable();
    if candidates.peek().is_none() {
        return Err("the price list has no flavor of that name".to_owned());
    }
    for flavor in candidates {
        let one = capacity_of(question, flavor)?;
        let replicas = one.map_or(1.0, |one| (need / one).ceil().max(1.0));
        if replicas > f64::from(MAX_REPLICAS) {
            continue;
        }
        let daily_usd = replicas * flavor.daily_usd.unwrap_or(24.0 * flavor.hourly_usd);
        let replicas = replicas as u32;
        let better = |best: &Chosen<'_>| {
            daily_usd < best.daily_usd || (daily_usd == best.daily_usd && replicas < best.replicas)
        };
        // One size that holds it all comes before several of a smaller one: what cannot be split stays whole.
        let fits = |best: &Chosen<'_>| best.replicas > 1 && replicas == 1;
        let worse = |best: &Chosen<'_>| best.replicas == 1 && replicas > 1;
        if best.as_ref().is_none_or(|best| !worse(best) && (fits(best) || better(best))) {
            let capacity = one.map(|one| one * f64::from(replicas));
            best = Some(Chosen { flavor, replicas, daily_usd, capacity, need });
        }
    }
    best.ok_or_else(|| format!("no flavor of the price list holds {need:.4} with {MAX_REPLICAS} instances"))
}

/// What one instance holds, in the metric's unit. A share is one of what the service has now; where that
/// is not known, of the smallest flavor.
fn capacity_of(question: &Question<'_>, flavor: &FlavorConfig) -> Result<Option<f64>, String> {
    let smallest =
        question.flavors.iter().min_by(|a, b| a.cpus.total_cmp(&b.cpus)).ok_or("the price list is empty")?;
    let ratio = metric_kind(question.metric) == MetricKind::Ratio;
    Ok(match resource(question.metric) {
        Resource::Cpu if ratio => Some(flavor.cpus / question.subject.cpus.unwrap_or(smallest.cpus)),
        Resource::Cpu => Some(flavor.cpus),
        Resource::Memory if ratio => {
            Some(flavor.memory_mib / question.subject.memory_mib.unwrap_or(smallest.memory_mib))
        }
        Resource::Memory => Some(flavor.memory_mib),
        Resource::Events => flavor.events_per_hour,
    })
}

impl Chosen<'_> {
    fn write(&self, advice: &mut Advice, question: &Question<'_>, limit: f64) {
        let users = question.what_if.users.unwrap_or(1.0);
        let mean = users * question.values.iter().sum::<f64>() / question.values.len().max(1) as f64;
        advice.given = true;
        advice.flavor = Some(self.flavor.name.clone());
        advice.replicas = self.replicas;
        advice.daily_usd = Some(self.daily_usd);
        advice.slack = self.capacity.filter(|_| mean > 0.0).map(|capacity| (capacity - mean) / mean);
        let filled = match self.capacity {
            Some(capacity) if capacity > 0.0 => {
                format!(", and fills it to {:.0} %", 100.0 * self.need / capacity)
            }
            _ => String::new(),
        };
        let assumed = match (resource(question.metric), question.subject.cpus, question.subject.memory_mib) {
            (Resource::Cpu, None, _) | (Resource::Memory, _, None)
                if metric_kind(question.metric) == MetricKind::Ratio =>
            {
                "; the share is taken as one of the smallest flavor, because context.curr_cpu or curr_mem does not say what the service has"
            }
            _ => "",
        };
        advice.reason = format!(
            "at most {:.1} % of the hours lie above {limit:.4}; with {:.0} % kept free, {} x {} is the cheapest that holds {:.4}{filled}{assumed}",
            100.0 * advice.share_over,
            100.0 * advice.headroom,
            self.replicas,
            self.flavor.name,
            self.need,
        );
    }
}

/// The flavor by the older system's rule, where there is no advice: its contract has one in every answer.
pub fn without_advice<'a>(
    metric: &str,
    values: &[f64],
    flavors: &'a [FlavorConfig],
) -> Option<&'a FlavorConfig> {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let size = match metric_kind(metric) {
        MetricKind::Ratio => usize::from(highest > 0.7) + usize::from(highest > 0.9),
        MetricKind::Count => flavors
            .iter()
            .take_while(|flavor| flavor.events_per_hour.is_some_and(|most| highest > most))
            .count(),
    };
    flavors.get(size).or(flavors.last())
}
