//! Reading logs: from files, folders, a pipe or inline text to numbered lines.
//!
//! # Words
//!
//! - A *source* is one thing to read: a file, a stream, a text.
//! - A *batch* is a piece of a source cut at line ends, with its lines marked.
//! - A line's *number* counts from 1 over all sources, in their order; [`ReadLog::locate`] turns it into a
//!   source and the number within it.
//!
//! # Invariants
//!
//! - Memory does not grow with the input: a line keeps at most [`Limits::line_bytes`], and what is
//!   remembered of a batch is where it began.
//! - What a source is, its first bytes say, never its name.
//! - A file is read up to the length it had when it was opened.
//! - Unpacking stops at [`Limits::unpacked_bytes`] and at [`Limits::ratio`].

mod archive;
mod batch;
mod decode;
mod fetch;
mod folder;
mod order;
mod pipeline;
mod served;
mod sniff;
mod source;
mod spool;
#[cfg(test)]
mod tests;
mod utf16;

use std::io::Read;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use opsroom_core::job::Progress;

pub use batch::Batch;
pub(in crate::logs) use decode::Content;
pub use fetch::{RawLine, ReadLog, SourceRead};
pub use folder::{find_logs, is_log_like};
pub use order::in_time_order;
pub use pipeline::read_batches;
pub use served::{MOST_TEXT, Named};
pub use source::{LogReader, Source};

/// Ceilings of what reading may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes kept of one line; the rest of a longer one is counted and dropped.
    pub line_bytes: usize,
    /// Bytes that one compressed source may unpack to.
    pub unpacked_bytes: u64,
    /// How many times its size a compressed source may unpack to, once that is more than 64 MiB.
    pub ratio: u64,
    /// Files taken from one folder.
    pub files: usize,
    /// How deep folders are followed.
    pub depth: usize,
    /// Bytes of a stream kept (compressed, in a temporary file that nobody else can open) so that its lines
    /// can be shown again.
    pub spool_bytes: u64,
}

impl Limits {
    /// What reading may cost on behalf of a caller of the server.
    pub fn served() -> Self {
        Self { unpacked_bytes: 64 << 30, ratio: 500, files: 1024, ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 64 << 10,
            unpacked_bytes: 256 << 30,
            ratio: 1000,
            files: 4096,
            depth: 16,
            spool_bytes: 4 << 30,
        }
    }
}

/// The text of a packed log, unpacked within the limits.
///
/// # Errors
/// `Invalid` for what is no text or packed in a way that is not read.
pub(crate) fn unpacked(
    log: Box<dyn Read + Send>,
    limits: &Limits,
) -> opsroom_core::Result<Box<dyn Read + Send>> {
    let decoded = decode::decode(log, limits, &Arc::default());
    decoded
        .map(|decoded| decoded.text)
        .map_err(|refusal| opsroom_core::Error::invalid(format!("it {}", refusal.0)))
}

/// What a packed log holds, for who wants the members of an archive one by one.
///
/// # Errors
/// `Invalid` for what is packed in a way that is not read.
pub(in crate::logs) fn content(log: Box<dyn Read + Send>, limits: &Limits) -> opsroom_core::Result<Content> {
    decode::content(log, limits).map_err(|refusal| opsroom_core::Error::invalid(format!("it {}", refusal.0)))
}

/// How reading is watched and stopped.
#[derive(Clone)]
pub struct Watch {
    /// Where it says how far it is.
    pub progress: Progress,
    /// Set when it is to stop.
    pub cancel: CancellationToken,
}

impl Watch {
    /// Nobody watches, and nobody stops it.
    pub fn silent() -> Self {
        Self { progress: Progress::silent(), cancel: CancellationToken::new() }
    }

    /// Fails once somebody has asked to stop.
    pub fn check(&self) -> opsroom_core::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(opsroom_core::Error::cancelled("stopped before the log was read to its end"));
        }
        Ok(())
    }
}
