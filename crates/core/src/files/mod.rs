//! Files that callers may name: strictly below configured folders, and nothing but regular files.
//!
//! A *root* is a folder that the configuration opens to callers. A path from a caller is relative to a
//! root, or absolute and below one. It is resolved by the kernel beneath the root's open folder, and a
//! link anywhere in it is refused; nothing is checked first and opened later, so there is no moment in
//! which it could be swapped. A file is opened without waiting and then looked at: a pipe, a device or a
//! socket is refused and cannot hang the one who opens it.
//!
//! These functions block: call them through [`crate::lifecycle::Lifecycle::blocking`].
//!
//! [`read_named`] and [`open_named`] are for files that the one who starts the program names (the
//! configuration, a command's argument): they follow links, and read what the user can.

mod beneath;
mod path;
mod private;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

pub use private::{DataDir, DataLock, default_data_dir};
pub use write::NewFile;

use path::{Asked, shown};

/// The most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// Which folders callers may read and write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilesConfig {
    /// The folders below which callers may name files. A relative path of a caller is looked for in each,
    /// in this order; new files go to the first. Empty: the folder `files` in the data folder.
    pub roots: Vec<PathBuf>,
}

impl FilesConfig {
    /// Opens the folders; the default one is made when it is missing.
    ///
    /// # Errors
    /// `Invalid` for a folder that is not there, `Forbidden` for one that cannot be read.
    pub fn open(&self, data_dir: &Path) -> Result<Roots> {
        if !self.roots.is_empty() {
            return Roots::new(&self.roots);
        }
        let path = data_dir.join("files");
        private::make_private_folder(&path)?;
        Roots::new(&[path])
    }

    /// # Errors
    /// `Invalid` for a root that is not an absolute path, or is the whole file system.
    pub fn validate(&self) -> Result<()> {
        for root in &self.roots {
            if !root.is_absolute() || root.parent().is_none() {
                let root = root.display();
                return Err(Error::invalid(format!(
                    "files.roots: `{root}` must be an absolute path of a folder, and not the whole file system"
                )));
            }
        }
        Ok(())
    }
}

/// The folders below which callers may name files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Roots {
    roots: Arc<[Root]>,
}

#[derive(Debug)]
struct Root {
    /// As it was configured.
    named: PathBuf,
    /// Without links.
    path: PathBuf,
}

/// A regular file below a root, open for reading.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Where it is, for people.
    pub path: PathBuf,
    /// How many bytes it had when it was opened.
    pub bytes: u64,
}

/// What a folder has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The first entries by name. Links, pipes, devices and names that are not UTF-8 are left out.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    pub more: bool,
}

/// A file or folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the folder.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// The size of a file, in bytes.
    pub bytes: u64,
    /// When it was last changed, in seconds since 1970.
    pub modified: i64,
}

