//! The files of captures: one each, in the data folder, by its id; they go by age and by bytes.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Kind, Result};

use super::Dashboards;
use super::store::CaptureRow;

/// The largest picture, in bytes.
pub const LARGEST: u64 = 64 << 20;
/// How often it is looked for what is too old.
const PERIOD: Duration = Duration::from_secs(3600);
/// How long after the start for the first time.
const FIRST: Duration = Duration::from_secs(60);

/// The folder of the files.
#[derive(Clone)]
pub struct Files(PathBuf);

impl Files {
    /// In this data folder; it is made with the first file.
    pub fn new(data_dir: &Path) -> Self {
        Self(data_dir.join("captures"))
    }

    fn roots(&self) -> Result<Roots> {
        if !self.0.is_dir() {
            let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.0);
            made.map_err(|error| Error::unavailable(format!("captures cannot be kept: {error}")))?;
        }
        Roots::new(std::slice::from_ref(&self.0))
    }

    /// Keeps a file of its owner's alone.
    pub async fn write(&self, name: String, bytes: Bytes) -> Result<()> {
        let this = self.clone();
        Lifecycle::blocking(move || this.roots()?.create_new(&name, &bytes).map(drop)).await
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `NotFound` when it is gone.
    pub async fn read(&self, name: String) -> Result<Bytes> {
        let this = self.clone();
        Lifecycle::blocking(move || match this.roots()?.read(&name, LARGEST) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) if error.kind == Kind::NotFound => {
                Err(Error::not_found("the picture of this capture is not in the data folder of this server"))
            }
            Err(error) => Err(error),
        })
        .await
    }

    /// Removes a file, if it is there.
    pub async fn remove(&self, name: String) -> Result<()> {
        let path = self.0.join(name);
        Lifecycle::blocking(move || match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::internal(error)),
            _ => Ok(()),
        })
        .await
    }
}

/// The file's name.
pub fn name(row: &CaptureRow) -> String {
    format!("{}.{}", row.id, row.seen.format.ending())
}

impl Dashboards {
    /// Removes what is too old, now and then.
    pub fn start(&self) {
        let dashboards = self.clone();
        let stop = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("captures", async move {
            let mut wait = FIRST;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => wait = PERIOD,
                    () = stop.cancelled() => return Ok(()),
                }
                if let Err(error) = dashboards.remove_old().await {
                    let causes = error.causes();
                    tracing::warn!(error = error.message, causes, "old captures cannot be removed");
                }
            }
        });
    }

    /// Removes what is older than captures are kept, and the oldest of what is more.
    pub(super) async fn remove_old(&self) -> Result<()> {
        const DAY: i64 = 86_400;
        let config = &self.inner.config;
        let before = self.inner.clock.now().plus_seconds(-DAY * i64::from(config.keep_days));
        let most = i64::try_from(config.keep_mib << 20).unwrap_or(i64::MAX);
        for (id, team) in self.inner.store.too_much(before, most).await? {
            if let Some(row) = self.inner.store.capture(&[team], &id).await? {
                self.remove(&row).await?;
            }
        }
        Ok(())
    }

    /// The row goes first: a file without one is found by nobody, a row without its file is a riddle.
    pub(super) async fn remove(&self, row: &CaptureRow) -> Result<()> {
        self.inner.store.delete_capture(&row.id).await?;
        self.inner.files.remove(name(row)).await
    }
}
