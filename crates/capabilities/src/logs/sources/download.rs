//! Downloading: objects to files below a root, several at once, each whole or not at all.
//!
//! What has come of an object lies in the data folder until all of it is there; a download that was cut
//! short goes on from there. Then it is checked, unpacked if asked, and appears under its name.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Kind, Result};
use sha2::{Digest, Sha256};

use super::client::Remote;
use super::crc::Crc64;
use super::model::{Object, check_key};
use super::reader::ObjectStream;
use super::{Reached, Sources};
use crate::logs::input::{Content, Limits, content};

/// What came of one object.
pub(super) enum Came {
    /// It is there, with this many bytes.
    Stored(String, u64),
    /// It was there already.
    Skipped,
}

/// What to do with what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    pub replace: bool,
    pub unpack: bool,
    /// The most bytes that a file may have.
    pub most: u64,
}

/// Brings one object to `folder` below the roots.
pub(super) async fn bring(
    sources: &Sources,
    reached: &Reached,
    source_id: &str,
    object: &Object,
    folder: &str,
    how: How,
) -> Result<Came> {
    check_key(&object.key)?;
    let name = if how.unpack { unpacked_name(&object.key) } else { object.key.clone() };
    let path = format!("{}/{name}", folder.trim_end_matches('/'));
    if !how.replace && sources.roots.open_read(&path).is_ok() {
        return Ok(Came::Skipped);
    }
    if object.bytes > how.most {
        return Err(Error::invalid(format!(
            "it has {} bytes, more than the {} that are left",
            object.bytes, how.most
        )));
    }
    let (roots, to) = (sources.roots.clone(), path.clone());
    match reached {
        Reached::Folder(from, base) => {
            let opened = from.open_read(&format!("{}/{}", base.trim_end_matches('/'), object.key))?;
            let bytes = Lifecycle::blocking(move || place(&roots, &to, Box::new(opened.file), how)).await?;
            Ok(Came::Stored(path, bytes))
        }
        Reached::Programs(programs) => {
            let output = programs.reader(&object.key, None);
            let bytes = Lifecycle::blocking(move || place(&roots, &to, Box::new(output), how)).await?;
            Ok(Came::Stored(path, bytes))
        }
        Reached::Remote(remote) => {
            let part = part_path(sources, source_id, object);
            fetch(remote, object, &part, how.most).await?;
            let file = part.clone();
            let placed = Lifecycle::blocking(move || {
                let file = std::fs::File::open(&file).map_err(Error::internal)?;
                place(&roots, &to, Box::new(file), how)
            })
            .await;
            // Placed or not to be placed: what has come serves nobody any more.
            let _removed = std::fs::remove_file(&part);
            placed.map(|bytes| Came::Stored(path, bytes))
        }
    }
}

/// The name of what is in a packed file; of an archive the name of its folder.
fn unpacked_name(key: &str) -> String {
    let endings = [
        ".tar.gz", ".tar.zst", ".tar.lzo", ".tgz", ".tar", ".zip", ".gz", ".zst", ".zstd", ".sz", ".snappy",
        ".lzo",
    ];
    let found =
        endings.iter().find_map(|ending| key.strip_suffix(ending)).filter(|name| !name.ends_with('/'));
    found.filter(|name| !name.is_empty()).unwrap_or(key).to_owned()
}

