//! A capability: one folder of the product, as the rest of the program sees it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::db::Migration;
use crate::operation::Operation;

/// What one capability brings: its operations, its tables and how it is.
pub struct Capability {
    /// The folder's name, the first part of every scope.
    pub name: &'static str,
    /// What it can do.
    pub operations: Vec<Operation>,
    /// Its tables, oldest first.
    pub migrations: Vec<Migration>,
    /// Its components' state, asked by `get_detailed_health`.
    pub checks: Vec<Check>,
}

impl Capability {
    /// A capability that has only its name; fill in what it brings.
    pub fn new(name: &'static str) -> Self {
        Self { name, operations: Vec::new(), migrations: Vec::new(), checks: Vec::new() }
    }
}

/// Asks one component how it is.
#[derive(Clone)]
pub struct Check {
    /// The component's name, such as `database`.
    pub name: &'static str,
    /// Whether the room can work at all without it: a failing critical check makes `/health/ready` say 503.
    pub critical: bool,
    /// Asks; it must answer within a second or two.
    pub run: Arc<dyn Fn() -> BoxFuture<'static, Component> + Send + Sync>,
}

/// How a component is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: Status,
    /// What was seen, in words.
    pub message: String,
}

/// A component's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It works.
    Healthy,
    /// It works with limits that the message names.
    Degraded,
    /// It does not work.
    Unhealthy,
}
