//! Archives: zip and tar, read from a stream from their begin to their end, one member after the other; and
//! what lzop packs.

mod lzop;
mod tar;
mod zip;

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::decode::{Notes, Packed, Stream};

pub(super) use lzop::{Lzop, MAGIC as LZOP};
pub(super) use tar::{Tar, is_tar};
pub(super) use zip::Zip;

/// The most members of an archive that are looked at.
const MOST_MEMBERS: usize = 100_000;

/// An archive that is read forwards.
pub(super) trait Archive: Send {
    /// Goes to the next member, past what is left of this one; answers its name. `None` at the end.
    fn advance(&mut self) -> io::Result<Option<String>>;

    /// Reads on in the member; nothing at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

type Shared = Arc<Mutex<dyn Archive>>;

/// The text of all members that are text, one after the other. What is no text is left out and noted.
pub(in crate::logs) struct Members {
    archive: Shared,
    packed: Packed,
    notes: Notes,
    current: Option<(String, Stream)>,
    seen: usize,
    /// The last byte that was given, so that members do not run into each other.
    last: u8,
    ended: bool,
}

impl Members {
    pub(super) fn new(archive: impl Archive + 'static, packed: Packed, notes: Notes) -> Self {
        let archive: Shared = Arc::new(Mutex::new(archive));
        Self { archive, packed, notes, current: None, seen: 0, last: b'\n', ended: false }
    }

    /// The next member as it lies in the archive, with its name.
    pub(in crate::logs) fn advance(&mut self) -> io::Result<Option<(String, Stream)>> {
        loop {
            let Some(name) = self.archive.lock().unwrap_or_else(PoisonError::into_inner).advance()? else {
                return Ok(None);
            };
            self.seen += 1;
            if self.seen > MOST_MEMBERS {
                return Err(io::Error::other(format!("it has more than {MOST_MEMBERS} members")));
            }
            let plain = name.rsplit('/').next().unwrap_or_default();
            if !name.ends_with('/') && !plain.starts_with('.') && !name.starts_with("__MACOSX/") {
                return Ok(Some((name, Box::new(Member(self.archive.clone())))));
            }
        }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while !self.ended {
            let Some((name, member)) = &mut self.current else {
                let Some((name, raw)) = self.advance()? else {
                    self.ended = true;
                    break;
                };
                match self.packed.member(raw, &self.notes) {
                    Ok(text) => self.current = Some((name, text)),
                    Err(refusal) => {
                        self.notes.add(format!("its member {name} {} and was left out", refusal.0))
                    }
                }
                continue;
            };
            match member.read(buffer) {
                Ok(0) => {}
                Ok(read) => {
                    self.last = buffer[read - 1];
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // What comes after a broken member may be whole.
                Err(error) => {
                    self.notes.add(format!("its member {name} could not be read to its end ({error})"))
                }
            }
            self.current = None;
            if self.last != b'\n' {
                self.last = b'\n';
                buffer[0] = b'\n';
                return Ok(1);
            }
        }
        Ok(0)
    }
}

struct Member(Shared);

impl Read for Member {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads past so many bytes.
fn skip(reader: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}
