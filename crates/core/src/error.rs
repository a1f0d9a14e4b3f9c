//! The one error of everything a caller may see.
//!
//! `message` is for the caller: what was wrong, with which input, and what would be right; lower
//! case, no final full stop. `source` is for us, and is logged once, by the face that answers.
//! Each face maps the kinds to its own words: a status, an exit code, a tool error.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What went wrong, as a face needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The named thing does not exist, or the caller may not know that it does.
    NotFound,
    /// The input cannot be used as it is.
    Invalid,
    /// The input is fine, but not in the present state.
    Conflict,
    /// Nobody knows who is calling.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// A limit was reached; the same call may work later.
    Busy,
    /// Something that is needed does not answer; the same call may work later.
    Unavailable,
    /// The caller stopped the work.
    Cancelled,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// Every kind, for documents that list them.
    pub const ALL: [Kind; 9] = [
        Kind::NotFound,
        Kind::Invalid,
        Kind::Conflict,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::Busy,
        Kind::Unavailable,
        Kind::Cancelled,
        Kind::Internal,
    ];

    /// The word used for this kind in answers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::NotFound => "not_found",
            Kind::Invalid => "invalid",
            Kind::Conflict => "conflict",
            Kind::Unauthenticated => "unauthenticated",
            Kind::Forbidden => "forbidden",
            Kind::Busy => "busy",
            Kind::Unavailable => "unavailable",
            Kind::Cancelled => "cancelled",
            Kind::Internal => "internal",
        }
    }

    /// The kind that [`Kind::as_str`] names.
    pub fn parse(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A failure that can be shown to the caller.
#[derive(Debug)]
pub struct Error {
    /// What a face needs to know.
    pub kind: Kind,
    /// For the caller: what was wrong, with which input, what would be right.
    pub message: String,
    /// For us: what caused it.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The seconds of [`Error::busy_for`]. It travels as the source of the error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the limit lasts {0} more seconds")]
struct RetryAfter(u64);

/// The result of whatever may fail towards a caller.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind with this message for the caller.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthenticated, message)
    }

    /// [`Kind::Forbidden`].
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, message)
    }

    /// [`Kind::Busy`].
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, message)
    }

    /// [`Kind::Busy`], for so many seconds.
    pub fn busy_for(seconds: u64, message: impl Into<String>) -> Self {
        Self::busy(message).because(RetryAfter(seconds))
    }

    /// After how many seconds the same call may work, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        let known = self.source.as_ref()?.downcast_ref::<RetryAfter>();
        known.map(|RetryAfter(seconds)| *seconds)
    }

    /// [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// [`Kind::Cancelled`].
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(Kind::Cancelled, message)
    }

    /// [`Kind::Internal`], with what caused it. The caller only learns that it is our fault.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, "an internal error happened; the server's log has the details")
            .because(source)
    }

    /// Adds the cause, which is logged and not shown.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The causes, outermost first, in one line for the log.
    pub fn causes(&self) -> String {
        let mut line = String::new();
        let mut next = self.source.as_deref().map(|source| source as &dyn std::error::Error);
        while let Some(cause) = next {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_how_long_it_lasts_where_that_is_known() {
        assert_eq!(Error::busy_for(60, "later").retry_after(), Some(60));
        assert_eq!(Error::busy("later").retry_after(), None);
    }

    #[test]
    fn every_kind_is_found_again_by_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }

    #[test]
    fn the_cause_is_kept_and_not_shown() {
        let error = Error::internal(std::io::Error::other("disk on fire"));
        assert!(!error.to_string().contains("fire"));
        assert_eq!(error.causes(), "disk on fire");
    }
}
