//! `opsroom tail-logs`: new log lines as the server keeps them.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use futures_util::StreamExt;
use opsroom_core::telemetry::printable;
use opsroom_core::{Error, Result};
use reqwest::Method;
use serde_json::Value;

use super::Place;
use super::server::{Backend, backend};

/// Flags of `opsroom tail-logs`.
#[derive(clap::Args)]
pub struct TailArgs {
    /// Which lines, as for `search-logs`: `level:error service:api`
    #[arg(default_value = "")]
    query: String,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    /// Stop after so many lines
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// `opsroom tail-logs`
pub async fn run(place: &Place, args: TailArgs) -> Result<ExitCode> {
    let client = match backend(place).await? {
        Backend::Remote(client) => client,
        Backend::Local(opened) => {
            opened.close().await?;
            return Err(Error::unavailable("no server runs here to follow: start one with `opsroom serve`"));
        }
    };
    let request = client.request(Method::GET, "/logs/tail").query(&[("query", &args.query)]);
    let lost =
        |error: reqwest::Error| Error::unavailable("the server does not answer any more").because(error);
    let answer = request.send().await.map_err(lost)?;
    if !answer.status().is_success() {
        let body: Value = answer.json().await.unwrap_or_default();
        return Err(Error::invalid(
            body["error"]["message"].as_str().unwrap_or("the server refused").to_owned(),
        ));
    }
    let mut stream = answer.bytes_stream();
    let mut buffer = Vec::new();
    let mut shown = 0;
    while let Some(piece) = stream.next().await {
        buffer.extend_from_slice(&piece.map_err(lost)?);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = buffer.drain(..end + 2).collect();
            if !show(&String::from_utf8_lossy(&event), args.json)? {
                continue;
            }
            shown += 1;
            if args.limit.is_some_and(|limit| shown >= limit) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a server-sent event; answers whether it was a line.
fn show(event: &str, json: bool) -> Result<bool> {
    let field =
        |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let (Some(kind), Some(data)) = (field("event"), field("data")) else { return Ok(false) };
    if kind != "line" {
        eprintln!("opsroom: {}", printable(data));
        return Ok(false);
    }
    let mut out = std::io::stdout().lock();
    let line = if json { data.to_owned() } else { told(data, out.is_terminal()) };
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(Error::internal)?,
    }
    Ok(true)
}

fn told(data: &str, colour: bool) -> String {
    let line: Value = serde_json::from_str(data).unwrap_or_default();
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let level = text("level");
    let shown = match (colour, level) {
        (true, "error" | "fatal") => format!("\x1b[31m{level:5}\x1b[0m"),
        (true, "warn") => format!("\x1b[33m{level:5}\x1b[0m"),
        (true, "debug" | "trace") => format!("\x1b[2m{level:5}\x1b[0m"),
        _ => format!("{level:5}"),
    };
    let service = line["labels"]["service"].as_str().unwrap_or("-");
    format!("{} {shown} {} {}", text("time"), printable(service), printable(text("text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_with_its_time_level_and_service() {
        let data = r#"{"time":"2025-11-21T10:00:00Z","level":"error","labels":{"service":"api"},"text":"disk full"}"#;
        assert_eq!(told(data, false), "2025-11-21T10:00:00Z error api disk full");
        assert!(told(data, true).contains("\x1b[31m"));
    }
}
