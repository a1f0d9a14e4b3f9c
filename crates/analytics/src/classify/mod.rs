//! Detectors that learn from labelled event sequences.

pub mod csv;
pub mod dataset;
pub mod error;
pub mod foreign;
