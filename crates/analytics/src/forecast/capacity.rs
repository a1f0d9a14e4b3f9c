//! How much to reserve: one limit for the hours forecast that at most a stated share exceeds.
//!
//! The limit is the highest hour forecast plus a margin. The margin is conformal: in the backtest,
//! each hour's truth is measured from that day's highest forecast hour, in usual error sizes, and
//! the quantile that leaves the stated share above becomes the margin. Days that the forecast gets
//! right thus need little, and a metric with spikes pays for its own.

use serde::{Deserialize, Serialize};

use super::error::ForecastError;
use super::stats::{mean, sorted_quantile};

/// Share of hours that may exceed the limit unless another is asked for.
pub const OVER: f64 = 0.02;

/// The margin of a series, learnt from its backtest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// The usual size of an error, the unit of `excesses`.
    pub size: f64,
    /// (truth - highest forecast hour of its day) / size, ascending.
    pub excesses: Vec<f64>,
}

impl Margin {
    /// Learns from the forecasts of a backtest and what came; a `NaN` in `truth` is a gap. `None`
    /// without any hour to learn from.
    #[must_use]
    pub fn learn(forecasts: &[Vec<f64>], truth: &[Vec<f64>]) -> Option<Self> {
        let mut errors = Vec::new();
        let mut excesses = Vec::new();
        for (forecast, came) in forecasts.iter().zip(truth) {
            let highest = highest(forecast);
            for (f, y) in forecast.iter().zip(came).filter(|(_, y)| !y.is_nan()) {
                errors.push((y - f).abs());
                excesses.push(y - highest);
            }
        }
        if excesses.is_empty() {
            return None;
        }
        let size = mean(&errors);
        for excess in &mut excesses {
            *excess = if size > 0.0 { *excess / size } else { 0.0 };
        }
        excesses.sort_unstable_by(f64::total_cmp);
        Some(Self { size, excesses })
    }

    /// The limit for the hours of `forecast` that the share `over` of hours may exceed.
    ///
    /// # Errors
    /// [`ForecastError::Parameter`] for a share that is not within 0..1.
    pub fn limit(&self, forecast: &[f64], over: f64) -> Result<f64, ForecastError> {
        if !(0.0..1.0).contains(&over) {
            return Err(ForecastError::Parameter {
                name: "share over the limit",
                value: over,
                want: "at least 0 and below 1",
            });
        }
        let n = self.excesses.len() as f64;
        let level = ((1.0 - over) * (n + 1.0) / n).min(1.0);
        Ok(highest(forecast) + sorted_quantile(&self.excesses, level) * self.size)
    }
}

/// The highest of the hours forecast.
fn highest(forecast: &[f64]) -> f64 {
    forecast.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Share of the hours of `truth` over `limit`, and the mean of what was reserved but not used
/// relative to the mean use; gaps are left out. `None` without hours or use.
#[must_use]
pub fn slack(truth: &[f64], limit: f64) -> Option<(f64, f64)> {
    let hours: Vec<f64> = truth.iter().copied().filter(|y| !y.is_nan()).collect();
    let use_mean = mean(&hours);
    if hours.is_empty() || use_mean <= 0.0 {
        return None;
    }
    let over = hours.iter().filter(|y| **y > limit).count() as f64 / hours.len() as f64;
    let unused: Vec<f64> = hours.iter().map(|y| (limit - y).max(0.0)).collect();
    Some((over, mean(&unused) / use_mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_share_of_past_hours_exceeds_the_limit() {
        let forecasts = vec![vec![10.0; 24]; 50];
        let truth: Vec<Vec<f64>> =
            (0..50).map(|d| (0..24).map(|h| 10.0 + ((d * 24 + h) % 100) as f64 / 10.0).collect()).collect();
        let margin = Margin::learn(&forecasts, &truth).unwrap();
        let limit = margin.limit(&[10.0; 24], 0.02).unwrap();
        let all: Vec<f64> = truth.concat();
        let (over, _) = slack(&all, limit).unwrap();
        assert!((0.01..=0.02).contains(&over), "{over} of the hours were over");
    }

    #[test]
    fn a_perfect_forecast_of_a_flat_metric_needs_no_margin() {
        let margin = Margin::learn(&[vec![5.0; 24]], &[vec![5.0; 24]]).unwrap();
        assert_eq!(margin.limit(&[5.0; 24], 0.02), Ok(5.0));
        assert_eq!(slack(&[5.0; 24], 5.0), Some((0.0, 0.0)));
    }

    #[test]
    fn a_share_out_of_range_is_refused() {
        let margin = Margin::learn(&[vec![5.0]], &[vec![6.0]]).unwrap();
        assert!(margin.limit(&[5.0], 1.0).is_err());
        assert!(margin.limit(&[5.0], f64::NAN).is_err());
        assert!(margin.limit(&[5.0], -0.1).is_err());
    }

    #[test]
    fn gaps_and_unused_machines_have_no_slack() {
        assert_eq!(slack(&[f64::NAN], 1.0), None);
        assert_eq!(slack(&[0.0, 0.0], 1.0), None);
    }
}
