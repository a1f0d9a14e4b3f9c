//! A fitted model: a detector with the events that it knows and the share of anomalies that it expects.
//!
//! Training sets are often balanced, production never is. A detector's probability is as balanced as its
//! training rows; the model moves it to the share of anomalies that is expected where it will be used
//! (Saerens, Latinne and Decaestecker 2002) and calls a sequence anomalous from one half on.

use super::dataset::{Dataset, Row, sequence_hash};
use super::detector::{Detector, Method, Stop};
use super::error::{ClassifyError, data};
use super::nearest::Normals;
use super::space::{EventSpace, Relation};
use crate::recurrent::train::Epoch;

/// A method's figures when methods were compared.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Candidate {
    /// The method.
    pub method: Method,
    /// F1 of anomalies on validation sequences that training did not have, at the expected share.
    pub f1: f64,
    /// The mean log loss there.
    pub log_loss: f64,
}

/// How a model came to be.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Provenance {
    /// Rows that it was fitted on.
    pub training_rows: usize,
    /// Rows that methods or epochs were chosen by.
    pub validation_rows: usize,
    /// The methods that were compared, if they were.
    pub candidates: Vec<Candidate>,
    /// Why this method.
    pub reason: String,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The digest of the training data.
    pub data_hash: String,
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Model {
    /// How it decides.
    pub detector: Detector,
    /// The events that it knows; absent for an imported network, which takes any vectors.
    pub space: Option<EventSpace>,
    /// The share of anomalies among its training rows, by weight.
    pub training_share: f64,
    /// The share of anomalies expected where it is used.
    pub expected_share: f64,
    /// Normal sequences, to compare with.
    pub normals: Normals,
    /// Hashes of its training sequences, rising, to tell what it has seen.
    pub seen: Vec<u64>,
    /// How it came to be.
    pub provenance: Provenance,
    /// The epochs of its training, if it is a network.
    pub history: Vec<Epoch>,
}

/// A dataset as a model sees it.
pub struct Translated {
    /// Sequences of places; places from `known` on are not known.
    pub sequences: Vec<Vec<u32>>,
    /// The vectors of all places.
    pub table: Vec<f32>,
    /// How many events are known.
    pub known: usize,
    /// What each event of the dataset is to the model; empty for an imported network.
    pub relations: Vec<Relation>,
}

impl Model {
    /// A model of an imported network.
    pub fn imported(detector: Detector) -> Self {
        Self {
            detector,
            space: None,
            training_share: 0.5,
            expected_share: 0.5,
            normals: Normals::default(),
            seen: Vec::new(),
            provenance: Provenance { reason: "imported".to_owned(), ..Provenance::default() },
            history: Vec::new(),
        }
    }

    /// The dataset in the places of this model.
    ///
    /// # Errors
    /// When they do not fit, or `stop` says so.
    pub fn translate(&self, dataset: &Dataset, stop: Stop<'_>) -> Result<Translated, ClassifyError> {
        let Some(space) = &self.space else {
            return self.translate_vectors(dataset);
        };
        let relations = space.relate(dataset, stop)?;
        let known = space.events.len();
        let mut table = space.table.clone();
        let mut places = Vec::with_capacity(relations.len());
        for relation in &relations {
            let next = (table.len() / space.width) as u32;
            places.push(relation.place().unwrap_or(next));
            if let Relation::Unknown(vector) = relation {
                match vector {
                    Some(vector) => table.extend_from_slice(vector),
                    None => table.resize(table.len() + space.width, 0.0),
                }
            }
        }
        let sequences =
            dataset.rows.iter().map(|row| row.events.iter().map(|&e| places[e as usize]).collect());
        Ok(Translated { sequences: sequences.collect(), table, known, relations })
    }

    /// As [`Model::translate`], for a network that takes any vectors: the events are as they come.
    fn translate_vectors(&self, dataset: &Dataset) -> Result<Translated, ClassifyError> {
        let width = self.input_width();
        let mut table = Vec::with_capacity(dataset.events.len() * width);
        for event in &dataset.events {
            let Some(vector) = &event.vector else {
                return Err(data(format!(
                    "event {} has no vector, and this model came without a way to make one",
                    event.id
                )));
            };
            if vector.len() != width {
                let (id, found) = (&event.id, vector.len());
                return Err(data(format!(
                    "the vector of event {id} has {found} numbers, the model takes {width}"
                )));
            }
            table.extend_from_slice(vector);
        }
        let sequences = dataset.rows.iter().map(|row| row.events.clone()).collect();
        Ok(Translated { sequences, table, known: dataset.events.len(), relations: Vec::new() })
    }

    /// Numbers in the vector of an event.
    pub fn input_width(&self) -> usize {
        match (&self.space, &self.detector) {
            (Some(space), _) => space.width,
            (None, Detector::Network(network)) => network.net.shape().input,
            (None, _) => 0,
        }
    }

    /// The probability that each row is an anomaly, at the expected share.
    ///
    /// # Errors
    /// Those of [`Detector::probabilities`].
    pub fn probabilities(&self, translated: &Translated, stop: Stop<'_>) -> Result<Vec<f64>, ClassifyError> {
        let Translated { sequences, table, known, .. } = translated;
        let raw = self.detector.probabilities(sequences, table, *known, stop)?;
        Ok(raw.into_iter().map(|p| shift(p, self.training_share, self.expected_share)).collect())
    }

    /// Whether a row of `dataset` has a sequence that training had.
    pub fn has_seen(&self, dataset: &Dataset, row: &Row) -> bool {
        self.seen.binary_search(&sequence_hash(dataset, row)).is_ok()
    }
}

/// Hashes of the sequences of a dataset, rising, each once.
pub fn sequence_hashes(dataset: &Dataset) -> Vec<u64> {
    let mut hashes: Vec<u64> = dataset.rows.iter().map(|row| sequence_hash(dataset, row)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// A probability under one share of anomalies, moved to another.
pub fn shift(probability: f64, from: f64, to: f64) -> f64 {
    let p = probability.clamp(1e-9, 1.0 - 1e-9);
    let odds = |share: f64| {
        let share = share.clamp(1e-9, 1.0 - 1e-9);
        share / (1.0 - share)
    };
    let moved = odds(p) * odds(to) / odds(from);
    moved / (1.0 + moved)
}

#[cfg(test)]
mod tests {
    use super::shift;

    #[test]
    fn a_probability_moves_with_the_share_of_anomalies() {
        assert!((shift(0.7, 0.5, 0.5) - 0.7).abs() < 1e-12);
        assert!((shift(0.5, 0.5, 0.1) - 0.1).abs() < 1e-12);
        assert!((shift(0.99, 0.5, 0.01) - 0.5).abs() < 1e-12);
        assert!(shift(1.0, 0.5, 0.001) > 0.999 && shift(0.0, 0.5, 0.999) < 1e-3);
    }
}
