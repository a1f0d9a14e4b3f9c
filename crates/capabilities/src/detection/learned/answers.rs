//! What training, prediction and evaluation answer: the fields that callers of the first LogRobust server
//! look for, and ours beside them.

use opsroom_analytics::classify::detector::Method;
use opsroom_analytics::classify::model::Candidate;
use opsroom_analytics::classify::predict::Verdict;
use opsroom_analytics::classify::report::{ClassificationReport, Report};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::runs::Status;

/// How good a model is on rows that it was not trained on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Metrics {
    /// Figures by class (`"0"` normal, `"1"` anomalous) and their means.
    pub classification_report: ClassificationReport,
    /// The weighted mean of precision.
    pub precision: f64,
    /// The weighted mean of recall.
    pub recall: f64,
    /// The weighted mean of F1.
    pub f1_score: f64,
    /// The F1 of the anomalous class.
    pub anomaly_f1: f64,
    /// Judged rows.
    pub support: usize,
}

impl Metrics {
    /// The figures of a report.
    pub fn of(report: Report) -> Self {
        let Report { classification_report, precision, recall, f1_score, anomaly_f1, support } = report;
        Self { classification_report, precision, recall, f1_score, anomaly_f1, support }
    }
}

/// How rows were told apart into those that teach, choose and judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The dataset keeps them apart itself.
    Given,
    /// By time: the earliest teach, the latest judge.
    Time,
    /// At random by the seed, the same share of either label in each.
    Random,
}

/// How many rows taught, chose and judged.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Split {
    /// Rows that the model was fitted on.
    pub training: usize,
    /// Rows that only chose.
    pub validation: usize,
    /// Rows that only judged.
    pub test: usize,
    /// How they were told apart. Equal sequences are in one part, but for parts that were given.
    pub by: Cut,
}

/// What came of training in one place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Centralized {
    /// The model's file, below the folder of models.
    pub model_save_path: String,
    /// The mean loss of each epoch; empty for methods without epochs.
    pub loss_history: Vec<f64>,
    /// The accuracy on validation rows after each epoch.
    pub accuracy_history: Vec<f64>,
    /// The accuracy on the test rows, which chose nothing.
    pub final_accuracy: f64,
    /// Figures on the test rows, each counting once.
    pub metrics: Metrics,
    /// The same by the rows' weights, when they have any.
    pub weighted_metrics: Option<Metrics>,
    /// The same of rows whose sequences training did not have, when some are and some are not.
    pub unseen_metrics: Option<Metrics>,
    /// The run, which is the job.
    pub run_id: String,
    /// The method that was fitted.
    pub method: Method,
    /// Why this method.
    pub reason: String,
    /// The methods that were compared, if they were.
    pub candidates: Vec<Candidate>,
    /// The seed.
    pub seed: u64,
    /// The digest of the data.
    pub data_hash: String,
    /// How the rows were cut.
    pub split: Split,
    /// The probability from which on a row is called an anomaly.
    pub threshold: f64,
    /// The share of anomalies that the model expects where it is used.
    pub expected_anomalies: f64,
    /// Where it ran.
    pub device: String,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// How long it took, in seconds.
    pub took_seconds: f64,
}

/// What came of a federation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Federated {
    /// The folder of the clients' models (`model_param0.safetensors`, ...) below the folder of models.
    pub model_save_dir: String,
    /// The mean loss of each round, by the clients' rows.
    pub loss_history: Vec<f64>,
    /// The mean of the clients' accuracy on their own validation rows after each round.
    pub accuracy_history: Vec<f64>,
    /// The mean of the clients' accuracy on their own test rows, which chose nothing.
    pub final_accuracy: f64,
    /// Figures of each client's model on its own test rows.
    pub client_reports: Vec<Metrics>,
    /// The best accuracy of a common model on each client's validation rows.
    pub best_scores: Vec<f64>,
    /// The run, which is the job.
    pub run_id: String,
    /// How many clients had data and took part.
    pub clients_used: usize,
    /// How each client's rows were cut.
    pub splits: Vec<Split>,
    /// What the model may tell about one client (with `delta`), when noise was asked for.
    pub epsilon: Option<f64>,
    /// The probability with which that bound may fail.
    pub delta: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// The digest of the data.
    pub data_hash: String,
    /// The probability from which on a row is called an anomaly.
    pub threshold: f64,
    /// The share of anomalies that the model expects where it is used.
    pub expected_anomalies: f64,
    /// Where it ran.
    pub device: String,
    /// What the caller should know.
    pub warnings: Vec<String>,
    /// How long it took, in seconds.
    pub took_seconds: f64,
}

/// What a model says of sequences.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Predictions {
    /// 1 for an anomaly, 0 for a normal sequence, in the order of the sequences.
    pub predictions: Vec<u8>,
    /// The probabilities of normal and of an anomaly.
    pub probabilities: Vec<[f64; 2]>,
    /// As `predictions`.
    pub anomaly_flags: Vec<u8>,
    /// The same with reasons for the anomalies: what counted, and what would have been normal.
    pub verdicts: Vec<Verdict>,
    /// The probability from which on a sequence is called an anomaly.
    pub threshold: f64,
    /// Where it ran.
    pub device: String,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// How good a model is on a dataset.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Evaluated {
    /// The mean cross-entropy, by weight.
    pub test_loss: f64,
    /// The share of right answers, each row counting once.
    pub accuracy: f64,
    /// Figures with each row counting once.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Figures by the rows' weights, when they have any.
    pub weighted_metrics: Option<Metrics>,
    /// Figures of rows whose sequences training did not have, when some are and some are not.
    pub unseen_metrics: Option<Metrics>,
    /// The area under the ROC curve, by weight.
    pub roc_auc: Option<f64>,
    /// The area under the precision-recall curve, by weight.
    pub pr_auc: Option<f64>,
    /// Where it ran.
    pub device: String,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// Where the newest run of each kind stands, or the one that was asked for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TrainingStatus {
    /// Of federated training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federated: Option<RunStatus>,
    /// Of centralized training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centralized: Option<RunStatus>,
}

/// Where a run stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RunStatus {
    /// `idle` when there was no run.
    pub status: Status,
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
    /// The run, which is the job.
    pub run_id: Option<String>,
    /// Why it has no result.
    pub error: Option<String>,
    /// The model after the last finished epoch, while there is no result.
    pub checkpoint: Option<String>,
    /// When it began, RFC 3339.
    pub created_at: Option<String>,
    /// When it last moved, RFC 3339.
    pub updated_at: Option<String>,
}

/// What came of the newest run of each kind, or of the one that was asked for; null while there is nothing.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TrainingResults {
    /// Of federated training: as `train_federated_model` answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federated: Option<Value>,
    /// Of centralized training: as `train_centralized_model` answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centralized: Option<Value>,
}
