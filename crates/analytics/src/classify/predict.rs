//! What a model says of new rows, why, and how good it was where the truth is known.

use std::collections::BTreeMap;

use super::counts::Counts;
use super::dataset::Dataset;
use super::detector::{Detector, Stop, known_counts};
use super::error::{ClassifyError, data};
use super::model::{Model, Translated};
use super::report::Report;
use super::space::Relation;
use crate::metrics::{Judged, pr_auc, roc_auc};

/// Events that an explanation names, at most.
const NAMED: usize = 8;

/// How much an event counted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct EventWeight {
    /// The event's id.
    pub event: String,
    /// Its text, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Of a network: the share of attention that its occurrences had together. Of other methods: how far
    /// it moved the answer, towards an anomaly above zero.
    pub weight: f64,
}

/// A difference from the nearest normal sequence.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct EventDifference {
    /// The event's id.
    pub event: String,
    /// How many more of it there are than in the normal sequence; below zero, how many fewer.
    pub count: i64,
}

/// The normal training sequence whose events are most alike.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct NearestNormal {
    /// Its events.
    pub sequence: Vec<String>,
    /// What differs.
    pub differences: Vec<EventDifference>,
}

/// An event that training did not have and that was read as one it had.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct ReadAs {
    /// The event's id.
    pub event: String,
    /// The id of the known event.
    pub known: String,
    /// How alike they are, up to 1.
    pub likeness: f64,
}

/// What a model says of one row.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Verdict {
    /// The row's number, from 0.
    pub row: usize,
    /// Whether it is called an anomaly: its probability is at least one half.
    pub anomalous: bool,
    /// The probability of an anomaly, at the expected share of anomalies.
    pub probability: f64,
    /// The events that counted most; empty unless asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventWeight>,
    /// What would have been normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest_normal: Option<NearestNormal>,
    /// Events that were read as others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_as: Vec<ReadAs>,
    /// Occurrences of events that are like none of training.
    pub unknown_events: usize,
}

/// How good a model is on labelled rows.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Evaluation {
    /// The mean cross-entropy, by weight.
    pub test_loss: f64,
    /// The share of right answers, each row counting once.
    pub accuracy: f64,
    /// Figures with each row counting once.
    #[serde(flatten)]
    pub report: Report,
    /// Figures by weight, when rows have weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Report>,
    /// Figures of the rows whose sequences training did not have, when some are and some are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<Report>,
    /// The area under the ROC curve, by weight.
    pub roc_auc: Option<f64>,
    /// The area under the precision-recall curve, by weight.
    pub pr_auc: Option<f64>,
}

impl Model {
    /// Says of every row whether it is an anomaly; and why, if `explain`.
    ///
    /// # Errors
    /// When the model and the data do not fit.
    pub fn predict(&self, dataset: &Dataset, explain: bool) -> Result<Vec<Verdict>, ClassifyError> {
        self.predict_until(dataset, explain, &|| false)
    }

    /// As [`Model::predict`], until `stop` says so.
    ///
    /// # Errors
    /// `Cancelled` then, and those of [`Model::predict`].
    pub fn predict_until(
        &self,
        dataset: &Dataset,
        explain: bool,
        stop: Stop<'_>,
    ) -> Result<Vec<Verdict>, ClassifyError> {
        let translated = self.translate(dataset, stop)?;
        let probabilities = self.probabilities(&translated, stop)?;
        let mut reasons = if explain { self.reasons(&translated, stop)? } else { BTreeMap::new() };
        let mut verdicts = Vec::with_capacity(probabilities.len());
        for (row, probability) in probabilities.into_iter().enumerate() {
            let places = &translated.sequences[row];
            let unknown_events = places.iter().filter(|&&p| p as usize >= translated.known).count();
            let (events, nearest_normal) = match reasons.get_mut(&places[..]) {
                Some(reason) => (self.named(dataset, &reason.0), reason.1.clone()),
                None => (Vec::new(), None),
            };
            let read_as = if explain { self.read_as(dataset, row, &translated) } else { Vec::new() };
            verdicts.push(Verdict {
                row,
                anomalous: probability >= 0.5,
                probability,
                events,
                nearest_normal,
                read_as,
                unknown_events,
            });
        }
        Ok(verdicts)
    }

