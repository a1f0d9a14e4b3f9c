//! Plans as a server gives them: 1,000 requests, one at a time and 50 at a time, each of three metrics, over
//! series with a stored choice of engines and with a learnt model; and plans of series never seen.
//!
//! Options: `--binary PATH` (default `target/release/opsroom`).

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Requests of each measurement.
const REQUESTS: usize = 1_000;
/// Requests at a time, in the second.
const AT_A_TIME: usize = 50;
/// Services, each with three metrics of four weeks.
const SERVICES: usize = 40;
const METRICS: [&str; 3] = ["total_events", "avg_cpu", "avg_memory"];
const HOURS: i64 = 672;

/// The present hour, in seconds: training looks at what was stored of the last weeks.
static NOW: LazyLock<i64> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "a benchmark has no clock to be given")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() as i64 / 3600 * 3600
});

/// Prints milliseconds.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let binary = match arguments {
        [flag, path] if flag == "--binary" => PathBuf::from(path),
        [] => PathBuf::from("target/release/opsroom"),
        _ => return Err("usage: plans [--binary target/release/opsroom]".into()),
    };
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-plans-{}", std::process::id()));
    let server = Server::start(&binary, &folder)?;
    let outcome = measure(&server, &binary, &folder);
    drop(server);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(server: &Server, binary: &Path, folder: &Path) -> Outcome<()> {
    let key = api_key(binary, folder)?;
    let mut client = Client::open(server.port, &key)?;
    for service in 0..SERVICES {
        client.ask("/metrics/ingest", &json!({ "service_id": name(service), "csv": csv(service) }))?;
    }
    println!("{SERVICES} services x {} metrics x {HOURS} hours, plans of three metrics each", METRICS.len());
    let unseen = together(server.port, &key, 1, SERVICES)?;
    show("a series never seen, one at a time", unseen);
    let begun = Instant::now();
    client.ask("/forecasters/train", &json!({}))?;
    println!("{:<52} {:8.1} s", "training on all of them", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for service in 0..SERVICES {
        for metric in METRICS {
            let body = json!({ "service_id": name(service), "metric_name": metric, "timestamp": *NOW });
            client.ask("/forecasters/backtest", &body)?;
        }
    }
    let each = begun.elapsed().as_secs_f64() * 1e3 / (SERVICES * METRICS.len()) as f64;
    println!("{:<52} {each:8.1} ms", "backtest of one series, as a job");
    show("a stored choice, one at a time", together(server.port, &key, 1, REQUESTS)?);
    let begun = Instant::now();
    let times = together(server.port, &key, AT_A_TIME, REQUESTS)?;
    let rate = REQUESTS as f64 / begun.elapsed().as_secs_f64();
    show(&format!("a stored choice, {AT_A_TIME} at a time ({rate:.0} a second)"), times);
    Ok(())
}

fn show(what: &str, mut times: Vec<f64>) {
    times.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
    println!(
        "{what:<52} median {:7.1} ms, p99 {:7.1} ms, most {:7.1} ms, no error in {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
}

/// Milliseconds of each of so many plans, by so many clients; any answer but a plan is an error.
fn together(port: u16, key: &str, clients: usize, requests: usize) -> Outcome<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let work = || -> Outcome<Vec<f64>> {
        let mut client = Client::open(port, key)?;
        let mut times = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= requests {
                return Ok(times);
            }
            let context = json!({ "context_id": "bench", "timestamp": *NOW, "service_type": "web" });
            let body =
                json!({ "service_id": name(at % SERVICES), "metric_names": METRICS, "context": context });
            let begun = Instant::now();
            let plans = client.ask("/plans/multi", &body)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if plans["results"].as_object().map_or(0, serde_json::Map::len) != METRICS.len() {
                return Err("an answer does not have a plan for each metric".into());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a client panicked")??);
        }
        Ok(all)
    })
}

fn name(service: usize) -> String {
    format!("service-{service:03}")
}

/// Four weeks with a day, a weekend and noise, each service's own.
fn csv(service: usize) -> String {
    let mut text = format!("timestamp,{}\n", METRICS.join(","));
    let mut state = service as u64 + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    for hour in 0..HOURS {
        let angle = ((hour + service as i64) % 24) as f64 / 24.0 * std::f64::consts::TAU;
        let week = if (hour / 24) % 7 < 5 { 1.0 } else { 0.6 };
        let load = week * (1.0 + 0.6 * angle.sin());
        let at = *NOW - (HOURS - 1 - hour) * 3600;
        let (events, cpu) = (200.0 * load + 40.0 * noise(), 0.1 + 0.25 * load + 0.05 * noise());
        text.push_str(&format!(
            "{at},{:.0},{cpu:.4},{:.4}\n",
            events.max(0.0),
            0.5 + 0.1 * load + 0.02 * noise()
        ));
    }
    text
}

/// A running server, ended when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(binary: &Path, folder: &Path) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(binary);
        command.arg("--data-dir").arg(folder).args(["serve", "--port", &port.to_string()]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the server did not start within 30 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status();
        if asked.is_ok_and(|status| status.success()) {
            drop(self.process.wait());
        } else {
            drop(self.process.kill());
        }
    }
}

fn api_key(binary: &Path, folder: &Path) -> Outcome<String> {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(folder).args([
        "create-api-key",
        "--name",
        "bench",
        "--role",
        "administrator",
    ]);
    // The port is open a moment before the command line can reach the server.
    let begun = Instant::now();
    let mut made = command.output()?;
    while !made.status.success() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
        made = command.output()?;
    }
    let made: Value = serde_json::from_slice(&made.stdout)?;
    Ok(made["key"].as_str().ok_or("no key was made")?.to_owned())
}

/// One kept connection.
struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Client {
    fn open(port: u16, key: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let head = format!(
            "Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        );
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// The JSON of a 200 to this POST.
    fn ask(&mut self, path: &str, body: &Value) -> Outcome<Value> {
        let body = body.to_string();
        let request =
            format!("POST {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let (status, mut length) = (line.clone(), 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if !status.starts_with("HTTP/1.1 200") {
            let text = String::from_utf8_lossy(&answer);
            return Err(
                format!("{path}: {} {}", status.trim(), text.chars().take(300).collect::<String>()).into()
            );
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}
