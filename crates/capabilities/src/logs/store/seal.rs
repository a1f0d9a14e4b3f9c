//! Sealing full parts, and removing what need not be kept.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use opsroom_analytics::segments::encode;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::Retention;
use super::embedded::{Embedded, Kept, segment_path};
use super::memory::Part;
use super::recover::{keep, sync_folder};

/// How often it is looked for what need not be kept.
const RETENTION: Duration = Duration::from_secs(60);
/// How long to wait before a part that could not be sealed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
const DAY_MICROS: i64 = 86_400_000_000;

/// Seals parts as they become full, until the server stops.
pub(super) async fn run(store: Embedded, stop: CancellationToken) -> Result<()> {
    let mut next = tokio::time::interval(RETENTION);
    loop {
        while let Some(part) = store.snapshot().sealing.first().cloned() {
            if stop.is_cancelled() {
                return Ok(());
            }
            if let Err(error) = seal(&store, &part).await {
                tracing::error!(error = %error, causes = error.causes(), "log lines could not be packed");
                store.change(|state| state.trouble = Some(format!("lines could not be packed: {error}")));
                // The lines stay where they are, in memory and in the write-ahead file.
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
        tokio::select! {
            () = store.inner.sealed.notified() => {}
            _ = next.tick() => {
                let config = &store.inner.config;
                let age = i64::from(config.keep_days).saturating_mul(DAY_MICROS);
                let before = if age == 0 { i64::MIN } else { store.inner.clock.now().0.saturating_sub(age) };
                let bytes = if config.keep_bytes == 0 { u64::MAX } else { config.keep_bytes };
                if let Err(error) = retain(&store, Retention { before, bytes }).await {
                    tracing::error!(error = %error, causes = error.causes(), "old log lines could not be removed");
                }
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn seal(store: &Embedded, part: &Arc<Part>) -> Result<()> {
    let (of_store, of_part) = (store.clone(), part.clone());
    let kept = Lifecycle::blocking(move || write(&of_store, &of_part)).await?;
    store.inner.catalogue.put(&kept.entry).await?;
    store.change(|state| {
        state.sealing.retain(|other| other.id != part.id);
        state.segments.push(Arc::new(kept));
        state.trouble = None;
    });
    store.inner.sealed.notify_waiters();
    let path = store.inner.wal_path(part.id);
    // When it cannot be removed, the next start sees that its segment is there.
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(error = %error, "a write-ahead file could not be removed");
    }
    Ok(())
}

fn write(store: &Embedded, part: &Part) -> Result<Kept> {
    let all = part.joined();
    let packed = encode(&all.rows, &all.streams, &mut |lines| store.inner.names.of(lines));
    let packed = packed.map_err(Error::internal)?;
    drop(all);
    let folder = &store.inner.folder;
    let path = segment_path(folder, part.id);
    put(folder, &path, &packed)
        .map_err(|error| Error::unavailable(format!("`{}` cannot be written: {error}", path.display())))?;
    sync_folder(folder)?;
    keep(folder, part.id, store.inner.clock.now())
}

fn put(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(&part, path)) {
        // What is left of it would only take space.
        let _left_for_the_next_start = std::fs::remove_file(folder.join(&part));
        return Err(error);
    }
    Ok(())
}

/// Removes segments that are too old or too many, the oldest first.
pub(super) async fn retain(store: &Embedded, retention: Retention) -> Result<u64> {
    let mut segments = store.snapshot().segments;
    segments.sort_by_key(|kept| kept.entry.times.1);
    let mut bytes: u64 = segments.iter().map(|kept| kept.entry.stored_bytes).sum();
    let mut gone = 0;
    for kept in segments {
        if kept.entry.times.1 >= retention.before && bytes <= retention.bytes {
            continue;
        }
        bytes -= kept.entry.stored_bytes;
        // First out of sight, then out of the catalogue, then from the disk: a crash in between leaves a
        // file, which the next start takes up and this removes again.
        store.change(|state| state.segments.retain(|other| other.entry.id != kept.entry.id));
        store.inner.catalogue.remove(kept.entry.id).await?;
        match std::fs::remove_file(&kept.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::internal(error)),
            _ => gone += 1,
        }
    }
    Ok(gone)
}
