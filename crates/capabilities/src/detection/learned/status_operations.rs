//! `get_training_status` and `get_training_results`.

use opsroom_core::job::State;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Learned;
use super::answers::{RunStatus, TrainingResults, TrainingStatus};
use super::runs::{self, Kind, Status, Stored};

/// Tell how far training is: the newest run of each kind, or the one of `run_id`.
///
/// Answers at once, while training goes on. `progress` is the percent that are done, and moves within an
/// epoch; `loss`, `accuracy` and `f1_score` have one number for each finished epoch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTrainingStatus {
    /// `federated`, `centralized` or `both`; any other word means both.
    #[serde(default = "both")]
    #[schemars(length(max = 64))]
    model_type: String,
    /// A run's id, which is its job's.
    #[serde(default)]
    #[schemars(length(max = 64))]
    run_id: Option<String>,
}

/// Get what came of training: of the newest run of each kind, or of the one of `run_id`; null where there is
/// no result.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTrainingResults {
    /// `federated`, `centralized` or `both`; any other word means both.
    #[serde(default = "both")]
    #[schemars(length(max = 64))]
    model_type: String,
    /// A run's id, which is its job's.
    #[serde(default)]
    #[schemars(length(max = 64))]
    run_id: Option<String>,
}

fn both() -> String {
    "both".to_owned()
}

pub(super) async fn get_training_status(
    service: Learned,
    call: Call,
    input: GetTrainingStatus,
) -> Result<TrainingStatus> {
    let [federated, centralized] = runs(&service, &call, &input.model_type, input.run_id.as_deref()).await?;
    Ok(TrainingStatus {
        federated: told(&service, &call, Kind::Federated, federated).await?,
        centralized: told(&service, &call, Kind::Centralized, centralized).await?,
    })
}

pub(super) async fn get_training_results(
    service: Learned,
    call: Call,
    input: GetTrainingResults,
) -> Result<TrainingResults> {
    let [federated, centralized] = runs(&service, &call, &input.model_type, input.run_id.as_deref()).await?;
    let result = |run: Option<Stored>| run.and_then(|run| run.result).unwrap_or(Value::Null);
    Ok(TrainingResults { federated: federated.map(result), centralized: centralized.map(result) })
}

/// The runs of the kinds that were asked for: federated, then centralized.
async fn runs(
    service: &Learned,
    call: &Call,
    model_type: &str,
    id: Option<&str>,
) -> Result<[Option<Option<Stored>>; 2]> {
    let id_like = |id: &str| id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let missing =
        |id: &str| Error::not_found(format!("there is no run {:?}", id.chars().take(64).collect::<String>()));
    if let Some(id) = id.filter(|id| !id_like(id)) {
        return Err(missing(id));
    }
    let mut runs = [None, None];
    for (run, kind) in runs.iter_mut().zip([Kind::Federated, Kind::Centralized]) {
        let other = [Kind::Federated, Kind::Centralized].into_iter().find(|other| *other != kind);
        if other.is_some_and(|other| other.as_str() == model_type) {
            continue;
        }
        let mut found = service.store.newest(&call.caller.teams, kind, id).await?;
        if let (None, Some(id)) = (&found, id) {
            found = waiting(service, call, kind, id).await?;
        }
        // Of a run that was asked for, only its own kind is told.
        if id.is_none() || found.is_some() {
            *run = Some(found);
        }
    }
    match id {
        Some(id) if runs.iter().all(Option::is_none) => Err(missing(id)),
        _ => Ok(runs),
    }
}

/// Where a run stands: while it is at work, its job knows best whether it still is.
async fn current(service: &Learned, call: &Call, kind: Kind, run: Stored) -> Result<Stored> {
    if run.status != Status::Training {
        return Ok(run);
    }
    let silent = run.status_at(service.clock.now());
    let Some(jobs) = &service.jobs else { return Ok(Stored { status: silent, ..run }) };
    if jobs.is_live(&run.id) {
        return Ok(run);
    }
    let teams = &call.caller.teams;
    let Some(job) = jobs.standing(teams, &run.id).await? else {
        return Ok(Stored { status: silent, ..run });
    };
    // A job ends after its run: what has ended since the run was read says how by itself.
    let again = service.store.newest(teams, kind, Some(&run.id)).await?.unwrap_or(run);
    if again.status != Status::Training {
        return Ok(again);
    }
    Ok(Stored { status: status_of(job.state), error: again.error.or(job.error), ..again })
}

/// The run of a job that was accepted and has not begun its work, or never came to it.
async fn waiting(service: &Learned, call: &Call, kind: Kind, id: &str) -> Result<Option<Stored>> {
    let Some(jobs) = &service.jobs else { return Ok(None) };
    let job = jobs.standing(&call.caller.teams, id).await?;
    let Some(job) = job.filter(|job| job.operation == kind.operation()) else { return Ok(None) };
    Ok(Some(Stored {
        id: id.to_owned(),
        status: status_of(job.state),
        state: runs::State::default(),
        result: None,
        error: job.error,
        created_at: job.created_at,
        updated_at: job.created_at,
    }))
}

fn status_of(job: State) -> Status {
    match job {
        State::Queued | State::Running => Status::Training,
        State::Interrupted => Status::Interrupted,
        State::Cancelled => Status::Cancelled,
        State::Failed | State::Succeeded => Status::Error,
    }
}

async fn told(
    service: &Learned,
    call: &Call,
    kind: Kind,
    run: Option<Option<Stored>>,
) -> Result<Option<RunStatus>> {
    let Some(run) = run else { return Ok(None) };
    let Some(run) = run else {
        return Ok(Some(RunStatus {
            status: Status::Idle,
            progress: 0,
            current_epoch: 0,
            loss: Vec::new(),
            accuracy: Vec::new(),
            f1_score: Vec::new(),
            run_id: None,
            error: None,
            checkpoint: None,
            created_at: None,
            updated_at: None,
        }));
    };
    let run = current(service, call, kind, run).await?;
    let state = run.state;
    Ok(Some(RunStatus {
        status: run.status,
        progress: state.progress,
        current_epoch: state.current_epoch,
        loss: state.loss,
        accuracy: state.accuracy,
        f1_score: state.f1_score,
        run_id: Some(run.id),
        error: run.error,
        checkpoint: state.checkpoint,
        created_at: Some(run.created_at.to_rfc3339()),
        updated_at: Some(run.updated_at.to_rfc3339()),
    }))
}
