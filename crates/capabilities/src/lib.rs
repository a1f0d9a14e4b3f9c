//! What Opsroom can do: one folder a capability, each with its words, its tables and its operations.
//!
//! A folder's files have fixed names, absent when empty: `mod.rs` (what it is, its service, its list of
//! operations), `model.rs` (types and pure rules), `store.rs` (SQL for its own tables, and their
//! migrations), `operations.rs`, `tests.rs`. No folder reads another's tables.

pub mod alerts;
pub mod backup;
pub mod dashboards;
pub mod detection;
pub mod health;
pub mod identity;
pub mod jobs;
pub mod logs;
pub mod notifications;
pub mod planning;
pub mod room;
pub mod secrets;
pub mod services;
pub mod tools;
mod validate;
