//! A job as callers see it, and the pure rules of its log and texts.

use std::collections::VecDeque;

use opsroom_core::clock::Time;
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::job::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The most lines that a job's log keeps; older ones go.
pub const MOST_LOG_LINES: usize = 100;
/// The longest message of a job's progress, in characters.
pub const MOST_MESSAGE: usize = 300;

/// One long piece of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The job's id.
    pub id: String,
    /// The operation it runs.
    pub operation: String,
    /// Where it stands.
    pub state: State,
    /// How much is done, from 0 to 1; null when the end is not known.
    pub fraction: Option<f64>,
    /// What it is doing, or how it ended, in a few words.
    pub message: String,
    /// Who asked for it, by name.
    pub owner: String,
    /// Who asked for it, as the audit trail names them.
    pub created_by: String,
    /// The team that sees it.
    #[serde(rename = "team_id")]
    pub team: String,
    /// When it was asked for, RFC 3339.
    pub created_at: String,
    /// When it began, RFC 3339; null while it waits.
    pub started_at: Option<String>,
    /// When it ended, RFC 3339; null until then.
    pub ended_at: Option<String>,
    /// Why it failed or was stopped; null otherwise.
    pub error: Option<Failure>,
    /// Who asked it to stop, by name; null when nobody did.
    pub cancelled_by: Option<String>,
}

/// Why a job did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// What kind of failure, in the words of every error.
    pub kind: Kind,
    /// What was wrong, with what, and what would be right.
    pub message: String,
}

/// A job with its input, its result and the last lines of its log.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct JobDetails {
    /// The job itself.
    #[serde(flatten)]
    pub job: Job,
    /// What it was asked, with secrets hidden and long texts cut; null for those who may not call the operation.
    pub input: Value,
    /// What came of it, as the operation answers it; null until it has succeeded.
    pub result: Option<Value>,
    /// Why the result is not shown here; null when nothing is withheld.
    pub result_note: Option<String>,
    /// The last lines of its log, oldest first.
    pub log: Vec<LogLine>,
}

/// A line of a job's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When, RFC 3339.
    pub time: String,
    /// What it was doing.
    pub message: String,
}

impl Job {
    /// What an event about this job says.
    pub fn event_data(&self) -> Value {
        json!({
            "job_id": self.id,
            "operation": self.operation,
            "state": self.state,
            "fraction": self.fraction,
            "message": self.message,
            "error": self.error,
        })
    }
}

/// Where a job stands, for the capability whose work it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What was asked for.
    pub operation: String,
    /// Where it stands.
    pub state: State,
    /// What went wrong, if it failed.
    pub error: Option<String>,
    /// When it was accepted.
    pub created_at: Time,
}

/// Adds a line to a bounded log. A message that differs from the last one only in its figures, such as
/// `read 2,000 lines` after `read 1,000 lines`, takes its place: a counter that moves is one line.
pub fn add_line(log: &mut VecDeque<LogLine>, line: LogLine) {
    match log.back_mut() {
        Some(last) if without_figures(&last.message).eq(without_figures(&line.message)) => *last = line,
        _ => {
            if log.len() == MOST_LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    }
}

fn without_figures(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_ascii_digit() && !matches!(c, '.' | ','))
}

/// A text fit for a column and a terminal: control characters become spaces, and what is longer than
/// `most` characters is cut.
pub fn clean(text: &str, most: usize) -> String {
    let mut out: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// Whether a text can be the id of a job or a schedule. What cannot is not asked of the database: PostgreSQL
/// takes no text with a NUL.
pub fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The id after which a page goes on.
///
/// # Errors
/// `Invalid` for what is no id.
pub fn page_after(after: Option<&str>) -> Result<Option<&str>> {
    match after {
        Some(after) if !is_id(after) => Err(Error::invalid(format!(
            "cursor: {:?} is not `next` of an answer of this list; leave it out for its beginning",
            clean(after, 64)
        ))),
        after => Ok(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(of: &[&str]) -> Vec<String> {
        let mut log = VecDeque::new();
        for message in of {
            add_line(&mut log, LogLine { time: String::new(), message: (*message).to_owned() });
        }
        log.into_iter().map(|line| line.message).collect()
    }

    #[test]
    fn a_counter_that_moves_is_one_line() {
        let lines = messages(&["read 1 line", "reading", "read 10.5 MB", "read 1,020 MB", "scoring"]);
        assert_eq!(lines, ["read 1 line", "reading", "read 1,020 MB", "scoring"]);
    }

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest() {
        let mut log = VecDeque::new();
        for n in 0..MOST_LOG_LINES + 5 {
            let message = if n % 2 == 0 { format!("even {n}") } else { format!("odd {n}") };
            add_line(&mut log, LogLine { time: String::new(), message });
        }
        assert_eq!(log.len(), MOST_LOG_LINES);
        assert_eq!(log.back().unwrap().message, format!("even {}", MOST_LOG_LINES + 4));
    }

    #[test]
    fn hostile_text_is_cut_and_loses_its_control_characters() {
        assert_eq!(clean("a\u{0}b\u{1b}[2Jc", 300), "a b [2Jc");
        assert_eq!(clean("äöü", 2), "ä…");
        assert_eq!(clean("äöü", 3), "äöü");
    }
}
