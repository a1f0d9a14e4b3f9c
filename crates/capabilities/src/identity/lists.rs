//! Reading the audit trail and the call record.

use opsroom_core::{Call, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::{self, Record, Verdict, Verify, Watch};
use super::calls::{CallFilter, Recorded};
use super::model::{self, Page};
use super::{Identity, store};

/// List the audit trail of your teams, newest first: everything that was called and was not only a look,
/// by whom, with which input and how it ended.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListAudit {
    /// Only calls of this operation, such as `create_api_key`.
    #[schemars(length(max = 64))]
    pub operation: Option<String>,
    /// Only calls by this subject: `key:<id>`, `operator` or `setup`.
    #[schemars(length(max = 190))]
    pub subject: Option<String>,
    /// Only calls that ended so: `ok`, `started`, or an error's kind such as `forbidden`.
    #[schemars(length(max = 32))]
    pub outcome: Option<String>,
    /// Only calls from this moment on, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Only calls before this moment, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// List the calls that only looked, newest first: who called what, how it ended and how long it took.
///
/// They are written each second: the last second is not listed yet, and is lost if the server crashes.
/// Everything else is in the audit trail.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListCalls {
    /// Only calls of this operation, such as `list_jobs`.
    #[schemars(length(max = 190))]
    pub operation: Option<String>,
    /// Only calls by this subject: `key:<id>` or `operator`.
    #[schemars(length(max = 190))]
    pub subject: Option<String>,
    /// Only calls that ended so: `ok`, or an error's kind such as `forbidden`.
    #[schemars(length(max = 32))]
    pub outcome: Option<String>,
    /// Only calls from this moment on, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Only calls before this moment, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// One entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditRecord {
    /// Its number in the chain, from 1 without gaps over all teams.
    pub seq: i64,
    /// When it was written, RFC 3339.
    #[serde(serialize_with = "model::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Time,
    /// The team of the one who called.
    pub team_id: String,
    /// Who called: `key:<id>`, `operator` or `setup`.
    pub subject: String,
    /// The name of the one who called.
    pub name: String,
    /// By which face: `mcp`, `rest`, `cli` or `schedule`.
    pub face: String,
    /// From which address; null where there is none.
    pub address: Option<String>,
    /// What was called.
    pub operation: String,
    /// What it does to the world: `reveal`, `write` or `destroy`.
    pub effect: String,
    /// With which input, without its secrets and with long texts cut.
    pub input: Value,
    /// `ok`, `started`, or the error's kind.
    pub outcome: String,
    /// The error's message.
    pub message: Option<String>,
    /// The job that does the work.
    pub job_id: Option<String>,
    /// The request it came with.
    pub request_id: Option<String>,
    /// The hash of this record, which the next one repeats.
    pub hash: String,
}

/// One call that only looked.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CallEntry {
    /// Its id.
    pub id: String,
    /// When it was over, RFC 3339.
    #[serde(serialize_with = "model::rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub time: Time,
    /// The team of the one who called.
    pub team_id: String,
    /// Who called.
    pub subject: String,
    /// The name of the one who called.
    pub name: String,
    /// By which face: `mcp`, `rest`, `cli` or `schedule`.
    pub face: String,
    /// From which address; null where there is none.
    pub address: Option<String>,
    /// What was called.
    pub operation: String,
    /// `ok`, or the error's kind.
    pub outcome: String,
    /// How long it took, in microseconds.
    pub took_us: i64,
    /// The request it came with.
    pub request_id: Option<String>,
}

/// Lists the audit trail.
pub async fn list_audit(identity: Identity, call: Call, input: ListAudit) -> Result<Page<AuditRecord>> {
    let limit = model::page_limit(input.limit)?;
    let before = input.cursor.as_deref().map(|cursor| {
        let cursor = model::short_text("cursor", cursor, 64)?;
        cursor.parse::<i64>().map_err(|_| model::wrong_cursor(cursor))
    });
    let filter = store::audit::Filter { before: before.transpose()?, ..filter(&call.caller.teams, &input)? };
    let records = store::audit::list(&identity.db, &filter, limit as u64 + 1).await?;
    let records = records.into_iter().map(AuditRecord::from).collect();
    Ok(Page::cut(records, limit, |record: &AuditRecord| record.seq.to_string()))
}

/// Which records of these teams are meant.
pub(super) fn filter<'a>(teams: &'a [String], input: &'a ListAudit) -> Result<store::audit::Filter<'a>> {
    Ok(store::audit::Filter {
        teams,
        operation: filter_text("operation", &input.operation, 64)?,
        subject: filter_text("subject", &input.subject, 190)?,
        outcome: filter_text("outcome", &input.outcome, 32)?,
        since: input.since.as_deref().map(|text| model::moment("since", text)).transpose()?,
        until: input.until.as_deref().map(|text| model::moment("until", text)).transpose()?,
        before: None,
    })
}

/// Lists calls.
pub async fn list_calls(identity: Identity, call: Call, input: ListCalls) -> Result<Page<CallEntry>> {
    let limit = model::page_limit(input.limit)?;
    let filter = CallFilter {
        teams: &call.caller.teams,
        operation: filter_text("operation", &input.operation, 190)?,
        subject: filter_text("subject", &input.subject, 190)?,
        outcome: filter_text("outcome", &input.outcome, 32)?,
        since: input.since.as_deref().map(|text| model::moment("since", text)).transpose()?,
        until: input.until.as_deref().map(|text| model::moment("until", text)).transpose()?,
        before: model::id_cursor(&input.cursor)?,
    };
    let calls = store::calls::list(&identity.db, &filter, limit as u64 + 1).await?;
    let calls = calls.into_iter().map(CallEntry::from).collect();
    Ok(Page::cut(calls, limit, |call: &CallEntry| call.id.clone()))
}

/// Checks the audit trail, for a caller.
pub async fn verify_audit(identity: Identity, call: Call, input: Verify) -> Result<Verdict> {
    let watch = Watch { progress: &call.progress, cancel: &call.cancel };
    audit::verify(&identity.db, &input, watch).await
}

fn filter_text<'a>(field: &str, text: &'a Option<String>, most: usize) -> Result<Option<&'a str>> {
    text.as_deref().map(|text| model::short_text(field, text, most)).transpose()
}

impl From<Record> for AuditRecord {
    fn from(record: Record) -> Self {
        Self {
            seq: record.seq,
            time: record.time,
            team_id: record.team_id,
            subject: record.subject,
            name: record.name,
            face: record.face,
            address: record.address,
            operation: record.operation,
            effect: record.effect,
            // A record that was tampered with is shown as it is.
            input: serde_json::from_str(&record.input).unwrap_or(Value::String(record.input)),
            outcome: record.outcome,
            message: record.message,
            job_id: record.job_id,
            request_id: record.request_id,
            hash: record.hash,
        }
    }
}

impl From<Recorded> for CallEntry {
    fn from(call: Recorded) -> Self {
        Self {
            id: call.id,
            time: call.time,
            team_id: call.team_id,
            subject: call.subject,
            name: call.name,
            face: call.face,
            address: call.address,
            operation: call.operation,
            outcome: call.outcome,
            took_us: call.took_us,
            request_id: call.request_id,
        }
    }
}
