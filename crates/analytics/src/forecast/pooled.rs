//! The pooled model: one linear forecast learnt from all series together.
//!
//! Each hour of the day ahead has its own coefficients, learnt for absolute errors over windows of
//! many series. A window is seen relative to its own level and size, so one model fits a metric in
//! bytes and one in per cent, and a series that it never saw. Features are the same hour of the
//! days before, recent levels, what [`super::theta`] says, and products with how regular the window
//! is (its autocorrelations), by which a linear model can trust yesterday where days repeat and the
//! median where they do not. Days beyond the first are forecast from the forecast.

use rayon::prelude::*;

use super::linear::{Fit, Rows};
use super::theta::Theta;
use super::{DAY, WEEK, stats};

/// Number of features of one hour.
pub const FEATURES: usize = 66;

/// The fewest hours of a window.
pub const SHORTEST: usize = DAY;

/// How many lengths of history have coefficients of their own: one day, two, three to six, more.
pub const LENGTHS: usize = 4;

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// [`LENGTHS`] x 24 hours ahead x [`FEATURES`] coefficients.
    coefficients: Vec<f32>,
}

/// Which coefficients a history of so many hours uses.
#[must_use]
pub fn length_class(hours: usize) -> usize {
    match hours / DAY {
        0 | 1 => 0,
        2 => 1,
        3..=6 => 2,
        _ => 3,
    }
}

/// The most days of a window that [`super::lstm`] reads.
pub const DAYS: usize = 14;

/// A window in its own units.
pub struct Window {
    pub(super) level: f64,
    pub(super) size: f64,
    class: usize,
    /// The last week, relative; missing days at the front repeat the first day there is.
    pub(super) week: Vec<f64>,
    /// The whole days there are, at most [`DAYS`], relative, oldest first.
    pub(super) days: Vec<f32>,
    pub(super) common: Vec<f64>,
    pub(super) gates: Vec<f64>,
    theta: Theta,
}

impl Window {
    /// Looks at the end of `values`, of which there are at least [`SHORTEST`].
    #[must_use]
    pub fn new(values: &[f64]) -> Self {
        let tail = &values[values.len().saturating_sub(WEEK)..];
        let level = stats::median(tail);
        let away: Vec<f64> = tail.iter().map(|v| (v - level).abs()).collect();
        let size = stats::mean(&away);
        let relative = |v: f64| if size > 0.0 { (v - level) / size } else { 0.0 };
        let mut week = vec![0.0; WEEK];
        for (at, slot) in week.iter_mut().enumerate() {
            let mut back = WEEK - at;
            while back > tail.len() {
                back -= DAY;
            }
            *slot = relative(tail[tail.len() - back]);
        }
        let whole = (values.len() / DAY).min(DAYS) * DAY;
        let days = values[values.len() - whole..].iter().map(|v| relative(*v) as f32).collect();
        let common = common(&week);
        let gates = gates(&week);
        let recent: Vec<f64> =
            values[values.len().saturating_sub(4 * WEEK)..].iter().map(|v| relative(*v)).collect();
        let class = length_class(tail.len());
        Self { level, size, class, week, days, common, gates, theta: Theta::fit(&recent) }
    }

    /// The features of the hour `step` (0 to 23) after the window.
    #[must_use]
    pub fn features(&self, step: usize) -> [f32; FEATURES] {
        let at = |days: usize, shift: isize| {
            let place = (WEEK - days * DAY + step) as isize + shift;
            self.week[place.clamp(0, WEEK as isize - 1) as usize]
        };
        let mut days: Vec<f64> = (1..=7).map(|d| at(d, 0)).collect();
        let mut row: Vec<f64> = days.clone();
        row.push(at(1, -1));
        row.push(at(1, 1));
        row.push((1..=7).map(|d| at(d, -1) + at(d, 1)).sum::<f64>() / 14.0);
        let mean_week = stats::mean(&days);
        let median3 = stats::median(&days[..3]);
        let median_week = stats::median_in_place(&mut days);
        row.extend([mean_week, median3, median_week, days[0].min(days[6])]);
        let theta = self.theta.at(step);
        row.push(theta);
        row.extend(&self.common);
        row.push(1.0);
        let core = [at(1, 0), median_week, mean_week, self.common[0], self.common[5], theta];
        for gate in &self.gates {
            row.push(*gate);
            row.extend(core.iter().map(|c| c * gate));
        }
        debug_assert_eq!(row.len(), FEATURES);
        let mut out = [0.0; FEATURES];
        out.iter_mut().zip(&row).for_each(|(o, r)| *o = r.clamp(-50.0, 50.0) as f32);
        out
    }

