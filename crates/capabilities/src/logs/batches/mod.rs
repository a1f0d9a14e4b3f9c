//! Batches: one operation over many items, kept in the database from the first moment, so that a restart
//! goes on where it was and each item has its answer.
//!
//! An item whose call was under way when the process ended is called again: what a batch calls reads, or
//! does no harm a second time.

mod operations;
mod run;
pub(super) mod store;

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Caller, Clock, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use operations::{cancel_log_batch, get_log_batch, process_log_batch};
pub(crate) use store::tables;

use store::BatchStore;

/// Calls an operation by its name.
pub type CallOperation =
    Arc<dyn Fn(Caller, String, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;
/// Who a subject is now and what they may do; `None` when they are gone.
pub type Rights = Arc<dyn Fn(&str) -> BoxFuture<'static, Option<Caller>> + Send + Sync>;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Items are being called, or will be after a restart.
    Running,
    /// Every item was called.
    Done,
    /// A failure ended it.
    Stopped,
    /// Somebody ended it.
    Cancelled,
}

impl BatchState {
    fn as_str(self) -> &'static str {
        match self {
            BatchState::Running => "running",
            BatchState::Done => "done",
            BatchState::Stopped => "stopped",
            BatchState::Cancelled => "cancelled",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [BatchState::Running, BatchState::Done, BatchState::Stopped, BatchState::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Not yet called to its end.
    Waiting,
    /// Answered.
    Succeeded,
    /// Refused, or failed each time.
    Failed,
}

impl ItemState {
    fn as_str(self) -> &'static str {
        match self {
            ItemState::Waiting => "waiting",
            ItemState::Succeeded => "succeeded",
            ItemState::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Result<Self> {
        [ItemState::Waiting, ItemState::Succeeded, ItemState::Failed]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| Error::internal(format!("an item in the state {word}")))
    }
}

/// Batches, and what runs them. Cheap to clone.
#[derive(Clone)]
pub struct Batches {
    store: BatchStore,
    clock: Clock,
    lifecycle: Lifecycle,
    way: Arc<OnceLock<(CallOperation, Rights)>>,
}

impl Batches {
    /// Batches in this database; nothing runs before [`Batches::start`].
    pub fn new(store: BatchStore, clock: Clock, lifecycle: Lifecycle) -> Self {
        Self { store, clock, lifecycle, way: Arc::default() }
    }

    /// Goes on with what an earlier process left, and lets new batches run.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn start(&self, call: CallOperation, rights: Rights) -> Result<()> {
        let _set_once = self.way.set((call, rights));
        for batch in self.store.running().await? {
            self.go(batch);
        }
        Ok(())
    }
}
