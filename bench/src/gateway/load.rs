//! Load: wrk for throughput, one connection by hand for latency.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// How many connections wrk keeps.
const CONNECTIONS: &str = "32";
/// How many calls latency is measured over.
const CALLS: usize = 5_000;

/// One kind of request.
pub struct Load {
    name: String,
}

/// What wrk saw.
pub struct Seen {
    /// Requests in a second.
    pub per_second: f64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// Answers with another status than 2xx or 3xx, and broken connections.
    pub errors: u64,
}

/// The message of a request of 2026-07-28.
fn message(method: &str, name: Option<&str>) -> String {
    let subject = name.map(|name| format!(r#""name":"{name}","arguments":{{}},"#)).unwrap_or_default();
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{subject}"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

fn headers(method: &str, name: Option<&str>, key: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Content-Type", "application/json".to_owned()),
        ("Accept", "application/json, text/event-stream".to_owned()),
        ("MCP-Protocol-Version", "2026-07-28".to_owned()),
        ("Mcp-Method", method.to_owned()),
    ];
    headers.extend(name.map(|name| ("Mcp-Name", name.to_owned())));
    headers.extend(key.map(|key| ("Authorization", format!("Bearer {key}"))));
    headers
}

impl Load {
    /// Calls of a tool.
    pub fn call(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Runs wrk for some seconds, after one of warming up.
    pub fn run(
        &self,
        port: u16,
        path: &str,
        key: Option<&str>,
        seconds: u64,
    ) -> Result<Seen, Box<dyn Error>> {
        let name = Some(self.name.as_str());
        let mut script = format!("wrk.method = 'POST'\nwrk.body = [==[{}]==]\n", message("tools/call", name));
        for (name, value) in headers("tools/call", name, key) {
            script.push_str(&format!("wrk.headers['{name}'] = '{value}'\n"));
        }
        let file = std::env::temp_dir().join(format!("opsroom-wrk-{}.lua", std::process::id()));
        std::fs::write(&file, script)?;
        let url = format!("http://127.0.0.1:{port}{path}");
        let wrk = |seconds: u64| {
            let length = format!("{seconds}s");
            let arguments = ["-t", "1", "-c", CONNECTIONS, "-d", &length, "--latency", "-s"];
            Command::new("wrk").args(arguments).arg(&file).arg(&url).output()
        };
        wrk(1)?;
        let output = String::from_utf8(wrk(seconds)?.stdout)?;
        std::fs::remove_file(&file)?;
        seen(&output).ok_or_else(|| format!("wrk said:\n{output}").into())
    }
}

fn seen(output: &str) -> Option<Seen> {
    let after = |mark: &str| {
        output.lines().find_map(|line| line.trim().strip_prefix(mark).map(|rest| rest.trim().to_owned()))
    };
    let errors =
        after("Non-2xx or 3xx responses:").and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
    let broken = after("Socket errors:").map_or(0, |line| {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
    });
    Some(Seen {
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_ms: millis(&after("50%")?)?,
        p99_ms: millis(&after("99%")?)?,
        errors: errors + broken,
    })
}

fn millis(text: &str) -> Option<f64> {
    let number: f64 = text.trim_end_matches(|c: char| c.is_alphabetic()).parse().ok()?;
    Some(match text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "us" => number / 1e3,
        "ms" => number,
        _ => number * 1e3,
    })
}

/// One connection on which requests go one after the other.
pub struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    /// Connects.
    pub fn open(port: u16) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, buffer: vec![0; 1 << 20] })
    }

    /// Sends a whole request; answers with the status and the size of the whole answer.
    pub fn ask(&mut self, request: &[u8]) -> Result<(u16, usize), Box<dyn Error>> {
        self.stream.write_all(request)?;
        let mut have = 0;
        loop {
            if have == self.buffer.len() {
                self.buffer.resize(have * 2, 0);
            }
            have += match self.stream.read(&mut self.buffer[have..])? {
                0 => return Err("the connection ended".into()),
                read => read,
            };
            let Some(head) = self.buffer[..have].windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&self.buffer[..head])?;
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let status = text.split(' ').nth(1).unwrap_or_default().parse()?;
            if have >= head + 4 + length.unwrap_or(0) {
                return Ok((status, have));
            }
        }
    }
}

/// A whole request.
pub fn request(path: &str, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let mut out = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    out.push_str(body);
    out.into_bytes()
}

/// The median and the 99th percentile of single calls, in milliseconds.
pub fn latency(port: u16, path: &str, key: Option<&str>, tool: &str) -> Result<(f64, f64), Box<dyn Error>> {
    let headers = headers("tools/call", Some(tool), key);
    let (p50, p99, _) = timed(port, &request(path, &headers, &message("tools/call", Some(tool))))?;
    Ok((p50, p99))
}

/// The median, the 99th percentile and the size of `tools/list`.
pub fn list(port: u16, key: &str) -> Result<(f64, f64, usize), Box<dyn Error>> {
    timed(port, &request("/mcp", &headers("tools/list", None, Some(key)), &message("tools/list", None)))
}

fn timed(port: u16, request: &[u8]) -> Result<(f64, f64, usize), Box<dyn Error>> {
    let mut line = Line::open(port)?;
    let (mut took, mut bytes) = (Vec::with_capacity(CALLS), 0);
    for at in 0..CALLS + 500 {
        let begun = Instant::now();
        let (status, size) = line.ask(request)?;
        if status != 200 {
            return Err(format!("status {status}").into());
        }
        bytes = size;
        if at >= 500 {
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    took.sort_by(f64::total_cmp);
    Ok((took[took.len() / 2], took[took.len() * 99 / 100], bytes))
}
