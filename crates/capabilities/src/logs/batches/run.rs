//! Running a batch: its waiting items, so many at once, each until it is answered or failed.

use std::time::Duration;

use futures_util::StreamExt;
use opsroom_core::{Error, Kind, Result};
use serde_json::{Value, json};

use super::store::{BatchRow, ItemRow};
use super::{BatchState, Batches, ItemState};

/// Items that are fetched together.
const FETCHED: u64 = 200;
/// The most bytes of an item's answer that are kept.
const ANSWER_BYTES: usize = 256 << 10;

impl Batches {
    /// Runs a batch beside everything else.
    pub(super) fn go(&self, batch: BatchRow) {
        let batches = self.clone();
        let stop = self.lifecycle.stopping();
        let work = async move {
            tokio::select! {
                ran = batches.run(&batch) => {
                    if let Err(error) = ran {
                        tracing::error!(batch = batch.id, error = %error, causes = error.causes(), "a batch waits for the next start");
                    }
                }
                // What waits goes on after the next start.
                () = stop.cancelled() => {}
            }
            Ok(())
        };
        drop(self.lifecycle.spawn_work(work));
    }

    async fn run(&self, batch: &BatchRow) -> Result<()> {
        let mut from = 0;
        loop {
            let items = self.store.items(&batch.id, from, Some(ItemState::Waiting), FETCHED).await?;
            let Some(last) = items.last() else {
                self.store.end(&batch.id, BatchState::Done, self.clock.now()).await?;
                return Ok(());
            };
            from = last.place + 1;
            let mut running = futures_util::stream::iter(items)
                .map(|item| self.item(batch, item))
                .buffer_unordered(batch.concurrency.clamp(1, 32) as usize);
            while let Some(state) = running.next().await {
                if state? == ItemState::Failed && batch.stops {
                    self.store.end(&batch.id, BatchState::Stopped, self.clock.now()).await?;
                    return Ok(());
                }
            }
            if self.store.state(&batch.id).await? != Some(BatchState::Running) {
                return Ok(());
            }
        }
    }

    async fn item(&self, batch: &BatchRow, item: ItemRow) -> Result<ItemState> {
        // Somebody may have ended it meanwhile.
        if self.store.state(&batch.id).await? != Some(BatchState::Running) {
            return Ok(ItemState::Waiting);
        }
        let (mut attempts, mut wait) = (item.attempts, Duration::from_millis(200));
        let result = loop {
            attempts += 1;
            match self.call(batch, item.input.clone()).await {
                Err(error) if again(&error) && attempts <= batch.retries => tokio::time::sleep(wait).await,
                result => break result,
            }
            wait = (wait * 2).min(Duration::from_secs(30));
        };
        let (state, answer) = match result {
            Ok(answer) => (ItemState::Succeeded, bounded(answer)),
            Err(error) => (ItemState::Failed, json!({ "kind": error.kind, "message": error.message })),
        };
        self.store.done(&batch.id, item.place, state, attempts, &answer).await?;
        Ok(state)
    }

    async fn call(&self, batch: &BatchRow, input: Value) -> Result<Value> {
        let Some((call, rights)) = self.way.get() else {
            return Err(Error::unavailable("the server is starting"));
        };
        // What a caller may do is asked for each item: a key that was revoked calls nothing more.
        let caller = rights(&batch.subject).await.ok_or_else(|| {
            Error::forbidden("the one who asked for the batch is gone, or their key was revoked")
        })?;
        call(caller, batch.operation.clone(), input).await
    }
}

/// Whether the same call may work later.
fn again(error: &Error) -> bool {
    matches!(error.kind, Kind::Busy | Kind::Unavailable | Kind::Internal)
}

fn bounded(answer: Value) -> Value {
    let bytes = answer.to_string().len();
    if bytes <= ANSWER_BYTES {
        return answer;
    }
    json!({ "note": format!("the answer has {bytes} bytes, more than the {ANSWER_BYTES} that are kept of an item; call the operation itself, or ask it for less") })
}
