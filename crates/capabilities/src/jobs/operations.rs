//! The operations on jobs: list, get, cancel.

use std::time::Duration;

use opsroom_core::Caller;
use opsroom_core::error::{Error, Result};
use opsroom_core::job::State;
use opsroom_core::operation::{Call, Effect, Operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Jobs;
use super::model::{Job, JobDetails, clean, is_id, page_after};
use super::store::{Filter, Stored};

/// How long a cancellation waits for the job to end before it answers.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

pub fn operations(jobs: &Jobs) -> Vec<Operation> {
    let new = Operation::new::<Jobs, ListJobs, JobPage, _, _>;
    let list = new("jobs", "list_jobs", Effect::Read, "GET /jobs", jobs, list_jobs);
    let get = Operation::new("jobs", "get_job", Effect::Read, "GET /jobs/{id}", jobs, get_job);
    let cancel =
        Operation::new("jobs", "cancel_job", Effect::Write, "POST /jobs/{id}/cancel", jobs, cancel_job);
    vec![list, get, cancel.idempotent()]
}

/// List the jobs of your teams, newest first: what runs, what waits, and how what has ended came out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListJobs {
    /// Only jobs in this state, for example `running`.
    pub state: Option<State>,
    /// Only jobs of this operation, for example `detect_anomalies`.
    pub operation: Option<String>,
    /// How many at most, from 1 to 200; 20 when left out.
    #[schemars(range(min = 1, max = 200))]
    pub limit: Option<u64>,
    /// Where to go on: `next` of the answer before.
    pub cursor: Option<String>,
}

/// A page of jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobPage {
    /// The jobs, newest first.
    pub items: Vec<Job>,
    /// What to send as `cursor` for the entries after these; null when these are the last.
    pub next: Option<String>,
}

/// Get one job: how far it is, its result or its error, and the last lines of its log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetJob {
    /// The job's id, as `list_jobs` shows it.
    pub id: String,
}

/// Cancel a job that waits or runs. Asking twice is fine; a job that has ended otherwise is a conflict.
///
/// Waits up to two seconds for the job to end. The answer is the job: `cancelled` when it has ended,
/// still `running` when it needs longer to stop.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJob {
    /// The job's id, as `list_jobs` shows it.
    pub id: String,
}

async fn list_jobs(jobs: Jobs, call: Call, input: ListJobs) -> Result<JobPage> {
    let limit = input.limit.unwrap_or(20);
    if !(1..=200).contains(&limit) {
        return Err(Error::invalid(format!("limit is {limit}; it must be from 1 to 200")));
    }
    if let Some(name) = &input.operation
        && !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    {
        return Err(Error::invalid(format!(
            "operation: {:?} is not the name of an operation, such as \"detect_anomalies\"",
            clean(name, 64)
        )));
    }
    let filter = Filter {
        state: input.state,
        operation: input.operation.as_deref(),
        after: page_after(input.cursor.as_deref())?,
        limit: limit + 1,
    };
    let mut items = jobs.inner.store.list(&call.caller.teams, &filter).await?;
    let more = items.len() as u64 > limit;
    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = if more { items.last().map(|job| job.id.clone()) } else { None };
    Ok(JobPage { items, next })
}

async fn get_job(jobs: Jobs, call: Call, input: GetJob) -> Result<JobDetails> {
    let stored = jobs.find(&call.caller, &input.id).await?;
    let operation = jobs.operation(&stored.job.operation);
    let own = stored.job.created_by == call.caller.subject;
    let shown = own || operation.is_none_or(|operation| call.caller.may(&operation));
    let Stored { job, input, result, result_note, log } = stored;
    if shown {
        return Ok(JobDetails { job, input, result, result_note, log });
    }
    let note = format!("the input and the result are shown to those who may call {}", job.operation);
    Ok(JobDetails { job, input: Value::Null, result: None, result_note: Some(note), log })
}

async fn cancel_job(jobs: Jobs, call: Call, input: CancelJob) -> Result<Job> {
    let job = jobs.find(&call.caller, &input.id).await?.job;
    match job.state {
        State::Cancelled => return Ok(job),
        state if state.ended() => return Err(already(&job)),
        _ => {}
    }
    let by = clean(&call.caller.name, 190);
    jobs.inner.store.ask_to_stop(&job.id, &by).await?;
    let live = jobs.live().get(&job.id).cloned();
    if let Some(live) = live {
        live.stop(format!("{by} asked for it"));
        // Longer work is not waited for: the answer shows that it still runs.
        let _longer = tokio::time::timeout(CANCEL_WAIT, live.ended.cancelled()).await;
    }
    let job = jobs.find(&call.caller, &input.id).await?.job;
    match job.state {
        State::Succeeded | State::Failed | State::Interrupted => Err(already(&job)),
        _ => Ok(job),
    }
}

fn already(job: &Job) -> Error {
    let ended = job.ended_at.as_deref().unwrap_or("before");
    Error::conflict(format!(
        "job {} has {} at {ended}; only a job that waits or runs can be cancelled",
        job.id,
        match job.state {
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            _ => "been interrupted",
        }
    ))
}

impl Jobs {
    /// A job of the caller's teams; any other does not exist for them.
    pub(super) async fn find(&self, caller: &Caller, id: &str) -> Result<Stored> {
        let found = if is_id(id) { self.inner.store.get(&caller.teams, id).await? } else { None };
        found.ok_or_else(|| {
            let id = clean(id, 64);
            Error::not_found(format!("there is no job {id:?}; list_jobs shows those of your teams"))
        })
    }
}