/// Where an object lies until it is whole; another version of it lies elsewhere.
fn part_path(sources: &Sources, source_id: &str, object: &Object) -> PathBuf {
    let mut hash = Sha256::new();
    let tag = object.etag.as_deref().unwrap_or_default();
    for word in [source_id, &object.key, tag, &object.bytes.to_string()] {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    let name: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    sources.spool.join(format!("{name}.part"))
}

async fn fetch(remote: &Remote, object: &Object, part: &std::path::Path, most: u64) -> Result<()> {
    let unusable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull => {
            Error::unavailable("the disk is full; what had come is kept, and goes on later")
        }
        _ => Error::unavailable(format!("the data folder cannot be written: {error}")),
    };
    if let Some(folder) = part.parent() {
        std::fs::create_dir_all(folder).map_err(unusable)?;
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(part)
        .map_err(unusable)?;
    // Without a tag it cannot be told whether what has come is of the same version.
    let known = object.etag.is_some();
    let (mut at, mut crc) = (0, Crc64::default());
    if known {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut buffer).map_err(unusable)?;
            if read == 0 {
                break;
            }
            crc.add(&buffer[..read]);
            at += read as u64;
        }
    }
    if object.bytes > 0 && at > object.bytes {
        (at, crc) = (0, Crc64::default());
    }
    file.set_len(at).map_err(unusable)?;
    file.seek(SeekFrom::Start(at)).map_err(unusable)?;
    if at > 0 && at == object.bytes {
        return Ok(());
    }
    let mut stream = ObjectStream::new(remote.clone(), object.clone(), at, crc);
    loop {
        match stream.next().await {
            Ok(Some(piece)) => {
                file.write_all(&piece).map_err(unusable)?;
                if stream.position() > most {
                    drop(std::fs::remove_file(part));
                    return Err(Error::invalid(format!("it has more than the {most} bytes that are left")));
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                // What came is of another version, or wrong: it must not be gone on with.
                if error.kind == Kind::Conflict || error.message.contains("checksum") {
                    drop(std::fs::remove_file(part));
                }
                return Err(error);
            }
        }
    }
}

/// Puts what a file holds where it belongs.
fn place(
    roots: &opsroom_core::files::Roots,
    path: &str,
    from: Box<dyn Read + Send>,
    how: How,
) -> Result<u64> {
    let limits = Limits { unpacked_bytes: how.most, ..Limits::served() };
    if !how.unpack {
        return write(roots, path, from, how);
    }
    match content(from, &limits)? {
        Content::Text(text) => write(roots, path, text, how),
        Content::Archive(mut members) => {
            let unread = |error: std::io::Error| {
                Error::invalid(format!(
                    "the archive cannot be read to its end: {error}; the members before are there"
                ))
            };
            let mut bytes = 0;
            while let Some((name, member)) = members.advance().map_err(unread)? {
                check_key(&name)?;
                let path = format!("{path}/{name}");
                if how.replace || roots.open_read(&path).is_err() {
                    bytes += write(roots, &path, member, How { most: how.most - bytes, ..how })?;
                }
            }
            Ok(bytes)
        }
    }
}

fn write(
    roots: &opsroom_core::files::Roots,
    path: &str,
    mut from: Box<dyn Read + Send>,
    how: How,
) -> Result<u64> {
    let mut file = roots.create(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::invalid(format!(
                    "it cannot be unpacked whole: {error}; nothing of it was placed"
                )));
            }
        };
        bytes += read as u64;
        if bytes > how.most {
            return Err(Error::invalid(format!("it has more than the {} bytes that are left", how.most)));
        }
        file.write(&buffer[..read])?;
    }
    if how.replace { file.finish_replacing() } else { file.finish_new() }?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zip archive of one empty member of this name.
    fn zip(name: &str) -> Vec<u8> {
        let mut out = b"PK\x03\x04\x14\0".to_vec();
        out.extend_from_slice(&[0; 20]);
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"PK\x05\x06");
        out
    }

    #[test]
    fn a_member_that_leads_out_of_its_folder_is_refused_zip_slip() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let roots = opsroom_core::files::Roots::new(&[folder.path().join("root")]).unwrap();
        let how = How { replace: false, unpack: true, most: 1 << 20 };
        let place = |name: &str| place(&roots, "a", Box::new(std::io::Cursor::new(zip(name))), how);
        for name in ["../evil", "b/../../../evil", "b\\..\\..\\evil", "x\0y"] {
            assert_eq!(place(name).unwrap_err().kind, Kind::Invalid, "{name}");
        }
        assert!(place("/evil").is_err() || !folder.path().join("evil").exists());
        place("b/good").unwrap();
        assert!(folder.path().join("root/a/b/good").exists());
    }

    #[test]
    fn packed_files_lose_their_ending_and_nothing_else() {
        for (key, name) in [
            ("a/x.log.gz", "a/x.log"),
            ("a/.gz", "a/.gz"),
            (".zst", ".zst"),
            ("a.log", "a.log"),
            ("a/b.tar.gz", "a/b"),
        ] {
            assert_eq!(unpacked_name(key), name);
        }
    }
}
