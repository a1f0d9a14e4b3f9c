//! Intervals that hold: split-conformal calibration from the residuals of a backtest.
//!
//! The residuals of rolling forecasts are divided by the usual size of an error at their part of
//! the horizon, and the quantiles of what remains, taken one rank further out than the sample's own
//! (Vovk, Gammerman and Shafer, 2005), are put around the forecast. Lower and upper side are
//! calibrated apart, because load has spikes and no dips.
//!
//! Exchangeability, which the guarantee needs, does not quite hold for load that drifts; the
//! nominal levels are therefore a parameter ([`Levels`]), set on series other than those measured.

use serde::{Deserialize, Serialize};

use super::stats::{mean, sorted_quantile};

/// Hours of the horizon that share one error size.
const PART: usize = 6;

/// Equally likely errors that stand for all of them.
const GRID: usize = 100;

/// Tail probabilities asked of the residuals so that the intervals cover what they are named for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    /// Share left out on each side by the 80 % interval; 0.1 in theory.
    pub tail80: f64,
    /// Share left out on each side by the 95 % interval; 0.025 in theory.
    pub tail95: f64,
}

impl Default for Levels {
    /// A little further out than the names say, by what drift costs on the machines that these were
    /// tuned on.
    fn default() -> Self {
        Self { tail80: 0.095, tail95: 0.0175 }
    }
}

/// The usual size of an error along the horizon, and the quantiles of errors divided by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// One size for each six hours of the horizon; the last one holds beyond it.
    pub sizes: Vec<f64>,
    /// Quantiles of residual / size: lower 95, lower 80, upper 80, upper 95.
    pub quantiles: [f64; 4],
    /// Number of residuals that they come from.
    pub residuals: usize,
    /// Equally likely values of residual / size, ascending; empty in what an earlier version stored.
    #[serde(default)]
    pub likely: Vec<f64>,
}

/// Bounds of the hours forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Lower bounds of the 80 % interval.
    pub lower80: Vec<f64>,
    /// Upper bounds of the 80 % interval.
    pub upper80: Vec<f64>,
    /// Lower bounds of the 95 % interval.
    pub lower95: Vec<f64>,
    /// Upper bounds of the 95 % interval.
    pub upper95: Vec<f64>,
}

impl Spread {
    /// Calibrates from residuals (truth minus forecast), one row an origin; a `NaN` is a gap.
    /// `None` without any residual.
    #[must_use]
    pub fn calibrate(residuals: &[Vec<f64>], levels: Levels) -> Option<Self> {
        let horizon = residuals.iter().map(Vec::len).max()?;
        let all: Vec<f64> = residuals.iter().flatten().filter(|r| !r.is_nan()).map(|r| r.abs()).collect();
        if all.is_empty() {
            return None;
        }
        let overall = mean(&all);
        let sizes: Vec<f64> =
            (0..horizon.div_ceil(PART)).map(|part| part_size(residuals, part, overall)).collect();
        let mut ratios: Vec<f64> = Vec::with_capacity(all.len());
        for row in residuals {
            for (step, residual) in row.iter().enumerate().filter(|(_, r)| !r.is_nan()) {
                let size = sizes[step / PART];
                ratios.push(if size > 0.0 { residual / size } else { 0.0 });
            }
        }
        ratios.sort_unstable_by(f64::total_cmp);
        let quantiles = [
            tail(&ratios, levels.tail95, false),
            tail(&ratios, levels.tail80, false),
            tail(&ratios, levels.tail80, true),
            tail(&ratios, levels.tail95, true),
        ];
        let likely = (0..GRID).map(|k| sorted_quantile(&ratios, (k as f64 + 0.5) / GRID as f64)).collect();
        Some(Self { sizes, quantiles, residuals: ratios.len(), likely })
    }

    /// Usual size of an error `step` hours into the horizon.
    #[must_use]
    pub fn size(&self, step: usize) -> f64 {
        self.sizes[(step / PART).min(self.sizes.len() - 1)]
    }

    /// What the hours of a forecast exceed with the probability `share`, all of them taken together.
    /// `None` when the errors are not known.
    #[must_use]
    pub fn exceeded(&self, forecast: &[f64], share: f64) -> Option<f64> {
        let mut all: Vec<f64> = forecast
            .iter()
            .enumerate()
            .flat_map(|(step, f)| self.likely.iter().map(move |r| f + r * self.size(step)))
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        (!all.is_empty()).then(|| sorted_quantile(&all, 1.0 - share))
    }

