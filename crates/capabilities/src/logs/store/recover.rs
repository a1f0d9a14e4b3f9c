//! The start: what an earlier process left in the folder becomes the state.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use opsroom_analytics::segments::Segment;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Clock, Error, Result};

use super::catalogue::{Catalogue, Entry};
use super::embedded::{FileBlob, Kept, State, segment_path, wal_path};
use super::memory::Part;
use super::wal;

/// The file that holds the store's name.
pub(super) const NAME: &str = "store.name";

/// The store's own name, made when it begins.
pub(super) fn name(folder: &Path) -> Result<String> {
    if !folder.is_dir() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unusable(folder, &error))?;
    }
    let path = folder.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(folder, &error)),
        _ => {}
    }
    let name = opsroom_core::id::new_id();
    std::fs::write(&path, &name).map_err(|error| unusable(folder, &error))?;
    sync_folder(folder)?;
    Ok(name)
}

/// A new write-ahead file, in the place of one of that number that was never used.
pub(super) fn begin(folder: &Path, id: u64) -> Result<File> {
    let path = wal_path(folder, id);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.map_err(|error| unusable(folder, &error))?;
    sync_folder(folder)?;
    Ok(file)
}

/// Makes sure that names in the folder outlive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unusable(folder, &error))
}

fn unusable(folder: &Path, error: &std::io::Error) -> Error {
    Error::unavailable(format!("the folder of kept logs `{}` cannot be used: {error}", folder.display()))
}

/// What is there: the segments, the parts, and the file to go on writing with, and where it ends.
pub(super) async fn recover(
    folder: &Path,
    catalogue: &Catalogue,
    clock: &Clock,
) -> Result<(State, File, u64)> {
    let known = catalogue.all().await?;
    let (at, now) = (folder.to_owned(), clock.now());
    let (mut state, found, file, end) = Lifecycle::blocking(move || read(&at, now)).await?;
    // A segment that a crash kept out of the catalogue is put into it; one whose file is gone is taken out.
    let listed: BTreeSet<u64> = known.iter().map(|entry| entry.id).collect();
    for kept in state.segments.iter().filter(|kept| !listed.contains(&kept.entry.id)) {
        catalogue.put(&kept.entry).await?;
    }
    for entry in known.iter().filter(|entry| !found.contains(&entry.id)) {
        let rows = entry.rows;
        tracing::error!(segment = entry.id, rows, "a log segment of the catalogue is not in its folder");
        state.trouble = Some(format!("a segment with {rows} lines was missing from its folder at the start"));
        catalogue.remove(entry.id).await?;
    }
    Ok((state, file, end))
}

type Found = (State, BTreeSet<u64>, File, u64);

fn read(folder: &Path, now: opsroom_core::clock::Time) -> Result<Found> {
    let (mut wals, mut segments) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).map_err(|error| unusable(folder, &error))? {
        let name = entry.map_err(|error| unusable(folder, &error))?.file_name();
        let Some((id, kind)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let Ok(id) = u64::from_str_radix(id, 16) else { continue };
        match kind {
            "wal" => drop(wals.insert(id)),
            "seg" => drop(segments.insert(id)),
            // A segment that was being written; its lines are in the write-ahead file.
            "part" => drop(std::fs::remove_file(folder.join(&name))),
            _ => {}
        }
    }
    let mut state = State::default();
    let mut usable = BTreeSet::new();
    for &id in &segments {
        match keep(folder, id, now) {
            Ok(kept) => {
                usable.insert(id);
                state.segments.push(Arc::new(kept));
                if wals.remove(&id) {
                    std::fs::remove_file(wal_path(folder, id)).map_err(|error| unusable(folder, &error))?;
                }
            }
            // With its write-ahead file it is made anew.
            Err(error) if wals.contains(&id) => {
                tracing::warn!(segment = id, error = %error, "a damaged log segment is made anew");
            }
            Err(error) => {
                tracing::error!(segment = id, error = %error, causes = error.causes(), "a log segment cannot be read");
                state.trouble = Some(format!("segment {id:x} cannot be read: {error}"));
                usable.insert(id);
            }
        }
    }
    let last = wals.last().copied();
    for id in wals {
        let mut file = OpenOptions::new().read(true).write(true).open(wal_path(folder, id));
        let file = file.as_mut().map_err(|error| unusable(folder, error))?;
        let (batches, end) = wal::frames(file).map_err(|error| unusable(folder, &error))?;
        let mut part = Part { id, ..Part::default() };
        batches.into_iter().for_each(|batch| part.add(Arc::new(batch)));
        if Some(id) == last {
            // What follows the last whole frame was never acknowledged.
            file.set_len(end).map_err(|error| unusable(folder, &error))?;
            let file = file.try_clone().map_err(|error| unusable(folder, &error))?;
            state.open = part;
            return Ok((state, usable, file, end));
        }
        if part.rows == 0 {
            std::fs::remove_file(wal_path(folder, id)).map_err(|error| unusable(folder, &error))?;
        } else {
            state.sealing.push(Arc::new(part));
        }
    }
    let id = segments.last().map_or(1, |id| id + 1);
    state.open.id = id;
    let file = begin(folder, id)?;
    Ok((state, usable, file, 0))
}

/// Opens the file of a segment.
pub(super) fn keep(folder: &Path, id: u64, now: opsroom_core::clock::Time) -> Result<Kept> {
    let path = segment_path(folder, id);
    let blob = FileBlob::open(&path).map_err(|error| unusable(folder, &error))?;
    let stored_bytes = opsroom_analytics::segments::Blob::len(&blob);
    let segment = Segment::open(Arc::new(blob)).map_err(|error| {
        Error::unavailable(format!("a segment of kept logs cannot be read: {error}")).because(error)
    })?;
    let entry = Entry {
        id,
        rows: segment.rows() as u64,
        times: segment.times(),
        plain_bytes: segment.plain_bytes(),
        stored_bytes,
        created_at: now,
    };
    Ok(Kept { entry, path, segment })
}
