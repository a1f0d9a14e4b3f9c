//! Output of containers and of our own services, as objects: each has the name of who wrote it.
//!
//! What states no time, or one that is not about when it came (of a clock or a zone of its own), gets the
//! time at which it came before it.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use opsroom_analytics::parse::{Kind as LineKind, LogParser, MinerConfig, ParserConfig};
use opsroom_core::{Error, Result};
use tokio::runtime::Handle;

use super::model::{Object, SourceConfig, SourceKind};
use super::operations::Later;
use crate::logs::lines::{TIME, dated};
use crate::services::runtime::Piece;
use crate::services::{Services, Writer, Writers, Written};

/// The most bytes that are kept of a line; what reads lines keeps less, and says so.
const LINE_BYTES: usize = 128 << 10;
/// By so many microseconds a line's own time may differ from when it came.
const SLACK: i64 = 60_000_000;

/// Those who write, and which of them are meant.
#[derive(Clone)]
pub struct Programs {
    pub services: Services,
    pub of: Writers,
    /// Microseconds since 1970.
    pub now: i64,
}

/// # Errors
/// `Invalid`, beginning with the field, for what cannot be used.
pub(super) fn validate(config: &SourceConfig) -> Result<()> {
    if config.kind == SourceKind::Docker && config.container.is_none() && config.labels.is_empty() {
        return Err(Error::invalid(
            "container: its name is needed, in which `*` stands for any text, or `labels`",
        ));
    }
    Ok(())
}

/// Whose output a source is, for this team.
pub(super) fn writers(config: &SourceConfig, team: &str, allowed: &[String]) -> Writers {
    match config.kind {
        SourceKind::Service => {
            Writers::Services { teams: vec![team.to_owned()], one: config.service.clone() }
        }
        _ => Writers::Containers {
            name: config.container.clone(),
            labels: config.labels.clone(),
            allowed: allowed.to_vec(),
        },
    }
}

impl Programs {
    /// Everyone who writes. How much it is, nobody knows before it is read.
    pub async fn list(&self) -> Result<Vec<Object>> {
        let writers = self.services.writers(&self.of).await?;
        let object = |writer: Writer| Object {
            key: writer.name,
            bytes: 0,
            modified: None,
            etag: None,
            storage_class: None,
        };
        Ok(writers.into_iter().map(object).collect())
    }

    /// What one of them wrote in about this range (microseconds since 1970), for a thread that may wait.
    pub fn reader(&self, key: &str, range: Option<Range<i64>>) -> impl Read + Send + 'static {
        let (programs, key, handle) = (self.clone(), key.to_owned(), Handle::current());
        Later::new(move || {
            let written = handle.block_on(programs.open(&key, range))?;
            Ok(match written {
                Written::File(file) => Box::new(file),
                Written::Pieces(pieces) => Box::new(Output {
                    pieces,
                    handle,
                    lines: Lines::new(programs.now),
                    out: Bytes::new(),
                    ended: false,
                }),
            })
        })
    }

    async fn open(&self, key: &str, range: Option<Range<i64>>) -> Result<Written> {
        let writers = self.services.writers(&self.of).await?;
        let writer = writers.into_iter().find(|writer| writer.name == key);
        let writer =
            writer.ok_or_else(|| Error::not_found(format!("`{key}` is gone, and what it wrote with it")))?;
        let (since, until) = range.map_or((0, 0), |range| (seconds(range.start), seconds(range.end)));
        self.services.written(&writer, (since - 60).max(0), if until == 0 { 0 } else { until + 61 }).await
    }
}

/// Whole seconds; 0 for what is open.
fn seconds(at: i64) -> i64 {
    if at == i64::MIN || at == i64::MAX { 0 } else { at.div_euclid(1_000_000).max(0) }
}

/// What comes in pieces, as lines.
struct Output {
    pieces: futures_util::stream::BoxStream<'static, Result<Piece>>,
    handle: Handle,
    lines: Lines,
    out: Bytes,
    ended: bool,
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.out.is_empty() && !self.ended {
            match self.handle.block_on(self.pieces.next()) {
                Some(piece) => self.lines.add(&piece.map_err(io::Error::other)?),
                None => {
                    self.ended = true;
                    self.lines.end();
                }
            }
            self.out = std::mem::take(&mut self.lines.out).into();
        }
        let take = self.out.len().min(buffer.len());
        buffer[..take].copy_from_slice(&self.out.split_to(take));
        Ok(take)
    }
}

/// Puts pieces together to lines: of standard output and standard error each by itself.
struct Lines {
    parser: LogParser,
    open: [Open; 2],
    out: Vec<u8>,
}

/// A line that has not ended.
#[derive(Default)]
struct Open {
    /// When it began to come, in microseconds and as the engine wrote it.
    time: Option<(i64, Vec<u8>)>,
    text: Vec<u8>,
}

impl Lines {
    fn new(now: i64) -> Self {
        let small =
            MinerConfig { max_templates: 64, max_examples: 0, max_bytes: 1 << 16, ..MinerConfig::default() };
        let parser = LogParser::new(ParserConfig { miner: small, ..dated(now) });
        Self { parser, open: Default::default(), out: Vec::new() }
    }

    fn add(&mut self, piece: &Piece) {
        let (time, text) = timed(&piece.bytes);
        let open = &mut self.open[usize::from(piece.error)];
        // Every part of a long line comes with a time; that of the first is the line's.
        if open.time.is_none() {
            open.time = time;
        }
        let ended = text.last() == Some(&b'\n');
        let room = LINE_BYTES.saturating_sub(open.text.len()).min(text.len());
        open.text.extend_from_slice(&text[..room]);
        if ended {
            let open = std::mem::take(open);
            self.line(open);
        }
    }

