//! Opening beneath a folder without following a link anywhere.
//!
//! On Linux one call of `openat2` (5.6) resolves the path. Where that is missing or forbidden by a
//! sandbox, and on other systems, each name is opened from the folder before it. Either way what was
//! resolved is what is open.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result};

/// The folder of a root, whose own path the configuration vouches for.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens what these names lead to; no names are the folder itself.
pub(super) fn open(dir: &OwnedFd, parts: &[OsString], flags: OFlags) -> Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    match resolved_by_the_kernel(dir, parts, flags) {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
        answer => return answer,
    }
    name_by_name(dir, parts, flags)
}

#[cfg(target_os = "linux")]
fn resolved_by_the_kernel(dir: &OwnedFd, parts: &[OsString], flags: OFlags) -> Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let path: std::path::PathBuf = if parts.is_empty() { ".".into() } else { parts.iter().collect() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..16 {
        match rustix::fs::openat2(dir, &path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile, and the kernel could not tell whether we stayed beneath.
            Err(Errno::AGAIN) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

pub(super) fn name_by_name(dir: &OwnedFd, parts: &[OsString], flags: OFlags) -> Result<OwnedFd> {
    let Some((last, folders)) = parts.split_last() else {
        return openat(dir, ".", flags | OFlags::CLOEXEC, Mode::empty());
    };
    let mut at = dir.try_clone().map_err(|_| Errno::MFILE)?;
    for name in folders {
        at = open_folder(&at, name)?;
    }
    if flags.contains(OFlags::DIRECTORY) {
        return open_folder(&at, last);
    }
    openat(&at, last, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Opens these folders one below the other, and makes those that are missing with mode 0700.
pub(super) fn make_folders(dir: OwnedFd, parts: &[OsString]) -> Result<OwnedFd> {
    let mut at = dir;
    for name in parts {
        at = match open_folder(&at, name) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&at, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                open_folder(&at, name)?
            }
            answer => answer?,
        };
    }
    Ok(at)
}

fn open_folder(dir: &OwnedFd, name: &OsString) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        // With both flags a link is told as "not a folder"; say which of the two it is.
        Err(Errno::NOTDIR) if is_link(dir, name) => Err(Errno::LOOP),
        answer => answer,
    }
}

fn is_link(dir: &OwnedFd, name: &OsString) -> bool {
    let stat = rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
}
