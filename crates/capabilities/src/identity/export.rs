//! `export_audit`: the audit trail as a file for others.

use opsroom_core::csv::cell;
use opsroom_core::files::{NewFile, Roots};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lists::{AuditRecord, ListAudit, filter};
use super::{Identity, store};

/// How many records are read and written at a time.
const PAGE: u64 = 1000;

const COLUMNS: [&str; 15] = [
    "seq",
    "time",
    "team_id",
    "subject",
    "name",
    "face",
    "address",
    "operation",
    "effect",
    "input",
    "outcome",
    "message",
    "job_id",
    "request_id",
    "hash",
];

/// Write the audit trail of your teams, newest first, to a file below the server's configured roots, as
/// `list_audit` lists it. `verify_audit` says whether what is in the database is what was written there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportAudit {
    /// The file, below the server's configured roots. What is there already is not replaced.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How records are written.
    #[serde(default)]
    pub format: AuditFormat,
    /// Only calls of this operation, such as `create_api_key`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub operation: Option<String>,
    /// Only calls by this subject: `key:<id>`, `user:<id>`, `operator` or `setup`.
    #[serde(default)]
    #[schemars(length(max = 190))]
    pub subject: Option<String>,
    /// Only calls that ended so: `ok`, `started`, or an error's kind such as `forbidden`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub outcome: Option<String>,
    /// Only calls from this moment on, RFC 3339.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Only calls before this moment, RFC 3339.
    #[serde(default)]
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditFormat {
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// Comma-separated, with a first line that names the columns. Values that a spreadsheet would take for a
    /// formula stand behind an apostrophe.
    Csv,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct AuditExport {
    /// The file.
    pub path: String,
    /// How many records it has.
    pub records: u64,
    /// The newest of them.
    pub newest_seq: Option<i64>,
    /// The oldest of them.
    pub oldest_seq: Option<i64>,
}

/// Writes the trail to a file.
pub async fn export(identity: Identity, call: Call, input: ExportAudit) -> Result<AuditExport> {
    let roots: Roots =
        identity.files.clone().ok_or_else(|| Error::unavailable("no folder is open to callers"))?;
    let list = ListAudit {
        operation: input.operation,
        subject: input.subject,
        outcome: input.outcome,
        since: input.since,
        until: input.until,
        limit: None,
        cursor: None,
    };
    let mut wanted = filter(&call.caller.teams, &list)?;
    // What is written while this runs is not in it, the record of this call included.
    let newest = store::audit::head(&identity.db).await?.map_or(0, |head| head.seq);
    wanted.before = Some(newest + 1);
    let mut done = AuditExport { path: input.path.clone(), ..AuditExport::default() };
    let mut file = roots.create(&input.path)?;
    if input.format == AuditFormat::Csv {
        file.write(format!("{}\r\n", COLUMNS.join(",")).as_bytes())?;
    }
    loop {
        if call.cancel.is_cancelled() {
            return Err(Error::conflict("the export was cancelled"));
        }
        let records = store::audit::list(&identity.db, &wanted, PAGE).await?;
        let Some(last) = records.last() else { break };
        wanted.before = Some(last.seq);
        done.newest_seq = done.newest_seq.or(records.first().map(|record| record.seq));
        done.oldest_seq = Some(last.seq);
        done.records += records.len() as u64;
        let records: Vec<AuditRecord> = records.into_iter().map(AuditRecord::from).collect();
        file = Lifecycle::blocking(move || write(file, &records, input.format)).await?;
        call.progress.report(None, format!("wrote {} records", done.records));
    }
    Lifecycle::blocking(move || file.finish_new()).await?;
    Ok(done)
}

fn write(mut file: NewFile, records: &[AuditRecord], format: AuditFormat) -> Result<NewFile> {
    let mut text = String::new();
    for record in records {
        let value = serde_json::to_value(record).map_err(Error::internal)?;
        match format {
            AuditFormat::Ndjson => {
                text.push_str(&value.to_string());
                text.push('\n');
            }
            AuditFormat::Csv => {
                let shown = |name: &&str| match &value[*name] {
                    Value::Null => String::new(),
                    Value::String(text) => cell(text),
                    other => cell(&other.to_string()),
                };
                text.push_str(&COLUMNS.iter().map(shown).collect::<Vec<_>>().join(","));
                text.push_str("\r\n");
            }
        }
    }
    file.write(text.as_bytes())?;
    Ok(file)
}
