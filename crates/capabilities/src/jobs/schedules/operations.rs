//! The operations on schedules: create, list, get, update, delete, run now.

use std::time::Duration;

use opsroom_core::caller::{Caller, Role};
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::id::new_id;
use opsroom_core::operation::{Call, Effect, Operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::input::{check_input, check_operation};
use super::model::{Missed, Owner, Schedule, Timing};
use super::store::Stored;
use crate::jobs::Jobs;
use crate::jobs::model::{clean, is_id, page_after};

/// Says in the schema of a field that it is the input of the operation that another field names.
pub const INPUT_OF: &str = "x-input-of";

/// How long `run_schedule_now` waits for the run to show its job or its end.
const BEGIN_WAIT: Duration = Duration::from_secs(2);

/// What this folder can do.
pub fn operations(jobs: &Jobs) -> Vec<Operation> {
    use Effect::{Destroy, Read, Write};
    let create = Operation::new("jobs", "create_schedule", Write, "POST /schedules", jobs, create_schedule);
    let list = Operation::new("jobs", "list_schedules", Read, "GET /schedules", jobs, list_schedules);
    let get = Operation::new("jobs", "get_schedule", Read, "GET /schedules/{id}", jobs, get_schedule);
    let update =
        Operation::new("jobs", "update_schedule", Write, "PATCH /schedules/{id}", jobs, update_schedule);
    let delete =
        Operation::new("jobs", "delete_schedule", Destroy, "DELETE /schedules/{id}", jobs, delete_schedule);
    let run =
        Operation::new("jobs", "run_schedule_now", Write, "POST /schedules/{id}/run", jobs, run_schedule_now);
    vec![create, list, get, update.idempotent(), delete.role(Role::Operator), run]
}

/// Call an operation again and again, by the clock.
///
/// Each run acts with your rights, as they are now and as they are when it runs, whichever is less. An
/// operation that runs as a job does so here too: `last_job_id` names it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// A name for it, unique in your team, at most 100 characters, for example `nightly-check`.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// When, as five fields: minute, hour, day of month, month, day of week. `30 2 * * 1-5` is 02:30 from
    /// Monday to Friday, `*/15 * * * *` every quarter of an hour; `@hourly`, `@daily`, `@weekly` and
    /// `@monthly` work too.
    #[schemars(length(min = 1, max = 100))]
    pub cron: String,
    /// The time zone to read it in, an IANA name such as `Europe/Berlin`; `UTC` when left out. A time that
    /// the clock jumps over runs right after the jump, one that it shows twice runs once.
    pub zone: Option<String>,
    /// The operation to call, for example `detect_anomalies`. You must be allowed to call it.
    pub operation: String,
    /// The input to call it with, an object; empty when left out. Secrets cannot be kept in it.
    #[serde(default)]
    #[schemars(extend("x-input-of" = "operation"))]
    pub input: Map<String, Value>,
    /// What becomes of a run that was missed, because no server was up or the one before still ran:
    /// `skip` leaves it out, `run_once` makes up for it once. `skip` when left out.
    #[serde(default)]
    pub missed: Missed,
    /// Whether it runs at all; true when left out.
    pub enabled: Option<bool>,
}

/// List the schedules of your teams, newest first.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListSchedules {
    /// How many at most, from 1 to 200; 20 when left out.
    #[schemars(range(min = 1, max = 200))]
    pub limit: Option<u64>,
    /// Where to go on: `next` of the answer before.
    pub cursor: Option<String>,
}

/// A page of schedules.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SchedulePage {
    /// The schedules, newest first.
    pub items: Vec<Schedule>,
    /// What to send as `cursor` for the entries after these; null when these are the last.
    pub next: Option<String>,
}

/// Get one schedule: what it calls, when it runs next, and how its last run ended.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetSchedule {
    /// The schedule's id, as `list_schedules` shows it.
    pub id: String,
}

