//! `process_log_batch`, `get_log_batch` and `cancel_log_batch`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::store::BatchRow;
use super::{BatchState, ItemState};
use crate::logs::Logs;

/// What a batch may call: operations that read, or do no harm a second time.
const MAY_CALL: [&str; 11] = [
    "analyze_logs",
    "explain_logs",
    "list_log_templates",
    "detect_anomalies",
    "search_logs",
    "count_logs",
    "list_log_objects",
    "estimate_logs",
    "download_logs",
    "test_log_source",
    "export_logs",
];
/// The most bytes of all inputs together.
const INPUT_BYTES: usize = 32 << 20;

/// Call one operation on logs with many inputs, in the background. The batch is kept: a restart goes on
/// where it was, and each item has its own answer, which `get_log_batch` shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessLogBatch {
    /// The operation: `analyze_logs`, `explain_logs`, `list_log_templates`, `detect_anomalies`,
    /// `search_logs`, `count_logs`, `list_log_objects`, `estimate_logs`, `download_logs`, `test_log_source`
    /// or `export_logs`.
    pub operation: String,
    /// Its inputs, one object an item.
    #[schemars(length(min = 1, max = 10000))]
    pub items: Vec<Map<String, Value>>,
    /// How many items at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1, max = 32))]
    pub concurrency: u32,
    /// What a failed item does to the others.
    #[serde(default)]
    pub on_error: OnError,
    /// How often an item is tried again when something does not answer.
    #[serde(default = "default_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,
}

/// What a failed item does to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing.
    #[default]
    Continue,
    /// It ends the batch.
    Stop,
}

fn default_concurrency() -> u32 {
    4
}

fn default_retries() -> u32 {
    2
}

/// Show how far a batch is, with the answers of its items.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetLogBatch {
    /// The batch.
    pub id: String,
    /// From which item on, counted from 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub from: u32,
    /// Items in this state alone: `waiting`, `succeeded` or `failed`.
    #[serde(default)]
    pub state: Option<ItemState>,
    /// The most items in the answer.
    #[serde(default = "default_items")]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: u32,
}

fn default_items() -> u32 {
    50
}

/// End a batch: items that wait are not called any more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelLogBatch {
    /// The batch.
    pub id: String,
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogBatch {
    /// Its id.
    pub id: String,
    /// What it calls.
    pub operation: String,
    /// Where it stands.
    pub state: BatchState,
    /// How many items it has.
    pub total: i64,
    /// How many were answered.
    pub succeeded: i64,
    /// How many failed.
    pub failed: i64,
    /// When it was asked for.
    pub created_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Items with their answers.
    pub items: Vec<BatchItem>,
    /// From which item on there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// An item of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BatchItem {
    /// Its place, from 0.
    pub item: i64,
    /// Where it stands.
    pub state: ItemState,
    /// How often it was tried.
    pub attempts: i64,
    /// The operation's answer, or its error with `kind` and `message`.
    pub answer: Value,
}

pub(in crate::logs) async fn process_log_batch(
    logs: Logs,
    call: Call,
    input: ProcessLogBatch,
) -> Result<LogBatch> {
    let batches = logs.batches()?;
    if !MAY_CALL.contains(&input.operation.as_str()) {
        return Err(Error::invalid(format!(
            "operation: `{}` is none that a batch calls; they are {}",
            input.operation.escape_debug(),
            MAY_CALL.join(", ")
        )));
    }
    if input.items.is_empty() || input.items.len() > 10_000 {
        return Err(Error::invalid("items: a batch has from 1 to 10000"));
    }
    let items: Vec<Value> = input.items.into_iter().map(Value::Object).collect();
    let bytes: usize = items.iter().map(|item| item.to_string().len()).sum();
    if bytes > INPUT_BYTES {
        return Err(Error::invalid(format!("items: {bytes} bytes are too many, at most {INPUT_BYTES}")));
    }
    let row = BatchRow {
        id: opsroom_core::id::new_id(),
        team: call.caller.team().to_owned(),
        subject: call.caller.subject.clone(),
        operation: input.operation,
        state: BatchState::Running,
        total: items.len() as i64,
        concurrency: input.concurrency.clamp(1, 32).into(),
        stops: input.on_error == OnError::Stop,
        retries: input.retries.min(10).into(),
        created_at: batches.clock.now(),
        ended_at: None,
    };
    batches.store.add(&row, &items).await?;
    batches.go(row.clone());
    Ok(shown(row, 0, 0, Vec::new()))
}

pub(in crate::logs) async fn get_log_batch(logs: Logs, call: Call, input: GetLogBatch) -> Result<LogBatch> {
    let batches = logs.batches()?;
    let row = batches.store.batch(&call.caller.teams, &input.id).await?.ok_or_else(|| none(&input.id))?;
    let limit = input.limit.min(1_000);
    let mut items = match limit {
        0 => Vec::new(),
        _ => batches.store.items(&row.id, input.from.into(), input.state, u64::from(limit) + 1).await?,
    };
    let next = items.get(limit as usize).map(|item| item.place);
    items.truncate(limit as usize);
    let succeeded = batches.store.count(&row.id, ItemState::Succeeded).await?;
    let failed = batches.store.count(&row.id, ItemState::Failed).await?;
    let items = items.into_iter().map(|item| BatchItem {
        item: item.place,
        state: item.state,
        attempts: item.attempts,
        answer: item.answer,
    });
    Ok(LogBatch { next, ..shown(row, succeeded, failed, items.collect()) })
}

pub(in crate::logs) async fn cancel_log_batch(
    logs: Logs,
    call: Call,
    input: CancelLogBatch,
) -> Result<LogBatch> {
    let batches = logs.batches()?;
    let row = batches.store.batch(&call.caller.teams, &input.id).await?.ok_or_else(|| none(&input.id))?;
    batches.store.end(&row.id, BatchState::Cancelled, batches.clock.now()).await?;
    let row = batches.store.batch(&call.caller.teams, &input.id).await?.ok_or_else(|| none(&input.id))?;
    let succeeded = batches.store.count(&row.id, ItemState::Succeeded).await?;
    let failed = batches.store.count(&row.id, ItemState::Failed).await?;
    Ok(shown(row, succeeded, failed, Vec::new()))
}

fn none(id: &str) -> Error {
    Error::not_found(format!("there is no batch `{}`", id.escape_debug()))
}

fn shown(row: BatchRow, succeeded: i64, failed: i64, items: Vec<BatchItem>) -> LogBatch {
    LogBatch {
        id: row.id,
        operation: row.operation,
        state: row.state,
        total: row.total,
        succeeded,
        failed,
        created_at: row.created_at.to_rfc3339(),
        ended_at: row.ended_at.map(|at| at.to_rfc3339()),
        items,
        next: None,
    }
}
