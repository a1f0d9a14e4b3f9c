//! Five unequal parties against all their rows in one place, as many epochs each.

use std::ops::ControlFlow;
use std::path::Path;

use opsroom_analytics::classify::arrays::{Padding, dataset};
use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::detector::Method;
use opsroom_analytics::classify::federated::{FederatedConfig, InProcess, run as federate};
use opsroom_analytics::classify::fit::{FitConfig, fit};
use opsroom_analytics::classify::foreign::npy;
use opsroom_analytics::classify::foreign::vectors::read_event_vectors;

use super::Options;
use super::figures::spread;
use super::quality::{evaluate, f1};
use super::sessions::{EXPECTED, Sessions};

const PARTIES: usize = 5;
/// Rounds, and the epochs of a party in one.
const ROUNDS: (usize, usize) = (10, 2);
/// Events of a row in LogRobust's arrays.
const LENGTH: usize = 50;

/// Prints both F1, by weight.
pub fn run(sessions: &Sessions, options: &Options) -> Result<(), String> {
    let parties = parties(&options.data.join("logs/logrobust_format"))?;
    let together = Dataset::join(&parties);
    let mut test = sessions.embedded(&sessions.test);
    test.rows.iter_mut().for_each(|row| row.events.truncate(LENGTH));
    let (mut apart_f1, mut together_f1) = (Vec::new(), Vec::new());
    for seed in 0..options.seeds {
        let central = FitConfig {
            method: Some(Method::Network),
            expected_share: Some(EXPECTED),
            network: options.network(seed, ROUNDS.0 * ROUNDS.1),
        };
        let model = fit(&together, None, &central, &mut |_| ControlFlow::Continue(()));
        together_f1.push(f1(&evaluate(&model.map_err(|e| e.to_string())?, &test)?).1);
        let config = FederatedConfig {
            rounds: ROUNDS.0,
            participation: 1.0,
            by_rows: true,
            privacy: None,
            expected_share: Some(EXPECTED),
            network: options.network(seed, ROUNDS.1),
        };
        let outcome = federate(&InProcess { parties: &parties }, &config, &mut |_| ControlFlow::Continue(()));
        apart_f1.push(f1(&evaluate(&outcome.map_err(|e| e.to_string())?.model, &test)?).1);
    }
    let (rounds, local) = ROUNDS;
    println!("federated, {rounds} rounds of {local} epochs: F1 weighted   {}", spread(&apart_f1, 4));
    println!("centralised, {} epochs: F1 weighted           {}", rounds * local, spread(&together_f1, 4));
    Ok(())
}

fn parties(folder: &Path) -> Result<Vec<Dataset>, String> {
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"));
    let vectors = read_event_vectors(&read("EventId2WordVecter.pickle")?).map_err(|e| e.to_string())?;
    let party = |number: usize| {
        let [rows, labels] = ["data", "label"].map(|kind| read(&format!("fedlog/{kind}_{number}.npy")));
        let (rows, labels) = (rows?, labels?);
        let party = npy::read(&rows)
            .and_then(|rows| dataset(&rows, Some(&npy::read(&labels)?), Some(&vectors), Padding::Dropped));
        party.map_err(|e| format!("party {number}: {e}"))
    };
    (0..PARTIES).map(party).collect()
}
