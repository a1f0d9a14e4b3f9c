//! What the archive says of itself, and which names its entries may have.

use std::collections::BTreeMap;

use opsroom_core::clock::Time;
use opsroom_core::db::Migration;
use opsroom_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The archive's format; another one is refused.
pub const FORMAT: u32 = 1;
/// The first entry.
pub const MANIFEST: &str = "manifest.json";
/// The last entry.
pub const SUMS: &str = "sums.json";
/// Before the names of tables.
const TABLES: &str = "tables/";
/// After them.
const ROWS: &str = ".jsonl";
/// Before the paths of files.
const FILES: &str = "files/";
/// The folders of the data folder that belong to its users.
pub const KEPT: [&str; 6] = ["captures", "files", "logs", "models", "services", "teams"];
/// The longest path of a file, in bytes.
pub const LONGEST: usize = 4096;

/// What made an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of Opsroom.
    pub opsroom: String,
    /// The kind of database that it was made of, in words.
    pub database: String,
    /// The newest migration of each capability.
    pub migrations: BTreeMap<String, i32>,
    /// When the tables were as they are in it, in RFC 3339.
    pub made_at: String,
}

/// What an entry must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// How many they are.
    pub bytes: u64,
    /// For a table: how many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// Every entry's sum, by its name.
pub type Sums = BTreeMap<String, Sum>;

/// What an entry's name says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// [`MANIFEST`].
    Manifest,
    /// The rows of a table.
    Table(String),
    /// A file, by its path in the data folder.
    File(String),
    /// [`SUMS`].
    Sums,
}

impl Manifest {
    /// Of a database that has these migrations.
    pub fn new(database: &str, migrations: BTreeMap<String, i32>, now: Time) -> Self {
        Self {
            format: FORMAT,
            opsroom: env!("CARGO_PKG_VERSION").to_owned(),
            database: database.to_owned(),
            migrations,
            made_at: now.to_rfc3339(),
        }
    }

    /// # Errors
    /// `Invalid` for an archive that this version does not read.
    pub fn check(&self, capabilities: &[(&'static str, &[Migration])]) -> Result<()> {
        let (ours, theirs) = (env!("CARGO_PKG_VERSION"), &self.opsroom);
        if self.format != FORMAT {
            return Err(Error::invalid(format!(
                "the archive has format {}, made by opsroom {theirs}; this is opsroom {ours}, which reads format \
                 {FORMAT}; restore it with the version that made it",
                self.format
            )));
        }
        if self.migrations != newest(capabilities) {
            return Err(Error::invalid(format!(
                "the archive was made by opsroom {theirs} with other tables than this opsroom {ours} has; restore it \
                 with the version that made it, then update"
            )));
        }
        Ok(())
    }
}

/// The newest migration of each capability, as this version has them.
pub fn newest(capabilities: &[(&'static str, &[Migration])]) -> BTreeMap<String, i32> {
    let newest = |(name, migrations): &(&'static str, &[Migration])| {
        migrations.last().map(|last| ((*name).to_owned(), last.version))
    };
    capabilities.iter().filter_map(newest).collect()
}

impl Entry {
    /// What a name says, when it is one that an archive may have.
    ///
    /// # Errors
    /// `Invalid` for any other, such as a path that leaves the data folder.
    pub fn parse(name: &str) -> Result<Self> {
        let refused = |why: &str| {
            let shown: String = name.escape_debug().take(200).collect();
            Err(Error::invalid(format!("the archive has an entry `{shown}`, {why}; nothing was restored")))
        };
        match name {
            MANIFEST => return Ok(Entry::Manifest),
            SUMS => return Ok(Entry::Sums),
            _ => {}
        }
        if let Some(table) = name.strip_prefix(TABLES).and_then(|rest| rest.strip_suffix(ROWS)) {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if table.is_empty() || !table.chars().all(plain) {
                return refused("which is no table's");
            }
            return Ok(Entry::Table(table.to_owned()));
        }
        let Some(path) = name.strip_prefix(FILES) else { return refused("which no backup makes") };
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
        if path.len() > LONGEST || path.contains(['\0', '\\']) || !path.split('/').all(part) {
            return refused("whose path leaves the data folder or is none");
        }
        match path.split_once('/') {
            Some((top, _)) if KEPT.contains(&top) => Ok(Entry::File(path.to_owned())),
            _ => refused("which is in no folder that is restored"),
        }
    }

    /// The entry's name.
    pub fn name(&self) -> String {
        match self {
            Entry::Manifest => MANIFEST.to_owned(),
            Entry::Table(table) => format!("{TABLES}{table}{ROWS}"),
            Entry::File(path) => format!("{FILES}{path}"),
            Entry::Sums => SUMS.to_owned(),
        }
    }
}
