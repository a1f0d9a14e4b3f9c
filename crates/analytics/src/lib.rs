//! Pure numbers: parsing of log lines, features, detectors, networks and forecasters.
//!
//! Nothing here does I/O, reads a clock or knows a database.

pub mod classify;
pub mod detect;
pub mod features;
pub mod forecast;
pub mod metrics;
pub mod parse;
pub mod recurrent;
pub mod segments;
