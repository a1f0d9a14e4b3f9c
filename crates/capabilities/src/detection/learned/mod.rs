//! Detectors that learn from labelled sequences: training, judging and using them.
//!
//! # Words
//!
//! - A *dataset* is sequences of event ids, most of them labelled: a CSV, a folder in LogRobust's layout, or a raw
//!   log with labels.
//! - A *model* is what training makes: a safetensors file with its metadata, below the folder `models` of the
//!   data folder.
//! - A *run* is one training. Its id is that of its job; its history is in the database.
//! - A *client* is a party of federated training, with rows of its own.
//!
//! # Invariants
//!
//! - Files of others are read without executing them, and take no more memory than a bound: a dataset
//!   one gibibyte, a model or an array twice the file, which has at most half of one, a pickle 64 bytes for
//!   each of its own and one gibibyte. What is no job has two places, and waits for one.
//! - Callers name files only beneath the configured roots, and models only beneath the folder of models.
//! - A model is written whole or not at all; a finished epoch's checkpoint outlives the process.
//! - Rows that judge a model never taught or chose it.

mod answers;
mod dataset_operations;
pub mod fitting;
mod layout;
mod model_operations;
pub mod models;
mod raw;
pub mod read;
mod runs;
mod status_operations;
mod store;
#[cfg(test)]
mod tests;
mod train_operations;
mod training;
mod use_operations;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use opsroom_analytics::classify::error::ClassifyError;
use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::db::Db;
use opsroom_core::files::Roots;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Clock, Effect, Error, Operation, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use store::MIGRATIONS;

use crate::jobs::Jobs;
use layout::Spec;

/// Where the data are that callers of the first LogRobust server name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionConfig {
    /// The folder of the dataset `aliyun`, in LogRobust's layout, below one of `files.roots`. Empty: the folder
    /// `aliyun` there, or a root itself that holds its files.
    pub aliyun: String,
    /// The folder of the dataset `cmcc`, likewise.
    pub cmcc: String,
}

/// Training and its models. Cheap to clone.
#[derive(Clone)]
pub struct Learned {
    files: Roots,
    config: Arc<DetectionConfig>,
    data_dir: PathBuf,
    store: store::Store,
    clock: Clock,
    /// Which runs of training go on.
    jobs: Option<Jobs>,
    /// Places for calls that are no jobs and may take much memory.
    gate: Arc<Semaphore>,
}

/// Calls that are no jobs and may take much memory, at the same time. Further ones wait.
const AT_ONCE: usize = 2;

