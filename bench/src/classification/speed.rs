//! How fast the network trains and scores.

use std::ops::ControlFlow;

use opsroom_analytics::classify::detector::{Method, NetworkConfig};
use opsroom_analytics::classify::fit::{FitConfig, fit};

use super::figures::{cpu_seconds, spread};
use super::sessions::Sessions;

/// Measurements of each figure.
const REPEATS: usize = 5;

/// Prints rows per second of processor time.
pub fn run(sessions: &Sessions) -> Result<(), String> {
    let (train, test) = (sessions.embedded(&sessions.train), sessions.embedded(&sessions.test));
    for hidden in [10, 128] {
        let mut network = NetworkConfig { hidden, ..NetworkConfig::default() };
        network.training.epochs = 1;
        let config = FitConfig { method: Some(Method::Network), expected_share: None, network };
        let (mut pass, mut scoring) = (Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            let mut model = None;
            let took = cpu_seconds(|| {
                model = Some(fit(&train, None, &config, &mut |_| ControlFlow::Continue(())));
            });
            pass.push(train.rows.len() as f64 / took);
            let model = model.ok_or("nothing was fitted")?.map_err(|e| e.to_string())?;
            let mut verdicts = Ok(Vec::new());
            let took = cpu_seconds(|| verdicts = model.predict(&test, false));
            scoring.push(verdicts.map_err(|e| e.to_string())?.len() as f64 / took);
        }
        println!("one pass over train.csv, hidden {hidden}, rows per CPU-second   {}", spread(&pass, 0));
        println!("scoring test.csv, hidden {hidden}, rows per CPU-second          {}", spread(&scoring, 0));
    }
    Ok(())
}
