//! What is read: files, streams and texts, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use opsroom_analytics::parse::ParserConfig;
use opsroom_core::{Clock, Error, Result};

use super::batch::{Batch, Splitter};
use super::decode::{self, Notes, Stream, decode};
use super::fetch::{Place, ReadLog};
use super::sniff::Packing;
use super::spool::Spool;
use super::{Limits, Watch};

const DAY_MICROS: i64 = 86_400_000_000;

type Open = Arc<dyn Fn() -> io::Result<File> + Send + Sync>;

/// One thing to read. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    /// The name that answers and messages call it by.
    pub name: String,
    pub(super) origin: Origin,
    /// It was found in a folder, not named: what cannot be read is left out with a warning.
    found: bool,
}

#[derive(Clone)]
pub(super) enum Origin {
    File(Open),
    Stream(Arc<Mutex<Option<Stream>>>),
    Text(Arc<[u8]>),
}

impl Source {
    /// A file that this process may open by its path.
    pub fn path(path: &Path) -> Self {
        let owned: PathBuf = path.to_owned();
        Self::opened_by(path.display().to_string(), move || File::open(&owned))
    }

    /// A file that `open` opens; it may be called more than once.
    pub fn opened_by(
        name: impl Into<String>,
        open: impl Fn() -> io::Result<File> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), origin: Origin::File(Arc::new(open)), found: false }
    }

    /// A stream that can be read once, such as standard input.
    pub fn stream(name: impl Into<String>, stream: impl io::Read + Send + 'static) -> Self {
        let stream: Stream = Box::new(stream);
        Self { name: name.into(), origin: Origin::Stream(Arc::new(Mutex::new(Some(stream)))), found: false }
    }

    /// A text that is already here.
    pub fn text(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        let text: Vec<u8> = text.into();
        Self { name: name.into(), origin: Origin::Text(text.into()), found: false }
    }

    /// Says that it was found in a folder and not named: if it cannot be read, that is only a warning.
    pub fn found(mut self) -> Self {
        self.found = true;
        self
    }
}

/// Reads sources one after the other, on the calling thread.
pub struct LogReader {
    sources: VecDeque<Source>,
    limits: Limits,
    watch: Watch,
    current: Option<Current>,
    /// Batches that were looked at ahead.
    pub(super) peeked: VecDeque<Batch>,
    log: ReadLog,
    total_bytes: Option<u64>,
    taken_before: u64,
}

struct Current {
    source: Source,
    splitter: Splitter<Stream>,
    taken: Arc<AtomicU64>,
    packing: Packing,
    notes: Notes,
    /// The length of the file when it was opened.
    length: Option<u64>,
    direct: bool,
    spooled: bool,
}

impl LogReader {
    /// A reader that has read nothing yet.
    pub fn new(sources: Vec<Source>, limits: Limits, watch: Watch) -> Self {
        let total_bytes = total_bytes(&sources);
        let log = ReadLog::new(limits.line_bytes);
        let sources = sources.into();
        Self {
            sources,
            limits,
            watch,
            current: None,
            peeked: VecDeque::new(),
            log,
            total_bytes,
            taken_before: 0,
        }
    }

    /// The first lines, read ahead: at least `lines` of them unless there are fewer.
    pub fn peek(&mut self, lines: usize) -> Result<Vec<&[u8]>> {
        let mut have: usize = self.peeked.iter().map(Batch::len).sum();
        while have < lines {
            let mut batch = Batch::default();
            if !self.read(&mut batch)? {
                break;
            }
            have += batch.len();
            self.peeked.push_back(batch);
        }
        Ok(self.peeked.iter().flat_map(|batch| batch.lines().map(|(_, line)| line)).take(lines).collect())
    }

    /// How the log is parsed: dates that state no year are from about the time when the first file was last
    /// written; a stream or a text is written now. A clock may be wrong by a day.
    pub fn parser_config(&self) -> ParserConfig {
        let now = || jiff::Timestamp::from_microsecond(Clock::System.now().0).unwrap_or_default();
        let written = self.written().unwrap_or_else(now);
        let default_year = i32::from(jiff::tz::TimeZone::UTC.to_datetime(written).year());
        let latest = written.as_microsecond().saturating_add(DAY_MICROS);
        ParserConfig { default_year, latest: Some(latest), ..ParserConfig::default() }
    }

