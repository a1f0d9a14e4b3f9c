//! `classification`: labelled detectors on HDFS sessions, beside PyTorch and scikit-learn.
//!
//! Speed is rows per second of processor time on one thread. Quality is the F1 of anomalies on `test.csv`,
//! with each row counting once and with its weight (which brings back the abundance of normal sessions),
//! over several seeds: the mean and, in brackets, the lowest and the highest. Nothing is chosen on
//! `test.csv`: methods are compared on `train.csv` and `valid.csv`.
//!
//! Options: `--data DIR` (or `OPSROOM_BENCH_DATA`) with `logs/` below it; `--no-peers`; `--seeds N`;
//! `--only PART`, one of speed, network, auto, federated, reworded; and, to try other settings of the
//! network, `--batch-size N`, `--learning-rate X`.

mod federated;
mod figures;
mod peers;
mod quality;
mod reword;
mod sessions;
mod speed;

use std::path::PathBuf;

use sessions::Sessions;

/// Runs the parts that are asked for.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::read(arguments)?;
    let sessions = Sessions::load(&options.data.join("logs/hdfs_sequences"))?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(|e| e.to_string())?;
    let wanted = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    one.install(|| {
        if wanted("speed") {
            speed::run(&sessions)?;
        }
        if wanted("network") {
            quality::network(&sessions, &options)?;
        }
        if wanted("auto") {
            quality::auto(&sessions, &options)?;
        }
        if wanted("federated") {
            federated::run(&sessions, &options)?;
        }
        if wanted("reworded") {
            reword::run(&sessions, &options)?;
        }
        Ok::<(), String>(())
    })?;
    if options.peers { peers::report(&options.data.join("logs"), options.seeds) } else { Ok(()) }
}

/// What was asked for.
pub struct Options {
    data: PathBuf,
    peers: bool,
    seeds: u64,
    only: Option<String>,
    batch_size: Option<usize>,
    learning_rate: Option<f64>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration that could read it")]
        let from_environment = std::env::var_os("OPSROOM_BENCH_DATA").map(PathBuf::from);
        let mut data = from_environment;
        let (mut peers, mut seeds, mut only) = (true, 3, None);
        let (mut batch_size, mut learning_rate) = (None, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--no-peers" {
                peers = false;
                continue;
            }
            let value = rest.next().ok_or_else(|| format!("{argument} needs a value"))?;
            let unusable = |_| format!("{argument} cannot be {value:?}");
            match argument.as_str() {
                "--data" => data = Some(PathBuf::from(value)),
                "--seeds" => {
                    seeds = value.parse().map_err(|e: std::num::ParseIntError| unusable(e.to_string()))?
                }
                "--only" => only = Some(value.clone()),
                "--batch-size" => {
                    let size = value.parse().map_err(|e: std::num::ParseIntError| unusable(e.to_string()))?;
                    batch_size = Some(size);
                }
                "--learning-rate" => {
                    let rate =
                        value.parse().map_err(|e: std::num::ParseFloatError| unusable(e.to_string()))?;
                    learning_rate = Some(rate);
                }
                other => {
                    let known = "--data --no-peers --seeds --only --batch-size --learning-rate";
                    return Err(format!("unknown option '{other}'; known: {known}"));
                }
            }
        }
        let data = data.ok_or("no data: give --data DIR or set OPSROOM_BENCH_DATA")?;
        Ok(Self { data, peers, seeds, only, batch_size, learning_rate })
    }

    /// The network's settings for a seed.
    fn network(&self, seed: u64, epochs: usize) -> opsroom_analytics::classify::detector::NetworkConfig {
        let mut network = opsroom_analytics::classify::detector::NetworkConfig::default();
        network.training.seed = seed;
        network.training.epochs = epochs;
        network.training.batch_size = self.batch_size.unwrap_or(network.training.batch_size);
        network.training.learning_rate = self.learning_rate.unwrap_or(network.training.learning_rate);
        network
    }
}
