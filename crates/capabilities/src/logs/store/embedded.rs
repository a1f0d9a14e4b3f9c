//! The embedded store: its state, and the task that writes batches, as many as wait together.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use opsroom_analytics::segments::{Blob, Segment};
use opsroom_core::db::Db;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Clock, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use super::catalogue::{Catalogue, Entry};
use super::memory::Part;
use super::names::Names;
use super::{Batch, Counted, Counting, Line, LogStore, Page, Retention, TEAM, Wanted, recover, seal, wal};
use crate::logs::input::Watch;

/// Batches that wait to be written, at most.
const WAITING: usize = 256;
/// Bytes that are written together, at most.
const TOGETHER: usize = 16 << 20;
/// Rows of a part: fewer than a segment may have.
const PART_ROWS: usize = 600_000;
/// Parts that wait to be sealed before writing waits for them.
const UNSEALED: usize = 4;
/// Batches that a slow listener may be behind.
const HEARD: usize = 1024;

/// How log lines are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Days after which lines are removed; 0 keeps them for ever.
    pub keep_days: u32,
    /// Bytes that kept lines may take on the disk; the oldest go first. 0 sets no bound.
    pub keep_bytes: u64,
    /// Bytes of lines after which they are packed into a segment, from 1 MiB to 256 MiB. As much memory
    /// holds the newest lines.
    pub segment_bytes: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { keep_days: 30, keep_bytes: 20 << 30, segment_bytes: 64 << 20 }
    }
}

impl StoreConfig {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value that cannot be used.
    pub fn validate(&self) -> Result<()> {
        if !(1 << 20..=256 << 20).contains(&self.segment_bytes) {
            return Err(Error::invalid("logs.store.segment_bytes: it is from 1048576 (1 MiB) to 268435456"));
        }
        Ok(())
    }
}

/// The store in the data folder. Cheap to clone.
#[derive(Clone)]
pub struct Embedded {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub folder: PathBuf,
    pub clock: Clock,
    pub config: StoreConfig,
    pub catalogue: Catalogue,
    pub names: Names,
    pub state: RwLock<State>,
    /// Told when a part was sealed.
    pub sealed: Notify,
    waiting: mpsc::Sender<Waiting>,
    heard: broadcast::Sender<Arc<Batch>>,
    pub lines: AtomicU64,
}

/// What there is to search, as it is at a moment.
#[derive(Clone, Default)]
pub(super) struct State {
    pub open: Part,
    /// Full parts, the oldest first.
    pub sealing: Vec<Arc<Part>>,
    /// Segments, in order of their numbers.
    pub segments: Vec<Arc<Kept>>,
    /// What is wrong with the store, in words.
    pub trouble: Option<String>,
}

/// A segment on the disk.
pub(super) struct Kept {
    pub entry: Entry,
    pub path: PathBuf,
    pub segment: Segment,
}

struct Waiting {
    batch: Arc<Batch>,
    done: oneshot::Sender<Result<()>>,
}

/// The bytes of a file.
pub(super) struct FileBlob {
    file: File,
    length: u64,
}

impl FileBlob {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Blob for FileBlob {
    fn read(&self, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut bytes, at)?;
        Ok(bytes)
    }

    fn len(&self) -> u64 {
        self.length
    }
}

impl Embedded {
    /// Opens the store in `folder`, with what an earlier process left there.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be used.
    pub async fn open(
        folder: &Path,
        db: Db,
        clock: Clock,
        lifecycle: &Lifecycle,
        config: StoreConfig,
    ) -> Result<Self> {
        config.validate()?;
        let store = recover::name(folder)?;
        let catalogue = Catalogue { db, store };
        let (state, file, end) = recover::recover(folder, &catalogue, &clock).await?;
        let (waiting, received) = mpsc::channel(WAITING);
        let inner = Arc::new(Inner {
            folder: folder.to_owned(),
            clock,
            config,
            catalogue,
            names: Names::new(),
            state: RwLock::new(state),
            sealed: Notify::new(),
            waiting,
            heard: broadcast::channel(HEARD).0,
            lines: AtomicU64::new(0),
        });
        let store = Self { inner };
        let writer = Writer { store: store.clone(), file, end, full: Vec::new() };
        lifecycle.spawn("log writer", writer.run(received, lifecycle.stopping()));
        lifecycle.spawn("log sealer", seal::run(store.clone(), lifecycle.stopping()));
        Ok(store)
    }

