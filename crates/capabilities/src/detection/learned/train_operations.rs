//! `train_centralized_model` and `train_federated_model`.

use opsroom_analytics::classify::detector::{Method, NetworkConfig};
use opsroom_analytics::classify::federated::Privacy;
use opsroom_analytics::recurrent::optimiser::Rule;
use opsroom_analytics::recurrent::train::Schedule;
use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answers::{Centralized, Federated};
use super::layout::MAX_CLIENTS;
use super::runs::Kind;
use super::training::{Federation, Request, centralized, federated};
use super::{Learned, device_notes, models};

/// How a model is fitted; `auto` compares the others on sequences that the compared models had not seen.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Fitting {
    /// LogRobust's network, which reads the events in their order.
    #[default]
    Network,
    /// Trees on the counts of events.
    Tree,
    /// Logistic regression on the counts of events.
    Linear,
    /// The training sequence whose counts are nearest.
    Nearest,
    /// The best of all.
    Auto,
}

/// How a network's parameters follow the gradient.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Optimizer {
    /// Adam, at a rate that falls to a hundredth over the run.
    #[default]
    Adam,
    /// Plain descent at a constant rate.
    Sgd,
}

/// Train a detector on all labelled sequences of a dataset, and report how good it is on sequences that
/// training never saw.
///
/// `data_type` names a dataset: `aliyun` or `cmcc` (folders in LogRobust's layout below the configured roots),
/// or one that `register_dataset` was told. Part of the rows only chooses and part only judges, by
/// time where the data tell it; equal sequences are never in two parts. `get_training_status` shows how far it is; with `background` the answer is
/// the job, whose id is the run's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainCentralizedModel {
    /// The dataset.
    #[serde(default = "data_type")]
    #[schemars(length(max = 64))]
    data_type: String,
    /// The learning rate at the start.
    #[serde(default = "learning_rate")]
    learning_rate: f64,
    /// Sequences between two steps.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 1000000))]
    batch_size: usize,
    /// Passes over the training rows.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10000))]
    epochs: usize,
    /// -1 is the CPU; 0 and up ask for a GPU, and without one the run goes on the CPU and says so.
    #[serde(default)]
    gpu_id: i64,
    /// The seed: the same one on the same data gives the same model.
    #[serde(default = "seed")]
    seed: u64,
    /// The folder of the model, below the folder of models. By default it is named after the settings.
    #[serde(default)]
    #[schemars(length(max = 200))]
    output_dir: Option<String>,
    /// How the model is fitted.
    #[serde(default)]
    method: Fitting,
    /// The network's hidden units of one direction.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1024))]
    hidden_size: usize,
    /// The network's layers.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 8))]
    num_layers: usize,
    /// How the network learns: `adam`, or `sgd` (plain descent at a constant rate, as the first server did).
    #[serde(default)]
    optimizer: Optimizer,
    /// The share of outputs that is dropped between the network's layers in training, from 0 to below 1.
    #[serde(default)]
    dropout: f64,
    /// Events of a sequence that the network reads; later ones are left out.
    #[serde(default = "max_length")]
    #[schemars(range(min = 1, max = 100000))]
    max_length: usize,
    /// Epochs without a better validation loss before training ends; 0 never ends it early.
    #[serde(default)]
    #[schemars(range(max = 10000))]
    patience: usize,
    /// The share of anomalies expected where the model will be used, above 0 and below 1; by default that of
    /// the data.
    #[serde(default)]
    expected_anomalies: Option<f64>,
}

