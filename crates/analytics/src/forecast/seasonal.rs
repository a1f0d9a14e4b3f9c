//! Engines that repeat what was: the same hour of one or several days, or the recent level.
//!
//! All of them are a *profile*, a few values that are repeated over the horizon. The seasonal
//! naive is the floor of every backtest; the seasonal median is hard to beat on metrics that are
//! busy at random hours (the median of an hour over a week minimises its absolute error).

use serde::{Deserialize, Serialize};

use super::stats;

/// Values repeated over the horizon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// One value a step of the period, the first for the hour after the history.
    pub values: Vec<f64>,
}

impl Profile {
    /// The value `step` hours after the history (0 is the next hour).
    #[must_use]
    pub fn at(&self, step: usize) -> f64 {
        self.values[step % self.values.len()]
    }
}

/// The last `period` values, repeated. `values` holds at least that many.
#[must_use]
pub fn naive(values: &[f64], period: usize) -> Profile {
    Profile { values: values[values.len() - period..].to_vec() }
}

/// For each step of the period the median of its last `cycles` values.
#[must_use]
pub fn seasonal_median(values: &[f64], period: usize, cycles: usize) -> Profile {
    per_step(values, period, cycles, stats::median_in_place)
}

/// For each step of the period the mean of its last `cycles` values.
#[must_use]
pub fn seasonal_mean(values: &[f64], period: usize, cycles: usize) -> Profile {
    per_step(values, period, cycles, |of_step| stats::mean(of_step))
}

/// One level: the mean of the last `hours` values.
#[must_use]
pub fn recent_mean(values: &[f64], hours: usize) -> Profile {
    let tail = &values[values.len().saturating_sub(hours)..];
    Profile { values: vec![stats::mean(tail)] }
}

/// One level: the median of the last `hours` values.
#[must_use]
pub fn recent_median(values: &[f64], hours: usize) -> Profile {
    let tail = &values[values.len().saturating_sub(hours)..];
    Profile { values: vec![stats::median(tail)] }
}

/// Summarises the last `cycles` values of every step; at least one whole period is there.
fn per_step(values: &[f64], period: usize, cycles: usize, summary: impl Fn(&mut [f64]) -> f64) -> Profile {
    let mut out = Vec::with_capacity(period);
    let mut of_step = Vec::with_capacity(cycles);
    for step in 0..period {
        of_step.clear();
        let mut back = period - step;
        while back <= values.len() && of_step.len() < cycles {
            of_step.push(values[values.len() - back]);
            back += period;
        }
        out.push(summary(&mut of_step));
    }
    Profile { values: out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naive_repeats_the_last_period() {
        let profile = naive(&[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!((0..3).map(|h| profile.at(h)).collect::<Vec<_>>(), [3.0, 4.0, 3.0]);
    }

    #[test]
    fn seasonal_median_ignores_one_bad_day() {
        let mut values: Vec<f64> = (0..72).map(|h| f64::from(h % 24)).collect();
        values[48..72].fill(1000.0);
        let profile = seasonal_median(&values, 24, 3);
        assert_eq!(profile.at(5), 5.0);
    }

    #[test]
    fn seasonal_mean_uses_the_days_there_are() {
        let profile = seasonal_mean(&[0.0, 1.0, 3.0], 2, 7);
        assert_eq!(profile.values, [1.0, 1.5]);
    }
}
