//! The tar itself: entries written one after the other, and read back by someone who trusts none of them.
//!
//! The reader looks at raw headers: regular files alone, and names longer than a header has room for in the
//! way of GNU tar, of a bounded length. Links, devices, sparse files and whatever else tar knows are refused.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use opsroom_core::{Error, Result};
use sha2::{Digest, Sha256};

use super::format::{Entry, LONGEST, Sum, Sums};

/// The most bytes of the manifest and of the sums.
const MOST_JSON: u64 = 256 << 20;

/// Passes bytes on, and keeps their sum.
pub struct Summed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<T> Summed<T> {
    /// Around a reader.
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// The sum of what passed.
    pub fn sum(self) -> Sum {
        let sha256 = data_encoding::HEXLOWER.encode(&self.hash.finalize());
        Sum { sha256, bytes: self.bytes, rows: None }
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Writes an archive.
pub struct Writer<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    sums: Sums,
    seconds: u64,
}

impl<W: Write> Writer<W> {
    /// Into `out`; the entries are of this second since 1970.
    pub fn new(out: W, seconds: u64) -> Self {
        let tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
        Self { tar, sums: Sums::new(), seconds }
    }

    /// Adds an entry of exactly this many bytes.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written, or there is less to read.
    pub fn add(&mut self, entry: &Entry, bytes: u64, rows: Option<u64>, from: impl Read) -> Result<()> {
        let name = entry.name();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.seconds);
        let mut from = Summed::new(from.take(bytes));
        let added = self.tar.append_data(&mut header, &name, &mut from);
        added.map_err(|error| Error::unavailable(format!("`{name}` could not be written: {error}")))?;
        let sum = from.sum();
        if sum.bytes != bytes {
            return Err(Error::unavailable(format!(
                "`{name}` became shorter while it was read; make the backup again"
            )));
        }
        self.sums.insert(name, Sum { rows, ..sum });
        Ok(())
    }

    /// Adds the sums and ends the archive; answers what it was written into.
    pub fn finish(mut self) -> Result<W> {
        let failed = |error| Error::unavailable(format!("the archive could not be written: {error}"));
        let sums = std::mem::take(&mut self.sums);
        let text = serde_json::to_vec(&sums).map_err(Error::internal)?;
        self.add(&Entry::Sums, text.len() as u64, None, text.as_slice())?;
        self.tar.into_inner().and_then(GzEncoder::finish).map_err(failed)
    }
}

/// Reads an archive from its beginning to its end. `each` is given every entry but the sums, in order, and
/// answers how many rows it had, for a table that it counted. Every sum is held against what was read.
///
/// # Errors
/// `Invalid` for an archive that is not whole, or has what no backup makes; those of `each`.
pub fn read<F>(from: impl Read, each: &mut F) -> Result<Sums>
where
    F: FnMut(&Entry, &mut dyn Read) -> Result<Option<u64>> + ?Sized,
{
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 18, from)));
    let (mut found, mut stated, mut names) = (Sums::new(), None, BTreeSet::new());
    let mut long_name = None;
    for raw in archive.entries().map_err(broken)?.raw(true) {
        let mut raw = raw.map_err(broken)?;
        let kind = raw.header().entry_type();
        let size = raw.header().entry_size().map_err(broken)?;
        if kind == tar::EntryType::GNULongName && long_name.is_none() && size <= LONGEST as u64 + 64 {
            let mut name = Vec::new();
            raw.read_to_end(&mut name).map_err(broken)?;
            if name.last() == Some(&0) {
                name.pop();
            }
            long_name = Some(name);
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| raw.path_bytes().into_owned());
        let name = String::from_utf8(name).map_err(broken)?;
        if kind != tar::EntryType::Regular {
            let name: String = name.escape_debug().take(200).collect();
            return Err(Error::invalid(format!(
                "the archive has `{name}`, which is no regular file but a {kind:?}; nothing was restored"
            )));
        }
        let entry = Entry::parse(&name)?;
        let in_place = stated.is_none() && (entry == Entry::Manifest) == names.is_empty();
        if !in_place || !names.insert(name.clone()) {
            return Err(Error::invalid(format!(
                "the archive has `{name}` in a wrong place or twice; nothing was restored"
            )));
        }
        let mut body = Summed::new(&mut raw);
        if entry == Entry::Sums {
            stated = Some(json::<Sums>(&mut body)?);
            continue;
        }
        let rows = each(&entry, &mut body)?;
        // What was left unread counts too.
        std::io::copy(&mut body, &mut std::io::sink()).map_err(broken)?;
        let sum = body.sum();
        if sum.bytes != size {
            return Err(broken("it ends in the middle of an entry"));
        }
        found.insert(name, Sum { rows, ..sum });
    }
    // To the end of the compressed stream, whose own checksum is there.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(broken)?;
    let stated = stated.ok_or_else(|| broken("it ends before its last entry"))?;
    hold(&found, &stated)?;
    Ok(stated)
}

/// Reads an entry that is JSON.
pub fn json<T: serde::de::DeserializeOwned>(from: &mut dyn Read) -> Result<T> {
    serde_json::from_reader(BufReader::new(from.take(MOST_JSON))).map_err(broken)
}

fn hold(found: &Sums, stated: &Sums) -> Result<()> {
    let same = |name: &String| match (found.get(name), stated.get(name)) {
        (Some(found), Some(stated)) => {
            let rows = found.rows.is_none() || found.rows == stated.rows;
            found.sha256 == stated.sha256 && found.bytes == stated.bytes && rows
        }
        _ => false,
    };
    match found.keys().chain(stated.keys()).find(|name| !same(name)) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "the archive is damaged: `{}` is not as its sum says; nothing was restored",
            name.escape_debug()
        ))),
    }
}

/// What an archive is that cannot be read to its end.
pub fn broken(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("this is no whole backup of opsroom ({why}); nothing was restored"))
}
