//! The pooled model: one linear forecast learnt from all series together.
//!
//! Each hour of the day ahead has its own coefficients, learnt for absolute errors over windows of
//! many series. A window is seen relative to its own level and size, so one model fits a metric in
//! bytes and one in per cent, and a series that it never saw. Features are the same hour of the
//! days before, recent levels, what [`super::theta`] says, and products with how regular the window
//! is (its autocorrelations), by which a linear model can trust yesterday where days repeat and the
//! median where they do not. Days beyond the first are forecast from the forecast.

use serde::{Deserialize, Serialize};

use super::linear::{Fit, Rows, dot};
use super::theta::Theta;
use super::{DAY, WEEK, stats};

/// Number of features of one hour.
pub const FEATURES: usize = 66;

/// The fewest hours of a window.
pub const SHORTEST: usize = 2 * DAY;

/// What was learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// For each of 24 hours ahead its coefficients.
    pub coefficients: Vec<Vec<f32>>,
}

/// A window in its own units.
pub struct Window {
    level: f64,
    size: f64,
    /// The last week, relative; missing days at the front repeat the first day there is.
    week: Vec<f64>,
    common: Vec<f64>,
    gates: Vec<f64>,
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
        let common = common(&week);
        let gates = gates(&week);
        let recent: Vec<f64> =
            values[values.len().saturating_sub(4 * WEEK)..].iter().map(|v| relative(*v)).collect();
        Self { level, size, week, common, gates, theta: Theta::fit(&recent) }
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
    fn naive(&self) -> Vec<f64> {
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
fn series_errors(examples: &[Example], forecast: impl Fn(&Example) -> Vec<f64> + Sync) -> Vec<f64> {
    use rayon::prelude::*;
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
    /// Learns from examples. Every series counts alike: its rows weigh one over the error of the
    /// model of the round before on it (of the floor, at first), which makes the geometric mean of
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
        use rayon::prelude::*;
        let learn_step = |step: usize| {
            let mut rows = Rows::new(FEATURES);
            for example in examples {
                let (window, unit) = (&example.window, units[example.series]);
                let Some(value) = example.day.get(step).filter(|v| !v.is_nan()) else { continue };
                if window.size > 0.0 && unit > 0.0 {
                    let weight = (window.size / unit).min(5.0);
                    let target = window.relative(*value).clamp(-50.0, 50.0);
                    rows.push(&window.features(step), target as f32, weight as f32);
                }
            }
            fit.solve(&rows).iter().map(|c| *c as f32).collect()
        };
        Self { coefficients: (0..DAY).into_par_iter().map(learn_step).collect() }
    }

    /// The day after a window, in the metric's unit.
    fn day(&self, window: &Window) -> Vec<f64> {
        let value = |(step, coefficients): (usize, &Vec<f32>)| {
            let wide: Vec<f64> = coefficients.iter().map(|c| f64::from(*c)).collect();
            window.level + window.size * dot(&window.features(step), &wide)
        };
        self.coefficients.iter().enumerate().map(value).collect()
    }

    /// Forecasts the hours after `values`.
    #[must_use]
    pub fn forecast(&self, values: &[f64], horizon: usize) -> Vec<f64> {
        let mut known = values[values.len().saturating_sub(4 * WEEK)..].to_vec();
        let mut out = Vec::with_capacity(horizon);
        while out.len() < horizon {
            let window = Window::new(&known);
            let day = self.day(&window);
            known.extend(&day);
            out.extend(day);
        }
        out.truncate(horizon);
        out
    }
}
