//! The work of `train_centralized_model` and `train_federated_model`.

use std::ops::ControlFlow;
use std::time::Instant;

use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::detector::{Detector, Method, Network, NetworkConfig, Progress};
use opsroom_analytics::classify::federated::{self, FederatedConfig, InProcess, Privacy};
use opsroom_analytics::classify::fit::{FitConfig, digest, fit};
use opsroom_analytics::classify::model::{Model, Provenance, sequence_hashes};
use opsroom_analytics::classify::nearest::Normals;
use opsroom_analytics::classify::space::EventSpace;
use opsroom_analytics::classify::split::{Order, split};
use opsroom_analytics::recurrent::train::Epoch;
use opsroom_core::{Error, Result};

use super::answers::{Centralized, Cut, Federated, Metrics, Split};
use super::layout::{Given, Spec};
use super::runs::Scope;
use super::{models, refused, refused_of};

/// Shares of the rows that teach, choose and judge.
const SHARES: [f64; 3] = [0.7, 0.1, 0.2];

/// What both kinds of training are asked.
pub struct Request {
    /// The data.
    pub spec: Spec,
    /// The network and its training; its epochs are those of the whole run, or of a client in a round.
    pub network: NetworkConfig,
    /// The share of anomalies expected in use.
    pub expected_share: Option<f64>,
    /// The folder of the result, below the folder of models.
    pub output: String,
    /// What the caller should know before anything was done.
    pub notes: Vec<String>,
}

/// Rows that teach, choose and judge. Of a cut that we make, equal sequences are in one of them.
struct Parts {
    training: Dataset,
    validation: Dataset,
    test: Dataset,
    cut: Cut,
}

impl Parts {
    fn of(rows: &Dataset, given: Given, seed: u64, whose: &str) -> Result<Self> {
        let Given { validation, test } = given;
        let mut shares = SHARES;
        shares[1] *= f64::from(u8::from(validation.is_none()));
        shares[2] *= f64::from(u8::from(test.is_none()));
        let mut cut = match (&validation, &test, rows.times.is_empty()) {
            (Some(_), Some(_), _) => Cut::Given,
            (_, _, false) => Cut::Time,
            _ => Cut::Random,
        };
        let order = if cut == Cut::Time { Order::Time } else { Order::Stratified(seed) };
        let mut places = split(rows, &shares, order);
        let lacks = |places: &[usize]| rows.select(places).check_trainable().is_err();
        if cut == Cut::Time && (lacks(&places[0]) || (test.is_none() && lacks(&places[2]))) {
            // A stretch of time with one label alone teaches nothing, and judges nothing.
            cut = Cut::Random;
            places = split(rows, &shares, Order::Stratified(seed));
        }
        let part = |at: usize| rows.select(&places[at]);
        let parts = Self {
            training: part(0),
            validation: validation.unwrap_or_else(|| part(1)),
            test: test.unwrap_or_else(|| part(2)),
            cut,
        };
        if parts.test.rows.is_empty() || parts.training.rows.is_empty() {
            return Err(Error::invalid(format!(
                "{whose} has {} rows of too few distinct sequences to keep some for testing: give more data",
                rows.rows.len()
            )));
        }
        Ok(parts)
    }

    fn sizes(&self) -> Split {
        Split {
            training: self.training.rows.len(),
            validation: self.validation.rows.len(),
            test: self.test.rows.len(),
            by: self.cut,
        }
    }
}

/// What every checkpoint of a run has in common.
struct Frame {
    space: EventSpace,
    share: f64,
    provenance: Provenance,
    seen: Vec<u64>,
}

impl Frame {
    fn of(training: &Dataset, seed: u64) -> Result<Self> {
        training.check_trainable().map_err(refused)?;
        Ok(Self {
            space: EventSpace::fit(training).map_err(refused)?,
            share: training.anomaly_share().unwrap_or(0.5),
            provenance: Provenance {
                training_rows: training.rows.len(),
                reason: "a checkpoint".to_owned(),
                seed,
                data_hash: digest(training),
                ..Provenance::default()
            },
            seen: sequence_hashes(training),
        })
    }

    /// The model after these epochs.
    fn model(&self, network: &Network, history: &[Epoch]) -> Model {
        Model {
            detector: Detector::Network(network.clone()),
            space: Some(self.space.clone()),
            training_share: self.share,
            expected_share: self.share,
            normals: Normals::default(),
            seen: self.seen.clone(),
            provenance: self.provenance.clone(),
            history: history.to_vec(),
        }
    }
}

/// The accuracy and the weighted F1 on rows; nothing when there are none.
fn judged(model: &Model, rows: &Dataset) -> Result<Option<(f64, f64)>> {
    if rows.rows.is_empty() {
        return Ok(None);
    }
    let evaluation = model.evaluate(rows).map_err(refused)?;
    Ok(Some((evaluation.accuracy, evaluation.report.f1_score)))
}

