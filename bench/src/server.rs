//! A server of the built binary and a client with one kept connection, for benchmarks over HTTP.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A running server, ended when dropped.
pub struct Server {
    process: Child,
    /// The port it listens on.
    pub port: u16,
}

impl Server {
    /// Starts it with a data folder.
    pub fn start(binary: &Path, folder: &Path) -> Outcome<Self> {
        Self::start_with(binary, folder, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(binary: &Path, folder: &Path, environment: &[(&str, &str)]) -> Outcome<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(binary);
        command.arg("--data-dir").arg(folder).args(["serve", "--port", &port.to_string()]);
        command.envs(environment.iter().copied());
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

impl Server {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
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

/// A key of an administrator.
pub fn api_key(binary: &Path, folder: &Path) -> Outcome<String> {
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
pub struct Client {
    stream: BufReader<TcpStream>,
    head: String,
}

impl Client {
    /// Connects.
    pub fn open(port: u16, key: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let head = format!(
            "Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        );
        Ok(Self { stream: BufReader::new(stream), head })
    }

    /// The JSON of a 200 to this POST.
    pub fn ask(&mut self, path: &str, body: &Value) -> Outcome<Value> {
        let (status, answer) = self.send("POST", path, &body.to_string())?;
        if status != 200 {
            let text: String = String::from_utf8_lossy(&answer).chars().take(300).collect();
            return Err(format!("{path}: {status} {text}").into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The status of an answer, and its body.
    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Outcome<(u16, Vec<u8>)> {
        let request =
            format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
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
        let status = status.split(' ').nth(1).unwrap_or_default().parse()?;
        Ok((status, answer))
    }
}

/// Milliseconds of each of so many requests, by so many clients at once; `request` gets a client and the
/// request's number, and fails on any wrong answer.
pub fn together(
    port: u16,
    key: &str,
    clients: usize,
    requests: usize,
    request: impl Fn(&mut Client, usize) -> Outcome<()> + Sync,
) -> Outcome<Vec<f64>> {
    let next = AtomicUsize::new(0);
    let work = || -> Outcome<Vec<f64>> {
        let mut client = Client::open(port, key)?;
        let mut times = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= requests {
                return Ok(times);
            }
            let begun = Instant::now();
            request(&mut client, at)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
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

/// Prints how long requests took.
pub fn show(what: &str, mut times: Vec<f64>) {
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
