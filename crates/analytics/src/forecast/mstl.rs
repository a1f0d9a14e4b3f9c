//! MSTL: daily and weekly shapes peeled off by local regression, the rest smoothed.
//!
//! Bandara, Hyndman and Bergmeir (2021). The decomposition is the crate `stlrs`; what remains
//! without the seasons is forecast by [`super::smoothing`], the seasons by their last cycle. The
//! week is used when there are at least three of them.

use serde::{Deserialize, Serialize};

use super::seasonal::{self, Profile};
use super::smoothing::{self, Smoothed};
use super::{DAY, WEEK};

/// The hours that are looked at: six weeks.
const WINDOW: usize = 6 * WEEK;

/// The numbers behind an MSTL forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mstl {
    rest: Smoothed,
    seasons: Vec<Profile>,
}

impl Mstl {
    /// Fits the last six weeks of `values`; `None` when there are less than three days or the
    /// decomposition refuses them.
    #[must_use]
    pub fn fit(values: &[f64]) -> Option<Self> {
        let window = &values[values.len().saturating_sub(WINDOW)..];
        let periods: &[usize] = match window.len() {
            n if n >= 3 * WEEK => &[DAY, WEEK],
            n if n >= 3 * DAY => &[DAY],
            _ => return None,
        };
        let parts = stlrs::Mstl::fit(window, periods).ok()?;
        let rest: Vec<f64> = parts.trend().iter().zip(parts.remainder()).map(|(t, r)| t + r).collect();
        let seasons = parts.seasonal().iter().zip(periods).map(|(s, p)| seasonal::naive(s, *p)).collect();
        Some(Self { rest: smoothing::fit(&rest, 1), seasons })
    }

    /// The value `step` hours after the history (0 is the next hour).
    #[must_use]
    pub fn at(&self, step: usize) -> f64 {
        self.rest.at(step) + self.seasons.iter().map(|s| s.at(step)).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_and_a_weekly_shape_are_continued_together() {
        let value = |h: usize| {
            let weekend = if (h / 24) % 7 >= 5 { -8.0 } else { 0.0 };
            30.0 + weekend + ((h % 24) as f64 - 11.5).abs()
        };
        let values: Vec<f64> = (0..840).map(value).collect();
        let fitted = Mstl::fit(&values).unwrap();
        for step in 0..168 {
            assert!((fitted.at(step) - value(840 + step)).abs() < 2.0, "step {step}");
        }
    }

    #[test]
    fn two_days_are_refused() {
        assert!(Mstl::fit(&[1.0; 50]).is_none());
    }
}