    /// How much each place counted, and the nearest normal sequence, for each distinct sequence.
    #[expect(clippy::type_complexity, reason = "the two halves of a reason are named where they are used")]
    fn reasons<'t>(
        &self,
        translated: &'t Translated,
        stop: Stop<'_>,
    ) -> Result<BTreeMap<&'t [u32], (Vec<(u32, f64)>, Option<NearestNormal>)>, ClassifyError> {
        let mut distinct: Vec<&[u32]> = translated.sequences.iter().map(|s| &s[..]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let attention = match &self.detector {
            Detector::Network(network) => {
                let sequences: Vec<Vec<u32>> = distinct.iter().map(|s| s.to_vec()).collect();
                network.scored(&sequences, &translated.table, true, stop)?
            }
            _ => Vec::new(),
        };
        let mut reasons = BTreeMap::new();
        for (at, places) in distinct.into_iter().enumerate() {
            if stop() {
                return Err(ClassifyError::Cancelled);
            }
            let counts = known_counts(places, translated.known);
            let weights = match &self.detector {
                Detector::Network(_) => shares_by_place(places, &attention[at].1),
                Detector::Tree(forest) => forest.contributions(&counts),
                Detector::Linear(linear) => linear.contributions(&counts),
                Detector::Nearest(_) => Vec::new(),
            };
            reasons.insert(places, (weights, self.nearest_normal(&counts)));
        }
        Ok(reasons)
    }

    fn nearest_normal(&self, counts: &Counts) -> Option<NearestNormal> {
        let space = self.space.as_ref()?;
        let normal = self.normals.nearest(counts)?;
        let mut differences: BTreeMap<u32, i64> = BTreeMap::new();
        counts.iter().for_each(|&(place, count)| *differences.entry(place).or_default() += i64::from(count));
        normal.iter().for_each(|&place| *differences.entry(place).or_default() -= 1);
        let id = |place: u32| {
            space.events.get(place as usize).map_or("(unknown)".to_owned(), |event| event.id.clone())
        };
        let differing = differences.into_iter().filter(|(_, count)| *count != 0);
        Some(NearestNormal {
            sequence: normal.iter().map(|&place| id(place)).collect(),
            differences: differing
                .map(|(place, count)| EventDifference { event: id(place), count })
                .collect(),
        })
    }

    fn named(&self, dataset: &Dataset, weights: &[(u32, f64)]) -> Vec<EventWeight> {
        let events = self.space.as_ref().map_or(&dataset.events, |space| &space.events);
        let name = |&(place, weight): &(u32, f64)| match events.get(place as usize) {
            Some(event) => EventWeight { event: event.id.clone(), template: event.template.clone(), weight },
            None => EventWeight { event: "(unknown)".to_owned(), template: None, weight },
        };
        weights.iter().filter(|(_, weight)| weight.abs() > 1e-6).take(NAMED).map(name).collect()
    }

    fn read_as(&self, dataset: &Dataset, row: usize, translated: &Translated) -> Vec<ReadAs> {
        let Some(space) = &self.space else { return Vec::new() };
        let mut events = dataset.rows[row].events.clone();
        events.sort_unstable();
        events.dedup();
        let read = |&event: &u32| match translated.relations[event as usize] {
            Relation::Near(place, likeness) => Some(ReadAs {
                event: dataset.events[event as usize].id.clone(),
                known: space.events[place as usize].id.clone(),
                likeness: f64::from(likeness),
            }),
            _ => None,
        };
        events.iter().filter_map(read).take(NAMED).collect()
    }

    /// Judges the model on the labelled rows of `dataset`.
    ///
    /// # Errors
    /// When they do not fit, or no row has a label.
    pub fn evaluate(&self, dataset: &Dataset) -> Result<Evaluation, ClassifyError> {
        self.evaluate_until(dataset, &|| false)
    }

    /// As [`Model::evaluate`], until `stop` says so.
    ///
    /// # Errors
    /// `Cancelled` then, and those of [`Model::evaluate`].
    pub fn evaluate_until(&self, dataset: &Dataset, stop: Stop<'_>) -> Result<Evaluation, ClassifyError> {
        let probabilities = self.probabilities(&self.translate(dataset, stop)?, stop)?;
        let (mut rows, mut unseen, mut loss, mut total) = (Vec::new(), Vec::new(), 0.0, 0.0);
        for (row, &score) in dataset.rows.iter().zip(&probabilities) {
            let Some(positive) = row.anomalous else { continue };
            rows.push(Judged { score, positive, weight: row.weight });
            unseen.push(!self.has_seen(dataset, row));
            loss -= row.weight * (if positive { score } else { 1.0 - score }).max(1e-9).ln();
            total += row.weight;
        }
        if rows.is_empty() || total <= 0.0 {
            return Err(data("an evaluation needs labelled rows, and there are none"));
        }
        let once = |row: &Judged| Judged { weight: 1.0, ..*row };
        let plain: Vec<Judged> = rows.iter().map(once).collect();
        let new: Vec<Judged> =
            plain.iter().zip(&unseen).filter(|(_, new)| **new).map(|(row, _)| *row).collect();
        let report = Report::of(&plain);
        Ok(Evaluation {
            test_loss: loss / total,
            accuracy: report.accuracy(),
            weighted: rows.iter().any(|row| row.weight != 1.0).then(|| Report::of(&rows)),
            unseen: (!new.is_empty() && new.len() < plain.len()).then(|| Report::of(&new)),
            roc_auc: roc_auc(&rows),
            pr_auc: pr_auc(&rows),
            report,
        })
    }
}

/// The attention of the steps of one place, together; largest first.
fn shares_by_place(places: &[u32], shares: &[f32]) -> Vec<(u32, f64)> {
    let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
    for (&place, &share) in places.iter().zip(shares) {
        *sums.entry(place).or_default() += f64::from(share);
    }
    let mut sums: Vec<(u32, f64)> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums
}
