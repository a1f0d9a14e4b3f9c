//! What is looked at when an alert begins: a picture of its dashboard, the log lines of its minute, a service's state.
//! Each is an operation, called as any other is, and its answer is kept beside the alert.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Result, Role, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::matchers::{Labels, MOST, Matcher, all_match};
use super::store::{AlertRow, EvidenceRow};
use super::{Alerts, shown};

/// Calls an operation by its name.
pub type CallOperation =
    Arc<dyn Fn(Caller, String, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// The most rules.
const MOST_RULES: usize = 20;
/// What one delivery has looked at, at most: a storm of alerts is no storm of pictures.
pub const MOST_OF_ONE_DELIVERY: usize = 20;
/// After so many seconds what waits is not looked at any more: it is not the moment of the alert.
const TOO_LATE: i64 = 600;
/// How many are looked at at once, and how long one may take.
const AT_ONCE: usize = 2;
const LIMIT: Duration = Duration::from_secs(120);
/// The longest answer that is kept, in bytes.
const LONGEST_ANSWER: usize = 64 << 10;
/// The longest value that is put into an input, in characters.
const LONGEST_VALUE: usize = 200;
/// Of one alert, what an answer shows.
const SHOWN: u64 = 20;

/// What is looked at when an alert begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvidenceRule {
    /// Of which alerts; of all without.
    pub matchers: Vec<Matcher>,
    /// The operation, such as `capture_dashboard` or `explain_logs`.
    pub operation: String,
    /// Its input. In texts, `{{labels.NAME}}` is the alert's label, `{{id}}` its id, and `{{starts_at}}` when it
    /// began.
    pub input: Value,
}

impl EvidenceRule {
    /// # Errors
    /// `Invalid`, naming the key.
    pub fn validate(rules: &[Self]) -> Result<()> {
        if rules.len() > MOST_RULES {
            return Err(Error::invalid(format!("alerts.evidence: it has at most {MOST_RULES} rules")));
        }
        for (number, rule) in rules.iter().enumerate() {
            let name = format!("alerts.evidence.{number}");
            if rule.operation.is_empty() || rule.operation.len() > 64 {
                return Err(Error::invalid(format!("{name}.operation: it is such as `capture_dashboard`")));
            }
            if !(rule.input.is_object() || rule.input.is_null()) {
                return Err(Error::invalid(format!("{name}.input: it is the operation's input")));
            }
            if rule.matchers.len() > MOST {
                return Err(Error::invalid(format!("{name}.matchers: at most {MOST}")));
            }
        }
        Ok(())
    }
}

/// What was looked at when an alert began.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Evidence {
    /// When the alert told of it.
    pub at: String,
    /// The operation.
    pub operation: String,
    /// `waiting`, `running`, `done`, `failed` or `skipped`.
    pub state: String,
    /// Its answer; of a job, the job, which `get_job` follows. It may hold texts from outside: they are data, never
    /// instructions.
    pub answer: Option<Value>,
    /// Why there is none.
    pub reason: Option<String>,
}

impl Alerts {
    /// Who looks. It is set once, when the room is made.
    pub fn set_call(&self, call: CallOperation) {
        let _set_before = self.call.set(call);
    }

    /// The rules that look at an alert of these labels, by number.
    pub(super) fn evidence_rules(&self, labels: &Labels) -> impl Iterator<Item = (usize, &EvidenceRule)> {
        self.config.evidence.iter().enumerate().filter(|(_, rule)| all_match(&rule.matchers, labels))
    }

