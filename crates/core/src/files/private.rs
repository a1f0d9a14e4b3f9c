//! The data folder: for its owner alone, used by one server at a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{NewFile, beneath, read_all, regular, trouble};
use crate::error::{Error, Result};

const LOCK: &str = "opsroom.lock";
/// The most bytes of a file of ours that is read whole.
const MAX_PRIVATE_BYTES: u64 = 1 << 20;

/// Where data is kept when nobody says: the platform's folder for it.
///
/// # Errors
/// `Invalid` when the environment names no home.
pub fn default_data_dir(environment: &BTreeMap<String, String>) -> Result<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = absolute("XDG_DATA_HOME") {
        return Ok(folder.join("opsroom"));
    }
    let below = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    match absolute("HOME") {
        Some(home) => Ok(home.join(below).join("opsroom")),
        None => {
            Err(Error::invalid("the environment names no HOME for the data folder; give one with --data-dir"))
        }
    }
}

/// The data folder, open and writable.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    dir: OwnedFd,
}

/// Held by the server while it uses the data folder; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataDir {
    /// Opens the data folder, and makes it with mode 0700 when it is missing.
    ///
    /// A folder of ours that others may look into is closed to them, when it is empty or was a data
    /// folder before; one with other files in it is left alone and refused.
    ///
    /// # Errors
    /// `Forbidden` for a folder that others may use or that cannot be written, `Invalid` for what is not
    /// a folder.
    pub fn open(path: &Path) -> Result<Self> {
        make_private_folder(path)?;
        let text = path.display().to_string();
        let dir = beneath::open_root(path).map_err(|error| trouble(&text, error))?;
        close_to_others(path, &dir)?;
        let path = std::fs::canonicalize(path).map_err(|error| cannot_use(path, &error))?;
        let this = Self { path, dir };
        // Writing is the only sure way to learn whether it can be written.
        this.lock_file()?;
        Ok(this)
    }

    /// Where it is, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// `Conflict` when another process has it.
    pub fn lock(&self) -> Result<DataLock> {
        let mut file = self.lock_file()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only for the message; without it the message is shorter.
                let _unread = (&mut file).take(20).read_to_string(&mut holder);
                let holder =
                    holder.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
                return Err(Error::conflict(format!(
                    "another opsroom{holder} uses the data folder `{}`; stop it, or choose another folder with \
                     --data-dir",
                    self.path.display()
                )));
            }
            Err(error) => return Err(trouble(LOCK, error)),
        }
        let write = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        write.map_err(|error| cannot_use(&self.path, &error))?;
        Ok(DataLock { _file: file })
    }

    /// Writes a file that only the owner can read (mode 0600), whole or not at all, in place of an older
    /// one. `name` is a file's name in the data folder.
    ///
    /// # Errors
    /// `Unavailable` or `Forbidden` when it cannot be written.
    pub fn write_private(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let dir = self.dir.try_clone().map_err(Error::internal)?;
        let mut file = NewFile::begin(dir, &OsString::from(name), self.path.join(name))?;
        file.write(bytes)?;
        file.finish_replacing()
    }

    /// Reads a file of the data folder, of at most 1 MiB; links are refused.
    ///
    /// # Errors
    /// `NotFound` when there is none, `Forbidden` when others than the owner can read it.
    pub fn read_private(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name).display().to_string();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath::open(&self.dir, &[name.into()], flags).map_err(|error| trouble(&path, error))?;
        let (file, _) = regular(file, &path)?;
        let mode = file.metadata().map_err(Error::internal)?.mode();
        if mode & 0o077 != 0 {
            return Err(Error::forbidden(format!(
                "others than the owner may use `{path}`, which holds a secret (mode {:04o}); make it 0600",
                mode & 0o7777
            )));
        }
        read_all(file, &path, MAX_PRIVATE_BYTES)
    }

    fn lock_file(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, LOCK, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|error| cannot_use(&self.path, &error.into()))?;
        Ok(regular(file, &self.path.join(LOCK).display().to_string())?.0)
    }
}

/// Makes a folder with mode 0700, and the folders above it, when it is missing.
pub(super) fn make_private_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| cannot_use(path, &error))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        // Made by another process meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(|error| cannot_use(path, &error)),
    }
}

fn close_to_others(path: &Path, dir: &OwnedFd) -> Result<()> {
    let folder = File::from(dir.try_clone().map_err(Error::internal)?);
    let state = folder.metadata().map_err(|error| cannot_use(path, &error))?;
    let mode = state.mode() & 0o7777;
    let ours = state.uid() == rustix::process::geteuid().as_raw();
    // A folder of somebody else that our group may use is how volumes of containers are given.
    let wrong = if ours { mode & 0o077 } else { mode & 0o007 };
    if wrong == 0 {
        return Ok(());
    }
    if ours && is_ours_to_close(path)? {
        let closed = std::fs::Permissions::from_mode(0o700);
        return folder.set_permissions(closed).map_err(|error| cannot_use(path, &error));
    }
    Err(Error::forbidden(format!(
        "others may use the data folder `{}` (mode {mode:04o}), and it holds other files; make it 0700, or choose \
         another with --data-dir",
        path.display()
    )))
}

/// Empty, or a data folder from before, or one that holds nothing but what its user put there for us.
fn is_ours_to_close(path: &Path) -> Result<bool> {
    if path.join(LOCK).exists() {
        return Ok(true);
    }
    let mut entries = std::fs::read_dir(path).map_err(|error| cannot_use(path, &error))?;
    Ok(entries.all(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("opsroom.")))
    }))
}

fn cannot_use(path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let text = format!(
        "the data folder `{}` cannot be used: {error}; choose another with --data-dir, or let this user write it",
        path.display()
    );
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::forbidden(text),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Error::invalid(text),
        _ => Error::unavailable(text),
    }
}
