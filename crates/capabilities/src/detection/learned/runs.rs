//! One run of training: how far it is, kept in the database, and what came of it.
//!
//! A run's id is that of its job. Its row is written when it begins, whenever another percent or epoch is
//! done, and when it ends. The last finished epoch's model is on the disk before the row says so.

use std::pin::pin;
use std::time::Duration;

use opsroom_core::clock::Time;
use opsroom_core::files::Roots;
use opsroom_core::id::new_id;
use opsroom_core::job::Progress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Learned;

/// How often a run says that it goes on, however long an epoch takes.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// For how long a run may be silent before it counts as cut short.
const SILENT_SECONDS: i64 = 60;

/// How a run trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Clients that keep their rows.
    Federated,
    /// All rows in one place.
    Centralized,
}

impl Kind {
    /// The word in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Federated => "federated",
            Kind::Centralized => "centralized",
        }
    }

    /// The operation whose jobs are such runs.
    pub fn operation(self) -> &'static str {
        match self {
            Kind::Federated => "train_federated_model",
            Kind::Centralized => "train_centralized_model",
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There was no run.
    Idle,
    /// At work.
    Training,
    /// Done, with a result.
    Completed,
    /// Ended without a result; `error` says why.
    Error,
    /// Stopped because somebody asked; the last checkpoint stays.
    Cancelled,
    /// Its server ended while it ran; the last checkpoint stays.
    Interrupted,
}

impl Status {
    const ALL: [Status; 6] = [
        Status::Idle,
        Status::Training,
        Status::Completed,
        Status::Error,
        Status::Cancelled,
        Status::Interrupted,
    ];

    /// The word in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Idle => "idle",
            Status::Training => "training",
            Status::Completed => "completed",
            Status::Error => "error",
            Status::Cancelled => "cancelled",
            Status::Interrupted => "interrupted",
        }
    }

    /// The status that [`Status::as_str`] names.
    pub fn parse(word: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Percent of the work that are done.
    pub progress: u32,
    /// Epochs, or rounds of a federation, that are done.
    pub current_epoch: u32,
    /// The mean loss of each epoch.
    pub loss: Vec<f64>,
    /// The accuracy on validation rows after each epoch.
    pub accuracy: Vec<f64>,
    /// The weighted F1 on validation rows after each epoch.
    pub f1_score: Vec<f64>,
    /// The model after the last finished epoch, while the run has no result.
    pub checkpoint: Option<String>,
}

/// A run as it is kept.
pub struct Stored {
    pub id: String,
    pub status: Status,
    pub state: State,
    pub result: Option<Value>,
    pub error: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

impl Stored {
    /// Where the run stands at `now`: one that has been silent for too long was cut short.
    pub fn status_at(&self, now: Time) -> Status {
        let silent = self.updated_at.plus_seconds(SILENT_SECONDS) < now;
        if self.status == Status::Training && silent { Status::Interrupted } else { self.status }
    }
}

/// What a run's work gets.
pub struct Scope {
    /// The run's id.
    pub id: String,
    /// Files that callers may name.
    pub files: Roots,
    /// The models of the caller's team.
    pub models: Roots,
    /// Set when the run is to stop.
    pub cancel: CancellationToken,
    progress: Progress,
    state: watch::Sender<State>,
}

impl Scope {
    /// Says how far the work is, from 0 to 1.
    pub fn share(&self, share: f64) {
        let percent = (share.clamp(0.0, 1.0) * 100.0) as u32;
        self.state.send_if_modified(|state| {
            let moved = percent > state.progress;
            state.progress = state.progress.max(percent);
            moved
        });
        self.progress.report(Some(share), "");
    }

    /// An epoch is done; `judged` is its accuracy and F1 on validation rows, where there are any.
    pub fn epoch(&self, share: f64, loss: f64, judged: Option<(f64, f64)>, checkpoint: &str) {
        self.state.send_modify(|state| {
            state.current_epoch += 1;
            state.loss.push(loss);
            if let Some((accuracy, f1)) = judged {
                state.accuracy.push(accuracy);
                state.f1_score.push(f1);
            }
            state.checkpoint = Some(checkpoint.to_owned());
        });
        self.share(share);
        self.progress.report(Some(share), format!("loss {loss:.4}"));
    }

    /// The history so far.
    pub fn history(&self) -> State {
        self.state.borrow().clone()
    }
}

impl Learned {
    /// Runs `work` as one run of training, and keeps how far it is and what comes of it.
    pub async fn run<T: Serialize + Send + 'static>(
        &self,
        call: Call,
        kind: Kind,
        work: impl FnOnce(&Scope) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let id = call.job.clone().unwrap_or_else(new_id);
        let models = self.models(&call.caller)?;
        let caller = &call.caller;
        self.store.begin(&id, caller.team(), &caller.subject, kind, self.clock.now()).await?;
        let (state, mut seen) = watch::channel(State::default());
        let scope = Scope {
            id: id.clone(),
            files: self.files.clone(),
            models,
            cancel: call.cancel.clone(),
            progress: call.progress.clone(),
            state: state.clone(),
        };
        let mut work = pin!(Lifecycle::blocking(move || work(&scope)));
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                Ok(()) = seen.changed() => {}
                _ = heartbeat.tick() => {}
            }
            let state = seen.borrow_and_update().clone();
            // The work goes on: the next step, or the end, writes it again.
            if let Err(error) = self.store.progress(&id, &state, self.clock.now()).await {
                tracing::warn!(run.id = id, %error, "the progress of a training run was not written");
            }
        };
        let ended = outcome.and_then(|result| {
            let value = serde_json::to_value(&result).map_err(Error::internal)?;
            Ok((result, value))
        });
        let mut state = state.borrow().clone();
        if ended.is_ok() {
            state.progress = 100;
            state.checkpoint = None;
        }
        let told = ended.as_ref().map(|(_, value)| value);
        self.store.end(&id, &state, told, self.clock.now()).await?;
        ended.map(|(result, _)| result)
    }
}