impl Learned {
    /// Training on data below these roots, with models in this data folder.
    pub fn new(files: Roots, config: DetectionConfig, data_dir: &Path, db: Db, clock: Clock) -> Self {
        Self {
            files,
            config: Arc::new(config),
            data_dir: data_dir.to_owned(),
            store: store::Store { db },
            clock,
            jobs: None,
            gate: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// With the jobs that runs of training are: they know which of them a crash cut short.
    pub fn with_jobs(self, jobs: Jobs) -> Self {
        Self { jobs: Some(jobs), ..self }
    }

    /// Does blocking work of a call that is no job, when there is a place for it. The work is told to stop
    /// when the caller went away.
    async fn in_turn<T: Send + 'static>(
        &self,
        call: &Call,
        work: impl FnOnce(&CancellationToken) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let cancel = call.cancel.child_token();
        // Also when this future is dropped, and not only when somebody cancels.
        let gone = cancel.clone().drop_guard();
        let place = self.gate.clone().acquire_owned().await.map_err(Error::internal)?;
        let answer = Lifecycle::blocking(move || {
            let _place = place;
            work(&cancel)
        });
        let answer = answer.await;
        drop(gone.disarm());
        answer
    }

    /// The folder of the models of the caller's team.
    fn models(&self, caller: &Caller) -> Result<Roots> {
        let team = caller.team();
        if team == DEFAULT_TEAM {
            return models::folder(&self.data_dir);
        }
        models::check_name(team)?;
        models::folder(&self.data_dir.join("teams").join(team))
    }

    /// Where the dataset of a name is.
    async fn spec(&self, caller: &Caller, name: &str) -> Result<Spec> {
        // What cannot be a name is not asked of the database: PostgreSQL takes no text with a NUL.
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let known =
            if name.chars().all(word) { self.store.dataset(&caller.teams, name).await? } else { None };
        known.or_else(|| layout::built_in(&self.files, &self.config, name)).ok_or_else(|| {
            Error::not_found(format!(
                "data_type: there is no dataset {:?}; list_datasets has their names, and register_dataset makes one",
                name.chars().take(64).collect::<String>()
            ))
        })
    }

    /// The operations of this folder.
    pub fn operations(&self) -> Vec<Operation> {
        [self.training(), self.model_operations(), self.dataset_operations()].concat()
    }

    fn training(&self) -> Vec<Operation> {
        use Effect::{Read, Write};
        let name = "detection";
        vec![
            Operation::new(
                name,
                "train_federated_model",
                Write,
                "POST /training/federated",
                self,
                train_operations::train_federated_model,
            )
            .long(),
            Operation::new(
                name,
                "train_centralized_model",
                Write,
                "POST /training/centralized",
                self,
                train_operations::train_centralized_model,
            )
            .long(),
            Operation::new(
                name,
                "get_training_status",
                Read,
                "GET /training/status",
                self,
                status_operations::get_training_status,
            ),
            Operation::new(
                name,
                "get_training_results",
                Read,
                "GET /training/results",
                self,
                status_operations::get_training_results,
            ),
            Operation::new(
                name,
                "predict_logs",
                Read,
                "POST /models/predict",
                self,
                use_operations::predict_logs,
            ),
            Operation::new(
                name,
                "evaluate_model",
                Read,
                "POST /models/evaluate",
                self,
                use_operations::evaluate_model,
            )
            .long(),
        ]
    }

    fn model_operations(&self) -> Vec<Operation> {
        use Effect::{Destroy, Read, Write};
        let name = "detection";
        vec![
            Operation::new(name, "list_models", Read, "GET /models", self, model_operations::list_models),
            Operation::new(name, "get_model", Read, "GET /models/details", self, model_operations::get_model),
            Operation::new(
                name,
                "delete_model",
                Destroy,
                "POST /models/delete",
                self,
                model_operations::delete_model,
            ),
            Operation::new(
                name,
                "export_model",
                Write,
                "POST /models/export",
                self,
                model_operations::export_model,
            ),
            Operation::new(
                name,
                "import_model",
                Write,
                "POST /models/import",
                self,
                model_operations::import_model,
            ),
        ]
    }

    fn dataset_operations(&self) -> Vec<Operation> {
        use Effect::{Read, Write};
        let name = "detection";
        vec![
            Operation::new(
                name,
                "register_dataset",
                Write,
                "POST /datasets",
                self,
                dataset_operations::register_dataset,
            )
            .idempotent()
            .long(),
            Operation::new(
                name,
                "list_datasets",
                Read,
                "GET /datasets",
                self,
                dataset_operations::list_datasets,
            ),
            Operation::new(
                name,
                "describe_dataset",
                Read,
                "GET /datasets/{name}",
                self,
                dataset_operations::describe_dataset,
            ),
        ]
    }
}

/// What a caller should know who asks for a GPU.
fn device_notes(gpu_id: i64) -> Vec<String> {
    if gpu_id < 0 {
        return Vec::new();
    }
    vec![format!("gpu_id {gpu_id} asks for a GPU, and there is no engine for one: the work went on the CPU")]
}

/// The error that a caller sees: what is wrong lies in what was given.
pub(crate) fn refused(error: ClassifyError) -> Error {
    match error {
        ClassifyError::Cancelled => Error::cancelled("the work was stopped before its end"),
        other => Error::invalid(other.to_string()),
    }
}

/// As [`refused`], with what the trouble is about in front.
pub(crate) fn refused_of(name: &str, error: ClassifyError) -> Error {
    let error = refused(error);
    Error { message: format!("{name}: {}", error.message), ..error }
}
