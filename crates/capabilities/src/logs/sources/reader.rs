//! An object as a stream of bytes for those who read logs: opened when it is first read, gone on with when
//! the connection breaks, and checked against what was listed.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use opsroom_core::egress::Incoming;
use opsroom_core::{Error, Kind, Result};
use tokio::runtime::Handle;

use super::client::{Remote, header};
use super::crc::Crc64;
use super::model::{Object, SourceKind};
use super::sftp;

/// How often a broken connection is taken up again without anything new having come.
const TRIES: u32 = 5;

/// What comes, from whichever kind of place.
enum Coming {
    Http(Box<Incoming>),
    Ssh(Box<sftp::Reading>),
}

impl Coming {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Coming::Http(incoming) => incoming.next().await,
            Coming::Ssh(reading) => reading.next().await,
        }
    }
}

/// An object that is being read. The tag, the length and the checksum that the store states are held
/// against what comes.
pub struct ObjectStream {
    remote: Remote,
    object: Object,
    incoming: Option<Coming>,
    etag: Option<String>,
    /// How long the object is, once the store has said it.
    length: Option<u64>,
    stated: Option<u64>,
    crc: Crc64,
    at: u64,
    failures: u32,
}

impl ObjectStream {
    /// Begins at byte `at`, whose earlier bytes gave this checksum.
    pub fn new(remote: Remote, object: Object, at: u64, crc: Crc64) -> Self {
        let etag = object.etag.clone();
        Self { remote, object, incoming: None, etag, length: None, stated: None, crc, at, failures: 0 }
    }

    /// How many bytes were read, with those before the begin.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next bytes; `None` at the end, when all is there and as the store states it.
    ///
    /// # Errors
    /// `Conflict` for an object that changed meanwhile, `Unavailable` when it cannot be read to its end or
    /// is not what the store says it is.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.step().await {
                Ok(Some(piece)) => {
                    self.failures = 0;
                    return Ok(Some(piece));
                }
                Ok(None) => return self.check().map(|()| None),
                Err(error) if error.kind == Kind::Unavailable && self.failures < TRIES => {
                    self.failures += 1;
                    self.incoming = None;
                    tokio::time::sleep(Duration::from_millis(100 << self.failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Bytes>> {
        if self.incoming.is_none() {
            if self.at > 0 && self.length == Some(self.at) {
                return Ok(None);
            }
            self.incoming = Some(self.open().await?);
        }
        let Some(incoming) = &mut self.incoming else { return Ok(None) };
        let piece = incoming.next().await?;
        if let Some(piece) = &piece {
            // Others state no such checksum.
            if self.remote.config.kind == SourceKind::Cos {
                self.crc.add(piece);
            }
            self.at += piece.len() as u64;
        } else if self.length.is_some_and(|length| self.at < length) {
            return Err(Error::unavailable(format!(
                "the connection ended before the end of `{}`",
                self.name()
            )));
        }
        Ok(piece)
    }

    async fn open(&mut self) -> Result<Coming> {
        if self.remote.config.kind == SourceKind::Sftp {
            // A file that grew since it was listed is read as it is now.
            let (reading, length, tag) =
                sftp::open(&self.remote, &self.object.key, self.at, self.etag.as_deref()).await?;
            (self.length, self.etag) = (Some(length), Some(tag));
            return Ok(Coming::Ssh(Box::new(reading)));
        }
        let opened = self.remote.open(&self.object.key, self.at, self.etag.as_deref()).await?;
        let left = header(&opened.headers, "content-length").and_then(|text| text.parse::<u64>().ok());
        let length = left.map(|left| self.at + left);
        if let (Some(before), Some(now)) = (self.length, length)
            && before != now
        {
            return Err(self.changed());
        }
        self.length = self.length.or(length);
        let etag = header(&opened.headers, "etag");
        if let (Some(before), Some(now)) = (&self.etag, &etag)
            && before.trim_matches('"') != now.trim_matches('"')
        {
            return Err(self.changed());
        }
        self.etag = self.etag.take().or(etag);
        self.stated = header(&opened.headers, "x-cos-hash-crc64ecma").and_then(|text| text.parse().ok());
        Ok(Coming::Http(Box::new(opened)))
    }

    fn check(&self) -> Result<()> {
        let listed = (self.object.bytes > 0).then_some(self.object.bytes);
        if let Some(length) = self.length.or(listed).filter(|length| *length != self.at) {
            return Err(Error::unavailable(format!(
                "`{}` has {} bytes where the store says {length}",
                self.name(),
                self.at
            )));
        }
        if self.stated.is_some_and(|stated| stated != self.crc.value()) {
            return Err(Error::unavailable(format!(
                "`{}` came with another checksum (CRC-64) than the store states; what came is not used",
                self.name()
            )));
        }
        Ok(())
    }

    fn changed(&self) -> Error {
        Error::conflict(format!("`{}` was replaced while it was read; begin again", self.name()))
    }

    fn name(&self) -> String {
        super::super::shown::shown(self.object.key.as_bytes(), 200)
    }
}

/// The same for a thread that may wait.
pub struct BlockingObject {
    stream: ObjectStream,
    handle: Handle,
    piece: Bytes,
    ended: bool,
}

impl BlockingObject {
    /// Reads with the help of this runtime, on a thread that is not its own.
    pub fn new(stream: ObjectStream, handle: Handle) -> Self {
        Self { stream, handle, piece: Bytes::new(), ended: false }
    }
}

impl Read for BlockingObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.handle.block_on(self.stream.next()) {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => self.ended = true,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let take = self.piece.len().min(buffer.len());
        buffer[..take].copy_from_slice(&self.piece.split_to(take));
        Ok(take)
    }
}
