//! The server's own log: lines of JSON for machines, or of text for a terminal.
//!
//! An event is one line, written before the code that made it goes on, so that a crash loses nothing.
//! Control characters in it are escaped, so that what is logged can neither forge a line nor steer a
//! terminal. What looks like a secret is hidden (see [`scrub`]); code that has one does not log it in
//! the first place.
//!
//! Spans make traces, which are sent to a collector when one is configured; the lines of one trace share
//! its `trace_id` in any case.

mod export;
pub mod known;
mod layer;
mod rotate;
mod scrub;
#[cfg(test)]
mod tests;
mod trace;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::secret::Secret;

pub use layer::{printable, printable_json};
pub use scrub::scrub;
pub use trace::{TraceContext, traceparent};

use export::Collector;
use layer::{LogLayer, Style};
use rotate::RotatingFile;
use trace::{Finished, TraceLayer};

/// What is written to the server's log, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// How much is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`; for single parts of the
    /// program too, such as `info,rmcp=warn,opsroom_gateway=debug`.
    pub level: String,
    /// How lines look: `json`, `text`, or `auto`: text on a terminal and JSON elsewhere.
    pub format: LogFormat,
    /// The file to write to; it and its folder are made when they are missing. Without one, lines go to
    /// the standard error.
    pub file: Option<PathBuf>,
    /// The size at which the file is put aside and a new one begun, in bytes; at least 65536.
    pub max_file_bytes: u64,
    /// How many files that were put aside are kept, from 0 to 1000: `NAME.1` is the newest.
    pub keep_files: u32,
    /// Whether files that were put aside are compressed (`NAME.1.gz`).
    pub compress: bool,
    /// Where traces are sent, a collector that speaks OTLP over HTTP, such as
    /// `http://127.0.0.1:4318/v1/traces`. Empty: nowhere.
    pub traces_url: String,
    /// The `Authorization` header for the collector, such as `Bearer ...`.
    pub traces_authorization: Secret,
    /// Which share of the traces that begin here is sent, from 0 to 1. A caller that sends a `traceparent`
    /// decides for its own.
    pub traces_share: f64,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            level: DEFAULT_LEVEL.to_owned(),
            format: LogFormat::Auto,
            file: None,
            max_file_bytes: 50 << 20,
            keep_files: 5,
            compress: true,
            traces_url: String::new(),
            traces_authorization: Secret::default(),
            traces_share: 1.0,
        }
    }
}

/// The MCP library logs each request, with what a client sent; ours are logged without it.
const DEFAULT_LEVEL: &str = "info,rmcp=warn";
const LEAST_FILE_BYTES: u64 = 64 << 10;
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl TelemetryConfig {
    /// # Errors
    /// `Invalid`, with the key first.
    pub fn validate(&self) -> Result<()> {
        filter(&self.level)?;
        if self.max_file_bytes < LEAST_FILE_BYTES {
            let given = self.max_file_bytes;
            let text = format!("log.max_file_bytes: {given} is too small; use at least {LEAST_FILE_BYTES}");
            return Err(Error::invalid(text));
        }
        if self.keep_files > 1000 {
            let text = format!("log.keep_files: {} is too many; use at most 1000", self.keep_files);
            return Err(Error::invalid(text));
        }
        if !(0.0..=1.0).contains(&self.traces_share) {
            let text = format!("log.traces_share: {} is not from 0 to 1", self.traces_share);
            return Err(Error::invalid(text));
        }
        Collector::new(self).map(drop)
    }

    fn style(&self, terminal: bool) -> Style {
        match self.format {
            LogFormat::Json => Style::Json,
            LogFormat::Text => Style::Text { colour: terminal },
            LogFormat::Auto if terminal => Style::Text { colour: true },
            LogFormat::Auto => Style::Json,
        }
    }
}

/// Keeps the log going; dropped last, it brings what was written to the disk.
#[must_use = "the log ends when this is dropped"]
pub struct TelemetryGuard {
    output: Output,
    traces: Option<(Arc<Collector>, mpsc::Receiver<Finished>)>,
}

impl TelemetryGuard {
    /// Sends traces to the collector, if one is configured, until the server stops.
    pub fn send_traces(&mut self, life: &Lifecycle) {
        if let Some((collector, ended)) = self.traces.take() {
            export::spawn(life, collector, ended);
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _unflushed = self.output.lock().flush();
    }
}

/// Starts the log of a server. A panic is logged too, as an error. Traces are sent once
/// [`TelemetryGuard::send_traces`] is called.
///
/// # Errors
/// `Invalid` for a configuration that cannot be used, `Unavailable` for a file that cannot be written.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard> {
    config.validate()?;
    let (output, terminal) = match &config.file {
        Some(path) => {
            let file = RotatingFile::open(path, config.max_file_bytes, config.keep_files, config.compress)
                .map_err(|error| {
                    let path = path.display();
                    Error::unavailable(format!("log.file: `{path}` cannot be written: {error}"))
                })?;
            (Output::new(file), false)
        }
        None => (Output::new(std::io::stderr()), std::io::stderr().is_terminal()),
    };
    let (ended, traces) = match Collector::new(config)? {
        Some(collector) => {
            let (sender, receiver) = mpsc::channel(export::MAX_WAITING);
            (Some(sender), Some((Arc::new(collector), receiver)))
        }
        None => (None, None),
    };
    let log = LogLayer::new(config.style(terminal), output.clone());
    start(&config.level, log, TraceLayer::new(config.traces_share, ended))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(TelemetryGuard { output, traces })
}

/// Starts the log of a command: warnings on the standard error for people, unless the configuration
/// asks for another level or for JSON. A command never writes to the server's file.
///
/// # Errors
/// `Invalid` for a configuration that cannot be used.
pub fn init_for_command(config: &TelemetryConfig) -> Result<()> {
    config.validate()?;
    let level = if config.level == DEFAULT_LEVEL { "warn" } else { &config.level };
    let style = match config.format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto | LogFormat::Text => Style::Text { colour: std::io::stderr().is_terminal() },
    };
    start(level, LogLayer::new(style, Output::new(std::io::stderr())), TraceLayer::new(0.0, None))
}

fn start(level: &str, log: LogLayer, trace: TraceLayer) -> Result<()> {
    let subscriber = tracing_subscriber::registry().with(filter(level)?).with(log).with(trace);
    subscriber.try_init().map_err(|error| Error::internal(format!("the log was started already: {error}")))
}

/// A level, or levels for parts of the program.
fn filter(level: &str) -> Result<EnvFilter> {
    let wrong = |what: &str| {
        let shown: String = level.chars().take(100).collect();
        Error::invalid(format!(
            "log.level: `{}` {what}; use `info`, or such as `info,opsroom_gateway=debug`",
            shown.escape_debug()
        ))
    };
    if level.len() > 1000 {
        return Err(wrong("is too long"));
    }
    for part in level.split(',').map(str::trim).filter(|part| !part.contains(['=', '['])) {
        // The filter's own parser takes a misspelt level for the name of a part of the program.
        if !LEVELS.contains(&part.to_ascii_lowercase().as_str()) {
            return Err(wrong(&format!("has `{}`, which is no level", part.escape_debug())));
        }
    }
    EnvFilter::builder().parse(level).map_err(|error| wrong("cannot be understood").because(error))
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(panic.place = place, "panicked: {message}");
}

/// Where lines go; shared by the layer and the guard.
#[derive(Clone)]
struct Output(Arc<Mutex<dyn Write + Send>>);

impl Output {
    fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, dyn Write + Send + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
