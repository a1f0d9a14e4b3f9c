//! `opsroom backup` and `opsroom restore`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use opsroom_capabilities::backup::{self, Restored, Saved};
use opsroom_core::telemetry::printable;
use opsroom_core::{Clock, Error, Result};

use super::server::{configuration, data_dir, room_config};
use super::{Place, say};
use crate::files_cli::{Shown, warn};

/// Flags of `opsroom backup`.
#[derive(clap::Args)]
pub struct BackupArgs {
    /// The file to write: a gzipped tar, such as room.tar.gz
    file: PathBuf,
}

/// Flags of `opsroom restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// What `opsroom backup` wrote
    file: PathBuf,
}

/// `opsroom backup`
pub async fn save(place: &Place, args: BackupArgs) -> Result<ExitCode> {
    let path = data_dir(place)?;
    let config = configuration(place, &path, Vec::new())?.config;
    let own_log = config.log.file.clone().map(absolute).transpose()?;
    let own_log: Vec<PathBuf> = own_log.into_iter().collect();
    let config = room_config(&path, &config)?;
    let shown = Shown::begin();
    let saved = backup::save(&config, &Clock::System, &own_log, &args.file, &shown.progress).await;
    shown.end();
    let Saved { path, tables, rows, files, left, master_key } = saved?;
    let path = text(&path);
    say(format_args!("{path}: {rows} rows of {tables} tables, and {files} files"))?;
    if let Some(key) = master_key {
        let key = text(&key);
        say(format_args!(
            "the master key is not in it; keep {key} apart, or the secrets in it can never be opened"
        ))?;
    }
    let left: Vec<String> = left.into_iter().map(|what| format!("left out: {what}")).collect();
    warn(&left);
    Ok(ExitCode::SUCCESS)
}

/// `opsroom restore`
pub async fn restore(place: &Place, args: RestoreArgs) -> Result<ExitCode> {
    let path = data_dir(place)?;
    let config = configuration(place, &path, Vec::new())?.config;
    let config = room_config(&path, &config)?;
    let shown = Shown::begin();
    let restored = backup::restore(&config, &Clock::System, &args.file, &shown.progress).await;
    shown.end();
    let Restored { manifest, rows, files } = restored?;
    let (made_at, database, path) =
        (printable(&manifest.made_at).into_owned(), printable(&manifest.database).into_owned(), text(&path));
    say(format_args!("{path}: {rows} rows and {files} files, as they were on {database} at {made_at}"))?;
    Ok(ExitCode::SUCCESS)
}

fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::internal)
}

fn text(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}