/// Change a schedule. What is left out stays as it is.
///
/// From then on it runs with your rights, so you must be allowed to call its operation; only switching
/// it off leaves its owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    /// The schedule's id, as `list_schedules` shows it.
    pub id: String,
    /// A new name, unique in the team.
    #[schemars(length(min = 1, max = 100))]
    pub name: Option<String>,
    /// When, as five fields, for example `30 2 * * 1-5`.
    #[schemars(length(min = 1, max = 100))]
    pub cron: Option<String>,
    /// The time zone to read it in, an IANA name such as `Europe/Berlin`.
    pub zone: Option<String>,
    /// The operation to call.
    pub operation: Option<String>,
    /// The whole new input to call it with.
    #[schemars(extend("x-input-of" = "operation"))]
    pub input: Option<Map<String, Value>>,
    /// What becomes of a run that was missed: `skip` or `run_once`.
    pub missed: Option<Missed>,
    /// Whether it runs at all.
    pub enabled: Option<bool>,
}

/// Delete a schedule. A run that goes on ends by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSchedule {
    /// The schedule's id, as `list_schedules` shows it.
    pub id: String,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Deleted {
    /// The id that is free of meaning now.
    pub id: String,
}

/// Run a schedule now, out of turn, even one that is switched off. Its next moment stays as it is.
///
/// Answers at once with the schedule: `last_job_id` is the job that was started, or `last_outcome` how a
/// short run ended. You must be allowed to call its operation; the run acts with its owner's rights.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunScheduleNow {
    /// The schedule's id, as `list_schedules` shows it.
    pub id: String,
}

async fn create_schedule(jobs: Jobs, call: Call, input: CreateSchedule) -> Result<Schedule> {
    let store = &jobs.inner.scheduler.store;
    let caller = &call.caller;
    let most = jobs.inner.config.max_schedules;
    if usize::try_from(store.count(caller.team()).await?).unwrap_or(usize::MAX) >= most {
        return Err(Error::conflict(format!(
            "your team has {most} schedules, which is the most; delete one first"
        )));
    }
    let now = jobs.inner.clock.now();
    let mut schedule = Stored {
        id: new_id(),
        name: input.name,
        cron: input.cron,
        zone: input.zone.unwrap_or_else(|| "UTC".to_owned()),
        operation: input.operation,
        input: Value::Object(input.input),
        missed: input.missed,
        enabled: input.enabled.unwrap_or(true),
        created_by: caller.subject.clone(),
        owner_name: clean(&caller.name, 190),
        owner: Owner::of(caller),
        team: caller.team().to_owned(),
        created_at: now,
        updated_at: now,
        next_run_at: None,
        last_run_at: None,
        last_outcome: None,
        last_message: None,
        last_job_id: None,
        lease_until: None,
    };
    jobs.settle(&mut schedule, caller)?;
    store.insert(&schedule).await.map_err(|error| name_taken(error, &schedule.name))?;
    jobs.inner.scheduler.changed.notify_one();
    Ok(schedule.shown(now))
}

async fn list_schedules(jobs: Jobs, call: Call, input: ListSchedules) -> Result<SchedulePage> {
    let limit = input.limit.unwrap_or(20);
    if !(1..=200).contains(&limit) {
        return Err(Error::invalid(format!("limit is {limit}; it must be from 1 to 200")));
    }
    let after = page_after(input.cursor.as_deref())?;
    let found = jobs.inner.scheduler.store.list(&call.caller.teams, after, limit + 1).await?;
    let now = jobs.inner.clock.now();
    let more = found.len() as u64 > limit;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let items: Vec<Schedule> = found.into_iter().take(limit).map(|schedule| schedule.shown(now)).collect();
    let next = if more { items.last().map(|schedule| schedule.id.clone()) } else { None };
    Ok(SchedulePage { items, next })
}

async fn get_schedule(jobs: Jobs, call: Call, input: GetSchedule) -> Result<Schedule> {
    let schedule = jobs.find_schedule(&call.caller, &input.id).await?;
    Ok(schedule.shown(jobs.inner.clock.now()))
}

