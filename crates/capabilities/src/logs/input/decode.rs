//! From a source's bytes to its text: unpacking, bounded, and judging whether it is text at all.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;

use super::Limits;
use super::archive::{Lzop, Members, Tar, Zip, is_tar};
use super::sniff::{self, Encoding, Packing};
use super::utf16::Utf16;

/// How much of a source is looked at before anything is decided about it.
const HEAD_BYTES: usize = 64 << 10;
/// Up to here, a compressed source may unpack to any multiple of its size.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// A boxed stream of bytes.
pub(in crate::logs) type Stream = Box<dyn Read + Send>;

/// A source that is being read as text.
pub(super) struct Decoded {
    /// The text.
    pub(super) text: Stream,
    /// How it was packed.
    pub(super) packing: Packing,
    /// What is left out of it, told while it is read.
    pub(super) notes: Notes,
    /// Whether a byte of the text is the same byte of the source, so that one can jump.
    pub(super) direct: bool,
}

/// Why a source cannot be read as a log: the end of a sentence that begins with its name.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

/// How deep archives may lie in archives.
const DEPTH: usize = 3;
/// The most notes of a source.
const MOST_NOTES: usize = 20;

/// What was left out of a source. Clones share what they hold.
#[derive(Clone, Default)]
pub(in crate::logs) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(super) fn add(&self, note: String) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MOST_NOTES {
            notes.push(note);
        } else if notes.len() == MOST_NOTES {
            notes.push("more of its members were left out".to_owned());
        }
    }

    pub(super) fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How the members of an archive are read.
#[derive(Clone)]
pub(super) struct Packed {
    limits: Limits,
    depth: usize,
}

impl Packed {
    /// The text of a member.
    pub(super) fn member(&self, raw: Stream, notes: &Notes) -> Result<Stream, Refusal> {
        if self.depth == 0 {
            return Err(Refusal(format!("lies in more than {DEPTH} archives")));
        }
        decoded(raw, &self.limits, &Arc::default(), self.depth, notes).map(|decoded| decoded.text)
    }
}

/// Finds out what a stream is and unpacks it. `taken` counts the packed bytes that were read.
pub(super) fn decode(raw: Stream, limits: &Limits, taken: &Arc<AtomicU64>) -> Result<Decoded, Refusal> {
    decoded(raw, limits, taken, DEPTH + 1, &Notes::default())
}

/// A stream that was unpacked: an archive, or what may be text.
pub(in crate::logs) enum Content {
    /// The members are to be looked at one by one.
    Archive(Members),
    /// Everything else.
    Text(Stream),
}

/// Unpacks a stream for who wants the members of an archive as they are.
pub(super) fn content(raw: Stream, limits: &Limits) -> Result<Content, Refusal> {
    let taken = Arc::default();
    let packed = Packed { limits: limits.clone(), depth: DEPTH };
    match unpacked(raw, limits, &taken, packed, &Notes::default())? {
        (_, Unpacked::Archive(members)) => Ok(Content::Archive(members)),
        (_, Unpacked::Bytes(bytes)) => Ok(Content::Text(Box::new(bytes))),
    }
}

enum Unpacked {
    Archive(Members),
    Bytes(Headed<Stream>),
}

fn unpacked(
    raw: Stream,
    limits: &Limits,
    taken: &Arc<AtomicU64>,
    packed: Packed,
    notes: &Notes,
) -> Result<(Packing, Unpacked), Refusal> {
    let mut raw = Headed::read(Counted { inner: raw, taken: taken.clone() }, 16);
    let packing = sniff::packing(raw.head());
    raw.rewind();
    let guard = |inner: Stream| guarded(inner, limits, taken);
    let bytes: Stream = match packing {
        Packing::Plain | Packing::Tar => Box::new(raw),
        Packing::Gzip => guard(Box::new(MultiGzDecoder::new(raw))),
        Packing::Snappy => guard(Box::new(snap::read::FrameDecoder::new(raw))),
        Packing::Lzop => guard(Box::new(Lzop::new(raw))),
        Packing::Zip => {
            let members = Members::new(Zip::new(raw), packed, notes.clone());
            return Ok((packing, Unpacked::Archive(members)));
        }
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(raw)
                .map_err(|error| Refusal(format!("cannot be unpacked: {error}")))?;
            guard(Box::new(decoder))
        }
        Packing::Refused(what) => {
            return Err(Refusal(format!(
                "is {what}, which is not read: unpack it first; plain text, gzip, zstd, snappy, lzop, zip and tar are read"
            )));
        }
    };
    let mut bytes = Headed::read(bytes, HEAD_BYTES);
    if is_tar(bytes.head()) {
        bytes.rewind();
        let members = Members::new(Tar::new(bytes), packed, notes.clone());
        return Ok((packing, Unpacked::Archive(members)));
    }
    Ok((packing, Unpacked::Bytes(bytes)))
}