impl Roots {
    /// Opens each folder once, to refuse one that cannot be used.
    ///
    /// # Errors
    /// `Invalid` for a folder that is not there, `Forbidden` for one that cannot be read.
    pub fn new(roots: &[PathBuf]) -> Result<Self> {
        let open = |named: &PathBuf| {
            let trouble = |error: std::io::Error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
                    _ => Kind::Invalid,
                };
                let text = format!("the folder `{}` of files.roots cannot be used: {error}", named.display());
                Error::new(kind, text)
            };
            let path = std::fs::canonicalize(named).map_err(trouble)?;
            beneath::open_root(&path).map_err(|error| trouble(error.into()))?;
            Ok(Root { named: named.clone(), path })
        };
        Ok(Self { roots: roots.iter().map(open).collect::<Result<_>>()? })
    }

    /// The folders, without links.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| root.path.as_path())
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `Invalid` for a path that cannot be one, `Forbidden` for a path that leaves the roots or goes over
    /// a link, or that may not be read, `NotFound` when there is no such file.
    pub fn open_read(&self, path: &str) -> Result<Opened> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (file, place) = self.first(path, |dir, asked| {
            if asked.names_folder {
                return Err(Error::invalid(format!("`{}` names a folder, not a file", shown(path))));
            }
            beneath::open(dir, &asked.parts, flags).map_err(|error| trouble(path, error))
        })?;
        let (file, bytes) = regular(file, path)?;
        Ok(Opened { file, path: place, bytes })
    }

    /// Reads a whole regular file of at most `max_bytes`.
    ///
    /// # Errors
    /// Those of [`Roots::open_read`], and `Invalid` for a file that is larger.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
        let opened = self.open_read(path)?;
        read_all(opened.file, path, max_bytes)
    }

    /// The first `limit` entries of a folder, by name. An empty path is the first root.
    ///
    /// # Errors
    /// Those of [`Roots::open_read`].
    pub fn list(&self, path: &str, limit: usize) -> Result<Listing> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (dir, _) = self.first(path, |dir, asked| {
            beneath::open(dir, &asked.parts, flags).map_err(|error| trouble(path, error))
        })?;
        list(&dir, path, limit)
    }

    /// Begins a new file, which appears under its name, whole, when it is finished. Folders on the way
    /// are made when they are missing.
    ///
    /// # Errors
    /// Those of [`Roots::open_read`].
    pub fn create(&self, path: &str) -> Result<NewFile> {
        let (root, mut asked) = self.place(path)?;
        let Some(name) = asked.parts.pop().filter(|_| !asked.names_folder) else {
            return Err(Error::invalid(format!("`{}` names a folder, not a file", shown(path))));
        };
        let dir = beneath::open_root(&root.path).map_err(|error| trouble(path, error))?;
        let dir = beneath::make_folders(dir, &asked.parts).map_err(|error| trouble(path, error))?;
        let mut place = root.path.clone();
        place.extend(&asked.parts);
        NewFile::begin(dir, &name, place.join(&name))
    }

    /// Writes a whole new file with mode 0600.
    ///
    /// # Errors
    /// Those of [`Roots::create`], and `Conflict` when there is a file already.
    pub fn create_new(&self, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let mut file = self.create(path)?;
        file.write(bytes)?;
        file.finish_new()
    }

    /// Writes a whole file with mode 0600, in place of what was there; a reader sees the old or the new.
    ///
    /// # Errors
    /// Those of [`Roots::create`].
    pub fn replace(&self, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let mut file = self.create(path)?;
        file.write(bytes)?;
        file.finish_replacing()
    }

    /// The root that a path is below (for a relative one the first), and what is asked for below it.
    fn place(&self, path: &str) -> Result<(&Root, Asked)> {
        let asked = Asked::parse(path)?;
        if !asked.absolute {
            let root = self.roots.first().ok_or_else(|| self.outside(path))?;
            return Ok((root, asked));
        }
        for root in self.roots.iter() {
            for base in [&root.path, &root.named] {
                if let Some(asked) = asked.below(base) {
                    return Ok((root, asked));
                }
            }
        }
        Err(self.outside(path))
    }

    /// What `open` finds in the first root that has it.
    fn first(
        &self,
        path: &str,
        open: impl Fn(&OwnedFd, &Asked) -> Result<OwnedFd>,
    ) -> Result<(OwnedFd, PathBuf)> {
        let (root, asked) = self.place(path)?;
        let mut missing = None;
        let others = self.roots.iter().filter(|other| !asked.absolute && !std::ptr::eq(*other, root));
        for root in std::iter::once(root).chain(others) {
            let dir = beneath::open_root(&root.path).map_err(|error| trouble(path, error))?;
            match open(&dir, &asked) {
                Ok(file) => return Ok((file, root.path.join(asked.parts.iter().collect::<PathBuf>()))),
                Err(error) if error.kind == Kind::NotFound => missing = missing.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(missing.map_or_else(
            || self.outside(path),
            |error| {
                Error::not_found(format!(
                    "{error}; paths begin in the folders that are open to callers ({})",
                    self.named()
                ))
            },
        ))
    }

    fn outside(&self, path: &str) -> Error {
        Error::forbidden(format!(
            "`{}` is outside the folders that are open to callers ({}); name a file below one of them, or let the \
             server open its folder with `files.roots`",
            shown(path),
            self.named()
        ))
    }

    fn named(&self) -> String {
        let roots: Vec<String> = self.paths().map(|root| format!("`{}`", root.display())).collect();
        if roots.is_empty() { "none is configured".to_owned() } else { roots.join(", ") }
    }
}

fn list(dir: &OwnedFd, path: &str, limit: usize) -> Result<Listing> {
    let failed = |error| trouble(path, error);
    let mut names = Vec::new();
    for entry in Dir::read_from(dir).map_err(failed)?.take(MAX_ENTRIES) {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().unwrap_or_default();
        if !matches!(name, "" | "." | "..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    let mut entries = Vec::new();
    let mut more = names.len() + 2 >= MAX_ENTRIES;
    for name in names {
        // What went away since it was listed is not there.
        let Ok(stat) = rustix::fs::statat(dir, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let folder = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _ => continue,
        };
        if entries.len() == limit {
            more = true;
            break;
        }
        let bytes = if folder { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
        entries.push(Entry { name, folder, bytes, modified: stat.st_mtime });
    }
    Ok(Listing { entries, more })
}

/// The open file and its size, when it is a regular one.
fn regular(file: OwnedFd, path: &str) -> Result<(File, u64)> {
    let stat = rustix::fs::fstat(&file).map_err(|error| trouble(path, error))?;
    let noun = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::Directory => "a folder",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(Error::invalid(format!("`{}` is {noun}; only regular files can be used", shown(path))))
}

/// Opens a regular file that the one who starts the program named; links are followed.
///
/// # Errors
/// `NotFound`, `Forbidden`, or `Invalid` for what is not a regular file.
pub fn open_named(path: &Path) -> Result<Opened> {
    let text = path.display().to_string();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| trouble(&text, error))?;
    let (file, bytes) = regular(file, &text)?;
    Ok(Opened { file, path: path.to_owned(), bytes })
}

/// Reads a whole file that the one who starts the program named, of at most `max_bytes`.
///
/// # Errors
/// Those of [`open_named`], and `Invalid` for a file that is larger.
pub fn read_named(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    read_all(open_named(path)?.file, &path.display().to_string(), max_bytes)
}

fn read_all(file: File, path: &str, max_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| Error::unavailable(format!("`{}` cannot be read: {error}", shown(path))))?;
    if bytes.len() as u64 > max_bytes {
        let text = format!("`{}` is larger than the {max_bytes} bytes that are allowed", shown(path));
        return Err(Error::invalid(text));
    }
    Ok(bytes)
}

/// What a failure of the system means to a caller who named this path.
fn trouble(path: &str, error: rustix::io::Errno) -> Error {
    use rustix::io::Errno;
    let path = shown(path);
    match error {
        Errno::NOENT => Error::not_found(format!("there is no `{path}`")),
        Errno::LOOP | Errno::MLINK => Error::forbidden(format!(
            "`{path}` goes over a link; links are not followed, name the file itself"
        )),
        Errno::XDEV => Error::forbidden(format!("`{path}` leaves its folder")),
        Errno::NOTDIR => {
            Error::not_found(format!("there is no `{path}`: a part of it is a file or a link, not a folder"))
        }
        Errno::ISDIR => Error::invalid(format!("`{path}` names a folder, not a file")),
        // A socket cannot be opened.
        Errno::NXIO | Errno::NODEV => {
            Error::invalid(format!("`{path}` is a socket or a device; only regular files can be used"))
        }
        Errno::ACCESS | Errno::PERM => Error::forbidden(format!("the server may not use `{path}`")),
        Errno::NAMETOOLONG => Error::invalid(format!("`{path}` has a name that is too long")),
        Errno::EXIST => Error::conflict(format!("`{path}` is there already")),
        Errno::ROFS => Error::forbidden(format!("`{path}` is on a file system that cannot be written")),
        Errno::NOSPC | Errno::DQUOT => Error::unavailable(format!("there is no space left for `{path}`")),
        error => Error::unavailable(format!("`{path}` cannot be used: {error}")),
    }
}
