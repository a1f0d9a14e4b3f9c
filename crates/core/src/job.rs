//! Long work: its words, and how it says how far it is.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted and not begun.
    Queued,
    /// At work.
    Running,
    /// Ended with a result.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Stopped because somebody asked, or the server was told to stop.
    Cancelled,
    /// The server ended while it ran; it can be asked for again.
    Interrupted,
}

impl State {
    /// Every state.
    pub const ALL: [State; 6] = [
        State::Queued,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Interrupted,
    ];

    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Interrupted => "interrupted",
        }
    }

    /// The state that [`State::as_str`] names.
    pub fn parse(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more will happen to the job.
    pub fn ended(self) -> bool {
        !matches!(self, State::Queued | State::Running)
    }
}

/// The answer of a long operation that was asked for with `background: true`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The job's id; `get_job` shows how far it is and what came of it.
    pub job_id: String,
    /// Where the job stands.
    pub state: State,
}

/// How far long work is.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// From 0 to 1; `None` when the end is not known.
    pub fraction: Option<f64>,
    /// What it is doing, in a few words.
    pub message: String,
}

/// Where long work says how far it is. Cheap to clone; may be called often, from any thread.
#[derive(Clone)]
pub struct Progress(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Progress {
    /// Nobody watches.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Every step goes to `watch`, which must not block.
    pub fn to(watch: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watch)))
    }

    /// Says how far the work is: a fraction from 0 to 1, where it is known, and a few words.
    pub fn report(&self, fraction: Option<f64>, message: impl Into<String>) {
        if let Some(watch) = &self.0 {
            watch(Step { fraction: fraction.map(|f| f.clamp(0.0, 1.0)), message: message.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn states_are_found_again_by_their_words() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert!(State::Interrupted.ended() && !State::Running.ended());
    }

    #[test]
    fn progress_stays_between_zero_and_one() {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = steps.clone();
        let progress = Progress::to(move |step| seen.lock().unwrap().push(step.fraction));
        progress.report(Some(7.0), "too far");
        progress.report(None, "who knows");
        assert_eq!(*steps.lock().unwrap(), [Some(1.0), None]);
    }
}
