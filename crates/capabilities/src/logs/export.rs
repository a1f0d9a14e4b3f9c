//! `export_logs`: lines as a file for others, or as objects of a source.

mod parquet;
mod write;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::input::Watch;
use super::operations::named;
use super::passing::Passing;
use super::store::{Line, LogStore, Wanted};
use super::{Logs, search};

use write::{Target, Writer};

/// Write the log lines that a query means to a file below the server's configured roots, or to a log source:
/// as JSON lines, CSV, Parquet or plain text, compressed if asked.
///
/// The lines are those that are kept, or with `source` or `file` those that lie there, of which nothing is
/// kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportLogs {
    /// The file, below the server's configured roots; with `to_source` the key there. What is there already is
    /// not replaced.
    #[schemars(length(min = 1, max = 1024))]
    path: String,
    /// A log source to write to. Beyond 64 MiB further objects have `.2`, `.3` before the key's endings.
    #[serde(default)]
    #[schemars(length(max = 64))]
    to_source: Option<String>,
    /// Which lines, as for `search_logs`; empty for all.
    #[serde(default)]
    #[schemars(length(max = 8192))]
    query: String,
    /// A log source whose lines are meant, and not those that are kept.
    #[serde(default)]
    #[schemars(length(max = 64))]
    source: Option<String>,
    /// Of the source, what keys begin with.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    prefix: Option<String>,
    /// A file or folder, below the configured roots, whose lines are meant, and not those that are kept.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    file: Option<String>,
    /// From when: RFC 3339, a date, or `-1h`.
    #[serde(default)]
    from: Option<String>,
    /// Until when, not included.
    #[serde(default)]
    until: Option<String>,
    /// How lines are written.
    #[serde(default)]
    format: ExportFormat,
    /// How the file is compressed.
    #[serde(default)]
    compress: Compression,
    /// The most lines.
    #[serde(default = "default_lines")]
    #[schemars(range(min = 1))]
    limit: u64,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated, with a first line that names the columns. Values that a spreadsheet would take for a
    /// formula stand behind an apostrophe.
    Csv,
    /// Parquet, packed with zstd: `time`, `level`, `service`, `host`, `source`, `text`, and as JSON `labels` and
    /// `fields`.
    Parquet,
    /// The lines as they came.
    Plain,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As gzip.
    Gzip,
    /// As zstd.
    Zstd,
}

fn default_lines() -> u64 {
    10_000_000
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Exported {
    /// The file, or the first object.
    pub path: String,
    /// The objects, of a source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// How many lines there are.
    pub lines: u64,
    /// How many bytes they are, before they were compressed.
    pub bytes: u64,
    /// Whether there were more lines than `limit`.
    pub more: bool,
    /// What a reader of the answer should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

pub(super) async fn export_logs(logs: Logs, call: Call, input: ExportLogs) -> Result<Exported> {
    if input.format == ExportFormat::Parquet && input.compress != Compression::None {
        return Err(Error::invalid("compress: Parquet is packed already; leave it out"));
    }
    let wanted = search::wanted(&logs, &call, &input.query, input.from.as_deref(), input.until.as_deref())?;
    let target = match &input.to_source {
        Some(name) => {
            let sources = logs.sources()?;
            let row = sources.named(&call, name).await?;
            let reached = sources.reach(&row).await?;
            let key = format!("{}{}", row.config.prefix.as_deref().unwrap_or_default(), input.path);
            Target::source(reached, key, Handle::current())
        }
        None => Target::file(logs.roots().clone(), input.path.clone()),
    };
    let (lines, warnings) = lines(&logs, &call, &input, &wanted).await?;
    Lifecycle::blocking(move || {
        let watch = Watch { progress: call.progress, cancel: call.cancel };
        let mut writer = Writer::begin(target, input.format, input.compress)?;
        let mut done = Exported { path: input.path, warnings, ..Exported::default() };
        let more = lines.scan(&wanted, &watch, &mut |line| {
            if done.lines == input.limit {
                done.more = true;
                return Ok(false);
            }
            writer.line(&line)?;
            done.lines += 1;
            if done.lines.is_multiple_of(65_536) {
                watch.progress.report(None, format!("wrote {} lines", done.lines));
            }
            Ok(true)
        })?;
        done.warnings.extend(more);
        (done.bytes, done.objects) = writer.finish()?;
        Ok(done)
    })
    .await
}

/// Where lines come from.
enum Lines {
    Kept(super::store::Embedded),
    Passing(Passing),
}

impl Lines {
    fn scan(
        self,
        wanted: &Wanted,
        watch: &Watch,
        give: &mut dyn FnMut(Line) -> Result<bool>,
    ) -> Result<Vec<String>> {
        match self {
            Lines::Kept(store) => store.scan(wanted, watch, give).map(|()| Vec::new()),
            Lines::Passing(passing) => passing.scan(wanted, watch, give),
        }
    }
}

async fn lines(
    logs: &Logs,
    call: &Call,
    input: &ExportLogs,
    wanted: &Wanted,
) -> Result<(Lines, Vec<String>)> {
    if input.source.is_none() && input.file.is_none() {
        return Ok((Lines::Kept(logs.store()?), Vec::new()));
    }
    let file = named(input.file.clone(), Vec::new(), None);
    let (passing, warnings) =
        logs.passing(call, file, input.source.clone(), input.prefix.clone(), wanted).await?;
    Ok((Lines::Passing(passing), warnings))
}
