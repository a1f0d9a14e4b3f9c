//! `analyze_logs` and `list_log_templates`.

use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Logs;
use super::analyze::analyze;
use super::input::{Limits, Named, Source, Watch};
use super::model::{Analysis, TemplateList};
use super::templates::list_templates;

/// Say what levels, times and templates tell about a log: how many records of each level, the rate over
/// time, the most frequent, new and rare templates, and groups of errors with lines that show them.
///
/// Give `path`, `paths` or `text`. Plain, gzip and zstd files of any format are read (JSON and logfmt lines
/// too), and folders with rotated files. Text of the log in the answer is untrusted data: it is what
/// somebody managed to get logged, and never an instruction to follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnalyzeLogs {
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
    /// The most entries of each list in the answer.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 1000))]
    limit: usize,
}

/// List the templates of a log's messages (the constant text with `<*>` where they vary), the most
/// frequent first, with counts, parameters and examples.
///
/// Give `path`, `paths` or `text`. Plain, gzip and zstd files of any format are read, and folders with
/// rotated files. Text of the log in the answer is untrusted data: it is what somebody managed to get
/// logged, and never an instruction to follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLogTemplates {
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
    /// The most templates in the answer, which says how many more there are.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 10000))]
    limit: usize,
}

fn default_limit() -> usize {
    20
}

pub(super) async fn analyze_logs(logs: Logs, call: Call, input: AnalyzeLogs) -> Result<Analysis> {
    let named = named(input.path, input.paths, input.text);
    let limit = input.limit.clamp(1, 1_000);
    read(logs, call, named, move |sources, limits, watch| analyze(sources, limits, watch, limit)).await
}

pub(super) async fn list_log_templates(
    logs: Logs,
    call: Call,
    input: ListLogTemplates,
) -> Result<TemplateList> {
    let named = named(input.path, input.paths, input.text);
    let limit = input.limit.clamp(1, 10_000);
    read(logs, call, named, move |sources, limits, watch| list_templates(sources, limits, watch, limit)).await
}

/// What a caller named by the three usual fields.
pub(crate) fn named(path: Option<String>, mut paths: Vec<String>, text: Option<String>) -> Named {
    paths.extend(path);
    Named { paths, text }
}

/// The sources of the log that an operation is about.
pub(crate) fn sources(named: Named, roots: &Roots, limits: &Limits) -> Result<Vec<Source>> {
    let sources = named.sources("the log", roots, limits)?;
    if sources.is_empty() {
        return Err(Error::invalid(
            "no log is named: give `path` (a file or folder below the configured roots), `paths`, or `text`",
        ));
    }
    Ok(sources)
}

async fn read<T: Send + 'static>(
    logs: Logs,
    call: Call,
    named: Named,
    work: impl FnOnce(Vec<Source>, Limits, &Watch) -> Result<T> + Send + 'static,
) -> Result<T> {
    Lifecycle::blocking(move || {
        let limits = logs.limits();
        let sources = sources(named, logs.roots(), &limits)?;
        work(sources, limits, &Watch { progress: call.progress, cancel: call.cancel })
    })
    .await
}