async fn update_schedule(jobs: Jobs, call: Call, input: UpdateSchedule) -> Result<Schedule> {
    let mut schedule = jobs.find_schedule(&call.caller, &input.id).await?;
    let UpdateSchedule { id: _, name, cron, zone, operation, input, missed, enabled } = input;
    let rest = name.is_some() || cron.is_some() || zone.is_some() || operation.is_some() || input.is_some();
    let only_off = enabled == Some(false) && !rest && missed.is_none();
    if only_off {
        schedule.enabled = false;
        schedule.next_run_at = None;
    } else {
        schedule.name = name.unwrap_or(schedule.name);
        schedule.cron = cron.unwrap_or(schedule.cron);
        schedule.zone = zone.unwrap_or(schedule.zone);
        schedule.operation = operation.unwrap_or(schedule.operation);
        schedule.input = input.map_or(schedule.input, Value::Object);
        schedule.missed = missed.unwrap_or(schedule.missed);
        schedule.enabled = enabled.unwrap_or(schedule.enabled);
        jobs.settle(&mut schedule, &call.caller)?;
    }
    let now = jobs.inner.clock.now();
    // Never the same moment twice: a claim compares it.
    schedule.updated_at.0 = now.0.max(schedule.updated_at.0 + 1);
    let updated = jobs.inner.scheduler.store.update(&schedule).await;
    if !updated.map_err(|error| name_taken(error, &schedule.name))? {
        return Err(not_found(&schedule.id));
    }
    jobs.inner.scheduler.changed.notify_one();
    get_schedule(jobs, call, GetSchedule { id: schedule.id }).await
}

async fn delete_schedule(jobs: Jobs, call: Call, input: DeleteSchedule) -> Result<Deleted> {
    if !is_id(&input.id) || !jobs.inner.scheduler.store.delete(&call.caller.teams, &input.id).await? {
        return Err(not_found(&input.id));
    }
    Ok(Deleted { id: input.id })
}

async fn run_schedule_now(jobs: Jobs, call: Call, input: RunScheduleNow) -> Result<Schedule> {
    let schedule = jobs.find_schedule(&call.caller, &input.id).await?;
    jobs.wiring()?;
    let operation = jobs.operation(&schedule.operation);
    call.caller.authorise(&operation.ok_or_else(|| unknown_operation(&schedule.operation))?)?;
    let claim = jobs.claim_now(schedule).await?;
    let begun = claim.begun.clone();
    jobs.spawn_run(claim);
    // A run that needs longer to begin is not waited for.
    let _longer = tokio::time::timeout(BEGIN_WAIT, begun.cancelled()).await;
    get_schedule(jobs, call, GetSchedule { id: input.id }).await
}

impl Jobs {
    /// Checks what a caller wrote, makes the caller its owner, and finds its next moment.
    fn settle(&self, schedule: &mut Stored, caller: &Caller) -> Result<()> {
        let name = schedule.name.trim();
        if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "name: {:?} must have from 1 to 100 characters and no control characters",
                clean(name, 100)
            )));
        }
        schedule.name = name.to_owned();
        let timing = Timing::parse(&schedule.cron, &schedule.zone)?;
        let operation = self.operation(&schedule.operation);
        let operation = operation.ok_or_else(|| unknown_operation(&schedule.operation))?;
        caller.authorise(&operation)?;
        check_operation(&operation)?;
        let input = std::mem::take(&mut schedule.input);
        let Value::Object(input) = input else { return Err(Error::invalid("input must be an object")) };
        schedule.input = check_input(&operation, input)?;
        let now = self.inner.clock.now();
        schedule.next_run_at = if schedule.enabled { timing.next(now) } else { None };
        schedule.created_by = caller.subject.clone();
        schedule.owner_name = clean(&caller.name, 190);
        schedule.owner = Owner::of(caller);
        Ok(())
    }

    async fn find_schedule(&self, caller: &Caller, id: &str) -> Result<Stored> {
        let found = if is_id(id) { self.inner.scheduler.store.get(&caller.teams, id).await? } else { None };
        found.ok_or_else(|| not_found(id))
    }
}

fn not_found(id: &str) -> Error {
    let id = clean(id, 64);
    Error::not_found(format!("there is no schedule {id:?}; list_schedules shows those of your teams"))
}

fn unknown_operation(name: &str) -> Error {
    let name = clean(name, 64);
    Error::invalid(format!("operation: there is no operation {name:?}; an example is \"detect_anomalies\""))
}

fn name_taken(error: Error, name: &str) -> Error {
    if error.kind != Kind::Conflict {
        return error;
    }
    Error::conflict(format!(
        "your team has a schedule {name:?} already; choose another name or change that one"
    ))
    .because(error)
}
