//! What somebody did, ready to be written down.

use opsroom_core::caller::Face;
use opsroom_core::{Caller, Effect, Error, Operation, Time};
use serde_json::Value;

use super::redact::{Hidden, redact};

/// The longest input kept, in bytes of JSON; a longer one is described by its size.
const MOST_INPUT: usize = 16 * 1024;

/// The longest message kept, in bytes.
const MOST_MESSAGE: usize = 2 * 1024;

/// What somebody did. Make one before the operation runs, finish it with its outcome, and give it to
/// `Identity::audit`.
#[derive(Clone)]
pub struct AuditEntry {
    pub(super) time: Time,
    pub(super) team_id: String,
    pub(super) subject: String,
    pub(super) name: String,
    pub(super) face: Face,
    pub(super) address: Option<String>,
    pub(super) operation: String,
    pub(super) effect: Effect,
    pub(super) input: String,
    pub(super) outcome: String,
    pub(super) message: Option<String>,
    pub(super) job_id: Option<String>,
    pub(super) request_id: Option<String>,
    /// The row that says that it was begun.
    pub(super) begun: Option<String>,
    pub(super) hidden: Hidden,
}

impl AuditEntry {
    /// A call of an operation with this input, as yet without an end: its outcome is `started`. The
    /// input's secrets are taken out here.
    pub fn started(caller: &Caller, operation: &Operation, input: &Value) -> Self {
        let (shown, hidden) = redact(operation, input);
        let mut entry = Self::action(caller, operation.name, operation.effect, &shown);
        entry.hidden = hidden;
        entry
    }

    /// The same for what is not an operation, such as a raw route. `details` has no secrets.
    pub fn action(caller: &Caller, action: &str, effect: Effect, details: &Value) -> Self {
        let mut input = details.to_string();
        if input.len() > MOST_INPUT {
            input = serde_json::json!({ "omitted": format!("{} bytes of input", input.len()) }).to_string();
        }
        Self {
            time: Time(0),
            team_id: plain(caller.team(), 64),
            subject: plain(&caller.subject, 190),
            name: plain(&caller.name, 190),
            face: caller.face,
            address: caller.address.as_deref().map(|address| plain(address, 64)),
            operation: plain(action, 64),
            effect,
            input,
            outcome: "started".to_owned(),
            message: None,
            job_id: None,
            request_id: caller.request_id.as_deref().map(|id| plain(id, 190)),
            begun: None,
            hidden: Hidden::default(),
        }
    }

    /// It went well.
    pub fn ok(mut self) -> Self {
        self.outcome = "ok".to_owned();
        self.message = None;
        self
    }

    /// It failed. A message that repeats a secret of the input is withheld.
    pub fn failed(mut self, error: &Error) -> Self {
        self.outcome = error.kind.as_str().to_owned();
        let message = if self.hidden.occurs_in(&error.message) {
            "(the message is withheld, because it repeats a part of the input that is not kept)"
        } else {
            &error.message
        };
        self.message = Some(plain(message, MOST_MESSAGE));
        self
    }

    /// How it ended.
    pub fn ended<T>(self, result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => self.ok(),
            Err(error) => self.failed(error),
        }
    }

    /// The job that does the work.
    pub fn job(mut self, id: &str) -> Self {
        self.job_id = Some(plain(id, 64));
        self
    }

    /// The request it came with.
    pub fn request(mut self, id: &str) -> Self {
        self.request_id = Some(plain(id, 190));
        self
    }

    /// The finished entry, made at this moment; it no longer remembers what was hidden.
    pub(in crate::identity) fn at(mut self, time: Time) -> Self {
        self.time = time;
        self.hidden = Hidden::default();
        self
    }
}

/// A text that every database keeps as it is: control characters replaced, cut to `most` bytes.
fn plain(text: &str, most: usize) -> String {
    let cut = &text[..text.floor_char_boundary(most)];
    cut.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_names_and_endless_inputs_become_plain_and_bounded() {
        let caller = Caller {
            name: format!("x\0\n{}", "é".repeat(500)),
            address: Some("a".repeat(1000)),
            ..Caller::operator(Face::Rest)
        };
        let details = json!({ "text": "x".repeat(MOST_INPUT) });
        let entry = AuditEntry::action(&caller, "do_something", Effect::Write, &details).request("\u{0}");
        assert!(!entry.name.contains('\0') && entry.name.chars().count() <= 190);
        assert!(entry.input.len() < 100, "{}", entry.input);
        assert_eq!(entry.address.map(|address| address.len()), Some(64));
        assert_eq!(entry.request_id.as_deref(), Some("\u{fffd}"));
    }
}
