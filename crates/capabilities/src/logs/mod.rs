//! Logs: reading them, and what their templates, levels and times say.

pub mod input;