/// Ends the training when it was asked to, or when its watcher failed.
fn flow(scope: &Scope, failed: &Option<Error>) -> ControlFlow<()> {
    if failed.is_some() || scope.cancel.is_cancelled() {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Trains on all rows in one place.
///
/// # Errors
/// Those of reading the data, `Invalid` for data or settings that cannot be used, `Cancelled`, and
/// `Unavailable` when a model cannot be written.
pub fn centralized(scope: &Scope, request: Request, method: Option<Method>) -> Result<Centralized> {
    let began = Instant::now();
    let Request { spec, network, expected_share, output, notes } = request;
    let stop = || scope.cancel.is_cancelled();
    let rows = spec.whole(&scope.files, opsroom_analytics::classify::arrays::Padding::Dropped, &stop)?;
    let seed = network.training.seed;
    let parts = Parts::of(&rows, spec.given(&scope.files)?, seed, &spec.name)?;
    let frame = Frame::of(&parts.training, seed).map_err(|error| about(&spec.name, error))?;
    let checkpoint = format!("{output}/checkpoint.{}", models::ENDING);
    let (mut failed, mut epochs) = (None, Vec::new());
    let mut watch = |progress: Progress<'_>| {
        match progress {
            Progress::Share(share) => scope.share(share),
            Progress::Epoch { share, record, network } => {
                epochs.push(record.clone());
                let model = frame.model(network, &epochs);
                let kept = judged(&model, &parts.validation)
                    .and_then(|judged| models::replace(&scope.models, &checkpoint, &model).map(|()| judged));
                match kept {
                    Ok(judged) => scope.epoch(share, record.loss, judged, &checkpoint),
                    Err(error) => failed = Some(error),
                }
            }
        }
        flow(scope, &failed)
    };
    let validation = Some(&parts.validation).filter(|rows| !rows.rows.is_empty());
    let config = FitConfig { method, expected_share, network };
    let fitted = fit(&parts.training, validation, &config, &mut watch);
    if let Some(error) = failed {
        return Err(error);
    }
    let model = fitted.map_err(|error| refused_of(&spec.name, error))?;
    let test = model.evaluate(&parts.test).map_err(refused)?;
    let path = format!("{output}/model_param.{}", models::ENDING);
    models::replace(&scope.models, &path, &model)?;
    let history = scope.history();
    let mut accuracy_history = history.accuracy;
    if accuracy_history.is_empty() {
        accuracy_history.extend(judged(&model, &parts.validation)?.map(|judged| judged.0));
    }
    Ok(Centralized {
        model_save_path: path,
        loss_history: history.loss,
        accuracy_history,
        final_accuracy: test.accuracy,
        unseen_metrics: test.unseen.clone().map(Metrics::of),
        weighted_metrics: test.weighted.clone().map(Metrics::of),
        metrics: Metrics::of(test.report),
        run_id: scope.id.clone(),
        method: model.detector.method(),
        reason: model.provenance.reason.clone(),
        candidates: model.provenance.candidates.clone(),
        seed,
        data_hash: digest(&rows),
        split: parts.sizes(),
        threshold: 0.5,
        expected_anomalies: model.expected_share,
        device: "cpu".to_owned(),
        warnings: notes.into_iter().chain(rows.describe().warnings).collect(),
        took_seconds: began.elapsed().as_secs_f64(),
    })
}

fn about(name: &str, error: Error) -> Error {
    Error { message: format!("{name}: {}", error.message), ..error }
}

/// What only a federation is asked.
pub struct Federation {
    /// Rounds of training and averaging.
    pub rounds: usize,
    /// Clients that are asked for.
    pub clients: usize,
    /// The share of clients that take part in a round.
    pub participation: f64,
    /// Whether clients count by their rows.
    pub by_rows: bool,
    /// Bounds what the model tells about a client.
    pub privacy: Option<Privacy>,
}

/// The best common model for one client, by its own validation rows.
struct Best {
    score: f64,
    network: Option<Network>,
}

/// Trains over clients that keep their rows.
///
/// # Errors
/// Those of [`centralized`].
pub fn federated(scope: &Scope, request: Request, asked: &Federation) -> Result<Federated> {
    let began = Instant::now();
    let Request { spec, network, expected_share, output, notes } = request;
    let seed = network.training.seed;
    let rows = spec.clients(&scope.files, asked.clients, seed, &|| scope.cancel.is_cancelled())?;
    let mut warnings = notes;
    if rows.len() < asked.clients {
        warnings.push(format!(
            "{} clients were asked for, and {} have data of the dataset {}: those were used",
            asked.clients,
            rows.len(),
            spec.name
        ));
    }
    let part = |(client, rows): (usize, &Dataset)| {
        let own = Given { validation: None, test: None };
        Parts::of(rows, own, seed, &format!("client {client}"))
    };
    let parts: Vec<Parts> = rows.iter().enumerate().map(part).collect::<Result<_>>()?;
    let parties: Vec<Dataset> = parts.iter().map(|part| part.training.clone()).collect();
    let frame = federated_frame(&parties, seed)?;
    let folder = format!("{output}/model_save");
    let checkpoint = format!("{folder}/checkpoint.{}", models::ENDING);
    let mut best: Vec<Best> = parts.iter().map(|_| Best { score: -1.0, network: None }).collect();
    let (mut failed, mut epochs) = (None, Vec::new());
    let mut watch = |progress: Progress<'_>| {
        match progress {
            Progress::Share(share) => scope.share(share),
            Progress::Epoch { share, record, network } => {
                epochs.push(record.clone());
                let model = frame.model(network, &epochs);
                let kept = judge_clients(&model, network, &parts, &mut best)
                    .and_then(|judged| models::replace(&scope.models, &checkpoint, &model).map(|()| judged));
                match kept {
                    Ok(judged) => scope.epoch(share, record.loss, judged, &checkpoint),
                    Err(error) => failed = Some(error),
                }
            }
        }
        flow(scope, &failed)
    };
    let config = FederatedConfig {
        rounds: asked.rounds,
        participation: asked.participation,
        by_rows: asked.by_rows,
        privacy: asked.privacy,
        expected_share,
        network,
    };
    let trained = federated::run(&InProcess { parties: &parties }, &config, &mut watch);
    if let Some(error) = failed {
        return Err(error);
    }
    let trained = trained.map_err(|error| refused_of(&spec.name, error))?;
    let common = trained.model;
    models::replace(&scope.models, &format!("{folder}/model_common.{}", models::ENDING), &common)?;
    let (mut client_reports, mut best_scores, mut accuracies) = (Vec::new(), Vec::new(), Vec::new());
    for (client, (part, best)) in parts.iter().zip(best).enumerate() {
        let mut model = common.clone();
        if let Some(network) = best.network {
            model.detector = Detector::Network(network);
        }
        let test = model.evaluate(&part.test).map_err(refused)?;
        models::replace(&scope.models, &format!("{folder}/model_param{client}.{}", models::ENDING), &model)?;
        accuracies.push(test.accuracy);
        best_scores.push(best.score.max(0.0));
        client_reports.push(Metrics::of(test.report));
    }
    let history = scope.history();
    Ok(Federated {
        model_save_dir: folder,
        loss_history: history.loss,
        accuracy_history: history.accuracy,
        final_accuracy: accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64,
        client_reports,
        best_scores,
        run_id: scope.id.clone(),
        clients_used: parts.len(),
        splits: parts.iter().map(Parts::sizes).collect(),
        epsilon: trained.epsilon,
        delta: asked.privacy.map(|privacy| privacy.delta),
        seed,
        data_hash: digest(&Dataset::join(&rows)),
        threshold: 0.5,
        expected_anomalies: common.expected_share,
        device: "cpu".to_owned(),
        warnings,
        took_seconds: began.elapsed().as_secs_f64(),
    })
}

