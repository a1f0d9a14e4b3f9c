//! Alerts through a running server: how many it receives durably in a second, and how long from a webhook to a
//! channel's request; and what is left of both when the server is killed again and again.

mod kills;

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Alerts in one delivery.
const IN_ONE: usize = 50;
/// How long deliveries are sent.
const LENGTH: Duration = Duration::from_secs(10);
/// Senders beside each other.
const SENDERS: usize = 4;
/// Alerts that are followed from their webhook to their channel.
const FOLLOWED: usize = 200;

/// `alerts [--binary PATH] [--core N] [--kills N]`: prints alerts per second and milliseconds; with `--kills`, what
/// was lost and repeated instead.
pub fn run(arguments: &[String]) -> Outcome<()> {
    const USAGE: &str = "usage: alerts [--binary target/release/opsroom] [--core 0] [--kills 100]";
    let (mut binary, mut core, mut kills) = (PathBuf::from("target/release/opsroom"), None, None);
    for pair in arguments.chunks(2) {
        match pair {
            [flag, path] if flag == "--binary" => binary = PathBuf::from(path),
            [flag, number] if flag == "--core" => core = Some(number.clone()),
            [flag, number] if flag == "--kills" => kills = Some(number.parse()?),
            _ => return Err(USAGE.into()),
        }
    }
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-alerts-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let told = channel_endpoint()?;
    let mut house = House::start(&binary, &folder, told.port, core)?;
    let outcome = match kills {
        Some(kills) => kills::run(&mut house, &told, kills),
        None => house.measure(&told),
    };
    drop(house);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

/// A server with a receiver and a channel.
struct House {
    process: Child,
    port: u16,
    secret: String,
    binary: PathBuf,
    folder: PathBuf,
    core: Option<String>,
}

impl Drop for House {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl House {
    fn start(binary: &Path, folder: &Path, told: u16, core: Option<String>) -> Outcome<Self> {
        let text = format!(
            "egress: {{allow_addresses: [127.0.0.1], ports: [{told}]}}\nalerts:\n  routing:\n    channel: none\n    group_wait_seconds: 0\n    routes: [{{matchers: ['kind=\"followed\"'], channel: hook, group_by: ['...']}}]\nlog: {{level: warn}}\n"
        );
        std::fs::write(folder.join("opsroom.yaml"), text)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        let process = serve(&binary, &folder, port, core.as_deref())?;
        let mut house = Self { process, port, secret: String::new(), binary, folder, core };
        house.wait()?;
        let url = format!("--url=http://127.0.0.1:{told}/");
        house.command(&["add-channel", "--name=hook", "--per-minute=6000", &url])?;
        let made = house.command(&["create-receiver", "--name=am", "--sender=alertmanager"])?;
        house.secret = made["secret"].as_str().ok_or("no secret")?.to_owned();
        Ok(house)
    }

    fn wait(&self) -> Outcome<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the server did not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts the server again over what the one before left.
    fn again(&mut self) -> Outcome<()> {
        self.process = serve(&self.binary, &self.folder, self.port, self.core.as_deref())?;
        self.wait()
    }

    /// The answer of an operation.
    fn command(&self, arguments: &[&str]) -> Outcome<serde_json::Value> {
        let mut command = Command::new(&self.binary);
        let done = command.arg("--data-dir").arg(self.folder.join("data")).args(arguments).output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    fn measure(&self, told: &Told) -> Outcome<()> {
        let delays = self.follow(told)?;
        println!("webhook to the channel's request, median  {:>10.1} ms", delays[delays.len() / 2]);
        println!("webhook to the channel's request, p99     {:>10.1} ms", delays[delays.len() * 99 / 100]);
        let begun = Instant::now();
        let mut took: Vec<f64> = std::thread::scope(|scope| {
            let senders: Vec<_> =
                (0..SENDERS).map(|sender| scope.spawn(move || self.send(sender, begun))).collect();
            senders.into_iter().filter_map(|sender| sender.join().ok()?.ok()).flatten().collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        if took.is_empty() {
            return Err("no delivery was answered".into());
        }
        took.sort_by(f64::total_cmp);
        let rate = (took.len() * IN_ONE) as f64 / seconds;
        println!("alerts received durably, in groups of {IN_ONE}   {rate:>10.0} /s");
        println!("answer, median                            {:>10.1} ms", took[took.len() / 2]);
        println!("answer, p99                               {:>10.1} ms", took[took.len() * 99 / 100]);
        Ok(())
    }

    /// Milliseconds from a webhook to its channel's request, sorted. It is measured before the load: after it, one
    /// alert waits for all that were received and not read yet.
    fn follow(&self, told: &Told) -> Outcome<Vec<f64>> {
        let mut delays = Vec::new();
        let mut connection = Connection::open(self.port)?;
        for n in 0..FOLLOWED {
            let sent = Instant::now();
            connection.post(&self.secret, &delivery("followed", n, 1, "firing"))?;
            let (at, _) = told.seen.recv_timeout(Duration::from_secs(30))?;
            if n >= FOLLOWED / 10 {
                delays.push(at.duration_since(sent).as_secs_f64() * 1e3);
            }
        }
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }

    fn send(&self, sender: usize, begun: Instant) -> Result<Vec<f64>, String> {
        let mut connection = Connection::open(self.port).map_err(|error| error.to_string())?;
        let mut took = Vec::new();
        for turn in 0.. {
            if begun.elapsed() > LENGTH {
                break;
            }
            // New alerts half of the time, and their ends.
            let (batch, status) = (turn / 2, if turn % 2 == 0 { "firing" } else { "resolved" });
            let body = delivery("load", sender * 1_000_000 + batch * IN_ONE, IN_ONE, status);
            let at = Instant::now();
            connection.post(&self.secret, &body).map_err(|error| error.to_string())?;
            took.push(at.elapsed().as_secs_f64() * 1e3);
        }
        Ok(took)
    }
}

fn serve(binary: &Path, folder: &Path, port: u16, core: Option<&str>) -> Outcome<Child> {
    let mut command = match core {
        None => Command::new(binary),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", core]).arg(binary);
            command
        }
    };
    command.env("OPSROOM_CONFIG", folder.join("opsroom.yaml")).arg("--data-dir").arg(folder.join("data"));
    Ok(command.args(["serve", "--port", &port.to_string()]).stdout(Stdio::null()).spawn()?)
}

/// A connection that stays open.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(port: u16) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn post(&mut self, secret: &str, body: &str) -> Outcome<()> {
        let head = format!(
            "POST /webhooks/am HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body.as_bytes())?;
        let mut length = 0;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(format!("the server answered {}", line.trim()).into());
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok(())
    }
}

fn delivery(kind: &str, first: usize, count: usize, status: &str) -> String {
    let alert = |n: usize| {
        format!(
            r#"{{"status":"{status}","labels":{{"alertname":"Load{}","kind":"{kind}","instance":"host-{n}:9100","job":"node","severity":"warning"}},"annotations":{{"summary":"load of host-{n}","description":"it is high"}},"startsAt":"2026-01-05T10:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph"}}"#,
            n / 1000
        )
    };
    let alerts: Vec<String> = (first..first + count).map(alert).collect();
    format!(r#"{{"version":"4","status":"{status}","alerts":[{}]}}"#, alerts.join(","))
}

/// A request of a channel: when it came, and its body.
type Request = (Instant, Vec<u8>);

/// A channel's endpoint: what came.
struct Told {
    port: u16,
    seen: Receiver<Request>,
}

fn channel_endpoint() -> Outcome<Told> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (sender, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender: Sender<Request> = sender.clone();
            std::thread::spawn(move || answer(stream, &sender));
        }
    });
    Ok(Told { port, seen })
}

fn answer(stream: TcpStream, seen: &Sender<Request>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            let mut body = vec![0; length];
            let whole = stream.read_exact(&mut body).is_ok();
            let answered =
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").is_ok();
            if !whole || seen.send((Instant::now(), body)).is_err() || !answered {
                return;
            }
        }
        line.clear();
    }
}
