//! The operations on sources.

use futures_util::StreamExt;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::client::Remote;
use super::crc::Crc64;
use super::download::{Came, How, bring};
use super::listing::{Asked, Found, MOST_OBJECTS};
use super::model::{Object, SourceConfig, SourceKind};
use super::reader::{BlockingObject, ObjectStream};
use super::store::SourceRow;
use super::{Reached, Sources};
use crate::logs::Logs;
use crate::logs::entry::shown_time;
use crate::logs::input::{Limits, Source, Watch, unpacked};
use crate::logs::query::moment;
use crate::logs::shown::shown;

/// The most sources of a team.
const MOST_SOURCES: usize = 1_000;
/// The most objects that one analysis reads.
const MOST_READ: usize = 20_000;

/// Add a place where logs lie: a bucket of Tencent COS, S3, Google Cloud Storage or Azure, files below a
/// URL or of an SSH server, a folder, or what containers and services write. Nothing is copied: what lies
/// there can be listed, analysed, searched and downloaded.
///
/// Keys are given as references to secrets and never as they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddLogSource {
    /// What it is called: letters, digits, `-`, `_` and `.`, at most 64.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// How it is reached: an object with `kind` (`cos`, `s3`, `gcs`, `azure`, `http`, `sftp`,
    /// `folder`, `docker`, `service`) and what that needs.
    pub place: SourceConfig,
}

/// Change how a log source is reached.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateLogSource {
    /// The source.
    pub name: String,
    /// How it is reached from now on, in full.
    pub place: SourceConfig,
}

/// List the places where logs lie.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLogSources {}

/// Forget a log source; what lies there stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteLogSource {
    /// The source.
    pub name: String,
}

/// Try a log source: whether it answers, lets itself be listed, and how its clock goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestLogSource {
    /// The source.
    pub name: String,
}

/// A source that is known.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogSource {
    /// What it is called.
    pub name: String,
    /// How it is reached.
    pub place: SourceConfig,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Sources.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogSourceList {
    /// They, by name.
    pub items: Vec<LogSource>,
}

/// How a source answered.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SourceTest {
    /// Whether it can be used.
    pub ok: bool,
    /// What was seen.
    pub message: String,
}

/// A source was forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Forgotten {
    /// What it was called.
    pub name: String,
}

fn shown_source(row: SourceRow) -> LogSource {
    LogSource {
        name: row.name,
        place: row.config,
        created_by: row.created_by,
        created_at: row.created_at.to_rfc3339(),
        updated_at: row.updated_at.to_rfc3339(),
    }
}

fn check(sources: &Sources, config: &SourceConfig) -> Result<()> {
    config.validate()?;
    for text in
        [&config.access_key_id, &config.secret_access_key, &config.session_token].into_iter().flatten()
    {
        sources.secrets.check(text)?;
    }
    if let Some(endpoint) = config.endpoint.as_ref().filter(|_| config.kind != SourceKind::Sftp) {
        sources
            .egress
            .check(endpoint)
            .map_err(|error| Error { message: format!("endpoint: {}", error.message), ..error })?;
    }
    if let Some(path) = config.path.as_ref().filter(|_| config.kind == SourceKind::Folder) {
        sources.roots.list(path, 1)?;
    }
    if config.kind == SourceKind::Docker && sources.programs()?.1.is_empty() {
        return Err(Error::forbidden(
            "container: the configuration lets no container be read; whoever runs the server can name some in \
             `logs.containers`",
        ));
    }
    Ok(())
}

pub(in crate::logs) async fn add_log_source(
    logs: Logs,
    call: Call,
    input: AddLogSource,
) -> Result<LogSource> {
    let sources = logs.sources()?;
    let plain = input.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !plain || input.name.is_empty() || input.name.len() > 64 {
        return Err(Error::invalid("name: letters, digits, `-`, `_` and `.`, at most 64 of them"));
    }
    check(sources, &input.place)?;
    if sources.store.all(&call.caller.teams).await?.len() >= MOST_SOURCES {
        return Err(Error::invalid(format!(
            "there are {MOST_SOURCES} sources already, the most that are kept"
        )));
    }
    let now = sources.clock.now();
    let row = SourceRow {
        id: opsroom_core::id::new_id(),
        team: call.caller.team().to_owned(),
        name: input.name,
        config: input.place,
        created_by: call.caller.subject.clone(),
        created_at: now,
        updated_at: now,
    };
    sources.store.add(&row).await?;
    Ok(shown_source(row))
}