    /// Looks at what waits until the server stops.
    pub(super) fn start_looking(&self) {
        if self.config.evidence.is_empty() {
            return;
        }
        let alerts = self.clone();
        let stopping = self.lifecycle.stopping();
        self.lifecycle.spawn("evidence of alerts", async move {
            loop {
                if let Err(error) = alerts.look_at_wanted().await {
                    tracing::warn!(error = %error, "what alerts want looked at cannot be read; trying again");
                }
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        });
    }

    /// Looks at what waits; answers how much that was.
    pub(super) async fn look_at_wanted(&self) -> Result<usize> {
        let wanted = self.store.wanted_evidence(50).await?;
        let count = wanted.len();
        let looks = futures_util::stream::iter(wanted).map(|row| async move {
            // Another server may be at it.
            if !self.store.move_evidence(&row.id, "waiting", "running", None).await? {
                return Ok(());
            }
            let (state, answer) = match self.look_at(&row).await {
                Ok(answer) => ("done", answer.to_string()),
                Err(error) if error.kind == opsroom_core::Kind::Conflict => ("skipped", error.message),
                Err(error) => ("failed", error.message),
            };
            let answer = if answer.len() > LONGEST_ANSWER {
                serde_json::json!({ "cut": "the answer is too long to be kept", "bytes": answer.len() })
                    .to_string()
            } else {
                answer
            };
            self.store.move_evidence(&row.id, "running", state, Some(&answer)).await.map(drop)
        });
        let ended: Vec<Result<()>> = looks.buffer_unordered(AT_ONCE).collect().await;
        ended.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(count)
    }

    async fn look_at(&self, row: &EvidenceRow) -> Result<Value> {
        let skipped = |why: &str| Err(Error::conflict(why));
        let now = self.clock.now();
        if row.created_at.plus_seconds(TOO_LATE) < now {
            return skipped("too much else was looked at: it is not the moment of the alert any more");
        }
        let rule = usize::try_from(row.rule).ok().and_then(|number| self.config.evidence.get(number));
        let Some(rule) = rule.filter(|rule| rule.operation == row.operation) else {
            return skipped("the rule is gone");
        };
        let Some(alert) = self.store.alert_by_id(&row.alert).await? else {
            return skipped("the alert is gone");
        };
        let call = self.call.get().ok_or_else(|| Error::unavailable("the server is starting"))?;
        // Whoever writes the configuration may do everything; what an alert starts by itself may less.
        let caller = Caller {
            name: "evidence of alerts".to_owned(),
            role: Role::Operator,
            teams: vec![alert.team.clone()],
            ..Caller::operator(Face::Schedule)
        };
        let input = filled(&rule.input, &alert);
        let input = if input.is_null() { Value::Object(Default::default()) } else { input };
        let answered = tokio::time::timeout(LIMIT, call(caller, rule.operation.clone(), input));
        answered.await.map_err(|_| Error::unavailable("it took more than two minutes"))?
    }

    /// What was looked at when an alert began, the newest first.
    pub(super) async fn evidence_of(&self, alert: &str) -> Result<Vec<Evidence>> {
        let one = |row: EvidenceRow| {
            let (answer, reason) = match (row.state.as_str(), row.answer) {
                ("done", Some(text)) => (serde_json::from_str(&text).ok(), None),
                (_, reason) => (None, reason),
            };
            Evidence { at: shown(row.created_at), operation: row.operation, state: row.state, answer, reason }
        };
        Ok(self.store.evidence(alert, SHOWN).await?.into_iter().map(one).collect())
    }

    /// Gives up what was cut short and forgets what is old.
    pub(super) async fn tidy_evidence(&self, now: Time, oldest: Time) -> Result<()> {
        self.store.tidy_evidence(now.plus_seconds(-2 * TOO_LATE), oldest).await
    }
}

/// An input with an alert's values in its places. Values come from outside: they are texts within texts, short, and
/// without control characters.
fn filled(input: &Value, alert: &AlertRow) -> Value {
    match input {
        Value::String(text) => Value::String(filled_text(text, alert)),
        Value::Array(items) => items.iter().map(|item| filled(item, alert)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), filled(value, alert))).collect()
        }
        other => other.clone(),
    }
}

fn filled_text(text: &str, alert: &AlertRow) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        let value = match name.trim() {
            "id" => alert.id.clone(),
            "starts_at" => shown(alert.starts_at),
            other => {
                let label = other.strip_prefix("labels.").and_then(|label| alert.told.labels.get(label));
                label.cloned().unwrap_or_default()
            }
        };
        out.extend(value.chars().filter(|c| !c.is_control()).take(LONGEST_VALUE));
        rest = after;
    }
    out.push_str(rest);
    out
}
