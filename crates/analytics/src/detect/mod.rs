//! What is abnormal in a log, learnt without labels.
//!
//! A [`DetectorConfig`] learns from [`Groups`] and gives a [`FittedDetector`], which judges groups and says
//! why. Sessions are compared with each other as a whole; windows by the rate of each template. There are two ways to learn:
//!
//! - [`DetectorConfig::fit`] learns what is normal from one log in order to judge another. A log in which
//!   hardly anything is odd is believed as it is; otherwise what is odd in it is not learnt.
//! - [`DetectorConfig::fit_own`] learns from the very log that is going to be judged, so what is odd in it
//!   is never learnt, and nothing counts as known for being there once.
//!
//! Scores are comparable within a run and normalised: from [`FittedDetector::threshold`], which is 1, on a
//! group is anomalous. Everything is deterministic: the same groups and seed give the same scores on any
//! number of threads, and a detector that was saved and loaded gives the same numbers.

mod distance;
mod judgement;
mod kinds;
mod mass;
mod order;
mod rarity;
mod rates;
mod reason;
mod sample;
mod series;
mod shapes;

pub use judgement::{Cause, Judgement, Verdict};
pub use reason::{Reason, Unit};

use serde::{Deserialize, Serialize};

use crate::features::{Grouping, Groups};
use judgement::View;
use rates::Rates;
use shapes::Shapes;

/// How to learn what is normal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetectorConfig {
    /// The share of anomalous groups that is expected, from 0 to 0.5; `None` lets the log say.
    pub expected_anomalies: Option<f64>,
    /// Chooses which rare vectors are looked at when there are too many to look at all.
    pub seed: u64,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self { expected_anomalies: None, seed: 1 }
    }
}

/// Why a detector could not be fitted or loaded.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum DetectError {
    /// The expected share of anomalies is not a share.
    #[error("the expected share of anomalies is {0}, it must lie between 0 and 0.5")]
    ExpectedAnomalies(f64),
    /// The groups to judge are of another kind than those learnt from.
    #[error("the detector learnt from {learnt}, it cannot judge {given}")]
    Grouping {
        /// What the detector learnt from.
        learnt: &'static str,
        /// What it was given.
        given: &'static str,
    },
}

/// A detector that has learnt what is normal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedDetector {
    grouping: Grouping,
    /// Whether it judges the groups that it learnt from.
    own: bool,
    /// What a raw score is divided by; other than 1 only when a share of anomalies was asked for.
    divisor: f32,
    model: Model,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Model {
    Shapes(Shapes),
    Rates(Rates),
}

impl DetectorConfig {
    /// Learns what is normal from one log, in order to judge others.
    pub fn fit(&self, train: &Groups) -> Result<FittedDetector, DetectError> {
        self.learn(train, false)
    }

    /// Learns from the log that is to be judged.
    pub fn fit_own(&self, groups: &Groups) -> Result<FittedDetector, DetectError> {
        self.learn(groups, true)
    }

    fn learn(&self, groups: &Groups, own: bool) -> Result<FittedDetector, DetectError> {
        if let Some(share) = self.expected_anomalies
            && !(0.0..=0.5).contains(&share)
        {
            return Err(DetectError::ExpectedAnomalies(share));
        }
        let model = match groups.grouping() {
            Grouping::Session => Model::Shapes(Shapes::fit(groups, self, own)),
            Grouping::TimeWindow { .. } | Grouping::LineWindow { .. } => Model::Rates(Rates::fit(groups)),
        };
        let mut fitted = FittedDetector { grouping: groups.grouping(), own, divisor: 1.0, model };
        if own && let Some(share) = self.expected_anomalies {
            fitted.divisor = fitted.divisor_for(groups, share);
        }
        Ok(fitted)
    }
}

impl FittedDetector {
    /// The score from which a group is anomalous: always 1.
    pub const fn threshold(&self) -> f64 {
        1.0
    }

    /// Judges every group. Fails when the groups are windows and the detector knows sessions, or the
    /// other way round.
    pub fn judge<'a>(&'a self, groups: &'a Groups) -> Result<Judgement<'a>, DetectError> {
        let (learnt, given) = (kind(self.grouping), kind(groups.grouping()));
        if learnt != given {
            return Err(DetectError::Grouping { learnt, given });
        }
        Ok(self.judged(groups))
    }

    fn judged<'a>(&'a self, groups: &'a Groups) -> Judgement<'a> {
        let (mut scores, view) = match &self.model {
            Model::Shapes(shapes) => {
                let seen = shapes.see(groups);
                (shapes.score(groups, &seen, self.own), View::Shapes(shapes, seen))
            }
            Model::Rates(rates) => {
                let findings = rates.findings(groups, self.own);
                (rates::scores(&findings, groups.len()), View::Rates(rates, findings))
            }
        };
        if self.divisor != 1.0 {
            scores.iter_mut().for_each(|score| *score /= self.divisor);
        }
        Judgement::new(self, groups, scores, view)
    }

    /// The divisor with which the given share of these groups is anomalous.
    fn divisor_for(&self, groups: &Groups, share: f64) -> f32 {
        let mut scores: Vec<f32> = self.judged(groups).scores().to_vec();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let count = (share * scores.len() as f64).round() as usize;
        match count.checked_sub(1).and_then(|last| scores.get(last)) {
            Some(&score) if score > 0.0 => score,
            Some(_) => 1.0,
            // None at all: nothing that was seen reaches the threshold.
            None => scores.first().map_or(1.0, |&top| top.max(1.0) * 1.01),
        }
    }
}

const fn kind(grouping: Grouping) -> &'static str {
    match grouping {
        Grouping::Session => "sessions",
        Grouping::TimeWindow { .. } => "windows of time",
        Grouping::LineWindow { .. } => "windows of lines",
    }
}

#[cfg(test)]
mod system_tests;
#[cfg(test)]
mod tests;

#[cfg(test)]
mod window_tests;
