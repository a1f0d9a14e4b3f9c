//! Exponential smoothing: a level that follows the series, with or without a damped trend.
//!
//! The parameters are chosen from a fixed grid by the squared error one step ahead (Hyndman et al.,
//! *Forecasting with Exponential Smoothing*, 2008). A grid is deterministic and, on load that is
//! mostly noise around a level, loses nothing to an optimiser.

use serde::{Deserialize, Serialize};

use super::seasonal::Profile;

/// How fast the level follows.
const ALPHAS: [f64; 10] = [0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0];
/// How fast the seasonal indices follow.
const GAMMAS: [f64; 5] = [0.0, 0.03, 0.08, 0.18, 0.35];
/// How fast the trend follows, relative to the level.
const BETAS: [f64; 2] = [0.02, 0.1];
/// How much of the trend is left an hour later.
const PHIS: [f64; 2] = [0.9, 0.98];

/// The state after the last hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Smoothed {
    /// The level.
    pub level: f64,
    /// The trend of one hour, 0 without one.
    pub trend: f64,
    /// Share of the trend left an hour later.
    pub phi: f64,
    /// Seasonal indices, the first for the hour after the history.
    pub season: Profile,
}

/// Parameters of one candidate.
#[derive(Clone, Copy)]
struct Candidate {
    alpha: f64,
    beta: f64,
    gamma: f64,
    phi: f64,
}

impl Smoothed {
    /// The value `step` hours after the history (0 is the next hour).
    #[must_use]
    pub fn at(&self, step: usize) -> f64 {
        let n = (step + 1) as i32;
        let damped = if self.phi < 1.0 {
            self.phi * (1.0 - self.phi.powi(n)) / (1.0 - self.phi)
        } else {
            f64::from(n)
        };
        self.level + self.trend * damped + self.season.at(step)
    }
}

/// Additive exponential smoothing with an optional damped trend and, when `period` is above 1, a
/// season. There are at least two periods of values.
#[must_use]
pub fn fit(values: &[f64], period: usize) -> Smoothed {
    let start = start_indices(values, period);
    let gammas: &[f64] = if period > 1 { &GAMMAS } else { &GAMMAS[..1] };
    let mut best = None;
    for &alpha in &ALPHAS {
        for &gamma in gammas {
            consider(&mut best, values, &start, Candidate { alpha, beta: 0.0, gamma, phi: 1.0 }, 1.0);
        }
    }
    let (level_only, _, _) = best.clone().expect("the grid is not empty");
    for beta in BETAS {
        for phi in PHIS {
            // A trend costs three parameters; it has to earn them.
            let price = 1.0 + 6.0 / values.len() as f64;
            consider(&mut best, values, &start, Candidate { beta, phi, ..level_only }, price);
        }
    }
    best.expect("the grid is not empty").2
}

/// The level alone, with the smoothing that suits the series best.
#[must_use]
pub fn level(values: &[f64]) -> (f64, f64) {
    let start = vec![0.0];
    let mut best = None;
    for &alpha in &ALPHAS {
        consider(&mut best, values, &start, Candidate { alpha, beta: 0.0, gamma: 0.0, phi: 1.0 }, 1.0);
    }
    let (candidate, _, state) = best.expect("the grid is not empty");
    (state.level, candidate.alpha)
}

/// Keeps the candidate when its error, times `price`, is the lowest so far.
fn consider(
    best: &mut Option<(Candidate, f64, Smoothed)>,
    values: &[f64],
    start: &[f64],
    candidate: Candidate,
    price: f64,
) {
    let (error, state) = follow(values, start, candidate);
    let cost = error * price;
    if best.as_ref().is_none_or(|(_, lowest, _)| cost < *lowest) {
        *best = Some((candidate, cost, state));
    }
}

/// Runs through the series; answers the sum of squared errors after the first period.
fn follow(values: &[f64], start: &[f64], c: Candidate) -> (f64, Smoothed) {
    let period = start.len();
    let mut season = start.to_vec();
    let first = &values[..period.max(2).min(values.len())];
    let mut level = super::stats::mean(first);
    let (mut trend, mut error) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let index = &mut season[at % period];
        let expected = level + c.phi * trend;
        let missed = value - expected - *index;
        if at >= period {
            error += missed * missed;
        }
        level = expected + c.alpha * missed;
        if c.beta > 0.0 {
            trend = c.phi * trend + c.alpha * c.beta * missed;
        }
        *index += c.gamma * (1.0 - c.alpha) * missed;
    }
    season.rotate_left(values.len() % period);
    (error, Smoothed { level, trend, phi: c.phi, season: Profile { values: season } })
}

/// Seasonal indices to start from: the mean of each step's distance from the mean of its period.
fn start_indices(values: &[f64], period: usize) -> Vec<f64> {
    if period <= 1 {
        return vec![0.0];
    }
    let cycles = (values.len() / period).min(7);
    let mut indices = vec![0.0; period];
    for cycle in values.chunks_exact(period).take(cycles) {
        let center = super::stats::mean(cycle);
        indices.iter_mut().zip(cycle).for_each(|(i, v)| *i += (v - center) / cycles as f64);
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_on_a_level_is_continued() {
        let values: Vec<f64> = (0..240).map(|h| 50.0 + [0.0, 5.0, -5.0, 9.0][h % 4]).collect();
        let fitted = fit(&values, 4);
        for (step, value) in values.iter().take(8).enumerate() {
            assert!((fitted.at(step) - value).abs() < 0.5, "step {step}: {}", fitted.at(step));
        }
    }

    #[test]
    fn a_damped_trend_stops_growing() {
        let values: Vec<f64> = (0..200).map(|h| h as f64).collect();
        let fitted = fit(&values, 1);
        assert!(fitted.at(5) > 200.0);
        assert!(fitted.at(167) < 200.0 + 168.0);
    }

    #[test]
    fn a_jumping_level_is_followed_and_a_noisy_one_is_averaged() {
        let noisy: Vec<f64> = (0..300).map(|h| if h % 2 == 0 { 0.0 } else { 10.0 }).collect();
        let (level, alpha) = super::level(&noisy);
        assert!(alpha < 0.2 && (3.0..7.0).contains(&level), "{level} {alpha}");
        let jump: Vec<f64> = (0..300).map(|h| if h < 200 { 0.0 } else { 10.0 }).collect();
        assert!((super::level(&jump).0 - 10.0).abs() < 0.1);
    }
}
