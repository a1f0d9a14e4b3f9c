//! Two threads at one log: one reads, unpacks and cuts, the other uses the lines in their order.
//!
//! What the answer says does not depend on the threads: batches arrive in order, and what is prepared on
//! the reading thread is a function of the batch alone.

use std::sync::mpsc;
use std::thread;

use opsroom_core::{Error, Result};

use super::batch::Batch;
use super::fetch::ReadLog;
use super::source::LogReader;

/// Batches that are on their way at once: enough that neither thread waits for long.
const IN_FLIGHT: usize = 4;

/// Reads a log to its end: `prepare` marks batches on the reading thread, `use_batch` gets them in order on
/// the calling one.
pub fn read_batches(
    reader: LogReader,
    prepare: impl Fn(&mut Batch) + Send,
    mut use_batch: impl FnMut(&Batch) -> Result<()>,
) -> Result<ReadLog> {
    thread::scope(|scope| {
        let (full, filled) = mpsc::sync_channel::<Batch>(IN_FLIGHT);
        let (used, empty) = mpsc::channel::<Batch>();
        let reading = scope.spawn(move || {
            let mut reader = reader;
            loop {
                let mut batch = empty.try_recv().unwrap_or_default();
                if !reader.next(&mut batch)? {
                    return reader.finish();
                }
                prepare(&mut batch);
                if full.send(batch).is_err() {
                    // The using side stopped, and says why.
                    return Err(Error::cancelled("reading was stopped"));
                }
            }
        });
        let mut result = Ok(());
        for batch in &filled {
            result = use_batch(&batch);
            if result.is_err() {
                break;
            }
            // The reading thread may be done and gone; then nobody needs the batch again.
            let _ = used.send(batch);
        }
        drop(filled);
        let read = reading.join().unwrap_or_else(|_| Err(Error::internal("the reading thread panicked")));
        result?;
        read
    })
}
