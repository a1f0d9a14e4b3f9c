//! What to reserve for a forecast: the cheapest flavor whose capacity lies above the limit that at most a
//! stated share of hours exceeds, with the room of the profile. CPU and memory have rules of their own.

use opsroom_analytics::forecast::conformal::Spread;
use opsroom_analytics::forecast::contract::{MetricKind, RuntimeEnv, metric_kind};
use opsroom_analytics::forecast::flavor::{MAX_REPLICAS, Profile, Rule};
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::{DAY, capacity};
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

/// One instance comes before several that are cheaper, unless it costs more than so many times as much: what is
/// not split stays simple.
const WHOLE: f64 = 1.25;

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

/// What a metric measures, by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measure {
    resource: Resource,
    /// Whether it is a share of what the service has, and not an amount.
    share: bool,
    /// One of the metric's unit in shares, virtual processors, MiB or events.
    unit: f64,
}

/// What a metric measures; `None` for CPU or memory in a unit that its name does not tell well enough.
fn measure(metric: &str) -> Option<Measure> {
    let name = metric.split('{').next().unwrap_or_default().to_ascii_lowercase();
    let resource = match () {
        () if name.contains("cpu") => Resource::Cpu,
        () if name.contains("mem") => Resource::Memory,
        () => return Some(Measure { resource: Resource::Events, share: false, unit: 1.0 }),
    };
    let amount = |unit| Some(Measure { resource, share: false, unit });
    let share = |unit| Some(Measure { resource, share: true, unit });
    let last = name.rsplit(['_', '.', ':', '-']).next().unwrap_or_default();
    match (resource, last) {
        _ if metric_kind(metric) == MetricKind::Ratio => share(1.0),
        (_, "ratio" | "share") => share(1.0),
        (_, "percent" | "percentage" | "pct") => share(0.01),
        (Resource::Cpu, "cpu" | "cpus" | "vcpus" | "cores" | "total" | "usage" | "used") => amount(1.0),
        (Resource::Cpu, "millicores" | "mcpu") => amount(0.001),
        (Resource::Memory, "bytes") => amount(1.0 / 1_048_576.0),
        (Resource::Memory, "kib" | "kb") => amount(1.0 / 1024.0),
        (Resource::Memory, "mib" | "mb" | "memory" | "mem" | "usage" | "used") => amount(1.0),
        (Resource::Memory, "gib" | "gb") => amount(1024.0),
        _ => None,
    }
}

/// The advice on one metric.
pub fn advise(question: &Question<'_>) -> Advice {
    let environment = question.what_if.profile.unwrap_or(question.subject.context.runtime_env);
    let (profile, name) = match environment {
        RuntimeEnv::Prod => (Profile::PROD, "prod"),
        RuntimeEnv::Dev => (Profile::DEV, "dev"),
    };
    let memory = measure(question.metric).is_some_and(|it| it.resource == Resource::Memory);
    let rule = if memory { profile.memory } else { profile.cpu };
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

/// Why a history is not the share that the metric's name says: most of it lies above 1.
pub fn in_percent(metric: &str, series: &Series) -> Option<String> {
    let known: Vec<f64> = series.values().iter().copied().filter(|value| value.is_finite()).collect();
    let above = known.iter().filter(|value| **value > 1.0).count();
    (metric_kind(metric) == MetricKind::Ratio && 2 * above > known.len()).then(|| {
        format!(
            "{metric} is a share from 0 to 1, and {above} of {} hours lie above it; store it as a share, or under a name \
             that ends in `_percent`",
            known.len()
        )
    })
}

/// The capacity that the stated share of hours exceeds, weighted as the forecast is.
fn limit(question: &Question<'_>, over: f64) -> Result<f64, String> {
    let series = question.series.ok_or("there is no history that an advice could rest on")?;
    if let Some(reason) = in_percent(question.metric, series) {
        return Err(reason);
    }
    if series.observed() < DAY {
        return Err(format!("an advice needs a day of history; {} hours have a value", series.observed()));
    }
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

/// What one metric needs, in its own unit.
pub struct Need<'a> {
    /// The metric.
    pub metric: &'a str,
    /// How much of it, room included.
    pub amount: f64,
}

/// Instances of a flavor that hold what is needed.
pub struct Chosen<'a> {
    /// The flavor.
    pub flavor: &'a FlavorConfig,
    /// How many.
    pub replicas: u32,
    /// Their price of a day, in US dollars.
    pub daily_usd: f64,
    /// The need that fills them most, by its place, and to which share.
    pub fullest: Option<(usize, f64)>,
    /// What would be cheaper: several of a smaller one.
    pub cheaper: Option<String>,
}

fn choose<'a>(question: &Question<'a>, limit: f64, headroom: f64) -> Result<Chosen<'a>, String> {
    let users = question.what_if.users.unwrap_or(1.0);
    let need = Need { metric: question.metric, amount: limit * users * (1.0 + headroom) };
    hold(&[need], question.subject, question.what_if.flavor.as_deref(), question.flavors)
}

