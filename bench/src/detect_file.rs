//! `detect-file`: `opsroom detect` on a generated log, the whole process.
//!
//! Prints lines per second of wall time and of processor time and the peak of resident memory, on all
//! cores and on one, says whether the answers are the same, and runs drain3 (the miner alone, its sample
//! masks) on the beginning of the same log.
//!
//! Options: `--bytes N` (default one billion); `--opsroom FILE` (default: beside this program); `--no-peers`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use opsroom_capabilities::detection::demo::{DemoConfig, write_demo};

/// Lines that drain3 gets: at its speed the whole log would take an hour.
const PEER_LINES: usize = 200_000;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::read(arguments)?;
    let folder = std::env::temp_dir().join(format!("opsroom-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let outcome = measure(&options, &folder);
    std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    outcome
}

struct Options {
    bytes: u64,
    opsroom: PathBuf,
    peers: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let beside = std::env::current_exe().map_err(|e| format!("this program: {e}"))?;
        let mut options =
            Self { bytes: 1_000_000_000, opsroom: beside.with_file_name("opsroom"), peers: true };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--bytes" => {
                    let text = value()?;
                    options.bytes = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
                }
                "--opsroom" => options.opsroom = PathBuf::from(value()?),
                "--no-peers" => options.peers = false,
                other => {
                    return Err(format!("unknown option '{other}'; known: --bytes --opsroom --no-peers"));
                }
            }
        }
        if !options.opsroom.exists() {
            let path = options.opsroom.display();
            return Err(format!(
                "{path} is not there: `cargo build --release -p opsroom`, or give --opsroom FILE"
            ));
        }
        Ok(options)
    }
}

fn measure(options: &Options, folder: &Path) -> Result<(), String> {
    let log = folder.join("large.log");
    let failed = |e: std::io::Error| format!("{}: {e}", log.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&log).map_err(failed)?);
    let written = write_demo(&DemoConfig::large(1, options.bytes), &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    println!("{} lines, {} MB, seed 1\n", written.lines, written.bytes / 1_000_000);
    println!("{:<32} {:>12} {:>16} {:>10}", "", "k lines/s", "k lines/CPU-s", "peak MB");
    let all = detect(&options.opsroom, &[], &log)?;
    all.print("opsroom detect, all cores", written.lines);
    let one = detect(Path::new("taskset"), &["-c", "0", &options.opsroom.display().to_string()], &log)?;
    one.print("opsroom detect, one core", written.lines);
    println!(
        "\nthe answers on all cores and on one are {}",
        if all.answer == one.answer { "the same" } else { "NOT the same" }
    );
    println!("{}", found(&all.answer, &written.leaking));
    if options.peers { drain3(&log) } else { Ok(()) }
}

/// One run of the whole process.
pub struct Run {
    pub wall: Duration,
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
    answer: Vec<u8>,
}

impl Run {
    fn print(&self, name: &str, lines: u64) {
        let rate = |seconds: f64| lines as f64 / seconds / 1e3;
        println!(
            "{name:<32} {:>12.0} {:>16.0} {:>10}",
            rate(self.wall.as_secs_f64()),
            rate(self.cpu_seconds),
            self.peak_bytes / 1_000_000
        );
    }
}

/// Runs `opsroom detect`.
pub fn detect(program: &Path, before: &[&str], log: &Path) -> Result<Run, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", program.display());
    let started = Instant::now();
    let mut child = Command::new(program)
        .args(before)
        .args(["detect", "--json"])
        .arg(log)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdout = child.stdout.take().ok_or("no standard output")?;
    let reading = std::thread::spawn(move || {
        let mut answer = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut answer).map(|_| answer)
    });
    // The peak only grows and the time only runs, so the last look is as good as any.
    let (mut peak_bytes, mut cpu_seconds) = (0, 0.0);
    let status = loop {
        let folder = PathBuf::from(format!("/proc/{}", child.id()));
        peak_bytes = peak(&folder).unwrap_or(peak_bytes);
        cpu_seconds = processor_time(&folder).unwrap_or(cpu_seconds);
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let wall = started.elapsed();
    let answer = reading.join().map_err(|_| "the reader of the answer panicked")?.map_err(failed)?;
    if !status.success() {
        return Err(format!("{} ended with {status}", program.display()));
    }
    Ok(Run { wall, cpu_seconds, peak_bytes, answer })
}

/// The most resident bytes that a process had.
pub fn peak(process: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The seconds of processor time that a process took.
pub fn processor_time(process: &Path) -> Option<f64> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    // The name in parentheses may hold blanks; the fields after it are numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Where the fault stands in the answer.
pub fn found(answer: &[u8], leaking: &[String]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let anomalies = answer["anomalies"].as_array().cloned().unwrap_or_default();
    let place = anomalies.iter().position(|one| leaking.iter().any(|id| one["key"] == id.as_str()));
    match place {
        Some(place) => format!("the fault's root is cause number {}", place + 1),
        None => format!("the fault's root is not among the {} causes listed", anomalies.len()),
    }
}

fn drain3(log: &Path) -> Result<(), String> {
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = crate::parsing::drain3::install(&bench.join(".peers/drain3"))?;
    let output = Command::new(&python)
        .arg(bench.join("peers/drain3_file.py"))
        .arg(log)
        .arg(PEER_LINES.to_string())
        .output()
        .map_err(|e| format!("{}: {e}", python.display()))?;
    if !output.status.success() {
        return Err(format!("drain3 failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
