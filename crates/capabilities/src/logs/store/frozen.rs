//! The store's files as they are at one moment, for whoever copies them while the store goes on.
//!
//! Segments never change, and a write-ahead file only grows; but a full one goes when its segment is there. So
//! write-ahead files are opened at once, and the folder is looked at again: had a file come or gone in between,
//! something might be in neither listing.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use opsroom_core::{Error, Result};

/// How often it is looked before we give up: each time, something came or went in milliseconds.
const TRIES: usize = 100;

/// A file of the store.
#[derive(Debug)]
pub struct Frozen {
    /// Its name in the store's folder.
    pub name: String,
    /// A write-ahead file: open, and how many bytes of it count.
    pub open: Option<(File, u64)>,
}

/// What there is in the store of this folder. A segment in it may be gone later, when its lines are too old.
///
/// # Errors
/// `Unavailable` when the folder cannot be read.
pub fn frozen(folder: &Path) -> Result<Vec<Frozen>> {
    let unusable = |error: std::io::Error| {
        Error::unavailable(format!("the folder of kept logs `{}` cannot be read: {error}", folder.display()))
    };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    for _ in 0..TRIES {
        let mut files = BTreeMap::new();
        let names = names(folder).map_err(unusable)?;
        for name in &names {
            let open = match name.ends_with(".wal") {
                false => None,
                true => match File::open(folder.join(name)) {
                    Ok(file) => {
                        let bytes = file.metadata().map_err(unusable)?.len();
                        Some((file, bytes))
                    }
                    // It is in a segment by now, which the next look finds.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                    Err(error) => return Err(unusable(error)),
                },
            };
            files.insert(name.clone(), open);
        }
        if files.len() == names.len() && self::names(folder).map_err(unusable)? == names {
            return Ok(files.into_iter().map(|(name, open)| Frozen { name, open }).collect());
        }
    }
    Err(Error::unavailable("the store of logs changes faster than it can be looked at; try again"))
}

/// The names of the files that a start would take up, in order.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && (name == super::recover::NAME || name.ends_with(".wal") || name.ends_with(".seg"))
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
