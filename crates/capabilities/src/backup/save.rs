//! Making an archive, beside a running server or without one.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use opsroom_core::clock::Clock;
use opsroom_core::db::{Db, Shape, Snapshot};
use opsroom_core::files::{NewFile, Roots};
use opsroom_core::job::Progress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Kind, Result};

use super::archive::Writer;
use super::folder;
use super::format::{Entry, Manifest, newest};
use super::rows;
use crate::logs::store::{Frozen, frozen};
use crate::room::{self, RoomConfig};

/// What was saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Where the archive is.
    pub path: PathBuf,
    /// Its tables.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Its files.
    pub files: u64,
    /// What was left out, in words.
    pub left: Vec<String>,
    /// Where the master key is that opens the secrets in it, when it is a file.
    pub master_key: Option<PathBuf>,
}

/// A file that takes an archive.
struct Out(NewFile);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Saves a room in a new file. Files that begin with a path of `ours`, such as the server's own log, are left
/// out.
///
/// # Errors
/// `Conflict` when there is such a file already, or the tables are not this version's; `NotFound` without a
/// room; `Unavailable` when it cannot be read or written.
pub async fn save(
    config: &RoomConfig,
    clock: &Clock,
    ours: &[PathBuf],
    file: &Path,
    progress: &Progress,
) -> Result<Saved> {
    let data_dir = config.data_dir.clone();
    let database = config.database.file(&data_dir);
    if !data_dir.is_dir() || database.as_ref().is_some_and(|file| !file.exists()) {
        return Err(Error::not_found(format!(
            "there is no room in the data folder `{}`; name its folder with --data-dir",
            data_dir.display()
        )));
    }
    let mut ours = ours.to_vec();
    ours.extend(database);
    ours.push(folder::master_file(config));
    let (out, beside) = create(file)?;
    let db = config.database.open(&data_dir).await?;
    let saved = write(&db, clock, (data_dir, ours), (out, beside), progress).await;
    db.close().await;
    let transit = !config.kept_secrets.master_key.transit_address.is_empty();
    let given = !config.kept_secrets.master_key.value.is_empty();
    let master_key = (!transit && !given).then(|| folder::master_file(config)).filter(|file| file.exists());
    saved.map(|saved| Saved { master_key, ..saved })
}

/// The new file, and the folder that it is in.
fn create(file: &Path) -> Result<(NewFile, PathBuf)> {
    if file.symlink_metadata().is_ok() {
        return Err(Error::conflict(format!("`{}` is there already; choose another name", file.display())));
    }
    let no_name = || Error::invalid(format!("`{}` is no path of a file", file.display()));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
    let beside = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !beside.is_dir() {
        return Err(Error::not_found(format!("there is no folder `{}`", beside.display())));
    }
    Ok((Roots::new(std::slice::from_ref(&beside))?.create(name)?, beside))
}

async fn write(
    db: &Db,
    clock: &Clock,
    (data_dir, ours): (PathBuf, Vec<PathBuf>),
    (out, beside): (NewFile, PathBuf),
    progress: &Progress,
) -> Result<Saved> {
    let capabilities = room::migrations();
    let shapes = Shape::all(&capabilities).await?;
    let mut snapshot = Snapshot::begin(db).await?;
    let now = clock.now();
    let found = snapshot.migrations().await.unwrap_or_default();
    if found != newest(&capabilities) {
        return Err(Error::conflict(
            "the tables are not those of this version; run `opsroom migrate` first, or make the backup with the \
             version that runs the server",
        ));
    }
    // Right after the tables: what they say of the logs is there.
    let logs = data_dir.join("logs");
    let logs = Lifecycle::blocking(move || frozen(&logs)).await?;
    let manifest = Manifest::new(db.dialect().as_str(), found, now);
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(Error::internal)?;
    let mut writer = Writer::new(Out(out), u64::try_from(now.0 / 1_000_000).unwrap_or_default());
    writer.add(&Entry::Manifest, manifest.len() as u64, None, manifest.as_slice())?;
    let mut saved = Saved { tables: shapes.len() as u64, ..Saved::default() };
    for shape in &shapes {
        progress.report(None, format!("table {}", shape.name));
        let rows;
        (writer, rows) = table(&mut snapshot, shape, &beside, writer).await?;
        saved.rows += rows;
    }
    drop(snapshot);
    let progress = progress.clone();
    Lifecycle::blocking(move || {
        let mut found = folder::find(&data_dir, &ours)?;
        saved.files = files(&mut writer, &data_dir, found.files, logs, &progress)?;
        saved.left.append(&mut found.left);
        saved.path = writer.finish()?.0.finish_new()?;
        Ok(saved)
    })
    .await
}

/// Adds a table. How long its entry is must be known before it begins, so it is put aside first, in a file
/// that has no name.
async fn table(
    snapshot: &mut Snapshot,
    shape: &Shape,
    beside: &Path,
    mut writer: Writer<Out>,
) -> Result<(Writer<Out>, u64)> {
    let mut aside = tempfile::tempfile_in(beside).map_err(unwritten)?;
    let mut text = Vec::new();
    rows::head(shape, &mut text)?;
    put(&aside, text).await?;
    let rows = snapshot
        .rows(shape, async |batch| {
            let mut text = Vec::new();
            batch.into_iter().try_for_each(|row| rows::row(row, &mut text))?;
            put(&aside, text).await
        })
        .await?;
    let name = shape.name.clone();
    let writer = Lifecycle::blocking(move || {
        let bytes = aside.stream_position().map_err(unwritten)?;
        aside.seek(SeekFrom::Start(0)).map_err(unwritten)?;
        writer.add(&Entry::Table(name), bytes, Some(rows), aside)?;
        Ok(writer)
    })
    .await?;
    Ok((writer, rows))
}

async fn put(file: &File, text: Vec<u8>) -> Result<()> {
    let mut file = file.try_clone().map_err(unwritten)?;
    Lifecycle::blocking(move || file.write_all(&text).map_err(unwritten)).await
}

fn unwritten(error: std::io::Error) -> Error {
    Error::unavailable(format!("a table could not be put aside beside the archive: {error}"))
}

/// Adds the files; answers how many they were.
fn files(
    writer: &mut Writer<Out>,
    data_dir: &Path,
    found: Vec<String>,
    logs: Vec<Frozen>,
    progress: &Progress,
) -> Result<u64> {
    let roots = Roots::new(&[data_dir.to_owned()])?;
    let logs = logs.into_iter().map(|file| (format!("logs/{}", file.name), file.open));
    let all: Vec<_> = logs.chain(found.into_iter().map(|path| (path, None))).collect();
    let (total, mut count) = (all.len(), 0);
    for (at, (path, open)) in all.into_iter().enumerate() {
        progress.report(Some(at as f64 / total as f64), format!("file {} of {total}", at + 1));
        let (file, bytes) = match open {
            Some((mut file, bytes)) => {
                file.seek(SeekFrom::Start(0)).map_err(Error::internal)?;
                (file, bytes)
            }
            None => match roots.open_read(&path) {
                Ok(opened) => (opened.file, opened.bytes),
                // It went since it was found.
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => return Err(error),
            },
        };
        writer.add(&Entry::File(path), bytes, None, file)?;
        count += 1;
    }
    Ok(count)
}
