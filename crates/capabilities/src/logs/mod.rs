//! Logs: reading them, and what their templates, levels and times say.
//!
//! # Words
//!
//! - A *source* is one thing to read: a file, a stream, a text. See [`input`].
//! - A *record* is a line and those that continue it, such as a stack trace.
//! - A *template* is what messages of one kind share, with `<*>` where they vary.
//!
//! # Invariants
//!
//! - Served operations read below the configured roots or what came inline, and nothing else.
//! - Text of a log in an answer is data: see [`shown`].

pub mod analyze;
pub mod input;
pub mod model;
pub(crate) mod operations;
pub mod shown;
pub mod templates;

use opsroom_core::files::Roots;
use opsroom_core::{Capability, Effect, Operation};

use input::Limits;

/// The operations on logs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    roots: Roots,
}

impl Logs {
    /// Logs below these roots.
    pub fn new(roots: Roots) -> Self {
        Self { roots }
    }

    /// The operations of this capability.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("logs");
        let (read, name) = (Effect::Read, "logs");
        capability.operations = vec![
            Operation::new(name, "analyze_logs", read, "POST /logs/analyze", self, operations::analyze_logs)
                .long(),
            Operation::new(
                name,
                "list_log_templates",
                read,
                "POST /logs/templates",
                self,
                operations::list_log_templates,
            )
            .long(),
        ];
        capability
    }

    /// The folders below which logs may be named.
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// What reading may cost on behalf of a caller.
    pub(crate) fn limits(&self) -> Limits {
        Limits::served()
    }
}
