//! What a path from a caller asks for, before anything is opened.

use std::ffi::OsString;
use std::path::Path;

use crate::error::{Error, Result};

const MAX_PATH_BYTES: usize = 4096;
const MAX_NAME_BYTES: usize = 255;
const MAX_PARTS: usize = 128;

/// A path taken apart: names only, none of them `.` or `..`.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub parts: Vec<OsString>,
    pub absolute: bool,
    /// Whether it can only be a folder: it ends with a slash, or names nothing below the root.
    pub names_folder: bool,
}

impl Asked {
    pub fn parse(path: &str) -> Result<Self> {
        let wrong = |what: &str| Err(Error::invalid(format!("the path `{}` {what}", shown(path))));
        if path.is_empty() {
            return Err(Error::invalid("the path is empty; name a file"));
        }
        if path.len() > MAX_PATH_BYTES {
            return wrong(&format!("has {} bytes; at most {MAX_PATH_BYTES} are allowed", path.len()));
        }
        if path.contains('\0') {
            return wrong("has a zero character, which no file name has");
        }
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => return wrong("has `..`, which is not followed; name the file from its folder down"),
                long if long.len() > MAX_NAME_BYTES => {
                    return wrong(&format!(
                        "has a name of {} bytes; {MAX_NAME_BYTES} are allowed",
                        long.len()
                    ));
                }
                name => parts.push(OsString::from(name)),
            }
        }
        if parts.len() > MAX_PARTS {
            return wrong(&format!("is {} folders deep; {MAX_PARTS} are allowed", parts.len()));
        }
        let names_folder = parts.is_empty() || path.ends_with('/') || path.ends_with("/.");
        Ok(Self { parts, absolute: path.starts_with('/'), names_folder })
    }

    /// What is asked for below this folder, when an absolute path is below it.
    pub fn below(&self, base: &Path) -> Option<Self> {
        let base: Vec<OsString> = base.iter().skip(1).map(Into::into).collect();
        let parts = self.parts.strip_prefix(base.as_slice())?.to_vec();
        let names_folder = self.names_folder || parts.is_empty();
        Some(Self { parts, absolute: true, names_folder })
    }
}

/// A path for an error: short, and without control characters.
pub(super) fn shown(path: &str) -> String {
    let short: String = path.chars().take(200).collect();
    let more = if short.len() < path.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug())
}
