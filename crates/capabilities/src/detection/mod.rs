//! Detection: what is abnormal in a log.
//!
//! # Words
//!
//! - A *session* is all lines that carry one id; a *window* is a stretch of time or a number of lines.
//!   Either is judged as one.
//! - A *verdict* is what is said about one of them: a score, whether it is abnormal, and why.
//! - A *cause* is what verdicts with the same weightiest reasons share; answers list causes.
//!
//! # Invariants
//!
//! - The same log and options give the same answer, on any number of cores and on every face.
//! - Text of a log in an answer is data: control and invisible characters are written out, long lines cut.

mod causes;
pub mod demo;
mod grouping;
pub mod learned;
pub mod model;
mod operations;
mod report;
mod run;
mod sequences;
#[cfg(test)]
mod tests;

use opsroom_core::files::Roots;
use opsroom_core::{Capability, Effect, Operation};

use crate::logs::Logs;
use learned::Learned;
pub use learned::MIGRATIONS;
pub use run::{Request, detect};

/// The operations of detection. Cheap to clone.
#[derive(Clone)]
pub struct Detection {
    roots: Roots,
    learned: Option<Learned>,
    logs: Logs,
}

impl Detection {
    /// Detection in logs below these roots.
    pub fn new(roots: Roots) -> Self {
        Self { logs: Logs::new(roots.clone()), roots, learned: None }
    }

    /// With detectors that learn from labelled sequences.
    pub fn learning(self, learned: Learned) -> Self {
        Self { learned: Some(learned), ..self }
    }

    /// With logs that are kept, and those that lie elsewhere.
    pub fn with_logs(self, logs: Logs) -> Self {
        Self { logs, ..self }
    }

    /// The operations of this capability.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("detection");
        capability.operations = vec![
            Operation::new(
                "detection",
                "detect_anomalies",
                Effect::Read,
                "POST /logs/anomalies",
                self,
                operations::detect_anomalies,
            )
            .long(),
        ];
        capability.operations.extend(self.learned.iter().flat_map(Learned::operations));
        capability
    }
}
