//! Calls, counted in memory and written every few seconds.

use std::sync::PoisonError;
use std::time::Duration;

use opsroom_core::Result;
use opsroom_gateway::seam::{Calls, Finished, Outcome};

use super::Tools;
use super::model::Count;
use super::world::id_of;

/// How often counts are written.
const EVERY: Duration = Duration::from_secs(5);
/// For how long they are kept, in hours.
const KEPT_HOURS: i64 = 24 * 90;
/// An hour in microseconds.
const HOUR: i64 = 3_600_000_000;
/// The most tools that are counted between two writes: names come from services.
const MOST: usize = 10_000;

/// Starts the task that writes counts; what was counted last is written when the lifecycle stops.
pub fn start(tools: &Tools) {
    let (this, stop) = (tools.clone(), tools.inner.lifecycle.stopping());
    tools.inner.lifecycle.spawn("counts of tool calls", async move {
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(EVERY) => false,
            };
            if let Err(error) = this.write_counts().await {
                tracing::warn!(error = %error, causes = error.causes(), "counts of tool calls cannot be written yet");
            }
            if stopping {
                return Ok(());
            }
        }
    });
}

impl Tools {
    /// Counts one call; `id` is `SERVICE/TOOL` or a built-in tool's name.
    pub fn count(&self, id: String, outcome: Outcome, took: Duration, bytes: usize) {
        let now = self.inner.clock.now().0;
        let ok = matches!(outcome, Outcome::Ok | Outcome::Cached | Outcome::InputRequired);
        let (cached, refused) = (outcome == Outcome::Cached, outcome == Outcome::Refused);
        let mut fresh = self.inner.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.len() < MOST || fresh.contains_key(&id) {
            fresh.entry(id).or_default().add(ok, cached, refused, took, bytes as u64, now);
        }
    }

    /// Writes what was counted; what cannot be written is kept for the next time.
    pub(super) async fn write_counts(&self) -> Result<()> {
        let inner = &self.inner;
        let taken = std::mem::take(&mut *inner.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(());
        }
        let hour = inner.clock.now().0.div_euclid(HOUR);
        let mut counts: Vec<(String, Count)> = taken.into_iter().collect();
        // One order for every server: none waits for a row that another holds while it holds another.
        counts.sort_by(|a, b| a.0.cmp(&b.0));
        if let Err(error) = inner.store.add_counts(hour, &inner.node, &counts).await {
            let mut fresh = inner.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, count) in counts {
                fresh.entry(id).or_default().merge(&count);
            }
            return Err(error);
        }
        inner.store.forget_counts(hour - KEPT_HOURS).await
    }

    /// What was counted in the last hours, by tool, with what is not written yet.
    pub(super) async fn counted(&self, hours: i64) -> Result<std::collections::HashMap<String, Count>> {
        let since = self.inner.clock.now().0.div_euclid(HOUR) - hours + 1;
        let mut all = std::collections::HashMap::<String, Count>::new();
        for (id, count) in self.inner.store.counts(since).await? {
            all.entry(id).or_default().merge(&count);
        }
        for (id, count) in self.inner.fresh.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            all.entry(id.clone()).or_default().merge(count);
        }
        Ok(all)
    }
}

impl Calls for Tools {
    fn finished(&self, call: &Finished<'_>) {
        self.count(id_of(call.service, call.tool), call.outcome, call.took, call.bytes);
    }
}
