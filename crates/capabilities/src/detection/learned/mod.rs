//! Detectors that learn from labelled sequences: training, judging and using them.
//!
//! # Words
//!
//! - A *dataset* is sequences of event ids, most of them labelled: a CSV or a folder in LogRobust's layout.
//! - A *model* is what training makes: a safetensors file with its metadata.
//!
//! # Invariants
//!
//! - Files of others are read without executing them, and no more of them than a bound.
//! - A model is written whole or not at all.

pub mod fitting;
pub mod models;
pub mod read;

use opsroom_analytics::classify::error::ClassifyError;
use opsroom_core::Error;

/// The error that a caller sees: what is wrong lies in what was given.
pub(crate) fn refused(error: ClassifyError) -> Error {
    match error {
        ClassifyError::Cancelled => Error::cancelled("training was stopped before its end"),
        other => Error::invalid(other.to_string()),
    }
}

/// As [`refused`], with what the trouble is about in front.
pub(crate) fn refused_of(name: &str, error: ClassifyError) -> Error {
    let error = refused(error);
    Error { message: format!("{name}: {}", error.message), ..error }
}
