//! Fitting a model: one method, or all of them compared on sequences that training did not have.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::detector::{Detector, Method, Network, NetworkConfig, Places, Progress, Stop};
use super::error::{ClassifyError, data};
use super::model::{Candidate, Model, Provenance, sequence_hashes, shift};
use super::nearest::Normals;
use super::space::EventSpace;
use super::split::{Order, split};
use crate::metrics::{Confusion, Judged};
use crate::recurrent::train::Epoch;

/// What to fit.
#[derive(Clone, Debug, Default)]
pub struct FitConfig {
    /// The method; `None` compares all of them.
    pub method: Option<Method>,
    /// The share of anomalies where the model will be used, above 0 and below 1; `None` takes that of the
    /// training rows.
    pub expected_share: Option<f64>,
    /// The network's sizes and training; its seed is also that of the other methods and of cuts.
    pub network: NetworkConfig,
}

/// Parts that training rows are cut into when methods are compared: each is judged by models of the
/// others.
const FOLDS: usize = 5;

/// Fits a model on the labelled rows of `training`. `validation` only ever chooses: the method when
/// methods are compared, the epoch when the network has patience.
pub fn fit(
    training: &Dataset,
    validation: Option<&Dataset>,
    config: &FitConfig,
    watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Model, ClassifyError> {
    config.network.check()?;
    training.check_trainable()?;
    let training_share = training.anomaly_share().unwrap_or(0.5);
    let expected_share = config.expected_share.unwrap_or(training_share);
    if !(expected_share > 0.0 && expected_share < 1.0) {
        return Err(data(format!(
            "the expected share of anomalies is {expected_share}, expected one in (0, 1)"
        )));
    }
    let none = Dataset::default();
    let Some(method) = config.method else {
        return choose(training, validation, config, expected_share, watch);
    };
    let mut model = fit_one(method, training, validation.unwrap_or(&none), config, watch)?;
    model.expected_share = expected_share;
    model.provenance.reason = "asked for".to_owned();
    model.provenance.validation_rows = validation.map_or(0, |rows| rows.rows.len());
    Ok(model)
}

/// Fits every method on all but one part of the rows, in turn, compares them on the part left out and on
/// `validation`, and fits the best on all rows.
fn choose(
    training: &Dataset,
    validation: Option<&Dataset>,
    config: &FitConfig,
    expected_share: f64,
    watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Model, ClassifyError> {
    let parts = split(training, &[1.0; FOLDS], Order::Stratified(config.network.training.seed));
    let unseen = validation.map(|rows| unseen_rows(rows, training));
    let runs = (Method::ALL.len() * FOLDS + 1) as f64;
    let mut candidates = Vec::new();
    let mut rows = 0;
    for (at, method) in Method::ALL.into_iter().enumerate() {
        let mut judged = Vec::new();
        for fold in 0..FOLDS {
            let others: Vec<usize> =
                (0..FOLDS).filter(|&f| f != fold).flat_map(|f| parts[f].clone()).collect();
            let (fitted, left_out) = (training.select(&others), training.select(&parts[fold]));
            if fitted.check_trainable().is_err() {
                continue;
            }
            let from = (at * FOLDS + fold) as f64 / runs;
            let mut scaled = |progress: Progress<'_>| match progress {
                // Epochs of comparisons are no checkpoints of the model to come.
                Progress::Share(done) | Progress::Epoch { share: done, .. } => {
                    watch(Progress::Share(from + done / runs))
                }
            };
            let model = fit_one(method, &fitted, &Dataset::default(), config, &mut scaled)?;
            judged.extend(judge(&model, &left_out)?);
            if let Some(unseen) = &unseen {
                judged.extend(judge(&model, unseen)?);
            }
        }
        rows = judged.len();
        candidates.push(compare(method, judged, expected_share));
    }
    let better = |a: &&Candidate, b: &&Candidate| {
        a.f1.total_cmp(&b.f1).then(b.log_loss.total_cmp(&a.log_loss)).then(b.method.cmp(&a.method))
    };
    let best = candidates.iter().max_by(better).expect("there are methods");
    let mut scaled = |progress: Progress<'_>| watch(within(progress, (runs - 1.0) / runs, 1.0 / runs));
    let mut model = fit_one(best.method, training, &Dataset::default(), config, &mut scaled)?;
    model.expected_share = expected_share;
    model.provenance.reason = format!(
        "best F1 ({:.4}) over {rows} judgements of rows whose sequences the judged models had not seen, with \
         anomalies weighted to {expected_share:.4} of all",
        best.f1,
    );
    model.provenance.candidates = candidates;
    model.provenance.validation_rows = unseen.map_or(0, |rows| rows.rows.len());
    Ok(model)
}

fn within(progress: Progress<'_>, from: f64, share: f64) -> Progress<'_> {
    match progress {
        Progress::Share(done) => Progress::Share(from + share * done),
        Progress::Epoch { share: done, record, network } => {
            Progress::Epoch { share: from + share * done, record, network }
        }
    }
}

/// The labelled rows of `judged` that `fitted` does not have; all of them when those lack a label.
fn unseen_rows(judged: &Dataset, fitted: &Dataset) -> Dataset {
    let overlap = judged.overlap(fitted);
    let labelled = |place: &usize| judged.rows[*place].anomalous.is_some();
    let places: Vec<usize> = (0..judged.rows.len()).filter(labelled).collect();
    let unseen: Vec<usize> = places.iter().copied().filter(|&place| !overlap[place]).collect();
    let unseen = judged.select(&unseen);
    if unseen.check_trainable().is_ok() { unseen } else { judged.select(&places) }
}

/// What a model says of labelled rows, as balanced as the rows it was fitted on.
fn judge(model: &Model, rows: &Dataset) -> Result<Vec<Judged>, ClassifyError> {
    let never: Stop<'_> = &|| false;
    let probabilities = model.probabilities(&model.translate(rows, never)?, never)?;
    let judged = rows.rows.iter().zip(probabilities).filter_map(|(row, score)| {
        // Probabilities are compared at even odds and moved to the expected share afterwards.
        let score = shift(score, model.training_share, 0.5);
        row.anomalous.map(|positive| Judged { score, positive, weight: row.weight })
    });
    Ok(judged.collect())
}

/// How a method did, anomalies weighted to the expected share.
fn compare(method: Method, mut judged: Vec<Judged>, expected_share: f64) -> Candidate {
    let total: f64 = judged.iter().map(|row| row.weight).sum();
    let anomalies: f64 = judged.iter().filter(|row| row.positive).map(|row| row.weight).sum();
    let mut loss = 0.0;
    for row in &mut judged {
        let (share, have) = if row.positive {
            (expected_share, anomalies)
        } else {
            (1.0 - expected_share, total - anomalies)
        };
        row.weight *= if have > 0.0 { share / have } else { 0.0 };
        row.score = shift(row.score, 0.5, expected_share);
        loss -= row.weight * (if row.positive { row.score } else { 1.0 - row.score }).max(1e-9).ln();
    }
    let f1 = Confusion::at(&judged, 0.5).f1().unwrap_or(0.0);
    Candidate { method, f1, log_loss: loss }
}

/// Fits one method; the expected share is that of the rows.
fn fit_one(
    method: Method,
    training: &Dataset,
    validation: &Dataset,
    config: &FitConfig,
    watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Model, ClassifyError> {
    let places: Vec<usize> =
        (0..training.rows.len()).filter(|&row| training.rows[row].anomalous.is_some()).collect();
    let labelled = training.select(&places);
    let space = EventSpace::fit(&labelled)?;
    let rows = places_of(&space, &labelled)?;
    let seed = config.network.training.seed;
    let (detector, history) = match method {
        Method::Network => {
            let validation = places_of(&space, validation)?;
            let (network, history) = Network::fit(&config.network, &space, &rows, &validation, watch)?;
            (Detector::Network(network), history)
        }
        _ => {
            if watch(Progress::Share(0.0)).is_break() {
                return Err(ClassifyError::Cancelled);
            }
            (Detector::fit_counts(method, &rows, space.events.len(), seed), Vec::new())
        }
    };
    let share = labelled.anomaly_share().unwrap_or(0.5);
    Ok(assemble(detector, space, &labelled, &rows, share, seed, history))
}

/// The model of a fitted detector and what it was fitted on.
fn assemble(
    detector: Detector,
    space: EventSpace,
    training: &Dataset,
    rows: &Places,
    share: f64,
    seed: u64,
    history: Vec<Epoch>,
) -> Model {
    let normal = rows.rows().filter(|row| !row.1).map(|(places, _, weight)| (places, weight));
    let provenance = Provenance {
        training_rows: training.rows.len(),
        warnings: training.describe().warnings,
        seed,
        data_hash: digest(training),
        ..Provenance::default()
    };
    Model {
        detector,
        normals: Normals::fit(normal),
        space: Some(space),
        training_share: share,
        expected_share: share,
        seen: sequence_hashes(training),
        provenance,
        history,
    }
}

/// The labelled rows of a dataset over the places of a space; events that are not known are left out.
/// (Of a federation, each party does this by itself.)
pub(super) fn places_of(space: &EventSpace, dataset: &Dataset) -> Result<Places, ClassifyError> {
    let relations = space.relate(dataset, &|| false)?;
    let mut places = Places::default();
    for (row, anomalous) in dataset.labelled() {
        let known = row.events.iter().filter_map(|&event| relations[event as usize].place());
        places.sequences.push(known.collect());
        places.anomalous.push(anomalous);
        places.weights.push(row.weight);
    }
    Ok(places)
}

/// The SHA-256 of a dataset's rows: ids, labels and weights in their order.
pub fn digest(dataset: &Dataset) -> String {
    let mut hasher = Sha256::new();
    for row in &dataset.rows {
        for id in dataset.ids(row) {
            hasher.update(id.as_bytes());
            hasher.update([0]);
        }
        hasher.update([1, row.anomalous.map_or(2, u8::from)]);
        hasher.update(row.weight.to_le_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
