//! A file that appears whole: written under another name in the same folder, then renamed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::trouble;
use crate::error::{Error, Result};
use crate::id::new_id;

/// A file that is being written. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    dir: OwnedFd,
    file: File,
    temporary: OsString,
    name: OsString,
    path: PathBuf,
    done: bool,
}

impl NewFile {
    /// Begins a file of mode 0600 in this folder.
    pub(super) fn begin(dir: OwnedFd, name: &OsString, path: PathBuf) -> Result<Self> {
        let temporary = OsString::from(format!(".{}.part", new_id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| trouble(&path.display().to_string(), error))?;
        Ok(Self { dir, file: File::from(file), temporary, name: name.clone(), path, done: false })
    }

    /// Where it will be.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// `Unavailable` when the file system does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))
    }

    /// Gives it its name, unless that is taken.
    ///
    /// # Errors
    /// `Conflict` when there is something of that name.
    pub fn finish_new(mut self) -> Result<PathBuf> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        // A second name for the file fails when the name is taken; renaming would replace it.
        rustix::fs::linkat(&self.dir, &self.temporary, &self.dir, &self.name, AtFlags::empty()).map_err(
            |error| match error {
                Errno::EXIST => Error::conflict(format!(
                    "`{}` is there already; choose another name, or remove it first",
                    self.path.display()
                )),
                error => trouble(&self.path.display().to_string(), error),
            },
        )?;
        rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty())
            .map_err(|error| self.unnamed(error))?;
        self.named()
    }

    /// Gives it its name, in place of the regular file that has it.
    ///
    /// # Errors
    /// `Invalid` when something of that name is not a regular file.
    pub fn finish_replacing(mut self) -> Result<PathBuf> {
        // A rename replaces a link by itself, never what it points at; refusing is only clearer.
        if let Ok(stat) = rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        {
            let path = self.path.display();
            return Err(Error::invalid(format!("`{path}` is not a regular file and is not replaced")));
        }
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, &self.name)
            .map_err(|error| self.unnamed(error))?;
        self.named()
    }

    fn named(&mut self) -> Result<PathBuf> {
        self.done = true;
        // So that the name outlives a power cut too.
        rustix::fs::fsync(&self.dir).map_err(|error| self.unnamed(error))?;
        Ok(self.path.clone())
    }

    fn unnamed(&self, error: Errno) -> Error {
        trouble(&self.path.display().to_string(), error)
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::unavailable(format!("`{}` cannot be written: {error}", self.path.display()))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            // Nobody knows its name; when it cannot be removed it stays as a hidden `.part` file.
            let _gone = rustix::fs::unlinkat(&self.dir, &self.temporary, AtFlags::empty());
        }
    }
}
