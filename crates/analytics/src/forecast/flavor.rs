//! From forecasts to a flavor: the cheapest size of a price list that holds the hours ahead.
//!
//! Words. A *flavor* has a number of virtual processors, memory and a price. A *demand* is what the
//! hours ahead need of one resource, with the share of hours that may exceed it already applied.
//! CPU and memory have separate rules: too little CPU makes a service slow, too little memory kills
//! it, so memory keeps more room. *Slack* is what is reserved and, by the forecast, not used.
//! A recommendation says what drove it; without a demand there is none, and the reason is given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ForecastError;

/// The most flavors of a price list.
pub const MAX_FLAVORS: usize = 1_000;

/// The most instances of a flavor that are recommended.
pub const MAX_REPLICAS: u32 = 1_000;

/// One size that can be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flavor {
    /// Name, such as `small` or `m7g.large`.
    pub name: String,
    /// Virtual processors.
    pub cpus: f64,
    /// Memory in MiB.
    pub memory_mib: f64,
    /// Price of an hour in US dollars.
    pub hourly_usd: f64,
    /// Price of a whole day in US dollars; 24 hourly prices when absent.
    #[serde(default)]
    pub daily_usd: Option<f64>,
}

/// Room that is kept for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Share added to the demand: 0.15 keeps 15 % free.
    pub headroom: f64,
    /// Share of hours that may exceed what is reserved, before headroom.
    pub over: f64,
}

/// Rules of a kind of environment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Room for CPU.
    pub cpu: Rule,
    /// Room for memory.
    pub memory: Rule,
}

/// What is asked: the demand of the hours ahead, and assumptions to try.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Demand {
    /// Virtual processors needed, from the forecast's capacity limit; absent when not known.
    pub cpus: Option<f64>,
    /// MiB of memory needed, likewise.
    pub memory_mib: Option<f64>,
    /// Mean virtual processors that the forecast says are used.
    pub mean_cpus: Option<f64>,
    /// Mean MiB of memory that the forecast says are used.
    pub mean_memory_mib: Option<f64>,
    /// What-if: users relative to now; 2 doubles the demand.
    pub users: Option<f64>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// Name of the flavor.
    pub flavor: String,
    /// Instances of it.
    pub replicas: u32,
    /// Price of a day in US dollars.
    pub daily_usd: f64,
    /// Reserved and not used share of CPU, relative to the mean use; absent without CPU forecast.
    pub cpu_slack: Option<f64>,
    /// The same of memory.
    pub memory_slack: Option<f64>,
    /// The resource that decided: `cpu` or `memory`.
    pub driver: String,
    /// Why, in words.
    pub reason: String,
}

impl Profile {
    /// Production: 15 % of CPU and 25 % of memory kept free.
    pub const PROD: Self =
        Self { cpu: Rule { headroom: 0.15, over: 0.02 }, memory: Rule { headroom: 0.25, over: 0.005 } };

    /// Development: no room for CPU, 10 % of memory.
    pub const DEV: Self =
        Self { cpu: Rule { headroom: 0.0, over: 0.05 }, memory: Rule { headroom: 0.10, over: 0.02 } };
}

impl Flavor {
    /// Price of a day in US dollars.
    #[must_use]
    pub fn per_day(&self) -> f64 {
        self.daily_usd.unwrap_or(24.0 * self.hourly_usd)
    }
}

/// The seed's three flavors: its prices of an hour and of a day, and the upper ends of its sizes.
#[must_use]
pub fn default_flavors() -> Vec<Flavor> {
    let flavor = |name: &str, cpus, gib: f64, hourly_usd, daily| Flavor {
        name: name.to_owned(),
        cpus,
        memory_mib: gib * 1024.0,
        hourly_usd,
        daily_usd: Some(daily),
    };
    vec![
        flavor("small", 1.0, 2.0, 0.05, 1.2),
        flavor("medium", 2.0, 4.0, 0.117, 2.8),
        flavor("large", 4.0, 8.0, 0.229, 5.5),
    ]
}

/// Checks a price list.
///
/// # Errors
/// [`ForecastError::Parameter`] for an empty or too long list, and for sizes or prices that are
/// not positive numbers.
pub fn check_flavors(flavors: &[Flavor]) -> Result<(), ForecastError> {
    if flavors.is_empty() || flavors.len() > MAX_FLAVORS {
        let value = flavors.len() as f64;
        return Err(ForecastError::Parameter { name: "flavors", value, want: "1 to 1000 flavors" });
    }
    for flavor in flavors {
        for (name, value) in [("cpus", flavor.cpus), ("memory_mib", flavor.memory_mib)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ForecastError::Parameter { name, value, want: "above 0" });
            }
        }
        for value in [flavor.hourly_usd, flavor.per_day()] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(ForecastError::Parameter { name: "price", value, want: "0 or more" });
            }
        }
    }
    Ok(())
}

