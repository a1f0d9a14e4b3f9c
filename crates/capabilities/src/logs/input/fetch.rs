//! What is known of a log that was read, and reading some of its lines once more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use opsroom_core::{Error, Result};

use super::batch::{Batch, Splitter};
use super::decode::{Stream, decode};
use super::source::{Identity, Origin, Source, open_raw};
use super::spool::Spool;
use super::{Limits, Watch};

/// Where a batch began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) source: u32,
    /// The byte in the source or in the spool.
    pub(super) place: u64,
}

impl Place {
    /// The lines were not kept.
    pub(super) const LOST: u64 = u64::MAX;
}

/// A source that was read.
pub struct SourceRead {
    /// What was read.
    pub source: Source,
    /// The number of its first line over all sources.
    pub first_line: u64,
    /// How many lines it had.
    pub lines: u64,
    direct: bool,
    identity: Identity,
}

/// A log that was read to its end.
pub struct ReadLog {
    /// What it was read from, in order; sources that were left out are missing.
    pub sources: Vec<SourceRead>,
    /// How many lines there were.
    pub lines: u64,
    /// How many bytes were read, as they were packed.
    pub bytes: u64,
    /// How many lines were longer than what is kept of one.
    pub long_lines: u64,
    /// What a reader of the answer should know: truncated, shrunk, empty or left-out sources.
    pub warnings: Vec<String>,
    pub(super) places: Vec<Place>,
    pub(super) spool: Option<Spool>,
    pub(super) left_out: usize,
    line_bytes: usize,
}

/// A line as it stands in the log, at most the kept length of it.
pub type RawLine = Vec<u8>;

impl ReadLog {
    pub(super) fn new(line_bytes: usize) -> Self {
        Self {
            sources: Vec::new(),
            lines: 0,
            bytes: 0,
            long_lines: 0,
            warnings: Vec::new(),
            places: Vec::new(),
            spool: None,
            left_out: 0,
            line_bytes,
        }
    }

    pub(super) fn begin(&mut self, source: &Source, direct: bool, identity: Identity) {
        let first_line = self.lines + 1;
        self.sources.push(SourceRead { source: source.clone(), first_line, lines: 0, direct, identity });
    }

    pub(super) fn checked(mut self) -> Result<Self> {
        if self.sources.is_empty() && self.left_out > 0 {
            let why = self.warnings.first().cloned().unwrap_or_default();
            return Err(Error::invalid(format!(
                "none of the {} files that were found could be read; {why}",
                self.left_out
            )));
        }
        if self.long_lines > 0 {
            self.warnings.push(format!(
                "{} lines are longer than {} bytes; only that much of each was looked at",
                self.long_lines, self.line_bytes
            ));
        }
        if self.spool.as_ref().is_some_and(|spool| spool.full) {
            self.warnings.push(
                "the stream was longer than what is kept of it: later lines are judged but cannot be shown"
                    .to_owned(),
            );
        }
        Ok(self)
    }

    /// The name of the source that a line is from, and the line's number within it.
    pub fn locate(&self, line: u64) -> (&str, u64) {
        let at = self.sources.partition_point(|read| read.first_line <= line).saturating_sub(1);
        // An empty source begins where the next one does, and comes before it.
        match self.sources.get(at) {
            Some(read) => (&read.source.name, line + 1 - read.first_line),
            None => ("", line),
        }
    }