/// The cheapest instances of one flavor that hold all needs at once; of `only`, when it names one.
pub fn hold<'a>(
    needs: &[Need<'_>],
    subject: &Subject,
    only: Option<&str>,
    flavors: &'a [FlavorConfig],
) -> Result<Chosen<'a>, String> {
    let mut found = Vec::new();
    let mut known = false;
    for flavor in flavors.iter().filter(|flavor| only.is_none_or(|name| name == flavor.name)) {
        known = true;
        let mut shares = Vec::new();
        for need in needs {
            shares.push(capacity_of(need.metric, subject, flavors, flavor)?.map(|one| need.amount / one));
        }
        let most = |a: &f64, b: &f64| a.total_cmp(b);
        let replicas = shares.iter().flatten().copied().max_by(most).map_or(1.0, |most| most.ceil().max(1.0));
        if replicas > f64::from(MAX_REPLICAS) {
            continue;
        }
        let fullest = shares.iter().enumerate().filter_map(|(at, share)| Some((at, (*share)? / replicas)));
        let fullest = fullest.max_by(|a, b| a.1.total_cmp(&b.1));
        let daily_usd = replicas * flavor.daily_usd.unwrap_or(24.0 * flavor.hourly_usd);
        // Sums of prices end in the last bits of a double.
        let daily_usd = (daily_usd * 1e6).round() / 1e6;
        found.push(Chosen { flavor, replicas: replicas as u32, daily_usd, fullest, cheaper: None });
    }
    if !known {
        return Err("the price list has no flavor of that name".to_owned());
    }
    let none = || match needs {
        [need] => {
            format!("no flavor of the price list holds {:.4} with {MAX_REPLICAS} instances", need.amount)
        }
        _ => format!("no flavor of the price list holds all of it with {MAX_REPLICAS} instances"),
    };
    let by_price = |a: &&Chosen<'_>, b: &&Chosen<'_>| {
        a.daily_usd.total_cmp(&b.daily_usd).then(a.replicas.cmp(&b.replicas))
    };
    let cheapest = found.iter().min_by(by_price).ok_or_else(none)?;
    let (price, words) = (cheapest.daily_usd, format!("{} x {}", cheapest.replicas, cheapest.flavor.name));
    let whole =
        found.iter().filter(|one| one.replicas == 1 && one.daily_usd <= WHOLE * price).min_by(by_price);
    let name = whole.unwrap_or(cheapest).flavor.name.clone();
    let mut chosen = found.into_iter().find(|one| one.flavor.name == name).ok_or_else(none)?;
    chosen.cheaper = (chosen.daily_usd > price).then_some(words);
    Ok(chosen)
}

/// What one instance holds, in the metric's unit; `None` without a bound. A share is one of what the service has
/// now; where that is not known, of the smallest flavor.
fn capacity_of(
    metric: &str,
    subject: &Subject,
    flavors: &[FlavorConfig],
    flavor: &FlavorConfig,
) -> Result<Option<f64>, String> {
    let smallest =
        flavors.iter().min_by(|a, b| a.cpus.total_cmp(&b.cpus)).ok_or("the price list is empty")?;
    let it = measure(metric).ok_or_else(|| {
        format!(
            "the name {metric} does not say its unit: `avg_cpu` and `avg_memory` are shares, and names may end in \
             `_percent`, `_cores`, `_millicores`, `_mib` or `_bytes`"
        )
    })?;
    let held = match it.resource {
        Resource::Cpu if it.share => Some(flavor.cpus / subject.cpus.unwrap_or(smallest.cpus)),
        Resource::Cpu => Some(flavor.cpus),
        Resource::Memory if it.share => {
            Some(flavor.memory_mib / subject.memory_mib.unwrap_or(smallest.memory_mib))
        }
        Resource::Memory => Some(flavor.memory_mib),
        Resource::Events => flavor.events_per_hour,
    };
    Ok(held.map(|held| held / it.unit))
}

impl Chosen<'_> {
    fn write(&self, advice: &mut Advice, question: &Question<'_>, limit: f64) {
        let users = question.what_if.users.unwrap_or(1.0);
        let mean = users * question.values.iter().sum::<f64>() / question.values.len().max(1) as f64;
        let need = limit * users * (1.0 + advice.headroom);
        advice.given = true;
        advice.flavor = Some(self.flavor.name.clone());
        advice.replicas = self.replicas;
        advice.daily_usd = Some(self.daily_usd);
        let filled = self.fullest.map(|(_, share)| share).filter(|share| *share > 0.0);
        advice.slack = filled.filter(|_| mean > 0.0).map(|share| (need / share - mean) / mean);
        let filled = match self.fullest {
            Some((_, share)) => format!(", and fills it to {:.0} %", 100.0 * share),
            None => "; the price list has no `events_per_hour` that would bound it".to_owned(),
        };
        let it = measure(question.metric);
        let assumed = match (it.map(|it| it.resource), question.subject.cpus, question.subject.memory_mib) {
            (Some(Resource::Cpu), None, _) | (Some(Resource::Memory), _, None)
                if it.is_some_and(|it| it.share) =>
            {
                "; the share is taken as one of the smallest flavor, because context.curr_cpu or curr_mem does not say what the service has"
            }
            _ => "",
        };
        let chosen = format!("{} x {}", self.replicas, self.flavor.name);
        let which = match &self.cheaper {
            None => format!("{chosen} is the cheapest that holds {need:.4}"),
            Some(cheaper) => format!(
                "{chosen} holds {need:.4} in one piece, for at most {:.0} % more than {cheaper}",
                100.0 * (WHOLE - 1.0)
            ),
        };
        advice.reason = format!(
            "at most {:.1} % of the hours lie above {limit:.4}; with {:.0} % kept free, {which}{filled}{assumed}",
            100.0 * advice.share_over,
            100.0 * advice.headroom,
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
