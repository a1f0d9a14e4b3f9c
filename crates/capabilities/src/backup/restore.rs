//! A room of an archive, or nothing.
//!
//! The archive is read twice: once to see that it is whole and that its secrets can be opened, before anything
//! is touched; once to put its rows into one transaction and its files into a folder aside. When all sums are
//! right the second time too, the files are moved into their places and the transaction is committed.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use opsroom_core::clock::Clock;
use opsroom_core::db::{Cell, Db, Shape, Transaction};
use opsroom_core::egress::Egress;
use opsroom_core::files::{DataDir, Roots, open_named};
use opsroom_core::job::Progress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result, seal};
use tokio::sync::mpsc;

use super::archive::{self, broken};
use super::folder;
use super::format::{Entry, Manifest, Sums};
use super::rows::Rows;
use crate::room::{self, RoomConfig};

/// Rows that are put into a table together, at most.
const ROWS: usize = 512;
/// Bytes of them, about.
const BYTES: usize = 1 << 20;

/// What was restored.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    /// What made the archive.
    pub manifest: Manifest,
    /// Rows of tables.
    pub rows: u64,
    /// Files.
    pub files: u64,
}

/// An archive that was read to its end once.
struct Checked {
    manifest: Manifest,
    sums: Sums,
    /// The sealed keys in it.
    keys: Vec<(String, String)>,
}

/// Some rows of the table of this number.
type Piece = (usize, Vec<Vec<Cell>>);

/// Restores a room into an empty data folder and an empty database.
///
/// # Errors
/// `Invalid` for an archive that is damaged, hostile or another version's; `Conflict` when the folder or the
/// database are in use; `Unavailable` without the master key. Nothing was restored then.
pub async fn restore(
    config: &RoomConfig,
    clock: &Clock,
    file: &Path,
    progress: &Progress,
) -> Result<Restored> {
    let shapes = Arc::new(Shape::all(&room::migrations()).await?);
    let checked = {
        let (file, shapes, progress) = (file.to_owned(), shapes.clone(), progress.clone());
        Lifecycle::blocking(move || check(&file, &shapes, &progress)).await?
    };
    let data_dir = DataDir::open(&config.data_dir)?;
    let _lock = data_dir.lock()?;
    folder::refuse_used(config, file)?;
    let egress = Egress::new(&config.egress)?;
    let master_key = &config.kept_secrets.master_key;
    seal::opens(master_key, &config.data_dir, &egress, &checked.keys).await.map_err(|error| {
        let text = format!(
            "the archive has secrets that only their master key opens, and nothing was restored: {error}; or give the \
             key as `secrets.master_key` in the configuration"
        );
        Error::new(error.kind, text).because(error)
    })?;
    enough_space(data_dir.path(), &checked.sums)?;
    let fresh = config.database.file(&config.data_dir).filter(|file| !file.exists());
    let db = config.database.open(&config.data_dir).await?;
    let result = into(config, clock, &db, (file, &shapes, &checked), progress).await;
    db.close().await;
    if result.is_err()
        && let Some(file) = fresh
    {
        remove_database(&file);
    }
    result
}

async fn into(
    config: &RoomConfig,
    clock: &Clock,
    db: &Db,
    (file, shapes, checked): (&Path, &Arc<Vec<Shape>>, &Checked),
    progress: &Progress,
) -> Result<Restored> {
    if let Some(table) = db.used(shapes).await? {
        return Err(Error::conflict(format!(
            "the database is in use: its table `{table}` has rows; restore into an empty one, which `DATABASE_URL` or \
             `database.url` names"
        )));
    }
    let tables = db.tables().await?;
    let untouched = !shapes.iter().any(|shape| tables.contains(&shape.name));
    let made = fill(config, clock, db, (file, shapes, checked), progress).await;
    if made.is_err() {
        folder::remove(&config.data_dir)?;
        if untouched {
            db.unmake(shapes).await?;
        }
    }
    made
}

async fn fill(
    config: &RoomConfig,
    clock: &Clock,
    db: &Db,
    (file, shapes, checked): (&Path, &Arc<Vec<Shape>>, &Checked),
    progress: &Progress,
) -> Result<Restored> {
    let staged = folder::begin(&config.data_dir)?;
    db.migrate(clock, &room::migrations()).await?;
    let (give, take) = mpsc::channel(4);
    let reading = {
        let (file, shapes, progress) = (file.to_owned(), shapes.clone(), progress.clone());
        Lifecycle::blocking(move || unpack(&file, &staged, &shapes, give, &progress))
    };
    let (read, loaded) = tokio::join!(reading, load(db, shapes, take));
    // When both failed, the reader only saw that nobody took its rows any more.
    let (on, sums) = (loaded?, read?);
    if sums != checked.sums {
        return Err(broken("it changed while it was read"));
    }
    folder::place(&config.data_dir)?;
    on.commit().await?;
    folder::end(&config.data_dir)?;
    let rows = sums.values().filter_map(|sum| sum.rows).sum();
    let files = sums.keys().filter(|name| matches!(Entry::parse(name), Ok(Entry::File(_)))).count() as u64;
    Ok(Restored { manifest: checked.manifest.clone(), rows, files })
}