    /// Puts the intervals around a forecast, none below 0 when `non_negative`. The 95 % interval
    /// holds the 80 % one, and both hold the forecast.
    #[must_use]
    pub fn around(&self, forecast: &[f64], non_negative: bool) -> Intervals {
        let floor = if non_negative { 0.0 } else { f64::NEG_INFINITY };
        let bound = |q: f64| -> Vec<f64> {
            let place = |(step, f): (usize, &f64)| (f + q * self.size(step)).max(floor);
            forecast.iter().enumerate().map(place).collect()
        };
        let [l95, l80, u80, u95] = self.quantiles;
        Intervals {
            lower80: bound(l80.min(0.0)),
            upper80: bound(u80.max(0.0)),
            lower95: bound(l95.min(l80).min(0.0)),
            upper95: bound(u95.max(u80).max(0.0)),
        }
    }
}

/// Mean absolute residual of one part of the horizon, drawn half way to the overall one because a
/// part has few.
fn part_size(residuals: &[Vec<f64>], part: usize, overall: f64) -> f64 {
    let of_part: Vec<f64> = residuals
        .iter()
        .flat_map(|row| row.iter().skip(part * PART).take(PART))
        .filter(|r| !r.is_nan())
        .map(|r| r.abs())
        .collect();
    if of_part.is_empty() { overall } else { 0.5 * mean(&of_part) + 0.5 * overall }
}

/// The quantile that leaves the share `tail` outside, one rank further out than the sample's own.
fn tail(sorted: &[f64], tail: f64, upper: bool) -> f64 {
    let n = sorted.len() as f64;
    let level = ((1.0 - tail) * (n + 1.0) / n).min(1.0);
    sorted_quantile(sorted, if upper { level } else { 1.0 - level })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in -1..1 from a fixed sequence.
    fn noise(count: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
            })
            .collect()
    }

    #[test]
    fn intervals_cover_what_they_are_named_for_on_fresh_errors() {
        let past: Vec<Vec<f64>> = (0..40).map(|day| noise(24, day)).collect();
        let spread = Spread::calibrate(&past, Levels::default()).unwrap();
        let intervals = spread.around(&[0.0; 24], false);
        let (mut in80, mut in95) = (0, 0);
        for day in 1000..1200 {
            for (step, error) in noise(24, day).into_iter().enumerate() {
                in80 += usize::from((intervals.lower80[step]..=intervals.upper80[step]).contains(&error));
                in95 += usize::from((intervals.lower95[step]..=intervals.upper95[step]).contains(&error));
            }
        }
        let (c80, c95) = (in80 as f64 / 4800.0, in95 as f64 / 4800.0);
        assert!((0.77..0.84).contains(&c80), "80 % interval covered {c80}");
        assert!((0.925..0.98).contains(&c95), "95 % interval covered {c95}");
    }

    #[test]
    fn the_stated_share_of_fresh_hours_exceeds_what_it_is_told_to() {
        let past: Vec<Vec<f64>> = (0..40).map(|day| noise(24, day)).collect();
        let spread = Spread::calibrate(&past, Levels::default()).unwrap();
        let forecast: Vec<f64> = (0..24).map(|hour| f64::from(hour % 12) / 4.0).collect();
        let limit = spread.exceeded(&forecast, 0.05).unwrap();
        let fresh =
            (1000..1200).flat_map(|day| noise(24, day).into_iter().zip(&forecast).map(|(e, f)| e + f));
        let over = fresh.filter(|y| *y > limit).count() as f64 / 4800.0;
        assert!((0.035..0.065).contains(&over), "{over} of the hours were over");
    }

    #[test]
    fn errors_that_grow_along_the_horizon_give_intervals_that_grow() {
        let row: Vec<f64> = noise(24, 3).iter().enumerate().map(|(h, e)| e * (1.0 + h as f64)).collect();
        let spread = Spread::calibrate(&[row], Levels::default()).unwrap();
        let intervals = spread.around(&[100.0; 24], false);
        assert!(intervals.upper95[23] > intervals.upper95[0]);
    }

    #[test]
    fn bounds_are_nested_and_stop_at_zero_for_what_is_never_negative() {
        let spread = Spread::calibrate(&[noise(24, 5)], Levels::default()).unwrap();
        let i = spread.around(&[0.1; 24], true);
        for step in 0..24 {
            assert!(0.0 <= i.lower95[step] && i.lower95[step] <= i.lower80[step]);
            assert!(i.lower80[step] <= 0.1 && 0.1 <= i.upper80[step]);
            assert!(i.upper80[step] <= i.upper95[step]);
        }
    }

    #[test]
    fn no_residual_gives_no_intervals_and_errors_of_zero_give_none_wide() {
        assert!(Spread::calibrate(&[], Levels::default()).is_none());
        assert!(Spread::calibrate(&[vec![f64::NAN; 24]], Levels::default()).is_none());
        let exact = Spread::calibrate(&[vec![0.0; 24]], Levels::default()).unwrap();
        assert_eq!(exact.around(&[5.0; 2], false).upper95, [5.0, 5.0]);
    }
}
