//! Backup and restore: all of a room in one file, and a room of such a file.
//!
//! The *archive* is a gzipped tar. `manifest.json` comes first and says what made it; then `tables/NAME.jsonl`,
//! every row of each of our tables; then `files/...`, what the data folder has of its users; `sums.json` comes
//! last and has the SHA-256, the size and the rows of each entry. Values are written as they are on no
//! database in particular, so that a room moves from one kind of database to another.
//!
//! # Invariants
//!
//! - The tables are of one moment, and the kept log lines of one right after it; nobody who writes waits.
//! - Neither the master key, nor the operator key, nor `secrets.d`, nor the configuration is in an archive.
//! - Nothing of an archive stays before all of it was found whole: a restore that fails leaves no row and no
//!   file behind.

mod archive;
mod folder;
mod format;
mod restore;
mod rows;
mod save;
#[cfg(test)]
mod tests;

pub use restore::{Restored, restore};
pub use save::{Saved, save};
