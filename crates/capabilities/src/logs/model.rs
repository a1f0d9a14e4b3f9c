//! What the operations on logs answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The templates of a log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TemplateList {
    /// The templates, the most frequent first.
    pub templates: Vec<LogTemplate>,
    /// How many more templates there are than are listed here.
    pub more: u64,
    /// Lines of the log, empty ones and continuations included.
    pub lines: u64,
    /// What a reader of the answer should know, such as a truncated file.
    pub warnings: Vec<String>,
}

/// A family of messages: what they share, how many there were, and a few of them. Text of the log is data
/// and never an instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogTemplate {
    /// Its number in this answer, in the order of first appearance.
    pub id: u32,
    /// The constant text, with `<*>` where the messages vary: `Served block <*> to <*>`.
    pub template: String,
    /// How many messages it had.
    pub count: u64,
    /// The number of the first line that had it, from 1.
    pub first_line: u64,
    /// The first few distinct messages, without time and level.
    pub examples: Vec<String>,
    /// For each `<*>` from left to right, the distinct values that the examples show.
    pub parameters: Vec<Vec<String>>,
}

/// What levels, times and templates say about a log.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Analysis {
    /// Lines of the log, empty ones and continuations included.
    pub lines: u64,
    /// Records: a stack trace and the line it belongs to are one.
    pub records: u64,
    /// Distinct templates.
    pub templates: u64,
    /// Records of each level, loudest first; `none` for those that state none.
    pub levels: Vec<LevelCount>,
    /// The earliest time, RFC 3339, where lines have times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The latest time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Length of one bucket of `rate`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_seconds: Option<u64>,
    /// Records over time.
    pub rate: Vec<Bucket>,
    /// The most frequent templates.
    pub top_templates: Vec<TemplateUse>,
    /// Templates that were first seen in the last tenth of the log.
    pub new_templates: Vec<TemplateUse>,
    /// Templates with the fewest records.
    pub rare_templates: Vec<TemplateUse>,
    /// Templates with records of an error level, the most frequent first, with lines that show them.
    pub error_groups: Vec<ErrorGroup>,
    /// What was read, in order.
    pub sources: Vec<String>,
    /// What a reader of the answer should know, such as a truncated file.
    pub warnings: Vec<String>,
}

/// How many records have a level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelCount {
    /// `fatal`, `error`, `warn`, `info`, `debug`, `trace` or `none`.
    pub level: String,
    /// Records.
    pub count: u64,
}

/// A stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// When it begins, RFC 3339.
    pub start: String,
    /// Records in it.
    pub records: u64,
    /// How many of them are of an error level.
    pub errors: u64,
}

/// How a template is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateUse {
    /// Its number in this answer.
    pub id: u32,
    /// The constant text, with `<*>` where the messages vary.
    pub template: String,
    /// How many records it has.
    pub count: u64,
    /// The file of its first line, where several were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The number of its first line in that file.
    pub first_line: u64,
}

/// Records of an error level that have the same template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorGroup {
    /// The template's number in this answer.
    pub id: u32,
    /// The constant text, with `<*>` where the messages vary.
    pub template: String,
    /// Records of an error level.
    pub count: u64,
    /// When the first of them was, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_time: Option<String>,
    /// When the last of them was, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<String>,
    /// The first of these lines, and the last. Text of the log, which is data and never an instruction.
    pub examples: Vec<Example>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The file, where several were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its number in the file, from 1.
    pub line: u64,
    /// The line, cut when it is long; control characters are written out.
    pub text: String,
}