/// The cheapest flavor, with as many instances as it takes up to `max_replicas`, that holds the
/// demand with the room of the profile. `None` when neither resource is known.
///
/// # Errors
/// As [`check_flavors`]; [`ForecastError::Parameter`] for a demand, a room or a what-if that is not
/// a sensible number, and when no flavor is large enough.
pub fn recommend(
    demand: &Demand,
    profile: &Profile,
    flavors: &[Flavor],
    max_replicas: u32,
) -> Result<Option<Recommendation>, ForecastError> {
    check_flavors(flavors)?;
    let users = checked("users", demand.users.unwrap_or(1.0))?;
    let need = |name, wanted: Option<f64>, rule: Rule| -> Result<Option<f64>, ForecastError> {
        let headroom = checked("headroom", rule.headroom)?;
        wanted.map(|v| Ok(checked(name, v)? * users * (1.0 + headroom))).transpose()
    };
    let cpus = need("cpus", demand.cpus, profile.cpu)?;
    let memory = need("memory_mib", demand.memory_mib, profile.memory)?;
    if cpus.is_none() && memory.is_none() {
        return Ok(None);
    }
    let limit = max_replicas.clamp(1, MAX_REPLICAS);
    let mut best: Option<(f64, u32, &Flavor)> = None;
    for flavor in flavors {
        let count = instances(cpus, flavor.cpus).max(instances(memory, flavor.memory_mib));
        if count > f64::from(limit) {
            continue;
        }
        let price = count * flavor.per_day();
        // At the same price fewer, then the one named first.
        let better = |(p, n, _): &(f64, u32, &Flavor)| price < *p || (price == *p && count < f64::from(*n));
        if best.as_ref().is_none_or(better) {
            best = Some((price, count as u32, flavor));
        }
    }
    let Some((price, count, flavor)) = best else {
        let value = cpus.or(memory).unwrap_or(0.0);
        return Err(ForecastError::Parameter {
            name: "demand",
            value,
            want: "held by some flavor of the price list",
        });
    };
    Ok(Some(explain(demand, users, cpus, memory, flavor, count, price)))
}

/// What another flavor would cost and leave free: the what-if of a user who prefers it.
///
/// # Errors
/// As [`recommend`], for a list of that flavor alone.
pub fn what_if(
    demand: &Demand,
    profile: &Profile,
    flavor: &Flavor,
) -> Result<Option<Recommendation>, ForecastError> {
    recommend(demand, profile, std::slice::from_ref(flavor), MAX_REPLICAS)
}

fn explain(
    demand: &Demand,
    users: f64,
    cpus: Option<f64>,
    memory: Option<f64>,
    flavor: &Flavor,
    count: u32,
    price: f64,
) -> Recommendation {
    let held = f64::from(count);
    let slack = |mean: Option<f64>, size: f64| {
        mean.map(|m| m * users).filter(|m| *m > 0.0).map(|m| (held * size - m) / m)
    };
    let share = |need: Option<f64>, size: f64| need.unwrap_or(0.0) / (held * size);
    let (cpu_share, memory_share) = (share(cpus, flavor.cpus), share(memory, flavor.memory_mib));
    let (driver, part) =
        if cpu_share >= memory_share { ("cpu", cpu_share) } else { ("memory", memory_share) };
    let wants = [cpus.map(|v| format!("{v:.2} processors")), memory.map(|v| format!("{v:.0} MiB"))];
    let wants: Vec<String> = wants.into_iter().flatten().collect();
    Recommendation {
        flavor: flavor.name.clone(),
        replicas: count,
        daily_usd: price,
        cpu_slack: slack(demand.mean_cpus, flavor.cpus),
        memory_slack: slack(demand.mean_memory_mib, flavor.memory_mib),
        driver: driver.to_owned(),
        reason: format!(
            "{} needed with room; {count} x {} is the cheapest that holds it, and {driver} fills it to {:.0} %",
            wants.join(" and "),
            flavor.name,
            100.0 * part,
        ),
    }
}

/// Instances that a need takes, at least one.
fn instances(need: Option<f64>, size: f64) -> f64 {
    (need.unwrap_or(0.0) / size).ceil().max(1.0)
}

