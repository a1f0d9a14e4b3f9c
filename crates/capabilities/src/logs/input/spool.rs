//! Keeps the lines of a stream so that they can be read a second time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use opsroom_core::{Error, Result};

use super::batch::Batch;

/// A temporary file without a name that holds batches, each compressed by itself.
pub(super) struct Spool {
    file: File,
    end: u64,
    most: u64,
    pub(super) full: bool,
}

impl Spool {
    /// An empty spool of at most this many bytes on disk.
    pub(super) fn new(most: u64) -> Result<Self> {
        let file = tempfile::tempfile().map_err(|error| {
            Error::unavailable(format!("no temporary file can be made for the stream: {error}"))
        })?;
        Ok(Self { file, end: 0, most, full: false })
    }

    /// Keeps the lines of a batch; says where, or `None` when there is no room left.
    pub(super) fn append(&mut self, batch: &Batch) -> Option<u64> {
        if self.full {
            return None;
        }
        let place = self.end;
        match self.write(batch) {
            Ok(()) if self.end <= self.most => Some(place),
            _ => {
                self.full = true;
                None
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1)?;
        for (_, line) in batch.lines() {
            encoder.write_all(line)?;
            encoder.write_all(b"\n")?;
        }
        let packed = encoder.finish()?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&packed)?;
        self.end += packed.len() as u64;
        Ok(())
    }

    /// The lines kept at this place, each ended by a newline.
    pub(super) fn read(&mut self, place: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(place))?;
        let mut text = Vec::new();
        let rest = (&self.file).take(self.end - place);
        zstd::stream::read::Decoder::new(rest)?.single_frame().read_to_end(&mut text)?;
        Ok(text)
    }
}
