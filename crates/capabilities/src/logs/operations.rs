//! `analyze_logs` and `list_log_templates`.

use std::io::{BufWriter, Write};

use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::analyze::analyze;
use super::input::{Limits, Named, Source, Watch};
use super::model::{Analysis, TemplateList};
use super::sources::SourceRange;
use super::store::{LogStore, Wanted};
use super::templates::list_templates;
use super::{Logs, entry, search};

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
    let place = Place::of(input.source, input.prefix, input.query, input.from, input.until);
    let limit = input.limit.clamp(1, 1_000);
    read(logs, call, named, place, move |sources, limits, watch| analyze(sources, limits, watch, limit)).await
}

pub(super) async fn list_log_templates(
    logs: Logs,
    call: Call,
    input: ListLogTemplates,
) -> Result<TemplateList> {
    let named = named(input.path, input.paths, input.text);
    let place = Place::of(input.source, input.prefix, input.query, input.from, input.until);
    let limit = input.limit.clamp(1, 10_000);
    read(logs, call, named, place, move |sources, limits, watch| {
        list_templates(sources, limits, watch, limit)
    })
    .await
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
            "no log is named: give `path` (a file or folder below the configured roots), `paths`, `text`, `source` or `query`",
        ));
    }
    Ok(sources)
}

async fn read<T: Warned + Send + 'static>(
    logs: Logs,
    call: Call,
    named: Named,
    place: Place,
    work: impl FnOnce(Vec<Source>, Limits, &Watch) -> Result<T> + Send + 'static,
) -> Result<T> {
    let limits = logs.limits();
    let (sources, warnings) = logs.read_from(&call, named, place, &limits).await?;
    Lifecycle::blocking(move || {
        let mut answer = work(sources, limits, &Watch { progress: call.progress, cancel: call.cancel })?;
        answer.warnings().extend(warnings);
        Ok(answer)
    })
    .await
}

/// An answer that says what its reader should know.
pub(crate) trait Warned {
    /// It.
    fn warnings(&mut self) -> &mut Vec<String>;
}

impl Warned for Analysis {
    fn warnings(&mut self) -> &mut Vec<String> {
        &mut self.warnings
    }
}

impl Warned for TemplateList {
    fn warnings(&mut self) -> &mut Vec<String> {
        &mut self.warnings
    }
}

/// A log that is neither a file nor inline.
#[derive(Debug, Default)]
pub(crate) struct Place {
    source: Option<String>,
    prefix: Option<String>,
    query: Option<String>,
    from: Option<String>,
    until: Option<String>,
}

impl Place {
    /// What a caller named by these fields.
    pub(crate) fn of(
        source: Option<String>,
        prefix: Option<String>,
        query: Option<String>,
        from: Option<String>,
        until: Option<String>,
    ) -> Self {
        Self { source, prefix, query, from, until }
    }
}

impl Logs {
    /// What a caller named to be read, wherever it is, and what should be known of it.
    ///
    /// # Errors
    /// `Invalid` when nothing or more than one thing is named, and the errors of what is named.
    pub(crate) async fn read_from(
        &self,
        call: &Call,
        named: Named,
        place: Place,
        limits: &Limits,
    ) -> Result<(Vec<Source>, Vec<String>)> {
        let by_name = !named.paths.is_empty() || named.text.is_some();
        let ways =
            usize::from(by_name) + usize::from(place.source.is_some()) + usize::from(place.query.is_some());
        if ways > 1 {
            return Err(Error::invalid(
                "give one of `path` or `text`, `source`, and `query`: each names a log by itself",
            ));
        }
        if let Some(name) = place.source {
            let prefix = place.prefix.unwrap_or_default();
            let range = SourceRange { name, prefix, from: place.from, until: place.until };
            return self.range_of(call, &range, limits).await;
        }
        if let Some(query) = place.query {
            let wanted = search::wanted(self, call, &query, place.from.as_deref(), place.until.as_deref())?;
            let (store, watch) =
                (self.store()?, Watch { progress: call.progress.clone(), cancel: call.cancel.clone() });
            let kept = Lifecycle::blocking(move || kept(&store, &wanted, &watch)).await?;
            return Ok((vec![kept], Vec::new()));
        }
        if place.from.is_some() || place.until.is_some() || place.prefix.is_some() {
            return Err(Error::invalid(
                "`from`, `until` and `prefix` are of a `source` or a `query`; a file is read whole",
            ));
        }
        let (roots, own) = (self.roots().clone(), limits.clone());
        let sources = Lifecycle::blocking(move || sources(named, &roots, &own)).await?;
        Ok((sources, Vec::new()))
    }
}

/// Lines that are kept, in a file that is gone when it was read.
fn kept(store: &dyn LogStore, wanted: &Wanted, watch: &Watch) -> Result<Source> {
    let full = |error: std::io::Error| {
        Error::unavailable(format!("the lines cannot be laid out on the disk: {error}"))
    };
    let mut out = BufWriter::new(tempfile::tempfile().map_err(full)?);
    let mut lines = 0u64;
    store.scan(wanted, watch, &mut |line| {
        lines += 1;
        let text = entry::parts(&line.text).0;
        // Lines that state no time of their own get the one that they are kept with.
        let mut whole = Vec::with_capacity(text.len() + 40);
        if !text.first().is_some_and(u8::is_ascii_digit) {
            whole.extend_from_slice(entry::shown_time(line.time).as_bytes());
            whole.extend_from_slice(
                format!(" {} ", entry::LEVELS[line.level.min(6) as usize].to_uppercase()).as_bytes(),
            );
        }
        whole.extend(text.iter().map(|&b| if b == b'\n' { b' ' } else { b }));
        whole.push(b'\n');
        out.write_all(&whole).map_err(full)?;
        Ok(true)
    })?;
    if lines == 0 {
        return Err(Error::not_found("no line that is kept is what `query` means in this range"));
    }
    let file = out.into_inner().map_err(|error| full(error.into_error()))?;
    Ok(Source::opened_by("kept lines", move || {
        let mut file = file.try_clone()?;
        std::io::Seek::rewind(&mut file)?;
        Ok(file)
    }))
}
