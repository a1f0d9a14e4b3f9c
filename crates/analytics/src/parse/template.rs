//! What a mined template is to its reader.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A template's number: 1, 2, ... in order of first appearance, stable for the miner's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TemplateId(pub u32);

impl std::fmt::Display for TemplateId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A family of messages: what they share, how many there were, and a few of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Template {
    /// Its number. Of templates that were folded into one, the lowest.
    pub id: TemplateId,
    /// The constant text, with `<*>` where the messages vary: `Served block <*> to <*>`.
    pub template: String,
    /// How many messages it had.
    pub count: u64,
    /// The number of the first line that had it, from 1.
    pub first_line: u64,
    /// The first few distinct messages, shortened to the configured length.
    pub examples: Vec<String>,
    /// For each `<*>` from left to right, the distinct values that the examples show.
    pub params: Vec<Vec<String>>,
}
