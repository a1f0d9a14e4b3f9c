//! Schedules: operations that are called by the clock.
//!
//! Words: a schedule is *due* when its next moment has come; a run is *claimed* by the one server that
//! moves the schedule on; its *owner* is the caller who last changed what it does, and every run acts with
//! what that owner could do then and still can.
//!
//! Invariants: at most one run at a time for each schedule, on one server; a moment is run at most once; a
//! schedule never does what its owner may not.

mod input;
mod model;
mod operations;
mod run;
mod store;
#[cfg(test)]
mod tests;

pub use model::{Missed, Schedule};
pub use operations::{INPUT_OF, SchedulePage, operations};
pub use run::{CallOperation, Rights, Scheduler};
pub use store::schedules_table;