fn guarded(inner: Stream, limits: &Limits, taken: &Arc<AtomicU64>) -> Stream {
    let (most, ratio) = (limits.unpacked_bytes, limits.ratio);
    Box::new(Guard { inner, taken: taken.clone(), given: 0, most, ratio })
}

fn decoded(
    raw: Stream,
    limits: &Limits,
    taken: &Arc<AtomicU64>,
    depth: usize,
    notes: &Notes,
) -> Result<Decoded, Refusal> {
    let packed = Packed { limits: limits.clone(), depth: depth - 1 };
    let (packing, mut text) = match unpacked(raw, limits, taken, packed, notes)? {
        (packing, Unpacked::Bytes(bytes)) => (packing, bytes),
        (packing, Unpacked::Archive(members)) => {
            let text = guarded(Box::new(members), limits, taken);
            // A tar that is not packed ends too soon as a packed one does.
            let packing = if packing == Packing::Plain { Packing::Tar } else { packing };
            return Ok(Decoded { text, packing, notes: notes.clone(), direct: false });
        }
    };
    let encoding = sniff::encoding(text.head());
    if encoding == Encoding::Bytes
        && let Some(why) = sniff::binary(text.head())
    {
        return Err(Refusal(why));
    }
    let direct = packing == Packing::Plain && encoding == Encoding::Bytes;
    text.rewind();
    let text: Stream = match encoding {
        Encoding::Bytes => Box::new(text),
        Encoding::Utf8Marked => {
            text.skip(3);
            Box::new(text)
        }
        Encoding::Utf16Little | Encoding::Utf16Big => {
            text.skip(2);
            Box::new(Utf16::new(text, encoding == Encoding::Utf16Big))
        }
    };
    Ok(Decoded { text, packing, notes: notes.clone(), direct })
}

/// A stream whose first bytes were read ahead. An error met on the way comes after them.
struct Headed<R> {
    head: Vec<u8>,
    at: usize,
    error: Option<io::Error>,
    rest: R,
}

impl<R: Read> Headed<R> {
    fn read(mut rest: R, most: usize) -> Self {
        let mut head = vec![0; most];
        let (mut filled, mut error) = (0, None);
        while filled < most {
            match rest.read(&mut head[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    error = Some(e);
                    break;
                }
            }
        }
        head.truncate(filled);
        Self { head, at: 0, error, rest }
    }

    fn head(&self) -> &[u8] {
        &self.head
    }

    fn rewind(&mut self) {
        self.at = 0;
    }

    fn skip(&mut self, bytes: usize) {
        self.at = bytes.min(self.head.len());
    }
}

impl<R: Read> Read for Headed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.head.len() {
            let take = buffer.len().min(self.head.len() - self.at);
            buffer[..take].copy_from_slice(&self.head[self.at..self.at + take]);
            self.at += take;
            return Ok(take);
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => self.rest.read(buffer),
        }
    }
}

/// Counts what is read.
struct Counted {
    inner: Stream,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Stops a source that unpacks to more than anybody would log.
struct Guard {
    inner: Stream,
    taken: Arc<AtomicU64>,
    given: u64,
    most: u64,
    ratio: u64,
}

/// What [`Guard`] fails with.
#[derive(Debug, thiserror::Error)]
#[error("unpacks to more than {limit}, the limit: it looks like a decompression bomb")]
pub(super) struct Bomb {
    limit: String,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        if self.given > self.most {
            return Err(io::Error::other(Bomb { limit: format!("{} bytes", self.most) }));
        }
        let taken = self.taken.load(Ordering::Relaxed).max(1);
        if self.given > RATIO_FREE_BYTES && self.given / taken > self.ratio {
            return Err(io::Error::other(Bomb { limit: format!("{} times its size", self.ratio) }));
        }
        Ok(read)
    }
}

/// Whether reading stopped at a decompression bomb.
pub(super) fn is_bomb(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Bomb>())
}
