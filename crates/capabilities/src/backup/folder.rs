//! The data folder: what of it belongs to its users, and whether it is empty.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use opsroom_core::seal::MASTER_FILE;
use opsroom_core::{Error, Result};

use super::format::{KEPT, LONGEST};
use crate::room::RoomConfig;

/// Folders that are there and go into no archive: references to secrets, and files on their way.
const LEFT: [&str; 3] = ["secrets.d", "downloads", STAGED];
/// Where a restore puts files until all of them are whole.
pub const STAGED: &str = ".restore";
/// What may be in a folder before a restore.
const BEFORE: [&str; 6] = [MASTER_FILE, "opsroom.yaml", "opsroom.lock", "secrets.d", "downloads", STAGED];

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Regular files, by their paths in the data folder, in order.
    pub files: Vec<String>,
    /// What is left out although it is in a folder of the users, in words.
    pub left: Vec<String>,
}

/// The file of the master key.
pub fn master_file(config: &RoomConfig) -> PathBuf {
    let file = &config.kept_secrets.master_key.file;
    if file.as_os_str().is_empty() { config.data_dir.join(MASTER_FILE) } else { file.clone() }
}

/// The users' files but those of the store of logs. What begins with a path of `ours` is none of them.
///
/// # Errors
/// `Unavailable` when a folder cannot be read.
pub fn find(data_dir: &Path, ours: &[PathBuf]) -> Result<Found> {
    let ours: Vec<PathBuf> = ours.iter().map(|path| without_links(path)).collect();
    let mut found = Found::default();
    for entry in entries(data_dir)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if folder && KEPT.contains(&name.as_str()) && name != "logs" {
            walk(&entry.path(), &name, &ours, &mut found)?;
        } else if folder && name != "logs" && !LEFT.contains(&name.as_str()) {
            found.left.push(format!("the folder `{name}`, which is none of opsroom's"));
        }
    }
    found.files.sort_unstable();
    Ok(found)
}

fn walk(folder: &Path, path: &str, ours: &[PathBuf], found: &mut Found) -> Result<()> {
    for entry in entries(folder)? {
        let Ok(name) = entry.file_name().into_string() else {
            found.left.push(format!("a file in `{path}` whose name is not UTF-8"));
            continue;
        };
        let here = format!("{path}/{name}");
        let place = without_links(&entry.path());
        let is_ours = ours.iter().any(|own| begins(&place, own));
        let part = name.starts_with('.') && name.ends_with(".part");
        // The process of a local service, and what it wrote to its standard error.
        let of_process = path.starts_with("services/") && ["pid", "stderr.log"].contains(&name.as_str());
        let kind = entry.file_type().map_err(|error| unread(folder, &error))?;
        if is_ours || part || of_process {
            continue;
        } else if name.contains('\\') || here.len() > LONGEST {
            found.left.push(format!("`{here}`, whose name cannot be kept"));
        } else if kind.is_dir() {
            walk(&entry.path(), &here, ours, found)?;
        } else if kind.is_file() {
            found.files.push(here);
        } else {
            found.left.push(format!("`{here}`, which is no regular file"));
        }
    }
    Ok(())
}

/// Whether a path is another one, or one beside it that begins with its name (`opsroom.log` and
/// `opsroom.log.1.gz`).
fn begins(path: &Path, own: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(path_name), Some(own_name)) = (name(path), name(own)) else { return false };
    path.parent() == own.parent() && path_name.starts_with(&own_name)
}

/// The folder of a path is resolved; the path itself may not be there.
fn without_links(path: &Path) -> PathBuf {
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn entries(folder: &Path) -> Result<Vec<std::fs::DirEntry>> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    match entries {
        // It went after it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(|error| unread(folder, &error)),
    }
}

fn unread(folder: &Path, error: &std::io::Error) -> Error {
    Error::unavailable(format!("the folder `{}` cannot be read: {error}", folder.display()))
}

/// Refuses a data folder that somebody has used. `archive` may be in it.
///
/// # Errors
/// `Conflict` when it has more than what one puts there before a first start.
pub fn refuse_used(config: &RoomConfig, archive: &Path) -> Result<()> {
    let folder = &config.data_dir;
    // What a restore that was cut short put there goes before the next one begins.
    let unfinished = folder.join(STAGED).exists();
    let mut may: Vec<PathBuf> = BEFORE.iter().map(|name| folder.join(name)).collect();
    may.extend([master_file(config), without_links(archive)]);
    let database = config.database.file(folder).map(|path| without_links(&path));
    for entry in entries(folder)? {
        let (path, name) = (without_links(&entry.path()), entry.file_name().to_string_lossy().into_owned());
        let kept = KEPT.contains(&name.as_str())
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && (unfinished || entries(&path)?.is_empty());
        let of_database = database.as_ref().is_some_and(|database| begins(&path, database));
        if !kept && !of_database && !may.iter().any(|one| without_links(one) == path) {
            return Err(Error::conflict(format!(
                "the data folder `{}` is in use: it has `{name}`; restore into an empty one, which may have the master \
                 key and the configuration, and choose it with --data-dir",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// Makes the folder of what is not yet whole, in place of one that a restore left which was cut short.
pub fn begin(data_dir: &Path) -> Result<PathBuf> {
    if data_dir.join(STAGED).exists() {
        remove(data_dir)?;
    }
    let staged = data_dir.join(STAGED);
    DirBuilder::new().mode(0o700).create(&staged).map_err(|error| unwritten(&staged, &error))?;
    Ok(staged)
}

/// Puts what is whole into its place.
pub fn place(data_dir: &Path) -> Result<()> {
    let staged = data_dir.join(STAGED);
    sync(&staged).map_err(|error| unwritten(&staged, &error))?;
    for name in KEPT.iter().filter(|name| staged.join(name).is_dir()) {
        // An empty folder of that name is replaced.
        std::fs::rename(staged.join(name), data_dir.join(name))
            .map_err(|error| unwritten(&staged, &error))?;
    }
    File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(|error| unwritten(data_dir, &error))
}

/// Names in folders outlive a power cut once their folder is on the disk.
fn sync(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Says that the restore is done.
pub fn end(data_dir: &Path) -> Result<()> {
    let staged = data_dir.join(STAGED);
    std::fs::remove_dir_all(&staged).map_err(|error| unwritten(&staged, &error))
}

/// Removes what a restore put there that failed: the folders were empty before it.
pub fn remove(data_dir: &Path) -> Result<()> {
    for name in KEPT.iter().chain([&STAGED]) {
        match std::fs::remove_dir_all(data_dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unwritten(&data_dir.join(name), &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    Error::unavailable(format!("`{}` cannot be written: {error}", path.display()))
}
