//! How a job ended, and how that is stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use opsroom_core::Time;
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::job::State;
use serde_json::{Value, json};

use super::model::{Failure, LogLine, MOST_MESSAGE, clean};
use super::run::{Live, taken};
use super::{Jobs, counts};

/// The largest result that is kept, as JSON text: every database takes it in one statement.
const MOST_RESULT_BYTES: usize = 8 << 20;
/// How often the end of a job is tried to be stored, about half a minute in all.
const TRIES: u32 = 12;

/// How a job ended.
pub struct End {
    pub state: State,
    pub at: Time,
    pub fraction: Option<f64>,
    pub message: String,
    pub log: Vec<LogLine>,
    /// The result as JSON text.
    pub result: Option<String>,
    /// Why there is no result.
    pub result_note: Option<String>,
    pub error: Option<Failure>,
}

impl End {
    /// What the outcome of the work means for its job.
    pub fn of(live: &Live, outcome: &Result<Value>, keeps_result: bool, at: Time) -> Self {
        let shown = live.shown().clone();
        let mut end = Self {
            state: State::Succeeded,
            at,
            fraction: shown.fraction,
            message: shown.message,
            log: shown.log.into(),
            result: None,
            result_note: None,
            error: None,
        };
        match outcome {
            Ok(result) => end.succeed(result, keeps_result),
            Err(error) => end.fail(live, error),
        }
        end
    }

    /// The end of a job whose task is gone without having recorded one.
    pub fn lost(at: Time) -> Self {
        let message = "the server lost track of it; start it again".to_owned();
        Self {
            state: State::Interrupted,
            at,
            fraction: None,
            message: message.clone(),
            log: Vec::new(),
            result: None,
            result_note: None,
            error: Some(Failure { kind: Kind::Internal, message }),
        }
    }

    fn succeed(&mut self, result: &Value, keeps_result: bool) {
        self.fraction = Some(1.0);
        let text = result.to_string();
        if !keeps_result {
            let note = "the result is a secret, which was shown once and is not kept";
            self.result_note = Some(note.to_owned());
        } else if text.len() > MOST_RESULT_BYTES {
            self.result_note = Some(format!(
                "the result of {} bytes is not kept: the most is {MOST_RESULT_BYTES} bytes; ask for less at once",
                text.len()
            ));
        } else {
            self.result = Some(text);
        }
    }

    fn fail(&mut self, live: &Live, error: &Error) {
        let cancelled = error.kind == Kind::Cancelled;
        let message = if cancelled && live.cancel.is_cancelled() {
            live.stopped().message
        } else {
            clean(&error.message, 4000)
        };
        if error.kind == Kind::Internal && live.detached.load(Ordering::SeqCst) {
            // Nobody waits for it, so that no face logs the cause.
            let cause = error.causes();
            tracing::error!(job.id = live.id, job.operation = live.operation, error = cause, "a job failed");
        }
        self.state = if cancelled { State::Cancelled } else { State::Failed };
        self.message = clean(&message, MOST_MESSAGE);
        self.error = Some(Failure { kind: error.kind, message });
    }

    /// The same without a result that the database would not take.
    fn without_result(mut self) -> Self {
        let message = "the work was done, but its result could not be stored".to_owned();
        self.state = State::Failed;
        self.message = message.clone();
        (self.log, self.result) = (Vec::new(), None);
        self.error = Some(Failure { kind: Kind::Internal, message });
        self
    }
}

impl Jobs {
    /// Stores how a job ended and tells it. Tried for a while when the database does not answer: what
    /// came of the work must not be lost with it.
    pub(super) async fn record(&self, live: &Live, end: End) -> Result<()> {
        let (store, server) = (&self.inner.store, &self.inner.server);
        let mut pause = Duration::from_millis(100);
        let mut tries = 1..TRIES;
        let (stored, end) = loop {
            match store.end(&live.id, server, &end).await {
                Ok(stored) => break (stored, end),
                Err(error) if !matches!(error.kind, Kind::Busy | Kind::Unavailable) => {
                    let refused = end.without_result();
                    store.end(&live.id, server, &refused).await?;
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(job.id = live.id, error = %error, "the end of a job was not stored");
                    if tries.next().is_none() {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        };
        if !stored {
            return Err(taken(&live.id));
        }
        let label = counts::Ended { operation: live.operation, state: end.state.as_str() };
        self.inner.counts.jobs_ended.get_or_create(&label).inc();
        let data = json!({
            "job_id": live.id,
            "operation": live.operation,
            "state": end.state,
            "fraction": end.fraction,
            "message": end.message,
            "error": end.error,
        });
        self.inner.events.publish("job.ended", &live.team, &live.id, data);
        Ok(())
    }
}
