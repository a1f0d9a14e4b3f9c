//! Writing the trail: whoever waits at the same moment is written in one transaction.
//!
//! An entry is put into a queue; when nobody is writing, a writer is started that takes what waits, at
//! most [`BATCH`] entries at a time, commits it and tells those who wait, until the queue is empty. While
//! one batch is being committed the next one gathers, so that a slow disk makes batches larger and not
//! callers slower. The head row is locked first, so servers that share a database take turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opsroom_core::db::{Db, Transaction};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Clock, Error, Kind, Result};
use tokio::sync::oneshot;

use super::{AuditConfig, AuditEntry, Begun, Record, SinkConfig, begun};
use crate::identity::store;

/// Entries in one transaction.
const BATCH: usize = 256;

/// Entries that may wait; beyond it, calls are refused instead of kept in memory.
const MOST_WAITING: usize = 8192;

/// How often a batch is tried when another server holds the head.
const TRIES: u64 = 6;

/// The writing end of the trail. Cheap to clone.
#[derive(Clone)]
pub struct Trail {
    db: Db,
    clock: Clock,
    lifecycle: Lifecycle,
    queue: Arc<Mutex<Queue>>,
    config: AuditConfig,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    writing: bool,
}

/// What is to be written.
enum Item {
    /// That something is about to be done.
    Begun(Begun),
    /// What was done.
    Done(Box<AuditEntry>),
}

struct Waiting {
    item: Item,
    done: oneshot::Sender<Result<()>>,
}

impl Trail {
    /// The trail of this database.
    pub fn new(db: Db, clock: Clock, lifecycle: Lifecycle, config: AuditConfig) -> Self {
        Self { db, clock, lifecycle, queue: Arc::default(), config }
    }

    /// Where the trail is sent as well.
    pub fn sinks(&self) -> &[SinkConfig] {
        &self.config.sinks
    }

    /// Writes an entry; answers when it would survive a crash.
    ///
    /// # Errors
    /// `Unavailable` when it could not be written. The caller must then not be given the operation's
    /// answer: what is not on record did not happen.
    pub async fn write(&self, entry: AuditEntry) -> Result<()> {
        self.put(Item::Done(Box::new(entry.at(self.clock.now())))).await
    }

    /// Writes that an entry is about to be done; answers it when that would survive a crash.
    ///
    /// # Errors
    /// `Unavailable` when it could not be written: it must not be done then.
    pub async fn begin(&self, mut entry: AuditEntry) -> Result<AuditEntry> {
        let begun = Begun::new(&entry, self.clock.now())?;
        entry.begun = Some(begun.id.clone());
        self.put(Item::Begun(begun)).await?;
        Ok(entry)
    }

    /// Puts on record what was begun by a server that is no more.
    pub async fn recover(&self, starting: bool) -> Result<()> {
        let recovered = begun::recover(&self.db, &self.clock, starting).await?;
        if recovered > 0 {
            tracing::warn!(recovered, "calls that had begun before a crash are on record as interrupted");
        }
        Ok(())
    }

    /// Removes what is older than it is kept.
    pub async fn remove_old(&self) -> Result<()> {
        super::remove_old(&self.db, &self.clock, &self.config).await
    }

    async fn put(&self, item: Item) -> Result<()> {
        let (done, written) = oneshot::channel();
        let waiting = Waiting { item, done };
        if self.enqueue(waiting)? {
            let trail = self.clone();
            // The writer belongs to the process and not to this caller, who may go away while it writes
            // the entries of others.
            drop(self.lifecycle.spawn_work(async move {
                trail.write_waiting().await;
                Ok(())
            }));
        }
        written.await.unwrap_or_else(|_| Err(refused("the writer ended early", None)))
    }

    /// Adds an entry to the queue; true when a writer must be started.
    fn enqueue(&self, waiting: Waiting) -> Result<bool> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= MOST_WAITING {
            return Err(refused("too many entries wait", None));
        }
        queue.waiting.push(waiting);
        Ok(!std::mem::replace(&mut queue.writing, true))
    }

    async fn write_waiting(&self) {
        // Should the writer be dropped or panic, the next caller starts another.
        let _guard = WritingEnds(&self.queue);
        while let Some(batch) = self.next_batch() {
            let (items, done): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.item, waiting.done)).unzip();
            let result = commit(&self.db, items).await;
            if let Err(error) = &result {
                tracing::error!(
                    error = error.message,
                    causes = error.causes(),
                    "the audit trail cannot be written"
                );
            }
            for done in done {
                // Whoever waited may have gone; the record is there all the same.
                let _gone = done.send(match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(refused(&error.message, Some(error.kind))),
                });
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            // Under the same lock as the look, so that no entry is left without a writer.
            queue.writing = false;
            return None;
        }
        let count = queue.waiting.len().min(BATCH);
        Some(queue.waiting.drain(..count).collect())
    }
}

/// Marks the queue as unattended when the writer ends by a panic.
struct WritingEnds<'a>(&'a Mutex<Queue>);

impl Drop for WritingEnds<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.writing = false;
            // Those who wait are told by the drop of their senders.
            queue.waiting.clear();
        }
    }
}

fn refused(reason: &str, kind: Option<Kind>) -> Error {
    let kind = if kind == Some(Kind::Internal) { Kind::Internal } else { Kind::Unavailable };
    Error::new(
        kind,
        format!(
            "the audit trail cannot be written ({reason}), so the answer is withheld; whether the call \
             took effect can be seen by reading it back"
        ),
    )
}

/// Adds entries to the chain in one transaction, again when another server was in the way.
async fn commit(db: &Db, items: Vec<Item>) -> Result<()> {
    let (mut begun, mut entries) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Begun(row) => begun.push(row),
            Item::Done(entry) => entries.push(*entry),
        }
    }
    let mut tries = 0;
    loop {
        let result = async {
            let mut on = db.begin().await?;
            store::audit::begin(&mut on, &begun).await?;
            append(&mut on, &entries).await?;
            on.commit().await
        };
        match result.await {
            Err(error) if error.kind == Kind::Busy && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10 << tries)).await;
            }
            other => return other,
        }
    }
}

/// Adds entries to the chain within a transaction that does more: what it does and its record last
/// together or not at all.
pub async fn append(on: &mut Transaction, entries: &[AuditEntry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let begun: Vec<&str> = entries.iter().filter_map(|entry| entry.begun.as_deref()).collect();
    store::audit::end(on, &begun).await?;
    let Some(mut head) = store::audit::lock_head(on).await? else {
        return Err(Error::new(Kind::Internal, "it has lost its head row; `verify_audit` says more"));
    };
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let record = Record::after(&head, entry);
        head = record.as_head();
        records.push(record);
    }
    store::audit::insert(on, &records).await?;
    store::audit::set_head(on, &head).await
}
