//! Plans as a server gives them: 1,000 requests, one at a time and 50 at a time, each of three metrics, over
//! series with a stored choice of engines and with a learnt model; and plans of series never seen.
//!
//! Options: `--binary PATH` (default `target/release/opsroom`).

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use serde_json::json;

use crate::server::{Client, Outcome, Server, api_key, show, together};

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
    let unseen = plans(server.port, &key, 1, SERVICES)?;
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
    show("a stored choice, one at a time", plans(server.port, &key, 1, REQUESTS)?);
    let begun = Instant::now();
    let times = plans(server.port, &key, AT_A_TIME, REQUESTS)?;
    let rate = REQUESTS as f64 / begun.elapsed().as_secs_f64();
    show(&format!("a stored choice, {AT_A_TIME} at a time ({rate:.0} a second)"), times);
    Ok(())
}

/// Milliseconds of each of so many plans, by so many clients; any answer but a plan is an error.
fn plans(port: u16, key: &str, clients: usize, requests: usize) -> Outcome<Vec<f64>> {
    together(port, key, clients, requests, |client, at| {
        let context = json!({ "context_id": "bench", "timestamp": *NOW, "service_type": "web" });
        let body = json!({ "service_id": name(at % SERVICES), "metric_names": METRICS, "context": context });
        let plans = client.ask("/plans/multi", &body)?;
        match plans["results"].as_object().map_or(0, serde_json::Map::len) {
            all if all == METRICS.len() => Ok(()),
            _ => Err("an answer does not have a plan for each metric".into()),
        }
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