pub(in crate::logs) async fn update_log_source(
    logs: Logs,
    call: Call,
    input: UpdateLogSource,
) -> Result<LogSource> {
    let sources = logs.sources()?;
    let row = sources.named(&call, &input.name).await?;
    check(sources, &input.place)?;
    let row = SourceRow { config: input.place, updated_at: sources.clock.now(), ..row };
    sources.store.update(&row).await?;
    Ok(shown_source(row))
}

pub(in crate::logs) async fn list_log_sources(
    logs: Logs,
    call: Call,
    _: ListLogSources,
) -> Result<LogSourceList> {
    let rows = logs.sources()?.store.all(&call.caller.teams).await?;
    Ok(LogSourceList { items: rows.into_iter().map(shown_source).collect() })
}

pub(in crate::logs) async fn delete_log_source(
    logs: Logs,
    call: Call,
    input: DeleteLogSource,
) -> Result<Forgotten> {
    let sources = logs.sources()?;
    let row = sources.named(&call, &input.name).await?;
    sources.store.delete(&row.id).await?;
    Ok(Forgotten { name: row.name })
}

pub(in crate::logs) async fn test_log_source(
    logs: Logs,
    call: Call,
    input: TestLogSource,
) -> Result<SourceTest> {
    let sources = logs.sources()?;
    let row = sources.named(&call, &input.name).await?;
    let asked = Asked { limit: 10, ..Asked::default() };
    let tried = async {
        let reached = sources.reach(&row).await?;
        reached.find(&row.config, &asked, &Watch { progress: call.progress, cancel: call.cancel }).await
    };
    Ok(match tried.await {
        Ok(found) => {
            let first = found
                .objects
                .first()
                .map_or("nothing".to_owned(), |object| shown(object.key.as_bytes(), 100));
            SourceTest { ok: true, message: format!("it answers, and lists {first} first") }
        }
        Err(error) if error.kind == opsroom_core::Kind::Internal => return Err(error),
        Err(error) => SourceTest { ok: false, message: error.message },
    })
}

/// List what lies in a log source: objects by prefix, and by time where keys or times of writing tell it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListLogObjects {
    /// The source.
    pub name: String,
    /// What keys begin with, after the source's own prefix.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// Objects that can hold lines from then on: RFC 3339, a date, or `-1h`.
    #[serde(default)]
    pub from: Option<String>,
    /// Objects that can hold lines before then.
    #[serde(default)]
    pub until: Option<String>,
    /// The most objects in the answer.
    #[serde(default = "default_objects")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: usize,
}

fn default_objects() -> usize {
    200
}

/// Objects of a source.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogObjects {
    /// They, by key.
    pub items: Vec<Object>,
    /// Whether there are more.
    pub more: bool,
    /// What a reader of the answer should know.
    pub warnings: Vec<String>,
}

/// Say how much a range of a log source is, and what reading it costs, before it is read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EstimateLogs {
    /// The source.
    pub name: String,
    /// What keys begin with, after the source's own prefix.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// Objects that can hold lines from then on.
    #[serde(default)]
    pub from: Option<String>,
    /// Objects that can hold lines before then.
    #[serde(default)]
    pub until: Option<String>,
}

/// How much there is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogEstimate {
    /// How many objects.
    pub objects: u64,
    /// Their bytes, packed as they lie there.
    pub bytes: u64,
    /// Objects that must be restored before they can be read.
    pub archived: u64,
    /// Requests that listing took.
    pub requests: u64,
    /// What reading costs, where the source has a price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// About how many seconds reading takes at 50 MB/s.
    pub seconds: f64,
    /// Whether there are more than are counted here.
    pub more: bool,
    /// What a reader of the answer should know.
    pub warnings: Vec<String>,
}