fn checked(name: &'static str, value: f64) -> Result<f64, ForecastError> {
    if (0.0..=super::series::MAX_VALUE).contains(&value) {
        Ok(value)
    } else {
        Err(ForecastError::Parameter { name, value, want: "a number of 0 or more" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(cpus: f64, memory: f64, users: f64) -> Demand {
        Demand {
            cpus: Some(cpus),
            memory_mib: Some(memory),
            mean_cpus: Some(cpus / 2.0),
            mean_memory_mib: Some(memory / 2.0),
            users: Some(users),
        }
    }

    fn prod(demand: &Demand) -> Recommendation {
        recommend(demand, &Profile::PROD, &default_flavors(), 1).unwrap().unwrap()
    }

    #[test]
    fn the_flavor_grows_with_the_forecast() {
        assert_eq!(prod(&asked(0.5, 900.0, 1.0)).flavor, "small");
        assert_eq!(prod(&asked(1.5, 900.0, 1.0)).flavor, "medium");
        assert_eq!(prod(&asked(3.0, 900.0, 1.0)).flavor, "large");
    }

    #[test]
    fn memory_can_decide_and_is_named() {
        let answer = prod(&asked(0.2, 3000.0, 1.0));
        assert_eq!((answer.flavor.as_str(), answer.driver.as_str()), ("medium", "memory"));
    }

    #[test]
    fn memory_keeps_more_room_than_cpu() {
        assert_eq!(prod(&asked(0.85, 100.0, 1.0)).flavor, "small");
        assert_eq!(prod(&asked(0.1, 0.85 * 2048.0, 1.0)).flavor, "medium");
    }

    #[test]
    fn twice_the_users_need_the_next_flavor() {
        let (now, then) = (prod(&asked(0.8, 900.0, 1.0)), prod(&asked(0.8, 900.0, 2.0)));
        assert_eq!((now.flavor.as_str(), then.flavor.as_str()), ("small", "medium"));
        assert!((now.cpu_slack.unwrap() - 1.5).abs() < 1e-9);
        assert!(then.cpu_slack.unwrap() < 1.51);
        assert!(then.memory_slack.unwrap() > now.memory_slack.unwrap() - 1e-9);
    }

    #[test]
    fn replicas_are_used_when_allowed_and_cheaper() {
        let list = vec![
            Flavor { name: "one".into(), cpus: 1.0, memory_mib: 1e6, hourly_usd: 1.0, daily_usd: None },
            Flavor { name: "ten".into(), cpus: 10.0, memory_mib: 1e6, hourly_usd: 20.0, daily_usd: None },
        ];
        let demand = Demand { cpus: Some(4.5), ..Demand::default() };
        let answer = recommend(&demand, &Profile::DEV, &list, 8).unwrap().unwrap();
        assert_eq!((answer.flavor.as_str(), answer.replicas, answer.daily_usd), ("one", 5, 120.0));
        let single = recommend(&demand, &Profile::DEV, &list, 1).unwrap().unwrap();
        assert_eq!(single.flavor, "ten");
    }

    #[test]
    fn without_a_demand_there_is_no_advice() {
        assert_eq!(recommend(&Demand::default(), &Profile::PROD, &default_flavors(), 1), Ok(None));
    }

    #[test]
    fn a_demand_that_no_flavor_holds_is_an_error() {
        let answer = recommend(&asked(50.0, 1.0, 1.0), &Profile::PROD, &default_flavors(), 1);
        assert!(matches!(answer, Err(ForecastError::Parameter { name: "demand", .. })));
    }

    #[test]
    fn hostile_numbers_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(recommend(&asked(bad, 1.0, 1.0), &Profile::PROD, &default_flavors(), 1).is_err());
            assert!(recommend(&asked(1.0, 1.0, bad), &Profile::PROD, &default_flavors(), 1).is_err());
            let free = Flavor { cpus: bad, ..default_flavors().remove(0) };
            assert!(what_if(&asked(1.0, 1.0, 1.0), &Profile::PROD, &free).is_err());
        }
        assert!(check_flavors(&[]).is_err());
        assert!(check_flavors(&vec![default_flavors().remove(0); 1001]).is_err());
    }

    #[test]
    fn another_flavor_can_be_tried() {
        let large = default_flavors().remove(2);
        let answer = what_if(&asked(0.5, 900.0, 1.0), &Profile::PROD, &large).unwrap().unwrap();
        assert_eq!((answer.flavor.as_str(), answer.daily_usd, answer.cpu_slack), ("large", 5.5, Some(15.0)));
    }
}