    /// A value in the window's own units.
    #[must_use]
    pub fn relative(&self, value: f64) -> f64 {
        if self.size > 0.0 { (value - self.level) / self.size } else { 0.0 }
    }

    /// The floor's forecast: the last day, in the metric's unit.
    pub(super) fn naive(&self) -> Vec<f64> {
        self.week[WEEK - DAY..].iter().map(|v| self.level + self.size * v).collect()
    }
}

/// Levels and extremes of the recent past.
fn common(week: &[f64]) -> Vec<f64> {
    let tail = |hours: usize| &week[WEEK - hours..];
    let largest = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
    vec![
        week[WEEK - 1],
        week[WEEK - 2],
        stats::mean(tail(3)),
        stats::mean(tail(6)),
        stats::mean(tail(12)),
        stats::mean(tail(DAY)),
        stats::mean(tail(2 * DAY)),
        stats::mean(week),
        stats::median(tail(DAY)),
        stats::median(tail(2 * DAY)),
        stats::median(tail(6)),
        largest(tail(DAY)),
        smallest(tail(DAY)),
        largest(week),
        smallest(week),
    ]
}

/// How regular the window is, each around 0.
fn gates(week: &[f64]) -> Vec<f64> {
    let center = stats::mean(week);
    // Spikes would make every correlation theirs, so they are cut first.
    let cut: Vec<f64> = week.iter().map(|v| (v - center).clamp(-4.0, 4.0)).collect();
    let variance: f64 = cut.iter().map(|v| v * v).sum();
    let correlation = |lag: usize| {
        if variance <= 0.0 {
            return 0.0;
        }
        cut.iter().zip(&cut[lag..]).map(|(a, b)| a * b).sum::<f64>() / variance
            * (WEEK as f64 / (WEEK - lag) as f64)
    };
    let day = &week[WEEK - DAY..];
    let shift = stats::median(day).clamp(-3.0, 3.0).abs();
    vec![
        correlation(1) - 0.5,
        correlation(DAY) - 0.3,
        correlation(6),
        stats::deviation(&cut) - 1.3,
        shift / 3.0,
    ]
}

/// A window of a series and the day that followed it.
pub struct Example {
    /// Which series, counted from 0.
    pub series: usize,
    /// What was known.
    pub window: Window,
    /// What came; a `NaN` is a gap.
    pub day: Vec<f64>,
}

/// Mean absolute error of forecasts of the examples, for each series; 0 for a series without any.
pub(super) fn series_errors(
    examples: &[Example],
    forecast: impl Fn(&Example) -> Vec<f64> + Sync,
) -> Vec<f64> {
    let errors: Vec<Option<f64>> =
        examples.par_iter().map(|e| stats::mean_absolute_error(&e.day, &forecast(e))).collect();
    let count = examples.iter().map(|e| e.series + 1).max().unwrap_or(0);
    let mut sums = vec![(0.0, 0.0); count];
    for (example, error) in examples.iter().zip(errors) {
        if let Some(error) = error {
            sums[example.series].0 += error;
            sums[example.series].1 += 1.0;
        }
    }
    sums.iter().map(|(sum, n)| if *n > 0.0 { sum / n } else { 0.0 }).collect()
}

impl Pooled {
    /// The model of given coefficients: [`LENGTHS`] x 24 x [`FEATURES`], finite. `None` for others.
    #[must_use]
    pub fn from_coefficients(coefficients: Vec<f32>) -> Option<Self> {
        let right = coefficients.len() == LENGTHS * DAY * FEATURES;
        (right && coefficients.iter().all(|c| c.is_finite())).then_some(Self { coefficients })
    }

    /// The coefficients, [`LENGTHS`] x 24 x [`FEATURES`].
    #[must_use]
    pub fn coefficients(&self) -> &[f32] {
        &self.coefficients
    }

    /// Learns from examples. Every series counts alike: its rows weigh one over the error of the
    /// model of the pass before on it (of the floor, at first), which makes the geometric mean of
    /// relative errors what is minimised.
    #[must_use]
    pub fn learn(examples: &[Example], fit: Fit, passes: usize) -> Self {
        let mut units = series_errors(examples, |example| example.window.naive());
        let mut model = Self { coefficients: Vec::new() };
        for _ in 0..passes.max(1) {
            model = Self::learn_weighted(examples, &units, fit);
            units = series_errors(examples, |example| model.day(&example.window));
        }
        model
    }