async fn find(logs: &Logs, call: &Call, name: &str, asked: Asked) -> Result<(SourceRow, Reached, Found)> {
    let sources = logs.sources()?;
    let row = sources.named(call, name).await?;
    let reached = sources.reach(&row).await?;
    let watch = Watch { progress: call.progress.clone(), cancel: call.cancel.clone() };
    let found = reached.find(&row.config, &asked, &watch).await?;
    Ok((row, reached, found))
}

fn asked(logs: &Logs, prefix: &str, from: Option<&str>, until: Option<&str>, limit: usize) -> Result<Asked> {
    let now = logs.now();
    let from = from.map(|text| moment(text, now)).transpose()?;
    let until = until.map(|text| moment(text, now)).transpose()?;
    if let (Some(from), Some(until)) = (from, until)
        && from >= until
    {
        let (from, until) = (shown_time(from), shown_time(until));
        return Err(Error::invalid(format!("the range is empty: it begins at {from} and ends at {until}")));
    }
    // A key's pattern narrows only what has two ends; what is not said ends now.
    let until = until.or(from.map(|_| now.saturating_add(1)));
    Ok(Asked { prefix: prefix.to_owned(), from, until, limit })
}

fn objects(mut found: Found) -> LogObjects {
    for object in &mut found.objects {
        object.key = crate::logs::shown::clean(&object.key);
    }
    LogObjects { items: found.objects, more: found.more, warnings: found.warnings }
}

pub(in crate::logs) async fn list_log_objects(
    logs: Logs,
    call: Call,
    input: ListLogObjects,
) -> Result<LogObjects> {
    let limit = input.limit.clamp(1, 10_000);
    let asked = asked(&logs, &input.prefix, input.from.as_deref(), input.until.as_deref(), limit)?;
    find(&logs, &call, &input.name, asked).await.map(|(_, _, found)| objects(found))
}

pub(in crate::logs) async fn estimate_logs(
    logs: Logs,
    call: Call,
    input: EstimateLogs,
) -> Result<LogEstimate> {
    let asked = asked(&logs, &input.prefix, input.from.as_deref(), input.until.as_deref(), MOST_OBJECTS)?;
    let (row, reached, mut found) = find(&logs, &call, &input.name, asked).await?;
    if matches!(reached, Reached::Programs(_)) {
        found.warnings.push(
            "how much a program wrote is known only when it is read; its bytes are not counted".to_owned(),
        );
    }
    let bytes: u64 = found.objects.iter().map(|object| object.bytes).sum();
    Ok(LogEstimate {
        objects: found.objects.len() as u64,
        bytes,
        archived: found.objects.iter().filter(|object| object.is_archived()).count() as u64,
        requests: found.requests,
        cost: row.config.price_per_gib.map(|price| price * bytes as f64 / (1u64 << 30) as f64),
        seconds: bytes as f64 / 50e6 + found.objects.len() as f64 * 0.01,
        more: found.more,
        warnings: found.warnings,
    })
}

/// Download objects of a log source to a folder below the server's configured roots. Each is checked and
/// appears whole; a download that was cut short goes on where it was when it is asked for again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DownloadLogs {
    /// The source.
    pub name: String,
    /// The folder, below the server's configured roots; keys are paths below it.
    #[schemars(length(min = 1, max = 4096))]
    pub to: String,
    /// What keys begin with, after the source's own prefix.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub prefix: String,
    /// These keys alone.
    #[serde(default)]
    #[schemars(length(max = 10000))]
    pub keys: Vec<String>,
    /// Objects that can hold lines from then on.
    #[serde(default)]
    pub from: Option<String>,
    /// Objects that can hold lines before then.
    #[serde(default)]
    pub until: Option<String>,
    /// Unpack gzip, zstd and the like.
    #[serde(default)]
    pub unpack: bool,
    /// Replace files that are there already, and not leave them as they are.
    #[serde(default)]
    pub replace: bool,
    /// How many objects at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 32))]
    pub concurrency: usize,
    /// The most bytes that all files together may take.
    #[serde(default = "default_quota")]
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
}

