//! From parsed lines to the groups that detectors judge.
//!
//! A *group* is what is judged as one thing: a session (all lines that carry one id), a window of time, or
//! a window of lines. A group is reduced to its *count vector* (how often each template occurs in it) and,
//! for sessions, its *transitions* (which template directly follows which). Equal vectors are kept once
//! with their *multiplicity*, so that a million sessions of a few hundred shapes cost little.
//!
//! Templates are plain numbers here, so that event-id sequences from elsewhere are served too.
//!
//! Invariants: what is kept is bounded whatever the input (ids are cut and hashed, groups, events and
//! distinct vectors have ceilings, and what was left out is counted); nothing depends on the order in which
//! a hash table is walked, so the same lines give the same groups on every machine and thread count.

mod builder;
mod fold;
mod groups;
mod guess;
mod key;
mod scan;
mod store;
mod vectors;

pub use builder::{GroupBuilder, Limits};
pub use groups::{Group, Groups, TemplateUse};
pub use guess::guess_session_key;
pub use key::{KeyError, SessionKey};
pub use vectors::{Orders, Vectors};

/// How lines are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// All lines that carry the same id. Lines without an id belong to no group.
    Session,
    /// All lines of one stretch of time. A line without a time belongs to the stretch of the line before it.
    TimeWindow {
        /// Length of the stretch in microseconds; stretches start at multiples of it since 1970.
        micros: i64,
    },
    /// A fixed number of consecutive lines.
    LineWindow {
        /// Lines in one window.
        lines: u64,
    },
}

#[cfg(test)]
mod tests;
