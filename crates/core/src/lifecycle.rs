//! The life of the process: the only place that spawns, and how everything is brought to an end.
//!
//! A task that ends early with an error or a panic stops the process with a failure: half a server is
//! worse than none. The first signal asks every task to finish (`stopping`); a second signal, or the
//! end of the grace period, ends at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

/// Spawns tasks, and stops them together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lifecycle {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// A life that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Set when tasks are asked to finish. Every long-running task watches it.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Asks every task to finish.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Runs a task that belongs to the process: its failure or panic stops the process.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let task = async move {
            let trouble = match std::panic::AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error} {}", error.causes()),
                Err(panic) => panic_message(&*panic),
            };
            tracing::error!(task.name = name, error = trouble, "a task of the server failed; stopping");
            failed.store(true, Ordering::SeqCst);
            stop.cancel();
        };
        self.track(task);
    }

    /// Runs work that belongs to one request or job; the caller gets what became of it, a panic as an
    /// internal error. The work is waited for at shutdown.
    pub fn spawn_work<F, T>(&self, work: F) -> impl Future<Output = Result<T>> + Send + 'static
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.track(async move {
            let result = match std::panic::AssertUnwindSafe(work).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => Err(Error::internal(panic_message(&*panic))),
            };
            // The one who asked may have gone; the work is done all the same.
            let _gone = sender.send(result);
        });
        async move { receiver.await.unwrap_or_else(|_| Err(Error::internal("the work was dropped"))) }
    }

    /// Runs blocking work (parsing, scoring, hashing) off the async threads.
    pub async fn blocking<F, T>(work: F) -> Result<T>
    where
        F: FnOnce() -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let span = tracing::Span::current();
        match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
            Ok(result) => result,
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// Waits for every task, at most `grace`. `Err` when a task had failed or did not finish.
    pub async fn finish(&self, grace: Duration) -> Result<()> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait()).await.is_err() {
            return Err(Error::internal(format!(
                "{} tasks did not finish within {} s",
                self.tracker.len(),
                grace.as_secs()
            )));
        }
        if self.failed.load(Ordering::SeqCst) {
            return Err(Error::internal("a task of the server failed"));
        }
        Ok(())
    }

    fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a message".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_stops_the_process_with_a_failure() {
        let life = Lifecycle::new();
        life.spawn("broken", async { Err(Error::unavailable("no luck")) });
        life.stopping().cancelled().await;
        assert!(life.finish(Duration::from_secs(5)).await.is_err());
    }

    #[tokio::test]
    async fn a_panic_in_work_is_an_internal_error_for_the_one_who_asked() {
        let life = Lifecycle::new();
        let error = life.spawn_work::<_, ()>(async { panic!("boom") }).await.unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Internal);
        assert!(error.causes().contains("boom"));
        assert!(life.finish(Duration::from_secs(5)).await.is_ok());
    }

    #[tokio::test]
    async fn finishing_waits_for_what_watches_the_stop() {
        let life = Lifecycle::new();
        let stop = life.stopping();
        life.spawn("patient", async move {
            stop.cancelled().await;
            Ok(())
        });
        assert!(life.finish(Duration::from_secs(5)).await.is_ok());
    }
}
