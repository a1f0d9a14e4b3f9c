//! Theta: half a straight line, half exponential smoothing of what bends away from it.
//!
//! Assimakopoulos and Nikolopoulos (2000); in the form of Hyndman and Billah (2003), it is
//! exponential smoothing with half the slope of the series as drift. The hour of the day is taken
//! out first, additively, when the autocorrelation at 24 hours is significant at 90 %, as the M3
//! entry did. The slope is fitted to the last four weeks only.

use serde::{Deserialize, Serialize};

use super::seasonal::Profile;
use super::{DAY, smoothing, stats};

/// The hours that are looked at.
const WINDOW: usize = 672;

/// The numbers behind a Theta forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Theta {
    level: f64,
    drift: f64,
    alpha: f64,
    hours: f64,
    season: Profile,
}

impl Theta {
    /// Fits the last four weeks of `values`, of which there are at least two days.
    #[must_use]
    pub fn fit(values: &[f64]) -> Self {
        let window = &values[values.len().saturating_sub(WINDOW)..];
        let seasonal = is_seasonal(window, DAY);
        let indices = if seasonal { day_indices(window) } else { vec![0.0; DAY] };
        let level_values: Vec<f64> = window.iter().enumerate().map(|(at, v)| v - indices[at % DAY]).collect();
        let (level, alpha) = smoothing::level(&level_values);
        let mut season = indices;
        season.rotate_left(window.len() % DAY);
        let drift = slope(&level_values) / 2.0;
        Self { level, drift, alpha, hours: window.len() as f64, season: Profile { values: season } }
    }

    /// The value `step` hours after the history (0 is the next hour).
    #[must_use]
    pub fn at(&self, step: usize) -> f64 {
        let lag = (1.0 - (1.0 - self.alpha).powf(self.hours)) / self.alpha;
        self.level + self.drift * (step as f64 + lag) + self.season.at(step)
    }
}

/// Whether the autocorrelation at `period` is significant at 90 %.
fn is_seasonal(values: &[f64], period: usize) -> bool {
    let center = stats::mean(values);
    let around: Vec<f64> = values.iter().map(|v| v - center).collect();
    let variance: f64 = around.iter().map(|v| v * v).sum();
    if variance <= 0.0 || values.len() < 2 * period {
        return false;
    }
    let at = |lag: usize| around.iter().zip(&around[lag..]).map(|(a, b)| a * b).sum::<f64>() / variance;
    let before: f64 = (1..period).map(|lag| at(lag).powi(2)).sum();
    at(period) > 1.645 * ((1.0 + 2.0 * before) / values.len() as f64).sqrt()
}

/// Mean distance of each hour of the day from a centred mean over a day.
fn day_indices(values: &[f64]) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); DAY];
    let half = DAY / 2;
    for at in half..values.len() - half {
        let around = &values[at - half..=at + half];
        let edges = (around[0] + around[DAY]) / 2.0;
        let trend = (around[1..DAY].iter().sum::<f64>() + edges) / DAY as f64;
        let cell = &mut sums[at % DAY];
        cell.0 += values[at] - trend;
        cell.1 += 1.0;
    }
    let raw: Vec<f64> = sums.iter().map(|(sum, n)| if *n > 0.0 { sum / n } else { 0.0 }).collect();
    let center = stats::mean(&raw);
    raw.iter().map(|v| v - center).collect()
}

/// Slope of the least-squares line, per hour.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let center = stats::mean(values);
    let (mut top, mut bottom) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let x = at as f64 - middle;
        top += x * (value - center);
        bottom += x * x;
    }
    if bottom > 0.0 { top / bottom } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_shape_on_a_level_is_continued() {
        let values: Vec<f64> = (0..500).map(|h| 20.0 + ((h % 24) as f64 - 11.5).abs()).collect();
        let theta = Theta::fit(&values);
        for step in 0..48 {
            let want = 20.0 + (((500 + step) % 24) as f64 - 11.5).abs();
            assert!((theta.at(step) - want).abs() < 1.0, "step {step}");
        }
    }

    #[test]
    fn a_line_is_continued_with_half_its_slope() {
        let values: Vec<f64> = (0..400).map(f64::from).collect();
        let theta = Theta::fit(&values);
        assert!((theta.at(100) - theta.at(0) - 50.0).abs() < 1e-6);
    }

    #[test]
    fn noise_has_no_season() {
        let values: Vec<f64> = (0..400).map(|h: u64| ((h * 7919 + h * h * 31) % 101) as f64).collect();
        assert!(!is_seasonal(&values, DAY));
    }
}
