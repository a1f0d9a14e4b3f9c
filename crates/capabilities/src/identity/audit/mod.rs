//! The audit trail: a chain of records, each of which holds the hash of the one before.
//!
//! Words: an *entry* is what somebody did, as the faces know it; it is *begun* before the operation runs; a *record* is an entry that has its
//! number and its place in the chain; the *head* is the row that knows the last record's number and hash.
//!
//! Invariants: a record's number is one more than that of the record before; the head moves in the
//! transaction that adds the records; no input that is `writeOnly` in its schema is in a record. The chain
//! shows every change that was made without recomputing it. Whoever can write the whole database can
//! recompute the chain too: to notice that, note the head's number and hash elsewhere, and give them to
//! `verify_audit` later.

mod begun;
mod chain;
mod entry;
mod redact;
mod retain;
mod sink;
#[cfg(test)]
mod sink_tests;
mod trail;
mod verify;

pub use begun::Begun;
pub use chain::{GENESIS, Head, Record};
pub use entry::AuditEntry;
pub use retain::{AuditConfig, remove_old};
pub use sink::{Sink, SinkConfig};
pub use trail::{Trail, append};
pub use verify::{Broken, Verdict, Verify, Watch, verify};