/// Train a common detector over clients that keep their rows (federated averaging), and report how good it is
/// on each client's own test rows.
///
/// The clients are those of the dataset's own files (`data_0.npy`, ...); a dataset without such is dealt out
/// to as many as asked. With fewer than asked, those are used, and `clients_used` and a warning say so. Each
/// round every client trains on its own rows, and the mean of their networks is where the next round starts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainFederatedModel {
    /// The dataset.
    #[serde(default = "data_type")]
    #[schemars(length(max = 64))]
    data_type: String,
    /// The learning rate in the first round.
    #[serde(default = "learning_rate")]
    learning_rate: f64,
    /// Sequences between two steps.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 1000000))]
    batch_size: usize,
    /// Rounds of training and averaging.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10000))]
    global_epochs: usize,
    /// Passes of a client over its rows in one round.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10000))]
    local_epochs: usize,
    /// How many clients, at least 2.
    #[serde(default = "six")]
    num_clients: usize,
    /// -1 is the CPU; 0 and up ask for a GPU, and without one the run goes on the CPU and says so.
    #[serde(default)]
    gpu_id: i64,
    /// The seed: the same one on the same data gives the same models.
    #[serde(default = "seed")]
    seed: u64,
    /// The folder of the models, below the folder of models. By default it is named after the settings.
    #[serde(default)]
    #[schemars(length(max = 200))]
    output_dir: Option<String>,
    /// The network's hidden units of one direction.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1024))]
    hidden_size: usize,
    /// The network's layers.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 8))]
    num_layers: usize,
    /// How the network learns: `adam`, or `sgd` (plain descent at a constant rate, as the first server did).
    #[serde(default)]
    optimizer: Optimizer,
    /// The share of outputs that is dropped between the network's layers in training, from 0 to below 1.
    #[serde(default)]
    dropout: f64,
    /// Events of a sequence that the network reads; later ones are left out.
    #[serde(default = "max_length")]
    #[schemars(range(min = 1, max = 100000))]
    max_length: usize,
    /// The share of anomalies expected where the model will be used, above 0 and below 1; by default that of
    /// the data.
    #[serde(default)]
    expected_anomalies: Option<f64>,
    /// The share of clients that take part in a round, above 0 and at most 1.
    #[serde(default = "one")]
    participation: f64,
    /// Whether clients count by their rows; else all the same.
    #[serde(default = "yes")]
    weighted: bool,
    /// Differential privacy: the noise that is added, as a multiple of `privacy_clip`. Without it there is none.
    #[serde(default)]
    privacy_noise: Option<f64>,
    /// Differential privacy: the length that a client's change is cut to.
    #[serde(default = "one")]
    privacy_clip: f64,
    /// Differential privacy: the probability with which the bound may fail.
    #[serde(default = "delta")]
    privacy_delta: f64,
}

fn data_type() -> String {
    "aliyun".to_owned()
}

fn learning_rate() -> f64 {
    0.001
}

fn batch_size() -> usize {
    64
}

fn two() -> usize {
    2
}

fn six() -> usize {
    6
}

fn ten() -> usize {
    10
}

fn max_length() -> usize {
    NetworkConfig::default().max_length
}

