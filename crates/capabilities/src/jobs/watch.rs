//! Watching one job: its state now, its progress as it happens, and its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use opsroom_core::caller::Caller;
use opsroom_core::error::Result;
use opsroom_core::events::Event;
use opsroom_core::job::State;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Jobs;
use super::model::Job;

/// How often the row is read: it tells of a job that another server runs, and of what the bus lost.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Where a watcher is.
struct Watcher {
    jobs: Jobs,
    caller: Caller,
    id: String,
    events: Receiver<Arc<Event>>,
    last: Job,
    /// What is said first: the state at the beginning.
    first: bool,
    /// The bus tells of this job, so that the row need not.
    heard: bool,
    read_at: Instant,
    stopping: CancellationToken,
    over: bool,
}

impl Jobs {
    /// What happens to one job: first its state as an event with the id 0, then its progress, and last
    /// `job.ended`, after which the stream ends. For a job that has ended, that is all.
    ///
    /// # Errors
    /// `NotFound` for a job that is not one of the caller's teams.
    pub async fn watch(&self, caller: Caller, id: &str) -> Result<impl Stream<Item = Event> + Send + use<>> {
        // Listening begins before the row is read, so that nothing falls between the two.
        let (_, events) = self.inner.events.listen(None);
        let last = self.find(&caller, id).await?.job;
        let (jobs, id) = (self.clone(), id.to_owned());
        let read_at = Instant::now() + READ_EVERY;
        let watcher = Watcher {
            stopping: self.inner.lifecycle.stopping(),
            jobs,
            caller,
            id,
            events,
            last,
            first: true,
            heard: false,
            read_at,
            over: false,
        };
        Ok(stream::unfold(watcher, |mut watcher| async move {
            let event = watcher.next().await?;
            watcher.over = event.topic == "job.ended";
            Some((event, watcher))
        }))
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        if std::mem::take(&mut self.first) {
            return Some(self.event());
        }
        loop {
            // The end of a job that runs here is told even while the server stops; another's is not awaited.
            let elsewhere = !self.jobs.live().contains_key(&self.id);
            let heard = tokio::select! {
                biased;
                heard = self.events.recv() => heard,
                () = self.stopping.cancelled(), if elsewhere => return None,
                () = tokio::time::sleep_until(self.read_at) => Err(RecvError::Lagged(0)),
            };
            match heard {
                Ok(event) if event.subject == self.id && event.topic.starts_with("job.") => {
                    self.heard = true;
                    return Some((*event).clone());
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(_)) => {
                    self.read_at = Instant::now() + READ_EVERY;
                    // A job that was removed meanwhile, or a database that is away, ends the watching.
                    let job = self.jobs.find(&self.caller, &self.id).await.ok()?.job;
                    let news = job.state.ended() || (!self.heard && job != self.last);
                    self.last = job;
                    if news {
                        return Some(self.event());
                    }
                }
            }
        }
    }

    /// The job as its row shows it, as an event.
    fn event(&self) -> Event {
        let topic = match self.last.state {
            State::Queued => "job.queued",
            State::Running => "job.progress",
            _ => "job.ended",
        };
        let job = &self.last;
        let time = job.ended_at.as_ref().or(job.started_at.as_ref()).unwrap_or(&job.created_at);
        Event {
            id: 0,
            topic: topic.to_owned(),
            team: job.team.clone(),
            subject: job.id.clone(),
            time: time.clone(),
            data: job.event_data(),
        }
    }
}