fn default_concurrency() -> usize {
    4
}

fn default_quota() -> u64 {
    10 << 30
}

/// What was downloaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Downloaded {
    /// Files that were written.
    pub stored: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// The bytes of the files that were written.
    pub bytes: u64,
    /// The first of their paths.
    pub paths: Vec<String>,
    /// What could not be downloaded, and why: at most 100 of them.
    pub failures: Vec<DownloadFailure>,
    /// How many failed.
    pub failed: u64,
    /// What a reader of the answer should know.
    pub warnings: Vec<String>,
}

/// An object that could not be downloaded.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DownloadFailure {
    /// Its key.
    pub key: String,
    /// Why not.
    pub message: String,
}

pub(in crate::logs) async fn download_logs(
    logs: Logs,
    call: Call,
    input: DownloadLogs,
) -> Result<Downloaded> {
    let asked = asked(&logs, &input.prefix, input.from.as_deref(), input.until.as_deref(), MOST_OBJECTS)?;
    let (row, reached, mut found) = find(&logs, &call, &input.name, asked).await?;
    if !input.keys.is_empty() {
        found.objects.retain(|object| input.keys.contains(&object.key));
        for key in input.keys.iter().filter(|key| !found.objects.iter().any(|object| object.key == **key)) {
            found.warnings.push(format!("the source has no object `{}`", shown(key.as_bytes(), 100)));
        }
    }
    if found.more {
        return Err(Error::invalid(format!(
            "there are more than {MOST_OBJECTS} objects; narrow the prefix or the range"
        )));
    }
    let sources = logs.sources()?;
    let (all, total) = (found.objects.len(), found.objects.iter().map(|o| o.bytes).sum::<u64>());
    let mut done = Downloaded { warnings: found.warnings, ..Downloaded::default() };
    if total > input.max_bytes {
        return Err(Error::invalid(format!(
            "{all} objects have {total} bytes, more than `max_bytes` ({}); narrow the range or give more",
            input.max_bytes
        )));
    }
    let left = std::sync::atomic::AtomicU64::new(input.max_bytes);
    let (reached, row, left, to) = (&reached, &row, &left, &input.to);
    let mut running = futures_util::stream::iter(found.objects)
        .map(|object| async move {
            let most = left.load(std::sync::atomic::Ordering::SeqCst);
            let how = How { replace: input.replace, unpack: input.unpack, most };
            let came = bring(sources, reached, &row.id, &object, to, how).await;
            if let Ok(Came::Stored(_, bytes)) = &came {
                left.fetch_sub((*bytes).min(most), std::sync::atomic::Ordering::SeqCst);
            }
            (object, came)
        })
        .buffer_unordered(input.concurrency.clamp(1, 32));
    loop {
        let next = tokio::select! {
            next = running.next() => next,
            () = call.cancel.cancelled() => return Err(Error::cancelled("stopped; what had come whole is there, and the rest goes on when it is asked for again")),
        };
        let Some((object, came)) = next else { break };
        match came {
            Ok(Came::Stored(path, bytes)) => {
                done.stored += 1;
                done.bytes += bytes;
                if done.paths.len() < 100 {
                    done.paths.push(path);
                }
            }
            Ok(Came::Skipped) => done.skipped += 1,
            Err(error) => {
                done.failed += 1;
                if done.failures.len() < 100 {
                    let key = shown(object.key.as_bytes(), 300);
                    done.failures.push(DownloadFailure { key, message: error.message });
                }
            }
        }
        let ended = done.stored + done.skipped + done.failed;
        call.progress.report(Some(ended as f64 / all.max(1) as f64), format!("{ended} of {all} objects"));
    }
    done.paths.sort();
    done.failures.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(done)
}