/// The frame of what clients tell about themselves, which is what the federation itself knows.
fn federated_frame(parties: &[Dataset], seed: u64) -> Result<Frame> {
    let facts: Vec<federated::Facts> = parties.iter().map(federated::facts).collect();
    let events = facts.iter().flat_map(|facts| facts.events.clone()).collect();
    let weight: f64 = facts.iter().map(|facts| facts.weight).sum();
    let anomalies: f64 = facts.iter().map(|facts| facts.anomalies).sum();
    Ok(Frame {
        space: EventSpace::of_events(events).map_err(refused)?,
        share: if weight > 0.0 { anomalies / weight } else { 0.5 },
        provenance: Provenance { reason: "a checkpoint".to_owned(), seed, ..Provenance::default() },
        seen: Vec::new(),
    })
}

/// The mean of the clients' accuracy and F1 on their own validation rows; keeps the best model of each.
fn judge_clients(
    model: &Model,
    network: &Network,
    parts: &[Parts],
    best: &mut [Best],
) -> Result<Option<(f64, f64)>> {
    let (mut sums, mut clients) = ((0.0, 0.0), 0.0);
    for (part, best) in parts.iter().zip(best) {
        let Some((accuracy, f1)) = judged(model, &part.validation)? else { continue };
        sums = (sums.0 + accuracy, sums.1 + f1);
        clients += 1.0;
        if accuracy > best.score {
            *best = Best { score: accuracy, network: Some(network.clone()) };
        }
    }
    Ok((clients > 0.0).then(|| (sums.0 / clients, sums.1 / clients)))
}