    /// Reads these lines once more. A line that is gone (the file was replaced, the spool was full) is
    /// missing from the answer.
    pub fn fetch(&mut self, wanted: &BTreeSet<u64>, watch: &Watch) -> Result<BTreeMap<u64, RawLine>> {
        let mut found = BTreeMap::new();
        if self.lines == 0 {
            return Ok(found);
        }
        let lines = self.lines;
        let mut wanted = wanted.range(1..=lines).copied().peekable();
        let mut open: Option<Reopened> = None;
        while let Some(&line) = wanted.peek() {
            watch.check()?;
            let at = self.places.partition_point(|place| place.line <= line) - 1;
            let place = self.places[at];
            let end = self.places.get(at + 1).map_or(lines + 1, |next| next.line);
            let mut here = BTreeSet::new();
            while let Some(line) = wanted.next_if(|&line| line < end) {
                here.insert(line);
            }
            if place.place == Place::LOST {
                continue;
            }
            let source = place.source as usize;
            if matches!(self.sources[source].source.origin, Origin::Stream(_)) || self.is_spooled(source) {
                self.take_from_spool(place, &here, &mut found);
                continue;
            }
            let again = open.take_if(|open| open.source == source && !open.direct);
            open = match again {
                Some(again) => Some(again),
                None => self.reopen(source, place),
            };
            if let Some(open) = &mut open {
                open.collect(&here, &mut found);
            }
        }
        Ok(found)
    }

    /// A named pipe is a file by its path and a stream by its nature.
    fn is_spooled(&self, source: usize) -> bool {
        let read = &self.sources[source];
        matches!(read.source.origin, Origin::File(_)) && read.identity.is_none()
    }

    fn take_from_spool(&mut self, place: Place, wanted: &BTreeSet<u64>, found: &mut BTreeMap<u64, RawLine>) {
        let Some(Ok(text)) = self.spool.as_mut().map(|spool| spool.read(place.place)) else { return };
        for (number, line) in (place.line..).zip(text.split(|&byte| byte == b'\n')) {
            if wanted.contains(&number) {
                found.insert(number, line.to_vec());
            }
        }
    }

    /// Opens a source again, at the place if one can jump there; `None` when it is not the same any more.
    fn reopen(&self, source: usize, place: Place) -> Option<Reopened> {
        let read = &self.sources[source];
        if read.direct {
            let stream = jump(&read.source, read.identity, place.place)?;
            let splitter = Splitter::new(stream, self.line_bytes, place.line, place.place);
            return Some(Reopened { source, direct: true, splitter, batch: Batch::default() });
        }
        let raw = open_raw(&read.source).ok().filter(|raw| raw.identity == read.identity)?;
        // It was within the limits when it was read, and no more of it is read than then.
        let limits = Limits { unpacked_bytes: u64::MAX, ratio: u64::MAX, ..Limits::default() };
        let decoded = decode(raw.stream, &limits, &Arc::new(AtomicU64::new(0))).ok()?;
        let splitter = Splitter::new(decoded.text, self.line_bytes, read.first_line, 0);
        Some(Reopened { source, direct: false, splitter, batch: Batch::default() })
    }
}

fn jump(source: &Source, identity: Identity, offset: u64) -> Option<Stream> {
    match &source.origin {
        Origin::Text(text) => {
            let mut cursor = Cursor::new(text.clone());
            cursor.set_position(offset);
            Some(Box::new(cursor))
        }
        Origin::File(_) => {
            let raw = open_raw(source).ok().filter(|raw| raw.identity == identity)?;
            let mut file = raw.file?;
            file.seek(SeekFrom::Start(offset)).ok()?;
            Some(Box::new(file.take(raw.length?.saturating_sub(offset))))
        }
        Origin::Stream(_) => None,
    }
}

struct Reopened {
    source: usize,
    direct: bool,
    splitter: Splitter<Stream>,
    batch: Batch,
}

impl Reopened {
    /// Collects lines of one place, reading on from where it stands.
    fn collect(&mut self, wanted: &BTreeSet<u64>, found: &mut BTreeMap<u64, RawLine>) {
        let Some(&last) = wanted.last() else { return };
        loop {
            let first = self.batch.first_line;
            let end = first + self.batch.len() as u64;
            for &line in wanted.range(first..end) {
                found.insert(line, self.batch.line((line - first) as usize).to_vec());
            }
            if last < end || !self.splitter.next(&mut self.batch) {
                return;
            }
        }
    }
}
