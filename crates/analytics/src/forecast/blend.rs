//! Weights for the engines of one series, from how they did on it lately.
//!
//! An engine's score is the mean over the origins of the root of its absolute error, newer origins
//! counting more: the root keeps one bad day from deciding. Its weight is a prior times an
//! exponential of how far its score is above the best one's. The constants were tuned on machines
//! that no figure in `bench/` is measured on.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::backtest::Backtest;
use super::stats;

/// How weights follow from errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weighing {
    /// Weight of each engine before anything is known of the series; others take no part.
    pub prior: BTreeMap<String, f64>,
    /// How fast weight falls with the distance from the best score; 0 ignores the series.
    pub sharpness: f64,
    /// How much an origin counts relative to the next newer one.
    pub fading: f64,
}

impl Default for Weighing {
    fn default() -> Self {
        let learnt = [("pooled", 8.0), ("lstm", 16.0)].map(|(name, weight)| (name.to_owned(), weight));
        let local = super::engine::Engine::local().into_iter().map(|e| (e.name().to_owned(), 1.0));
        Self { prior: local.chain(learnt).collect(), sharpness: 40.0, fading: 0.9 }
    }
}

/// Weights of the engines that take part, adding up to 1; empty when none does.
#[must_use]
pub fn weigh(backtest: &Backtest, floor: &[&[f64]], how: &Weighing) -> BTreeMap<String, f64> {
    let mut scores: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for run in &backtest.runs {
        let prior = how.prior.get(run.engine).copied().unwrap_or(0.0);
        // An engine that never answered has nothing to be weighed by.
        if prior > 0.0 && run.predictions.iter().any(Option::is_some) {
            let said: Vec<&[f64]> =
                run.predictions.iter().zip(floor).map(|(p, f)| p.as_deref().unwrap_or(f)).collect();
            scores.insert(run.engine, (prior, score(&said, &backtest.truth, how.fading)));
        }
    }
    let best = scores.values().map(|s| s.1).fold(f64::INFINITY, f64::min);
    if best <= 0.0 {
        // Someone was never wrong: weight is theirs alone, and the division below is avoided.
        scores.retain(|_, s| s.1 <= 0.0);
    }
    let unit = best.max(f64::MIN_POSITIVE);
    let mut weights: BTreeMap<String, f64> = scores
        .into_iter()
        .map(|(name, (prior, score))| {
            (name.to_owned(), prior * (-how.sharpness * (score - best) / unit).exp())
        })
        .collect();
    let total: f64 = weights.values().sum();
    weights.values_mut().for_each(|w| *w /= total);
    weights
}

/// Faded mean over the origins of the root of the mean absolute error.
fn score(said: &[&[f64]], truth: &[Vec<f64>], fading: f64) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (age, (forecast, came)) in said.iter().zip(truth).rev().enumerate() {
        if let Some(error) = stats::mean_absolute_error(came, forecast) {
            let weight = fading.powi(age.min(1000) as i32);
            sum += weight * error.sqrt();
            total += weight;
        }
    }
    if total > 0.0 { sum / total } else { 0.0 }
}

/// The weighted mean of the engines' predictions at each origin; where an engine did not answer the
/// floor stands in.
#[must_use]
pub fn mix(backtest: &Backtest, floor: &[&[f64]], weights: &BTreeMap<String, f64>) -> Vec<Vec<f64>> {
    let mut out = vec![vec![0.0; backtest.horizon]; backtest.origins.len()];
    for run in &backtest.runs {
        let Some(weight) = weights.get(run.engine) else { continue };
        for ((row, said), floor) in out.iter_mut().zip(&run.predictions).zip(floor) {
            let said = said.as_deref().unwrap_or(floor);
            row.iter_mut().zip(said).for_each(|(r, p)| *r += weight * p);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::backtest::Run;

    fn backtest(errors: &[(&'static str, [f64; 3])]) -> Backtest {
        let run = |(engine, errors): &(&'static str, [f64; 3])| Run {
            engine,
            predictions: errors.iter().map(|e| (!e.is_nan()).then(|| vec![*e; 2])).collect(),
        };
        Backtest {
            origins: vec![24, 48, 72],
            horizon: 2,
            truth: vec![vec![0.0; 2]; 3],
            runs: errors.iter().map(run).collect(),
        }
    }

    fn weights(errors: &[(&'static str, [f64; 3])]) -> BTreeMap<String, f64> {
        weigh(&backtest(errors), &[&[1.0, 1.0][..]; 3], &Weighing::default())
    }

    #[test]
    fn the_better_engine_gets_the_weight() {
        let w = weights(&[("theta", [1.0, 1.0, 1.0]), ("ets", [2.0, 2.0, 2.0])]);
        assert!(w["theta"] > 0.99);
        assert!((w.values().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn lately_counts_more_than_long_ago() {
        let w = weights(&[("theta", [4.0, 1.0, 1.0]), ("ets", [1.0, 1.0, 4.0])]);
        assert!(w["theta"] > w["ets"]);
    }

    #[test]
    fn an_engine_that_was_never_wrong_is_alone() {
        let w = weights(&[("theta", [0.0; 3]), ("ets", [1e-9; 3])]);
        assert_eq!(w.into_iter().collect::<Vec<_>>(), [("theta".to_owned(), 1.0)]);
    }

    #[test]
    fn an_engine_without_answer_or_prior_takes_no_part() {
        let w = weights(&[("theta", [1.0; 3]), ("ets", [f64::NAN; 3]), ("oracle", [0.0; 3])]);
        assert_eq!(w.keys().collect::<Vec<_>>(), ["theta"]);
        assert!(weights(&[]).is_empty());
    }

    #[test]
    fn the_floor_stands_in_where_an_engine_did_not_answer() {
        let bt = backtest(&[("theta", [3.0, f64::NAN, 3.0])]);
        let mixed = mix(&bt, &[&[1.0, 1.0][..]; 3], &BTreeMap::from([("theta".to_owned(), 1.0)]));
        assert_eq!(mixed, [[3.0; 2], [1.0; 2], [3.0; 2]]);
    }
}