    fn learn_weighted(examples: &[Example], units: &[f64], fit: Fit) -> Self {
        let learn = |place: usize| {
            let (class, step) = (place / DAY, place % DAY);
            let mut rows = Rows::new(FEATURES);
            for example in examples.iter().filter(|e| e.window.class == class) {
                let (window, unit) = (&example.window, units[example.series]);
                let Some(value) = example.day.get(step).filter(|v| !v.is_nan()) else { continue };
                if window.size > 0.0 && unit > 0.0 {
                    let weight = (window.size / unit).min(5.0);
                    let target = window.relative(*value).clamp(-50.0, 50.0);
                    rows.push(&window.features(step), target as f32, weight as f32);
                }
            }
            let solved: Vec<f32> = fit.solve(&rows).iter().map(|c| *c as f32).collect();
            solved
        };
        let parts: Vec<Vec<f32>> = (0..LENGTHS * DAY).into_par_iter().map(learn).collect();
        Self { coefficients: parts.concat() }
    }

    /// The day after a window, in the metric's unit.
    fn day(&self, window: &Window) -> Vec<f64> {
        self.relative_day(window).iter().map(|v| window.level + window.size * v).collect()
    }

    /// The day after a window, in the window's own units.
    pub(super) fn relative_day(&self, window: &Window) -> [f64; DAY] {
        std::array::from_fn(|step| {
            let from = (window.class * DAY + step) * FEATURES;
            let of_step = &self.coefficients[from..from + FEATURES];
            window.features(step).iter().zip(of_step).map(|(x, c)| f64::from(*x) * f64::from(*c)).sum()
        })
    }

    /// Forecasts the hours after `values`, of which there are at least [`SHORTEST`].
    #[must_use]
    pub fn forecast(&self, values: &[f64], horizon: usize) -> Vec<f64> {
        let mut known = values[values.len().saturating_sub(4 * WEEK)..].to_vec();
        let mut out = Vec::with_capacity(horizon + DAY);
        while out.len() < horizon {
            let day = self.day(&Window::new(&known));
            known.extend(&day);
            out.extend(day);
        }
        out.truncate(horizon);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Fit = Fit { quantile: 0.5, ridge: 1e-3, floor: 0.05, rounds: 8 };

    /// Series of one daily shape at different levels and sizes, a little noisy.
    fn examples() -> Vec<Example> {
        let mut out = Vec::new();
        for series in 0..12 {
            let value = |h: usize| {
                let noise = ((h * 7919 + series * 104_729 + h * h * 31) % 101) as f64 / 101.0;
                10f64.powi(series as i32 % 4) * (5.0 + ((h % 24) as f64 - 12.0).abs() + noise)
            };
            let values: Vec<f64> = (0..500).map(value).collect();
            for origin in (200..470).step_by(31) {
                let window = Window::new(&values[..origin]);
                out.push(Example { series, window, day: values[origin..origin + DAY].to_vec() });
            }
        }
        out
    }

    #[test]
    fn a_series_of_another_size_is_forecast_by_what_the_others_taught() {
        let model = Pooled::learn(&examples(), FIT, 1);
        let value = |h: usize| 7e6 * (5.0 + ((h % 24) as f64 - 12.0).abs());
        let said = model.forecast(&(0..300).map(value).collect::<Vec<_>>(), 48);
        for (step, said) in said.iter().enumerate() {
            let want = value(300 + step);
            assert!((said - want).abs() < 0.2 * 7e6 * 6.0, "step {step}: {said} for {want}");
        }
    }

    #[test]
    fn a_constant_is_forecast_as_itself() {
        let model = Pooled::learn(&examples(), FIT, 1);
        assert_eq!(model.forecast(&[3.0; 200], 24), [3.0; 24]);
    }

    #[test]
    fn learning_twice_gives_the_same_coefficients() {
        let examples = examples();
        assert_eq!(Pooled::learn(&examples, FIT, 2), Pooled::learn(&examples, FIT, 2));
    }

    #[test]
    fn coefficients_of_the_wrong_number_or_not_finite_are_refused() {
        assert!(Pooled::from_coefficients(vec![0.0; 7]).is_none());
        let mut right = vec![0.0; LENGTHS * DAY * FEATURES];
        right[3] = f32::NAN;
        assert!(Pooled::from_coefficients(right).is_none());
    }

    #[test]
    fn every_feature_of_a_short_window_is_finite() {
        let window = Window::new(&(0..24).map(f64::from).collect::<Vec<_>>());
        assert!((0..24).all(|step| window.features(step).iter().all(|f| f.is_finite())));
    }
}
