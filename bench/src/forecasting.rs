//! Forecast quality against public series: relative errors, intervals, capacity, cold start, speed.
//!
//! Options: `--data DIR` (or `OPSROOM_BENCH_DATA`) with `metrics` below it; `--only PART` with one of
//! `machines`, `seed`, `m4`, `ett`, `speed`; `--no-peers`; `--fold N` (1 to 4) measures machines of training
//! (`sha256(uid) mod 5 == N`) in place of those kept for measuring: what constants are chosen on.
//!
//! What is learnt is learnt from machines that are not measured (`sha256(uid) mod 5 != 0`), or from
//! hours before those measured; every constant was set on the same.

use std::error::Error;
use std::path::PathBuf;

use opsroom_analytics::forecast::model::{Model, Training};
use opsroom_analytics::forecast::series::Series;
use rustix::time::ClockId;

mod data;
mod ett;
mod m4;
mod machines;
mod peers;
mod seed;
mod speed;

/// The groups of machines that are measured.
const GROUPS: [&str; 4] = ["bb_cpu", "bb_mem", "bb_tx", "azure100_avg"];

struct Options {
    data: PathBuf,
    only: Option<String>,
    peers: bool,
    fold: Option<u32>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration that could read it")]
        let mut data = std::env::var_os("OPSROOM_BENCH_DATA").map(PathBuf::from);
        let (mut only, mut peers, mut fold) = (None, true, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--data" => data = Some(PathBuf::from(value()?)),
                "--only" => only = Some(value()?),
                "--no-peers" => peers = false,
                "--fold" => {
                    let of = value()?.parse().ok().filter(|fold| (1..5).contains(fold));
                    fold = Some(of.ok_or("--fold is 1, 2, 3 or 4")?);
                }
                other => {
                    return Err(format!("unknown option '{other}'; known: --data --only --no-peers --fold"));
                }
            }
        }
        Ok(Self {
            data: data.ok_or("no data: give --data DIR or set OPSROOM_BENCH_DATA")?,
            only,
            peers,
            fold,
        })
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

/// Runs the benchmark and prints its tables.
pub fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let options = Options::read(arguments)?;
    if options.wants("ett") {
        ett::report(&options.data)?;
    }
    if !["machines", "seed", "m4", "speed"].iter().any(|part| options.wants(part)) {
        return Ok(());
    }
    let groups = data::groups(&options.data)?;
    if options.wants("m4") {
        m4::report(&groups)?;
    }
    if ["machines", "seed", "speed"].iter().any(|part| options.wants(part)) {
        let measured = options.fold.unwrap_or(0);
        let model = train(&groups, measured)?;
        if options.wants("seed") {
            seed::report(&options.data, &model)?;
        }
        if options.wants("machines") {
            machines::report(&groups, &model, measured)?;
        }
        if options.wants("speed") {
            speed::report(&groups, &model)?;
            let again = train(&groups, measured)?;
            println!("trained twice: the same bytes: {}", again.to_bytes() == model.to_bytes());
        }
    }
    if options.peers && options.fold.is_none() && options.wants("machines") {
        peers::report(&options.data)?;
    }
    Ok(())
}

/// The global model of the machines that are not measured.
fn train(groups: &data::Groups, measured: u32) -> Result<Model, Box<dyn Error>> {
    let sets = GROUPS.iter().chain(&["azure100_max"]);
    let known =
        sets.flat_map(|set| &groups[*set]).filter(|named| ![0, measured].contains(&data::fold(&named.uid)));
    let series: Vec<Series> = known.map(|named| named.series.clone()).collect();
    let (started, worked) = (std::time::Instant::now(), speed::processor(ClockId::ProcessCPUTime));
    let model = Model::train("bench", &series, &Training::default())?;
    println!(
        "trained on {} windows of {} series in {:.1} s ({:.1} s of processor time), sha256 {}\n",
        model.trained.windows,
        model.trained.series,
        started.elapsed().as_secs_f64(),
        speed::processor(ClockId::ProcessCPUTime) - worked,
        &model.hash()[..16]
    );
    Ok(model)
}

/// Geometric mean and, for its spread over series, the standard error as a factor.
fn geometric(ratios: &[f64]) -> (f64, f64) {
    let logs: Vec<f64> = ratios.iter().map(|r| r.max(1e-3).ln()).collect();
    let n = logs.len().max(1) as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean.exp(), (variance / n).sqrt().exp())
}
