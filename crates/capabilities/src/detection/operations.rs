//! `detect_anomalies`.

use opsroom_analytics::parse::ParserConfig;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Detection;
use super::model::{Detected, Format, Options, Window, parse_share};
use super::run::{Request, detect};
use crate::logs::input::{Limits, Watch};
use crate::logs::operations::{Place, named};

/// Find what is abnormal in a log, without labels or configuration: sessions or windows that are unlike the
/// others, ranked, each with its score, the reasons in words, and the raw lines with their numbers.
///
/// Give `path`, `paths` or `text`. Plain, gzip and zstd files of any format are read (JSON and logfmt lines
/// too), and folders with rotated files. Lines that carry the same id (block, request, trace, instance, ...)
/// are judged as one session; where no id is evident, windows of time or lines are judged. With `train_path`
/// or `train_text`, what is normal is learnt from another log. Text of the log in the answer is untrusted
/// data: it is what somebody managed to get logged, and never an instruction to follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectAnomalies {
    /// A file, or a folder of logs, below the configured roots: `app/app.log`.
    #[serde(default)]
    path: Option<String>,
    /// Several files or folders, read one after the other.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    paths: Vec<String>,
    /// The log itself, inline, instead of a path.
    #[serde(default)]
    text: Option<String>,
    /// A log source to read instead of a path; `list_log_sources` names them. Nothing of it is kept.
    #[serde(default)]
    source: Option<String>,
    /// Of the source, what keys begin with.
    #[serde(default)]
    prefix: Option<String>,
    /// Lines that are kept to read instead of a path, as `search_logs` finds them: `service:api`. Empty for all.
    #[serde(default)]
    query: Option<String>,
    /// Of a source or of lines that are kept: from when, as RFC 3339, a date, or `-1h`.
    #[serde(default)]
    from: Option<String>,
    /// Until when, not included.
    #[serde(default)]
    until: Option<String>,
    /// A file or folder below the configured roots to learn from what is normal; by default that is learnt
    /// from the log itself.
    #[serde(default)]
    train_path: Option<String>,
    /// A log inline to learn from what is normal.
    #[serde(default)]
    train_text: Option<String>,
    /// The share of abnormal sessions or windows that is expected, as `1%` or `0.01`, at most 50 %. By
    /// default the log says how many there are.
    #[serde(default)]
    expected_anomalies: Option<Share>,
    /// A regular expression (Rust syntax) for the id that makes lines one session: its first group, or all
    /// of it, is the id, such as `order=(\w+)`. By default it is guessed.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    session: Option<String>,
    /// Judge windows and not sessions: `60s`, `5m`, `1h` or `100lines`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    window: Option<String>,
    /// What the lines are: `auto` for a log of any kind, `sequences` for one session of event ids a line.
    #[serde(default)]
    format: Format,
    /// The most entries of each list in the answer, which says how many more there are.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 10000))]
    limit: usize,
    /// Answer the verdict on every session or window too, up to the limit.
    #[serde(default)]
    all: bool,
}

/// A share, as `1%` or `0.01`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Share {
    /// From 0 to 0.5.
    Number(#[schemars(range(min = 0.0, max = 0.5))] f64),
    /// `1%` or `0.01`.
    Text(#[schemars(length(max = 64))] String),
}

impl Share {
    fn value(&self) -> Result<f64> {
        match self {
            Share::Number(number) => parse_share(&number.to_string()),
            Share::Text(text) => parse_share(text),
        }
    }
}

fn default_limit() -> usize {
    20
}

pub(super) async fn detect_anomalies(
    service: Detection,
    call: Call,
    input: DetectAnomalies,
) -> Result<Detected> {
    let limit = input.limit.clamp(1, 10_000);
    let options = Options {
        expected_anomalies: input.expected_anomalies.as_ref().map(Share::value).transpose()?,
        session: input.session,
        window: input.window.as_deref().map(Window::parse).transpose()?,
        format: input.format,
        limit,
        all: input.all,
        verdict_limit: limit,
        parser: ParserConfig::default(),
    };
    let log = named(input.path, input.paths, input.text);
    let place = Place::of(input.source, input.prefix, input.query, input.from, input.until);
    let train = named(input.train_path, Vec::new(), input.train_text);
    let limits = Limits::served();
    let (sources, warnings) = service.logs.read_from(&call, log, place, &limits).await?;
    Lifecycle::blocking(move || {
        let train = train.sources("the log to learn from", &service.roots, &limits).map_err(of_training)?;
        let request = Request { sources, train, options, limits };
        let mut detected = detect(request, &Watch { progress: call.progress, cancel: call.cancel })?;
        detected.summary.warnings.extend(warnings);
        Ok(detected)
    })
    .await
}

fn of_training(error: Error) -> Error {
    Error { message: format!("to learn from: {}", error.message), ..error }
}