fn seed() -> u64 {
    2020
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

fn delta() -> f64 {
    1e-5
}

pub(super) async fn train_centralized_model(
    service: Learned,
    call: Call,
    input: TrainCentralizedModel,
) -> Result<Centralized> {
    let (rate, batch) = (python_float(input.learning_rate), input.batch_size);
    let usual = format!("output/centralized_{}_{}e_{rate}lr_{batch}bs", input.data_type, input.epochs);
    let mut network = network(input.learning_rate, batch, input.seed, input.hidden_size, input.num_layers);
    network.training.epochs = input.epochs;
    network.training.patience = input.patience;
    network.training.dropout = input.dropout;
    network.max_length = input.max_length;
    optimise(&mut network, input.optimizer);
    let method = match input.method {
        Fitting::Network => Some(Method::Network),
        Fitting::Tree => Some(Method::Tree),
        Fitting::Linear => Some(Method::Linear),
        Fitting::Nearest => Some(Method::Nearest),
        Fitting::Auto => None,
    };
    let spec = service.spec(&call.caller, &input.data_type).await;
    let output = output(input.output_dir, usual);
    service
        .run(call, Kind::Centralized, move |scope| {
            let request = Request {
                spec: spec?,
                network,
                expected_share: input.expected_anomalies,
                output: output?,
                notes: device_notes(input.gpu_id),
            };
            centralized(scope, request, method)
        })
        .await
}

pub(super) async fn train_federated_model(
    service: Learned,
    call: Call,
    input: TrainFederatedModel,
) -> Result<Federated> {
    let (rate, batch) = (python_float(input.learning_rate), input.batch_size);
    let (rounds, clients) = (input.global_epochs, input.num_clients);
    let usual = format!(
        "output/fedlog_{}_logs_{rounds}e_{}locEpoch_{rate}lr_{batch}bs_{clients}ws",
        input.data_type, input.local_epochs
    );
    let mut network = network(input.learning_rate, batch, input.seed, input.hidden_size, input.num_layers);
    network.training.epochs = input.local_epochs;
    network.training.dropout = input.dropout;
    network.max_length = input.max_length;
    optimise(&mut network, input.optimizer);
    let noise = input.privacy_noise;
    let privacy = noise.map(|noise| Privacy { clip: input.privacy_clip, noise, delta: input.privacy_delta });
    let (participation, by_rows) = (input.participation, input.weighted);
    let federation = Federation { rounds, clients, participation, by_rows, privacy };
    let spec = service.spec(&call.caller, &input.data_type).await;
    let output = output(input.output_dir, usual);
    service
        .run(call, Kind::Federated, move |scope| {
            if !(2..=MAX_CLIENTS).contains(&clients) {
                return Err(Error::invalid(format!(
                    "num_clients is {clients}; a federation has from 2 to {MAX_CLIENTS} (for one, \
                     train_centralized_model)"
                )));
            }
            let request = Request {
                spec: spec?,
                network,
                expected_share: input.expected_anomalies,
                output: output?,
                notes: device_notes(input.gpu_id),
            };
            federated(scope, request, &federation)
        })
        .await
}

fn network(rate: f64, batch_size: usize, seed: u64, hidden: usize, layers: usize) -> NetworkConfig {
    let mut network = NetworkConfig { hidden, layers, ..NetworkConfig::default() };
    network.training.learning_rate = rate;
    network.training.batch_size = batch_size;
    network.training.seed = seed;
    network
}

fn optimise(network: &mut NetworkConfig, optimizer: Optimizer) {
    if matches!(optimizer, Optimizer::Sgd) {
        network.training.rule = Rule::Sgd { momentum: 0.0 };
        network.training.schedule = Schedule::Constant;
    }
}

/// The folder of the result: what was asked for, or the name that the first server would have given it.
fn output(asked: Option<String>, usual: String) -> Result<String> {
    let folder = asked.unwrap_or(usual);
    let folder = folder.trim_start_matches("./").trim_end_matches('/').to_owned();
    models::check_name(&folder).map_err(|error| {
        Error::invalid(format!("output_dir: it is below the folder of models; {}", error.message))
    })?;
    Ok(folder)
}

/// A number as Python writes it, which the names of folders are made of.
fn python_float(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "-" } else { "" };
        return format!("{digits}e{sign}{:0>2}", exponent.trim_start_matches('-'));
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_the_first_server_named_them() {
        let written = [0.001, 0.5, 1.0, 0.00001, 0.0].map(python_float);
        assert_eq!(written, ["0.001", "0.5", "1.0", "1e-05", "0.0"]);
    }

    #[test]
    fn a_result_cannot_be_put_outside_the_folder_of_models() {
        assert_eq!(output(Some("./mine/".to_owned()), String::new()).unwrap(), "mine");
        for asked in ["/tmp/x", "../x", "a/../../x", ""] {
            let error = output(Some(asked.to_owned()), String::new()).unwrap_err();
            assert!(error.message.starts_with("output_dir: "), "{asked}: {error}");
        }
    }
}