    fn written(&self) -> Option<jiff::Timestamp> {
        let current = self.current.iter().map(|current| &current.source);
        let mut files = current.chain(&self.sources).filter_map(|source| match &source.origin {
            Origin::File(open) => Some(open),
            _ => None,
        });
        let modified = files.next()?().ok()?.metadata().ok()?.modified().ok()?;
        jiff::Timestamp::try_from(modified).ok()
    }

    /// The packed size of all sources, where it is known.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// How many packed bytes were read so far.
    pub fn taken_bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |current| current.taken.load(Ordering::Relaxed));
        self.taken_before + current
    }

    /// Fills a batch; `false` at the end.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool> {
        if let Some(peeked) = self.peeked.pop_front() {
            *batch = peeked;
            return Ok(true);
        }
        self.read(batch)
    }

    /// Everything was read: what is known of it.
    pub fn finish(self) -> Result<ReadLog> {
        self.log.checked()
    }

    fn read(&mut self, batch: &mut Batch) -> Result<bool> {
        loop {
            self.watch.check()?;
            let Some(current) = &mut self.current else {
                let Some(source) = self.sources.pop_front() else { return Ok(false) };
                self.open(source)?;
                continue;
            };
            if current.splitter.next(batch) {
                self.remember(batch)?;
                return Ok(true);
            }
            self.close()?;
        }
    }

    fn open(&mut self, source: Source) -> Result<()> {
        match begin(&source, &self.limits, self.log.lines + 1) {
            Ok((current, identity)) => {
                self.log.begin(&current.source, current.direct, identity);
                self.current = Some(current);
                Ok(())
            }
            Err(error) if source.found => {
                self.log.warnings.push(format!("left out: {error}"));
                self.log.left_out += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn remember(&mut self, batch: &mut Batch) -> Result<()> {
        let current = self.current.as_ref().expect("a batch comes from the current source");
        batch.source = self.log.sources.len() - 1;
        let mut place = batch.offset;
        if current.spooled {
            if self.log.spool.is_none() {
                self.log.spool = Some(Spool::new(self.limits.spool_bytes)?);
            }
            let spool = self.log.spool.as_mut().expect("it was just made");
            place = spool.append(batch).unwrap_or(Place::LOST);
        }
        self.log.places.push(Place { line: batch.first_line, source: batch.source as u32, place });
        self.log.lines += batch.len() as u64;
        self.log.long_lines += batch.long_lines;
        if let Some(total) = self.total_bytes {
            let share = self.taken_bytes() as f64 / total.max(1) as f64;
            self.watch.progress.report(Some(share), format!("read {} lines", self.log.lines));
        } else {
            self.watch.progress.report(None, format!("read {} lines", self.log.lines));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let mut current = self.current.take().expect("only an open source is closed");
        let name = &current.source.name;
        let taken = current.taken.load(Ordering::Relaxed);
        self.taken_before += taken;
        self.log.bytes += taken;
        let read = self.log.sources.last_mut().expect("an open source is listed");
        read.lines = self.log.lines + 1 - read.first_line;
        let lines = read.lines;
        self.log.warnings.extend(current.notes.taken().into_iter().map(|note| format!("{name}: {note}")));
        let cut = if current.splitter.cut() { ", and a last one that is cut was left out" } else { "" };
        match current.splitter.failure() {
            // One bad file among many that were found does not spoil the rest.
            Some(error) if current.source.found && current.packing == Packing::Plain => {
                let told = told(&error);
                self.log.warnings.push(format!(
                    "{name} could not be read to its end ({told}); the {lines} lines before that were used{cut}"
                ));
            }
            Some(error) if decode::is_bomb(&error) && !current.source.found => {
                return Err(Error::invalid(format!("{name} {error}")));
            }
            Some(error) if current.packing != Packing::Plain => {
                let what = broken(&current, &error);
                if lines == 0 && !current.source.found {
                    return Err(Error::invalid(format!("{name} {what}, and nothing of it could be read")));
                }
                self.log
                    .warnings
                    .push(format!("{name} {what}; the {lines} lines before that were used{cut}"));
            }
            Some(error) => {
                return Err(Error::unavailable(format!("reading {name} failed: {}", told(&error))));
            }
            None if current.packing == Packing::Plain && current.length.is_some_and(|len| taken < len) => {
                self.log.warnings.push(format!(
                    "{name} got shorter while it was read; the {lines} lines that were still there were used"
                ));
            }
            None if lines == 0 => self.log.warnings.push(format!("{name} is empty")),
            None => {}
        }
        Ok(())
    }
}

/// What our own readers say, else what the system says.
fn told(error: &io::Error) -> String {
    let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    ours.map_or_else(|| error.to_string(), |ours| ours.message.clone())
}

fn broken(current: &Current, error: &io::Error) -> String {
    let kind = current.packing.name();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("is truncated {kind}: it ends in the middle"),
        io::ErrorKind::InvalidInput if current.packing == Packing::Gzip => {
            "has something that is not gzip after its last member".to_owned()
        }
        _ => format!("is damaged {kind} ({error})"),
    }
}

/// What a file is, so that it is known again: device and inode.
pub(super) type Identity = Option<(u64, u64)>;

fn begin(source: &Source, limits: &Limits, first_line: u64) -> Result<(Current, Identity)> {
    let raw = open_raw(source)?;
    let taken = Arc::new(AtomicU64::new(0));
    let decoded = decode(raw.stream, limits, &taken)
        .map_err(|refusal| Error::invalid(format!("{} {}", source.name, refusal.0)))?;
    let current = Current {
        source: source.clone(),
        splitter: Splitter::new(decoded.text, limits.line_bytes, first_line, 0),
        taken,
        packing: decoded.packing,
        notes: decoded.notes,
        length: raw.length,
        direct: decoded.direct,
        spooled: raw.once,
    };
    Ok((current, raw.identity))
}

/// An opened source, not yet unpacked.
pub(super) struct Raw {
    pub(super) stream: Stream,
    /// Another handle of a regular file, to jump with.
    pub(super) file: Option<File>,
    pub(super) length: Option<u64>,
    pub(super) identity: Identity,
    /// It can be read only once.
    pub(super) once: bool,
}

impl Raw {
    fn new(stream: Stream, length: Option<u64>, once: bool) -> Self {
        Self { stream, file: None, length, identity: None, once }
    }
}

/// Opens a source at its beginning.
pub(super) fn open_raw(source: &Source) -> Result<Raw> {
    match &source.origin {
        Origin::Text(text) => {
            let length = Some(text.len() as u64);
            Ok(Raw::new(Box::new(Cursor::new(text.clone())), length, false))
        }
        Origin::Stream(stream) => {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            let stream =
                stream.ok_or_else(|| Error::invalid(format!("{} can be read only once", source.name)))?;
            Ok(Raw::new(stream, None, true))
        }
        Origin::File(open) => {
            let file = open().map_err(|error| cannot_open(&source.name, &error))?;
            raw_file(&source.name, file)
        }
    }
}

fn raw_file(name: &str, file: File) -> Result<Raw> {
    let meta = file.metadata().map_err(|error| cannot_open(name, &error))?;
    if meta.is_dir() {
        return Err(Error::invalid(format!("{name} is a folder where a file was expected")));
    }
    if !meta.is_file() {
        return Ok(Raw::new(Box::new(file), None, true));
    }
    // What is appended while we read is not looked at: the answer is about the file as it was.
    let length = meta.len();
    let identity = Some((meta.dev(), meta.ino()));
    let again = file.try_clone().ok();
    let stream = Box::new(io::Read::take(file, length));
    Ok(Raw { stream, file: again, length: Some(length), identity, once: false })
}

/// The error of a file that cannot be opened.
pub(super) fn cannot_open(name: &str, error: &io::Error) -> Error {
    // What opens for a caller of the server says itself what is wrong.
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return Error::new(ours.kind, ours.message.clone());
    }
    match error.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("{name} does not exist")),
        io::ErrorKind::PermissionDenied => {
            Error::forbidden(format!("{name} may not be read by this user (permission denied)"))
        }
        _ => Error::invalid(format!("{name} cannot be opened: {error}")),
    }
}

fn total_bytes(sources: &[Source]) -> Option<u64> {
    // Opening thousands of files only for a progress bar would cost more than it tells.
    if sources.len() > 256 {
        return None;
    }
    sources
        .iter()
        .map(|source| match &source.origin {
            Origin::Text(text) => Some(text.len() as u64),
            Origin::Stream(_) => None,
            Origin::File(open) => open().ok()?.metadata().ok().filter(|meta| meta.is_file()).map(|m| m.len()),
        })
        .sum()
}
