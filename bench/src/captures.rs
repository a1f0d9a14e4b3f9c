//! Captures through a running server: a page with twelve charts that load late, again and again; whether every
//! pixel of every chart is the final one, and how long a capture takes beyond the page's own time.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Client, Outcome, Server, api_key};

/// Charts of the page.
const CHARTS: usize = 12;
/// How long a chart is drawn after its data are there.
const DRAWN: Duration = Duration::from_millis(400);
/// Captures before the first that counts: the browser starts.
const BEFORE: usize = 1;

/// `captures [--binary PATH] [--runs N]`: prints how many were final, and milliseconds.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let (mut binary, mut runs) = (PathBuf::from("target/release/opsroom"), 100);
    for pair in arguments.chunks(2) {
        match pair {
            [flag, path] if flag == "--binary" => binary = PathBuf::from(path),
            [flag, number] if flag == "--runs" => runs = number.parse()?,
            _ => return Err("usage: captures [--binary target/release/opsroom] [--runs 100]".into()),
        }
    }
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-captures-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("opsroom.yaml");
    std::fs::write(&config, "egress: {allow_addresses: [127.0.0.1]}\nlog: {level: warn}\n")?;
    let data = folder.join("data");
    let environment = [("OPSROOM_CONFIG", config.to_str().unwrap_or_default())];
    let server = Server::start_with(&binary, &data, &environment)?;
    let outcome = api_key(&binary, &data).and_then(|key| measure(&server, &key, runs));
    drop(server);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(server: &Server, key: &str, runs: usize) -> Outcome<()> {
    let page = Page::start()?;
    let mut client = Client::open(server.port, key)?;
    let (mut last, mut whole, mut beyond) = (0, Vec::new(), Vec::new());
    for run in 0..runs + BEFORE {
        let begun = Instant::now();
        let url = format!("http://127.0.0.1:{}/?run={run}", page.port);
        let taken = client.ask("/captures", &json!({ "url": url }))?;
        let took = begun.elapsed();
        if run < BEFORE {
            println!(
                "the first capture, with the start of the browser  {:>8.0} ms",
                took.as_secs_f64() * 1e3
            );
            continue;
        }
        let (status, picture) = client.send("GET", taken["picture"].as_str().unwrap_or_default(), "")?;
        if status != 200 {
            return Err(format!("the picture: {status}").into());
        }
        let wrong = wrong_charts(&picture, run)?;
        if wrong.is_empty() {
            last += 1;
        } else {
            println!("run {run}: charts {wrong:?} are not final; {}", taken["signals"]);
        }
        whole.push(took.as_secs_f64() * 1e3);
        beyond.push((took.saturating_sub(page.own_time(run)?)).as_secs_f64() * 1e3);
    }
    println!("final pixels of all {CHARTS} charts                      {last:>5} of {runs}");
    for (what, mut times) in [("a capture", whole), ("beyond the page's own time", beyond)] {
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize];
        println!("{what:<42} median {:>6.0} ms, p95 {:>6.0} ms, most {:>6.0} ms", at(0.5), at(0.95), at(1.0));
    }
    Ok(())
}

/// The colour that a chart has in the end, another one in each run.
fn colour(run: usize, chart: usize) -> [u8; 3] {
    let part = |factor: usize| (20 + (run * 31 + chart * factor) % 180) as u8;
    [part(37), part(91), part(53)]
}

/// The charts of which a pixel is not as it is in the end.
fn wrong_charts(picture: &[u8], run: usize) -> Outcome<Vec<usize>> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    let mut data = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let frame = reader.next_frame(&mut data)?;
    let step = frame.color_type.samples();
    let at = |x: usize, y: usize| {
        let from = y * frame.line_size + x * step;
        [data[from], data[from + 1], data[from + 2]]
    };
    let is_wrong = |chart: &usize| {
        let (left, top) = place(*chart);
        (top..top + 140).any(|y| (left..left + 220).any(|x| at(x, y) != colour(run, *chart)))
    };
    Ok((0..CHARTS).filter(is_wrong).collect())
}

fn place(chart: usize) -> (usize, usize) {
    (20 + 240 * (chart % 4), 20 + 155 * (chart / 4))
}

/// When a run's page was asked for and when its last chart was answered.
type Times = Arc<Mutex<Vec<(usize, Instant, Instant)>>>;

/// The page, served on a port of its own.
struct Page {
    port: u16,
    times: Times,
}

impl Page {
    fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let times = Times::default();
        let known = times.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let times = known.clone();
                // A connection that breaks is the browser's own.
                std::thread::spawn(move || drop(serve(stream, &times)));
            }
        });
        Ok(Self { port, times })
    }

    /// From the first request to the last chart, drawn.
    fn own_time(&self, run: usize) -> Outcome<Duration> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, begun, ended) = times.iter().find(|(known, ..)| *known == run).ok_or("no such run")?;
        Ok(ended.duration_since(*begun) + DRAWN)
    }
}

fn serve(mut stream: TcpStream, times: &Times) -> Outcome<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let numbers: Vec<usize> = path.split(['/', '=']).filter_map(|part| part.parse().ok()).collect();
    let (kind, body) = match numbers[..] {
        [run] => {
            let now = Instant::now();
            times.lock().unwrap_or_else(PoisonError::into_inner).push((run, now, now));
            ("text/html", html(run))
        }
        [run, chart] => {
            // Some answer at once and some late, in no order.
            std::thread::sleep(Duration::from_millis(40 * ((chart * 7 + run) % 20) as u64));
            for (known, _, ended) in times.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
                if *known == run {
                    *ended = Instant::now();
                }
            }
            ("application/json", Value::from(colour(run, chart).to_vec()).to_string())
        }
        _ => ("text/plain", String::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

/// Each chart waits, asks, waits for its data and is drawn in an animation.
fn html(run: usize) -> String {
    let charts: String = (0..CHARTS)
        .map(|chart| {
            let (left, top) = place(chart);
            let late = (chart * 263 + run * 97) % 1500;
            format!("chart({run}, {chart}, {left}, {top}, {late});")
        })
        .collect();
    format!(
        "<!doctype html><title>Charts</title><style>body{{margin:0}}canvas{{position:absolute;background:#ddd}}</style><body><script>\
         const chart = (run, n, left, top, late) => {{ const c = document.createElement('canvas'); c.width = 220; c.height = 140;\
         c.style.left = left + 'px'; c.style.top = top + 'px'; document.body.append(c); const g = c.getContext('2d');\
         setTimeout(async () => {{ const colour = await (await fetch(`/${{run}}/${{n}}`)).json(); const begun = performance.now();\
         const frame = (now) => {{ const part = Math.min(1, (now - begun) / {}); g.fillStyle = `rgb(${{colour}})`;\
         g.fillRect(0, 140 - 140 * part, 220, 140 * part); if (part < 1) requestAnimationFrame(frame); }};\
         requestAnimationFrame(frame); }}, late); }}; {charts}</script>",
        DRAWN.as_millis()
    )
}