    fn end(&mut self) {
        for open in std::mem::take(&mut self.open) {
            if !open.text.is_empty() {
                self.line(open);
            }
        }
    }

    fn line(&mut self, open: Open) {
        let text = open.text.strip_suffix(b"\n").unwrap_or(&open.text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let rest = match open.time {
            Some((came, stamp)) => self.stamp(text, came, &stamp),
            None => text,
        };
        self.out.extend_from_slice(rest);
        self.out.push(b'\n');
    }

    /// Writes the time at which a line came before it, where it says nothing of its own; what is left of it.
    fn stamp<'a>(&mut self, text: &'a [u8], came: i64, stamp: &[u8]) -> &'a [u8] {
        if let Some(fields) = text.strip_prefix(b"{") {
            if !TIME.iter().any(|key| states(text, key)) {
                // It stays an object, with the time as its first field.
                self.out.extend_from_slice(b"{\"time\":\"");
                self.out.extend_from_slice(stamp);
                let last = fields.trim_ascii_start().first() == Some(&b'}');
                self.out.extend_from_slice(if last { b"\"" } else { b"\"," });
                return fields;
            }
            return text;
        }
        let parsed = self.parser.push(text);
        let own = parsed.time.is_some_and(|time| time.abs_diff(came) <= SLACK as u64);
        if parsed.kind == LineKind::Head && !own {
            self.out.extend_from_slice(stamp);
            self.out.push(b' ');
        }
        text
    }
}

/// Whether a JSON line has such a key.
fn states(text: &[u8], key: &str) -> bool {
    memchr::memmem::find_iter(text, key.as_bytes())
        .any(|at| at > 0 && text[at - 1] == b'"' && text.get(at + key.len()) == Some(&b'"'))
}

/// The time before a piece, and the piece.
fn timed(bytes: &[u8]) -> (Option<(i64, Vec<u8>)>, &[u8]) {
    let Some(at) = memchr::memchr(b' ', &bytes[..bytes.len().min(40)]) else { return (None, bytes) };
    let stamp = std::str::from_utf8(&bytes[..at]).ok();
    match stamp.and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
        Some(time) => (Some((time.as_microsecond(), bytes[..at].to_vec())), &bytes[at + 1..]),
        None => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[(bool, &str)]) -> String {
        let mut lines = Lines::new(1_763_800_000_000_000);
        for (error, text) in pieces {
            lines.add(&Piece { error: *error, bytes: Bytes::copy_from_slice(text.as_bytes()) });
        }
        lines.end();
        String::from_utf8(lines.out).unwrap()
    }

    #[test]
    fn a_line_without_a_time_gets_the_one_at_which_it_came() {
        let at = "2025-11-21T10:00:00.5Z";
        let out = read(&[
            (false, &format!("{at} ERROR disk full\n")),
            (false, &format!("{at} \tat a.B\r\n")),
            (false, &format!("{at} 2025-11-21 10:00:00,100 INFO of its own\n")),
            (false, &format!("{at} 2025-11-21 18:00:00,100 INFO of another zone\n")),
            (false, &format!("{at} {{\"msg\":\"x\"}}\n")),
            (false, &format!("{at} {{}}\n")),
            (false, &format!("{at} {{\"ts\":1763719200,\"msg\":\"x\"}}\n")),
            (true, "no time at all\n"),
        ]);
        assert_eq!(
            out.lines().collect::<Vec<_>>(),
            [
                "2025-11-21T10:00:00.5Z ERROR disk full",
                "\tat a.B",
                "2025-11-21 10:00:00,100 INFO of its own",
                "2025-11-21T10:00:00.5Z 2025-11-21 18:00:00,100 INFO of another zone",
                "{\"time\":\"2025-11-21T10:00:00.5Z\",\"msg\":\"x\"}",
                "{\"time\":\"2025-11-21T10:00:00.5Z\"}",
                "{\"ts\":1763719200,\"msg\":\"x\"}",
                "no time at all",
            ]
        );
    }

    #[test]
    fn parts_of_a_line_are_put_together_and_those_of_two_streams_are_not_mixed() {
        let out = read(&[
            (false, "2025-11-21T10:00:00Z out begins"),
            (true, "2025-11-21T10:00:01Z an error\n"),
            (false, "2025-11-21T10:00:02Z  and ends\n"),
            (false, "2025-11-21T10:00:03Z cut"),
        ]);
        assert_eq!(
            out.lines().collect::<Vec<_>>(),
            [
                "2025-11-21T10:00:01Z an error",
                "2025-11-21T10:00:00Z out begins and ends",
                "2025-11-21T10:00:03Z cut"
            ]
        );
    }

    #[test]
    fn a_line_that_never_ends_takes_bounded_memory() {
        let part = format!("2025-11-21T10:00:00Z {}", "x".repeat(16 << 10));
        let mut lines = Lines::new(0);
        for _ in 0..1_000 {
            lines.add(&Piece { error: false, bytes: Bytes::from(part.clone()) });
        }
        assert!(lines.open[0].text.len() <= LINE_BYTES && lines.out.is_empty());
        lines.end();
        assert!(lines.out.len() > 64 << 10, "what reads it sees that it was too long");
    }
}