    /// What is written from now on, as it is written. A listener that is slow misses batches and is told
    /// how many.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Batch>> {
        self.inner.heard.subscribe()
    }

    /// Lines and bytes that are kept: rows, bytes of text, bytes on the disk, segments, and what is wrong.
    pub fn state(&self) -> (u64, u64, u64, usize, Option<String>) {
        let state = self.snapshot();
        let (mut rows, mut plain, mut stored) = (state.open.rows as u64, state.open.bytes as u64, 0);
        for part in &state.sealing {
            rows += part.rows as u64;
            plain += part.bytes as u64;
        }
        for kept in &state.segments {
            rows += kept.entry.rows;
            plain += kept.entry.plain_bytes;
            stored += kept.entry.stored_bytes;
        }
        (rows, plain, stored + state.open.bytes as u64, state.segments.len(), state.trouble)
    }

    /// Waits until every full part is sealed.
    #[cfg(test)]
    pub(super) async fn settled(&self) {
        // A batch is acknowledged before the part that it fills is set aside for sealing.
        let full = |open: &Part| open.rows >= PART_ROWS || open.bytes >= self.inner.config.segment_bytes;
        loop {
            // Of one moment: between two, what was full could be set aside.
            let state = self.snapshot();
            if state.sealing.is_empty() && !full(&state.open) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(super) fn snapshot(&self) -> State {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.inner.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    pub fn wal_path(&self, id: u64) -> PathBuf {
        wal_path(&self.folder, id)
    }
}

pub(super) fn wal_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:016x}.wal"))
}

pub(super) fn segment_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:016x}.seg"))
}

impl LogStore for Embedded {
    fn append(&self, team: &str, mut batch: Batch) -> BoxFuture<'static, Result<u64>> {
        for labels in &mut batch.streams {
            labels.insert(TEAM.to_owned(), team.to_owned());
        }
        let inner = self.inner.clone();
        Box::pin(async move {
            let rows = batch.rows.rows.len() as u64;
            if rows == 0 {
                return Ok(0);
            }
            if batch.rows.text.len() > wal::MOST_FRAME / 2 || rows as usize > PART_ROWS {
                return Err(Error::invalid(
                    "the batch is too large: send at most 128 MiB and 600000 lines at once",
                ));
            }
            let (done, written) = oneshot::channel();
            let waiting = Waiting { batch: Arc::new(batch), done };
            let stopping = || Error::unavailable("the server is stopping; nothing of the batch was kept");
            inner.waiting.send(waiting).await.map_err(|_| stopping())?;
            written.await.map_err(|_| stopping())??;
            inner.lines.fetch_add(rows, Ordering::Relaxed);
            Ok(rows)
        })
    }

    fn search(&self, wanted: &Wanted, limit: usize, context: usize, watch: &Watch) -> Result<Page> {
        super::query::search(self, wanted, limit, context, watch)
    }

    fn aggregate(&self, wanted: &Wanted, counting: &Counting, watch: &Watch) -> Result<Counted> {
        super::query::aggregate(self, wanted, counting, watch)
    }

    fn scan(&self, wanted: &Wanted, watch: &Watch, give: &mut dyn FnMut(Line) -> Result<bool>) -> Result<()> {
        super::query::scan(self, wanted, watch, give)
    }

    fn retain(&self, retention: Retention) -> BoxFuture<'static, Result<u64>> {
        let store = self.clone();
        Box::pin(async move { seal::retain(&store, retention).await })
    }
}