/// A part of a source, as operations that read logs take it.
#[derive(Clone, Debug, Default)]
pub struct SourceRange {
    /// The source.
    pub name: String,
    /// What keys begin with, after the source's own prefix.
    pub prefix: String,
    /// From when.
    pub from: Option<String>,
    /// Until when.
    pub until: Option<String>,
}

impl Logs {
    /// What lies in a source, as logs to read: each object is opened when its turn comes, unpacked and cut
    /// to the range on the way, and nothing is kept. What should be known of it comes with it.
    ///
    /// # Errors
    /// `NotFound` when nothing lies in the range, and those of the source.
    pub async fn range_of(
        &self,
        call: &Call,
        range: &SourceRange,
        limits: &Limits,
    ) -> Result<(Vec<Source>, Vec<String>)> {
        let asked = asked(self, &range.prefix, range.from.as_deref(), range.until.as_deref(), MOST_READ)?;
        let times = (asked.from, asked.until);
        let (_, reached, found) = find(self, call, &range.name, asked).await?;
        let Found { objects, more, mut warnings, .. } = found;
        if more {
            return Err(Error::invalid(format!(
                "there are more than {MOST_READ} objects; narrow the prefix or the range"
            )));
        }
        let (archived, objects): (Vec<Object>, Vec<Object>) =
            objects.into_iter().partition(Object::is_archived);
        if !archived.is_empty() {
            warnings.push(format!(
                "{} objects are archived and were left out: restore them first",
                archived.len()
            ));
        }
        if objects.is_empty() {
            return Err(Error::not_found(format!(
                "nothing lies in `{}` in this range{}",
                range.name,
                if archived.is_empty() { "" } else { " that is not archived" }
            )));
        }
        let cut = times.0.is_some().then(|| times.0.unwrap_or(i64::MIN)..times.1.unwrap_or(i64::MAX));
        let now = self.now();
        let read = |object: Object| source(&reached, object, cut.clone(), limits, now);
        Ok((objects.into_iter().map(read).collect(), warnings))
    }
}

fn source(
    reached: &Reached,
    object: Object,
    cut: Option<std::ops::Range<i64>>,
    limits: &Limits,
    now: i64,
) -> Source {
    let name = crate::logs::shown::clean(&object.key);
    let raw: Box<dyn std::io::Read + Send> = match reached {
        Reached::Folder(roots, path) => {
            let (roots, path) = (roots.clone(), format!("{}/{}", path.trim_end_matches('/'), object.key));
            if cut.is_none() {
                let open =
                    move || roots.open_read(&path).map(|opened| opened.file).map_err(std::io::Error::other);
                return Source::opened_by(name, open).found();
            }
            Box::new(Later::new(move || Ok(Box::new(roots.open_read(&path)?.file))))
        }
        Reached::Remote(remote) => Box::new(object_reader(remote, object)),
        Reached::Programs(programs) => Box::new(programs.reader(&object.key, cut.clone())),
    };
    let Some(cut) = cut else { return Source::stream(name, raw).found() };
    let limits = limits.clone();
    let config = crate::logs::lines::dated(now);
    let lines =
        Later::new(move || Ok(Box::new(super::ranged::Ranged::new(unpacked(raw, &limits)?, config, cut))));
    Source::stream(name, lines).found()
}

fn object_reader(remote: &Remote, object: Object) -> BlockingObject {
    let stream = ObjectStream::new(remote.clone(), object, 0, Crc64::default());
    BlockingObject::new(stream, Handle::current())
}

type Reader = Box<dyn std::io::Read + Send>;

/// A stream that begins when it is first read.
pub(super) struct Later {
    open: Option<Box<dyn FnOnce() -> Result<Reader> + Send>>,
    stream: Option<Reader>,
}

impl Later {
    pub(super) fn new(open: impl FnOnce() -> Result<Reader> + Send + 'static) -> Self {
        Self { open: Some(Box::new(open)), stream: None }
    }
}

impl std::io::Read for Later {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(open) = self.open.take() {
            self.stream = Some(open().map_err(std::io::Error::other)?);
        }
        self.stream.as_mut().map_or(Ok(0), |stream| stream.read(buffer))
    }
}
