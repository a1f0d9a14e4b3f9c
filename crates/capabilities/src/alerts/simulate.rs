//! `simulate_routing`: what a routing would do, before it does.

use std::collections::{BTreeMap, BTreeSet};

use opsroom_core::{Call, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Alerts;
use super::matchers::Labels;
use super::routing::{Decision, Route};

/// The most label sets that are routed at once.
const MOST_SETS: usize = 10_000;

/// Tries a routing: what it would do with alerts of these labels, or with those of the last hours. Nobody is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRouting {
    /// The routing to try; without, the configured one.
    #[serde(default)]
    routing: Option<Route>,
    /// Labels of one alert each; without, those of the alerts that are known, the newest 10,000.
    #[serde(default)]
    #[schemars(length(max = 10_000))]
    labels: Vec<Labels>,
    /// How many decisions are shown one by one, from 0 to 1000; all are counted.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 1000))]
    limit: u64,
}

/// What a routing would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Simulation {
    /// How many alerts were routed.
    pub alerts: usize,
    /// How many decisions fell on each channel.
    pub by_channel: BTreeMap<String, usize>,
    /// How many on each route.
    pub by_route: BTreeMap<String, usize>,
    /// How many messages they would make, at the least: one for each group of each route.
    pub groups: usize,
    /// The first decisions, by alert.
    pub decisions: Vec<Vec<Decision>>,
}

pub(super) async fn simulate_routing(
    service: Alerts,
    call: Call,
    input: SimulateRouting,
) -> Result<Simulation> {
    let routing = input.routing.unwrap_or_else(|| service.config.routing.clone());
    routing.validate("routing")?;
    let labels: Vec<Labels> = if input.labels.is_empty() {
        let rows = service.store.alerts(&call.caller.teams, &Default::default(), MOST_SETS as u64).await?;
        rows.into_iter().map(|row| row.told.labels).collect()
    } else {
        input.labels
    };
    opsroom_core::lifecycle::Lifecycle::blocking(move || {
        Ok(simulate(&routing, &labels, input.limit as usize))
    })
    .await
}

fn simulate(routing: &Route, labels: &[Labels], limit: usize) -> Simulation {
    let mut simulation = Simulation {
        alerts: labels.len(),
        by_channel: BTreeMap::new(),
        by_route: BTreeMap::new(),
        groups: 0,
        decisions: Vec::new(),
    };
    let mut groups = BTreeSet::new();
    for set in labels {
        let decisions = routing.decide(set);
        for decision in &decisions {
            *simulation.by_channel.entry(decision.channel.clone()).or_default() += 1;
            *simulation.by_route.entry(decision.route.clone()).or_default() += 1;
            groups.insert((decision.route.clone(), decision.group.clone()));
        }
        if simulation.decisions.len() < limit {
            simulation.decisions.push(decisions);
        }
    }
    simulation.groups = groups.len();
    simulation
}

fn ten() -> u64 {
    10
}