/// Puts rows into the tables as they come; answers the transaction, which is not committed.
async fn load(db: &Db, shapes: &[Shape], mut take: mpsc::Receiver<Piece>) -> Result<Transaction> {
    let mut on = db.begin().await?;
    for shape in shapes {
        on.clear(shape).await?;
    }
    while let Some((at, rows)) = take.recv().await {
        let shape = &shapes[at];
        on.put(shape, rows).await.map_err(|error| {
            let text = format!("rows of the table `{}` could not be put in: {error}", shape.name);
            Error::new(error.kind, text).because(error)
        })?;
    }
    Ok(on)
}

/// Reads the whole archive and touches nothing.
fn check(file: &Path, shapes: &[Shape], progress: &Progress) -> Result<Checked> {
    let (mut manifest, mut keys, mut tables) = (None, Vec::new(), 0);
    let sums = archive::read(opened(file, "checking", progress)?, &mut |entry, body| {
        match entry {
            Entry::Manifest => {
                let found: Manifest = archive::json(body)?;
                found.check(&room::migrations())?;
                manifest = Some(found);
            }
            Entry::Table(name) => {
                let (_, shape) = shape_of(shapes, name)?;
                tables += 1;
                if name == seal::TABLE {
                    keys = sealed(shape, body)?;
                }
            }
            Entry::File(_) | Entry::Sums => {}
        }
        Ok(None)
    })?;
    if tables != shapes.len() {
        return Err(broken(format!("it has {tables} tables, and not {}", shapes.len())));
    }
    let manifest = manifest.ok_or_else(|| broken("it does not say what made it"))?;
    Ok(Checked { manifest, sums, keys })
}

/// Reads the whole archive: rows go to `give`, files into `staged`.
fn unpack(
    file: &Path,
    staged: &Path,
    shapes: &[Shape],
    give: mpsc::Sender<Piece>,
    progress: &Progress,
) -> Result<Sums> {
    let roots = Roots::new(&[staged.to_owned()])?;
    archive::read(opened(file, "restoring", progress)?, &mut |entry, body| match entry {
        Entry::Table(name) => {
            let (at, shape) = shape_of(shapes, name)?;
            table(at, shape, body, &give).map(Some)
        }
        Entry::File(path) => {
            let mut file = roots.create(path)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match body.read(&mut buffer).map_err(broken)? {
                    0 => break,
                    read => file.write(&buffer[..read])?,
                }
            }
            file.finish_new()?;
            Ok(None)
        }
        Entry::Manifest | Entry::Sums => Ok(None),
    })
}

fn table(at: usize, shape: &Shape, body: &mut dyn Read, give: &mpsc::Sender<Piece>) -> Result<u64> {
    let mut rows = Rows::begin(shape, BufReader::with_capacity(1 << 18, body))?;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let send = |batch| {
        give.blocking_send((at, batch)).map_err(|_| Error::cancelled("the rows were not taken any more"))
    };
    while let Some(row) = rows.next_row()? {
        bytes += row.iter().map(Cell::weight).sum::<usize>();
        batch.push(row);
        if batch.len() == ROWS || bytes >= BYTES {
            bytes = 0;
            send(std::mem::take(&mut batch))?;
        }
    }
    if !batch.is_empty() {
        send(batch)?;
    }
    Ok(rows.count())
}

fn shape_of<'a>(shapes: &'a [Shape], name: &str) -> Result<(usize, &'a Shape)> {
    let found = shapes.iter().enumerate().find(|(_, shape)| shape.name == name);
    found.ok_or_else(|| {
        Error::invalid(format!(
            "the archive has a table `{name}`, which is none of ours; nothing was restored"
        ))
    })
}

/// The ids of sealed keys, and the keys as they are sealed.
fn sealed(shape: &Shape, body: &mut dyn Read) -> Result<Vec<(String, String)>> {
    let place = |name: &str| shape.fields.iter().position(|field| field.name == name);
    let (Some(id), Some(wrapped)) = (place("id"), place("wrapped")) else {
        return Err(Error::internal("the table of sealed keys has other columns"));
    };
    let mut rows = Rows::begin(shape, BufReader::new(body))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next_row()? {
        match (&row[id], &row[wrapped]) {
            (Cell::Text(id), Cell::Text(wrapped)) => keys.push((id.clone(), wrapped.clone())),
            _ => return Err(broken("a sealed key is missing in it")),
        }
    }
    Ok(keys)
}

/// The archive, which says how far it was read.
fn opened(file: &Path, doing: &'static str, progress: &Progress) -> Result<impl Read + use<>> {
    let opened = open_named(file)?;
    Ok(Told { file: opened.file, read: 0, bytes: opened.bytes.max(1), doing, progress: progress.clone() })
}

struct Told {
    file: File,
    read: u64,
    bytes: u64,
    doing: &'static str,
    progress: Progress,
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        self.progress.report(Some(self.read as f64 / self.bytes as f64), self.doing);
        Ok(read)
    }
}

fn enough_space(data_dir: &Path, sums: &Sums) -> Result<()> {
    let needed: u64 = sums.values().map(|sum| sum.bytes).sum();
    let state = rustix::fs::statvfs(data_dir).map_err(Error::internal)?;
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    if needed > free {
        return Err(Error::unavailable(format!(
            "the archive unpacks to {needed} bytes, and there are {free} free for the data folder `{}`; nothing was \
             restored",
            data_dir.display()
        )));
    }
    Ok(())
}

/// Removes the file of an embedded database that was made for nothing, and the two beside it.
fn remove_database(file: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        // What is left of it is an empty database, which the next restore takes as well.
        let _left_empty = std::fs::remove_file(PathBuf::from(name));
    }
}