/// Writes what waits, acknowledges it, and begins a new file when one is full.
struct Writer {
    store: Embedded,
    file: File,
    /// Where the last whole frame ends.
    end: u64,
    full: Vec<u8>,
}

impl Writer {
    async fn run(
        mut self,
        mut received: mpsc::Receiver<Waiting>,
        stop: tokio_util::sync::CancellationToken,
    ) -> Result<()> {
        loop {
            let first = tokio::select! {
                first = received.recv() => first,
                () = stop.cancelled() => {
                    // What was sent before is still written.
                    received.close();
                    received.recv().await
                }
            };
            let Some(first) = first else { return Ok(()) };
            let mut group = vec![first];
            let mut bytes = 0;
            while bytes < TOGETHER
                && let Ok(next) = received.try_recv()
            {
                bytes += next.batch.rows.text.len();
                group.push(next);
            }
            self = self.write(group).await?;
        }
    }

    async fn write(mut self, group: Vec<Waiting>) -> Result<Self> {
        let (this, group, written) = Lifecycle::blocking(move || {
            self.full.clear();
            group.iter().for_each(|waiting| wal::frame(&waiting.batch, &mut self.full));
            let written = wal::write(&mut self.file, self.end, &self.full);
            Ok((self, group, written))
        })
        .await?;
        self = this;
        match written {
            Ok(()) => {
                self.end += self.full.len() as u64;
                if self.full.capacity() > 2 * TOGETHER {
                    self.full = Vec::new();
                }
                let full = self.store.change(|state| {
                    group.iter().for_each(|waiting| state.open.add(waiting.batch.clone()));
                    state.open.rows >= PART_ROWS || state.open.bytes >= self.store.inner.config.segment_bytes
                });
                for waiting in group {
                    // Nobody may listen, and the one who waited may be gone: the lines are kept.
                    let _nobody = self.store.inner.heard.send(waiting.batch);
                    let _gone = waiting.done.send(Ok(()));
                }
                if full { self.turn().await } else { Ok(self) }
            }
            Err(error) => {
                tracing::error!(error = %error, "log lines could not be written");
                let text = format!(
                    "the lines could not be written to the disk ({error}); nothing of the batch was kept"
                );
                for waiting in group {
                    let _gone = waiting.done.send(Err(Error::unavailable(text.clone())));
                }
                // After a failed write it is not known what the disk has of the file: what was acknowledged
                // before is whole, and goes on in another file.
                self.store.change(|state| state.trouble = Some(text));
                let _kept_as_it_is = self.file.set_len(self.end);
                if self.store.snapshot().open.rows > 0 { self.turn().await } else { Ok(self) }
            }
        }
    }

    /// Begins the next part, and gives the full one to the sealer.
    async fn turn(mut self) -> Result<Self> {
        loop {
            let sealed = self.store.inner.sealed.notified();
            if self.store.snapshot().sealing.len() < UNSEALED {
                break;
            }
            sealed.await;
        }
        let id = self.store.snapshot().open.id + 1;
        let folder = self.store.inner.folder.clone();
        match Lifecycle::blocking(move || recover::begin(&folder, id)).await {
            Ok(file) => {
                self.file = file;
                self.end = 0;
                self.store.change(|state| {
                    let full = std::mem::replace(&mut state.open, Part { id, ..Part::default() });
                    state.sealing.push(Arc::new(full));
                });
                self.store.inner.sealed.notify_waiters();
                self.store.inner.sealed.notify_one();
            }
            // It goes on in the same file, and tries again with the next batch.
            Err(error) => tracing::error!(error = %error, "a new write-ahead file could not be made"),
        }
        Ok(self)
    }
}

/// A range as a person may mean it: from the beginning, to the end.
pub const ALWAYS: Range<i64> = i64::MIN..i64::MAX;
