//! `logs-served`: logs as a running server reads and receives them: 2 GB judged where they lie, in a store that
//! serves 1 GB/s, beside `opsroom detect` on the same file; and how long a line takes from its arrival to who
//! follows `/logs/tail`, at 20,000 lines a second.
//!
//! Options: `--bytes N` (default two billion), `--seconds N` of following (default 20), `--binary PATH`
//! (default `target/release/opsroom`).

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opsroom_capabilities::detection::demo::{DemoConfig, write_demo};
use serde_json::json;

use crate::detect_file::{detect, found, peak, processor_time};
use crate::server::{Client, Outcome, Server, api_key};

/// Bytes a second that the store serves at most.
const RATE: f64 = 1e9;
/// Bytes that it writes at once.
const PIECE: usize = 1 << 20;
/// Lines a second that are sent, and how many at once.
const LINES: (usize, usize) = (20_000, 200);

/// Prints seconds, bytes and milliseconds.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let (mut bytes, mut seconds) = (2_000_000_000, 20);
    let mut binary = PathBuf::from("target/release/opsroom");
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or("each option has a value")?;
        match flag.as_str() {
            "--bytes" => bytes = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--binary" => binary = PathBuf::from(value),
            _ => return Err("known: --bytes --seconds --binary".into()),
        }
    }
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-served-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = remote(&binary, &folder, bytes).and_then(|()| tail(&binary, &folder, seconds));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

/// The log in a store and as a file.
fn remote(binary: &Path, folder: &Path, bytes: u64) -> Outcome<()> {
    let log = folder.join("large.log");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&log)?);
    let written = write_demo(&DemoConfig::large(1, bytes), &mut out)?;
    out.flush()?;
    let megabytes = written.bytes as f64 / 1e6;
    println!("{megabytes:.0} MB in {} lines", written.lines);
    let local = detect(binary, &[], &log)?;
    let rate = |seconds: f64| megabytes / seconds;
    println!(
        "opsroom detect on the file:       {:6.1} s, {:6.1} MB/s, {:6.1} MB/s of a core, peak {} MB",
        local.wall.as_secs_f64(),
        rate(local.wall.as_secs_f64()),
        rate(local.cpu_seconds),
        local.peak_bytes / 1_000_000
    );
    let port = store(log)?;
    // The store is on this machine, and asked for by its own name in the configuration.
    let server = Server::start_with(
        binary,
        &folder.join("data"),
        &[("OPSROOM__EGRESS__ALLOW_ADDRESSES", "127.0.0.1")],
    )?;
    let key = api_key(binary, &folder.join("data"))?;
    let mut client = Client::open(server.port, &key)?;
    let place = json!({ "kind": "http", "endpoint": format!("http://127.0.0.1:{port}/") });
    client.ask("/logs/sources", &json!({ "name": "store", "place": place }))?;
    let process = PathBuf::from(format!("/proc/{}", server.id()));
    let before = processor_time(&process).unwrap_or_default();
    let begun = Instant::now();
    let answer = client.ask("/logs/anomalies", &json!({ "source": "store" }))?;
    let took = begun.elapsed().as_secs_f64();
    let spent = processor_time(&process).unwrap_or_default() - before;
    println!(
        "detect_anomalies on the source:   {took:6.1} s, {:6.1} MB/s, {:6.1} MB/s of a core, peak {} MB",
        rate(took),
        rate(spent),
        peak(&process).unwrap_or_default() / 1_000_000
    );
    println!(
        "share of the local one: {:.2} of wall time, {:.2} of processor time",
        local.wall.as_secs_f64() / took,
        local.cpu_seconds / spent
    );
    println!("{}", found(answer.to_string().as_bytes(), &written.leaking));
    Ok(())
}

/// A server of one file, at most so fast; it lives as long as the process.
fn store(log: PathBuf) -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let log = log.clone();
            // A client that breaks off is no failure of the store.
            std::thread::spawn(move || drop(serve(stream, &log)));
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream, log: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let out = reader.get_mut();
        if !request.contains("large.log") {
            let page = "<a href=\"large.log\">large.log</a>";
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())?;
            continue;
        }
        let mut file = File::open(log)?;
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.metadata()?.len())?;
        let (begun, mut sent, mut piece) = (Instant::now(), 0, vec![0; PIECE]);
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            out.write_all(&piece[..read])?;
            sent += read;
            let due = Duration::from_secs_f64(sent as f64 / RATE);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
}

/// Lines are numbered; when each was sent and when it came is on the same clock.
fn tail(binary: &Path, folder: &Path, seconds: usize) -> Outcome<()> {
    let data = folder.join("tail");
    let server = Server::start(binary, &data)?;
    let key = api_key(binary, &data)?;
    let batches = seconds * LINES.0 / LINES.1;
    let sent: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let times = sent.clone();
    let mut following = BufReader::with_capacity(1 << 20, TcpStream::connect(("127.0.0.1", server.port))?);
    write!(
        following.get_mut(),
        "GET /logs/tail HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {key}\r\n\r\n",
        server.port
    )?;
    let reader = std::thread::spawn(move || -> std::io::Result<(Vec<f64>, usize)> {
        let (mut took, mut missed, mut line) = (Vec::new(), 0, Vec::new());
        following.get_ref().set_read_timeout(Some(Duration::from_secs(10)))?;
        while took.len() < batches * LINES.1 {
            line.clear();
            match following.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            missed += usize::from(line.starts_with(b"event: missed"));
            let Some(at) = line.windows(7).position(|word| word == b" batch ") else { continue };
            let digits = line[at + 7..].iter().take_while(|b| b.is_ascii_digit());
            let batch = digits.fold(0usize, |sum, b| sum * 10 + usize::from(b - b'0'));
            let now = Instant::now();
            let begun = sent.lock().unwrap_or_else(PoisonError::into_inner)[batch];
            took.push((now - begun).as_secs_f64() * 1e3);
        }
        Ok((took, missed))
    });
    std::thread::sleep(Duration::from_millis(500));
    let mut client = Client::open(server.port, &key)?;
    let begun = Instant::now();
    for batch in 0..batches {
        let due = Duration::from_secs_f64((batch * LINES.1) as f64 / LINES.0 as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let text: String = (0..LINES.1)
            .map(|n| {
                format!("INFO request {n} of batch {batch} took {} ms at host-{:02}\n", n * 7 % 90, n % 40)
            })
            .collect();
        times.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        client.ask("/logs/ingest", &json!({ "text": text, "service": "bench" }))?;
    }
    let spent = begun.elapsed().as_secs_f64();
    let (mut took, missed) = reader.join().map_err(|_| "the one who follows panicked")??;
    took.sort_by(f64::total_cmp);
    if took.is_empty() {
        return Err("nothing came to the one who follows".into());
    }
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "from ingest to /logs/tail, {:.0} lines/s, {} of {} lines came, {missed} gaps: median {:.1} ms, p99 {:.1} ms, \
         most {:.1} ms",
        (batches * LINES.1) as f64 / spent,
        took.len(),
        batches * LINES.1,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}
