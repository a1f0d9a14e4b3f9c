//! The vocabulary that every part of Opsroom shares: operations and who may call them, errors,
//! the database, jobs, events, configuration and the life of the process.
//!
//! Nothing here knows a face (HTTP, MCP, the command line) or a domain (logs, services, alerts).

pub mod aws;
pub mod caller;
pub mod capability;
pub mod clock;
pub mod config;
pub mod csv;
pub mod db;
pub mod egress;
pub mod error;
pub mod events;
pub mod fields;
pub mod files;
pub mod id;
pub mod job;
pub mod lifecycle;
pub mod metrics;
pub mod operation;
pub mod resolver;
pub mod seal;
pub mod secret;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use caller::{Caller, Role, Scope};
pub use capability::{Capability, Check, Component};
pub use clock::{Clock, Time};
pub use error::{Error, Kind, Result};
pub use operation::{Call, Effect, Operation, Route};
pub use secret::Secret;
