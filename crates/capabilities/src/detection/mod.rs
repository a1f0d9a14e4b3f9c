//! Detection: what is abnormal in a log.

pub mod demo;
