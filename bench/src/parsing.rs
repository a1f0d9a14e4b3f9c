//! `parsing`: quality and speed of template mining on the ten systems of loghub 2k.
//!
//! Quality is grouping accuracy (GA: the share of lines whose whole group is exactly right, Zhu et al. 2019)
//! and the F1 over groups exactly right (FGA, Jiang et al. 2024). We are measured on the message text and
//! on the raw lines, in one online configuration, with ids as resolved at the end. Speed is lines per second
//! of processor time on one core. The peers, drain3 and logdrain, are measured in the same run.
//!
//! Options: `--data DIR` (or `OPSROOM_BENCH_DATA`) with `logs/loghub_2k` below it; `--no-peers`;
//! `--show SYSTEM` prints where the groups of a system are wrong, and nothing else.

pub mod corpus;
pub mod cpu;
pub mod drain3;
mod ours;
mod score;

use std::path::PathBuf;

use corpus::System;
use score::Score;

/// Lines of the corpus on which speed is measured.
const SPEED_LINES: usize = 1_000_000;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::read(arguments)?;
    let systems = corpus::load(&options.data.join("logs/loghub_2k"))?;
    if let Some(name) = &options.show {
        let system = systems.iter().find(|s| s.name == *name);
        let system =
            system.ok_or_else(|| format!("no system is named '{name}' in {}", options.data.display()))?;
        ours::show(system);
        return Ok(());
    }
    quality(&systems);
    speed(&systems);
    if options.peers { drain3::report(&systems, &options.data) } else { Ok(()) }
}

struct Options {
    data: PathBuf,
    peers: bool,
    show: Option<String>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no configuration that could read it")]
        let from_environment = std::env::var_os("OPSROOM_BENCH_DATA").map(PathBuf::from);
        let mut data = from_environment;
        let (mut peers, mut show) = (true, None);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--data" => data = Some(PathBuf::from(value()?)),
                "--show" => show = Some(value()?),
                "--no-peers" => peers = false,
                other => return Err(format!("unknown option '{other}'; known: --data --show --no-peers")),
            }
        }
        let data = data.ok_or("no data: give --data DIR or set OPSROOM_BENCH_DATA")?;
        Ok(Self { data, peers, show })
    }
}

fn quality(systems: &[System]) {
    println!(
        "{:<12} {:>17} {:>17} {:>17}",
        "GA / FGA", "opsroom, message", "opsroom, raw", "logdrain, message"
    );
    let mut sums = [Score::default(); 3];
    for system in systems {
        let scores = [
            Score::of(&system.truth, &ours::mine(&system.messages)),
            Score::of(&system.truth, &ours::parse(&system.raw)),
            Score::of(&system.truth, &logdrain_ids(&system.messages)),
        ];
        print!("{:<12}", system.name);
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += score;
            print!(" {:>17}", score.to_string());
        }
        println!();
    }
    let means = sums.map(|s| (s / systems.len() as f64).to_string());
    println!("{:<12} {:>17} {:>17} {:>17}\n", "mean", means[0], means[1], means[2]);
}

fn speed(systems: &[System]) {
    let messages = corpus::repeated(systems, |s| &s.messages, SPEED_LINES);
    let raw = corpus::repeated(systems, |s| &s.raw, SPEED_LINES);
    println!("thousand lines per second of processor time, one core");
    print_rate("opsroom, masks on", messages.len(), ours::time_mining(&messages, true));
    print_rate("opsroom, masks off", messages.len(), ours::time_mining(&messages, false));
    print_rate("opsroom, raw lines with headers", raw.len(), ours::time_parsing(&raw));
    let texts: Vec<String> = messages.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect();
    let masks = || {
        use logdrain::builtin_masks::{email, hex32, ipv4, jwt, uuid};
        vec![uuid(), hex32(), email(), ipv4(), jwt()]
    };
    for (name, masks) in [("logdrain 0.3.2, its five masks", masks()), ("logdrain 0.3.2, masks off", vec![])]
    {
        let miner = logdrain::Miner::builder().masks(masks).build().expect("the defaults are valid");
        let seconds = cpu::measure(|| texts.iter().for_each(|t| _ = std::hint::black_box(miner.add(t))));
        print_rate(name, texts.len(), seconds);
    }
    println!();
}

fn print_rate(name: &str, lines: usize, seconds: f64) {
    println!("{name:<34} {:>8.0}", lines as f64 / seconds / 1e3);
}

fn logdrain_ids(messages: &[Vec<u8>]) -> Vec<u64> {
    let miner = logdrain::Miner::builder().build().expect("the defaults are valid");
    messages.iter().map(|m| miner.add(&String::from_utf8_lossy(m)).cluster_id).collect()
}
