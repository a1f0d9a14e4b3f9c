//! How long the server takes from its start to its first answer, and what it holds in memory when idle.
//!
//! The anchor beside it is the same for `/bin/true`: what starting any process costs on this machine.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often each start is measured; the median counts.
const RUNS: usize = 5;
/// How long the server is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

/// `startup --binary PATH`: prints milliseconds and MiB.
pub fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let binary = match arguments {
        [flag, path] if flag == "--binary" => PathBuf::from(path),
        [] => PathBuf::from("target/release/opsroom"),
        _ => return Err("usage: startup [--binary target/release/opsroom]".into()),
    };
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-startup-{}", std::process::id()));
    let (mut first, mut later, mut memory, mut anchor) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        // The first start makes the folder and the tables, the later one finds them.
        first.push(start(&binary, &folder)?.0);
        let (took, resident) = start(&binary, &folder)?;
        later.push(took);
        memory.push(resident);
        fs::remove_dir_all(&folder)?;
        let begun = Instant::now();
        Command::new("true").status()?;
        anchor.push(millis(begun.elapsed()));
    }
    row("start to first answer, new data folder", "ms", &mut first);
    row("start to first answer, existing data folder", "ms", &mut later);
    row("a process that does nothing", "ms", &mut anchor);
    row("resident memory, idle", "MiB", &mut memory);
    Ok(())
}

/// Starts the server, waits for its first answer, reads its memory, and ends it.
fn start(binary: &Path, folder: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let begun = Instant::now();
    let mut server = Command::new(binary)
        .arg("--data-dir")
        .arg(folder)
        .args(["serve", "--port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let took = answered(port, &mut server, begun)?;
    std::thread::sleep(IDLE);
    let resident = resident_mib(server.id())?;
    Command::new("kill").arg(server.id().to_string()).status()?;
    server.wait()?;
    Ok((took, resident))
}

fn answered(port: u16, server: &mut Child, begun: Instant) -> Result<f64, Box<dyn Error>> {
    while begun.elapsed() < Duration::from_secs(30) {
        if let Some(status) = server.try_wait()? {
            return Err(format!("the server ended: {status}").into());
        }
        if ask(port).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return Ok(millis(begun.elapsed()));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    server.kill()?;
    Err("no answer within 30 s".into())
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn resident_mib(process: u32) -> Result<f64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn row(name: &str, unit: &str, values: &mut [f64]) {
    values.sort_by(f64::total_cmp);
    let (low, median, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    println!("{name:<45} median {median:8.1} {unit}   ({low:.1} to {high:.1})");
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
