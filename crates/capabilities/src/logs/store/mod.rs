//! The store of log lines.
//!
//! # Words
//!
//! - A *batch* is what one caller sends: lines with their streams' labels.
//! - The *write-ahead file* has every batch that was acknowledged and is not yet in a segment.
//! - A *part* is what one write-ahead file holds, in memory: it is searched as it is.
//! - A part that is large enough is *sealed*: coded as a segment, a file of its own; see
//!   `opsroom_analytics::segments`.
//! - The *catalogue* is the table of segments in the database.
//!
//! # Invariants
//!
//! - A batch is acknowledged when it is on the disk (`fdatasync`), and is found from then on.
//! - A write-ahead file goes when its segment is on the disk and in the catalogue, and not before.
//! - Whatever moment the process ends at: what was acknowledged is there after the next start, once.
//! - Nobody sees lines of another team.

mod catalogue;
mod embedded;
mod frozen;
mod memory;
mod names;
mod query;
mod recover;
mod seal;
#[cfg(test)]
mod tests;
mod wal;

use std::ops::Range;

use futures_util::future::BoxFuture;
use opsroom_analytics::segments::{Labels, Rows, Test};
use opsroom_core::Result;

use super::input::Watch;

pub use catalogue::MIGRATIONS;
pub use embedded::{ALWAYS, Embedded, StoreConfig};
pub use frozen::{Frozen, frozen};
pub(crate) use memory::is_of as is_of_team;
pub use query::pattern;

/// The label that says whose lines they are; callers' own labels cannot have its name.
pub const TEAM: &str = "_team";
/// Stands before the fields of a line that has some, as JSON, behind its text.
pub const FIELDS: u8 = 0x1f;

/// Lines to be kept.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The labels of the streams that the lines refer to.
    pub streams: Vec<Labels>,
    /// The lines.
    pub rows: Rows,
}

impl Batch {
    /// The number of a stream with these labels, which is added when it is new.
    pub fn stream(&mut self, labels: &Labels) -> u32 {
        // A batch has few streams, and the last one is the likeliest.
        match self.streams.iter().rposition(|known| known == labels) {
            Some(at) => at as u32,
            None => {
                self.streams.push(labels.clone());
                self.streams.len() as u32 - 1
            }
        }
    }
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose lines.
    pub teams: Vec<String>,
    /// What they are like.
    pub test: Test,
    /// From when until when, in microseconds since 1970; the end is not included.
    pub range: Range<i64>,
}

/// A line that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Microseconds since 1970.
    pub time: i64,
    /// 0 for none, 1 for trace up to 6 for fatal.
    pub level: u8,
    /// The labels of its stream, without the team's.
    pub labels: Labels,
    /// Its text, and behind [`FIELDS`] its fields.
    pub text: Vec<u8>,
    /// Its template.
    pub template: String,
    /// Lines of the same stream before it.
    pub before: Vec<Vec<u8>>,
    /// Lines of the same stream after it.
    pub after: Vec<Vec<u8>>,
}

/// Lines that were found, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The lines.
    pub lines: Vec<Line>,
    /// Whether there are more, older ones.
    pub more: bool,
    /// What could not be searched.
    pub warnings: Vec<String>,
}

/// By what lines are counted.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// All together.
    Nothing,
    /// Their template.
    Template,
    /// Their level.
    Level,
    /// The value of a label.
    Label(String),
    /// What the first group of an expression matches in their text.
    Matched(String),
}

/// A group of counted lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What its lines share.
    pub value: String,
    /// How many.
    pub count: u64,
    /// How many of them are of level error or worse.
    pub errors: u64,
    /// The time of the first and the last.
    pub times: (i64, i64),
    /// Lines in each stretch of time.
    pub buckets: Vec<u64>,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// How many lines.
    pub count: u64,
    /// The groups, the largest first.
    pub groups: Vec<Group>,
    /// How many groups more there are.
    pub more: u64,
    /// What could not be counted.
    pub warnings: Vec<String>,
}

/// How lines are counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counting {
    /// By what.
    pub by: By,
    /// The most groups that are answered.
    pub limit: usize,
    /// Into how many stretches of time the range is cut; 0 for none.
    pub buckets: usize,
}

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retention {
    /// Lines older than this moment go (microseconds since 1970).
    pub before: i64,
    /// The oldest go until no more bytes of segments than this are left.
    pub bytes: u64,
}

/// Where log lines are kept. The embedded store is one; a database of lines can be another.
pub trait LogStore: Send + Sync {
    /// Keeps lines; they are durable when it answers.
    fn append(&self, team: &str, batch: Batch) -> BoxFuture<'static, Result<u64>>;

    /// The newest lines, with so many lines of context each. Blocks.
    ///
    /// # Errors
    /// `Cancelled` when the watch says so.
    fn search(&self, wanted: &Wanted, limit: usize, context: usize, watch: &Watch) -> Result<Page>;

    /// Counts lines. Blocks.
    ///
    /// # Errors
    /// `Cancelled` when the watch says so; `Invalid` for an expression that cannot be used.
    fn aggregate(&self, wanted: &Wanted, counting: &Counting, watch: &Watch) -> Result<Counted>;

    /// Gives every line, the oldest first, until `give` says that it is enough. Blocks.
    ///
    /// # Errors
    /// Those of `give`; `Cancelled` when the watch says so.
    fn scan(&self, wanted: &Wanted, watch: &Watch, give: &mut dyn FnMut(Line) -> Result<bool>) -> Result<()>;

    /// Removes what need not be kept; answers how many segments went.
    fn retain(&self, retention: Retention) -> BoxFuture<'static, Result<u64>>;
}
