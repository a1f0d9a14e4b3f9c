//! The commands that people run on files by hand: `opsroom detect`, `templates`, `forecast`,
//! `train-forecaster`, `train`, `predict`, `evaluate` and `import-model`.
//!
//! They need no server, and read what their user can read; only `import-model` writes to a data folder.
//! Answers go to standard output, everything else (progress, warnings, errors) to standard error. Exit codes are those of every
//! command: 0 when an answer was given, abnormal or not; 2 for input that cannot be used; 3 for a file that
//! does not exist; 4 for one that may not be read.

mod anomalies;
mod bar;
mod forecast;
mod forecast_svg;
pub mod learned;
mod learned_text;
mod out;
mod templates;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use opsroom_capabilities::detection::model::{Format, Options, Window, parse_share};
use opsroom_capabilities::detection::{self, Request};
use opsroom_capabilities::logs;
use opsroom_capabilities::logs::input::{Limits, Source, find_logs, in_time_order};
use opsroom_core::{Error, Result};

use crate::cli::{complain, exit_code};
pub use bar::{Shown, warn};
pub use forecast::{ForecastArgs, TrainForecasterArgs, forecast, train_forecaster};
use out::Out;

/// Which logs are read.
#[derive(clap::Args, Debug)]
pub struct LogArgs {
    /// Log files (plain, gzip or zstd, whatever their names), folders of logs, or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The most that a compressed file may unpack to, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_unpacked: u64,
}

/// `opsroom detect`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  opsroom detect app.log
  opsroom detect /var/log/app/                  rotated files are read in the order they were written
  kubectl logs deploy/api | opsroom detect -
  opsroom detect today.log --train last-week.log.zst
  opsroom detect app.log --session 'order=(\\w+)' --json | jq '.anomalies[0]'")]
pub struct DetectArgs {
    #[command(flatten)]
    logs: LogArgs,
    /// Print one JSON object: {summary, anomalies, ...}
    #[arg(long)]
    json: bool,
    /// With --json, add the verdict on every session or window; else list every cause
    #[arg(long)]
    all: bool,
    /// The share of abnormal sessions or windows that is expected, such as 1% or 0.01 [default: the log says]
    #[arg(long, value_name = "SHARE")]
    expected_anomalies: Option<String>,
    /// The pattern of the id that makes lines one session; its first group, or all of it, is the id
    /// [default: guessed when one is evident]
    #[arg(long, value_name = "REGEX", conflicts_with = "window")]
    session: Option<String>,
    /// Judge windows and not sessions: 60s, 5m, 1h or 100lines [default: chosen by the log's rate]
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
    /// Learn from this log (or folder) what is normal; may be given again
    #[arg(long, value_name = "FILE")]
    train: Vec<PathBuf>,
    /// What the lines are: a log of any kind, or one session of event ids a line
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = ["auto", "sequences"])]
    format: String,
    /// The most causes to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// `opsroom templates`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  opsroom templates app.log
  opsroom templates app.log --lines             {\"line\": 1, \"template_id\": 7} for every line")]
pub struct TemplatesArgs {
    #[command(flatten)]
    logs: LogArgs,
    /// Print one JSON object a line of the log: its number and the id of its template. A line that
    /// continues a record has its head's id, an empty line null; over several files lines are counted on
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Print one JSON object: {templates: [{id, template, count, examples, ...}], ...}
    #[arg(long)]
    json: bool,
    /// The most templates to list [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Runs `opsroom detect`.
pub fn detect(args: DetectArgs) -> ExitCode {
    ended(run_detect(&args))
}

/// Runs `opsroom templates`.
pub fn templates(args: TemplatesArgs) -> ExitCode {
    ended(run_templates(&args))
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            exit_code(error.kind)
        }
    }
}

fn run_detect(args: &DetectArgs) -> Result<()> {
    let limits = args.logs.limits();
    let request = Request {
        sources: args.logs.sources(&limits)?,
        train: sources(&args.train, &limits)?,
        options: args.options()?,
        limits,
    };
    let found = bar::watched(|watch| detection::detect(request, watch))?;
    let mut out = Out::new()?;
    if args.json {
        return out.json(&found);
    }
    bar::warn(&found.summary.warnings);
    anomalies::print(&found, &mut out)
}

impl DetectArgs {
    fn options(&self) -> Result<Options> {
        Ok(Options {
            expected_anomalies: self.expected_anomalies.as_deref().map(parse_share).transpose()?,
            session: self.session.clone(),
            window: self.window.as_deref().map(Window::parse).transpose()?,
            format: if self.format == "sequences" { Format::Sequences } else { Format::Auto },
            limit: if self.all && !self.json { usize::MAX } else { self.limit },
            all: self.all && self.json,
            verdict_limit: usize::MAX,
            ..Options::default()
        })
    }
}

fn run_templates(args: &TemplatesArgs) -> Result<()> {
    let limits = args.logs.limits();
    let sources = args.logs.sources(&limits)?;
    let mut out = Out::new()?;
    if args.lines {
        let warnings = bar::watched(|watch| {
            logs::templates::line_templates(sources, limits, watch, |line, id| {
                let id = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
                out.line(format_args!("{{\"line\": {line}, \"template_id\": {id}}}"))
            })
        })?;
        out.flush()?;
        bar::warn(&warnings);
        return Ok(());
    }
    let limit = args.limit.unwrap_or(usize::MAX);
    let list = bar::watched(|watch| logs::templates::list_templates(sources, limits, watch, limit))?;
    if args.json {
        return out.json(&list);
    }
    bar::warn(&list.warnings);
    templates::print(&list, &mut out)
}

impl LogArgs {
    fn limits(&self) -> Limits {
        let unpacked_bytes = self.max_unpacked << 30;
        Limits { unpacked_bytes, ..Limits::default() }
    }

    fn sources(&self, limits: &Limits) -> Result<Vec<Source>> {
        sources(&self.files, limits)
    }
}

fn sources(files: &[PathBuf], limits: &Limits) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in files {
        if file == Path::new("-") {
            sources.push(Source::stream("standard input", std::io::stdin()));
        } else {
            sources.extend(find_logs(file, limits)?);
        }
    }
    if sources.len() > limits.files {
        return Err(Error::invalid(format!(
            "{} files are too many: at most {}",
            sources.len(),
            limits.files
        )));
    }
    // A folder's files have their order already.
    Ok(if files.len() > 1 { in_time_order(sources, limits) } else { sources })
}
