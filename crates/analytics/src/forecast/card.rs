//! Card: the mean of two simple forecasts, calibrated by a regression that takes it for data.
//!
//! After Doornik, Castle and Hendry (*Card forecasts for M4*, 2020), who won the hourly part of that
//! competition; written from the idea, for hours. *Delta* carries the mean daily or weekly shape
//! on, with the last day's distance from it fading away. *Rho* is an autoregression on the hour, the
//! day and the week before with sines of day and week. Their mean is appended to the history and a
//! regression on day, week and sines is fitted to both; what it fits over the hours ahead is the
//! forecast. The week is used when there are at least three of them.

use super::linear::{Fit, Rows, dot};
use super::{DAY, WEEK, stats};

/// The hours that are looked at.
const WINDOW: usize = 6 * WEEK;

/// Cycles of the shape that *delta* carries on.
const CYCLES: usize = 3;

/// Share of the last day's distance from the shape that is left a day later.
const FADING: f64 = 0.7;

/// Least squares with a little ridge: one round does not reweight.
const SQUARES: Fit = Fit { quantile: 0.5, ridge: 1e-5, floor: 1.0, rounds: 1 };

/// Forecasts the hours after `values`, of which there are at least three days.
#[must_use]
pub fn forecast(values: &[f64], horizon: usize) -> Vec<f64> {
    let window = &values[values.len().saturating_sub(WINDOW)..];
    let level = stats::mean(window);
    let size = stats::deviation(window);
    if size <= 1e-12 * level.abs() {
        return vec![window[window.len() - 1]; horizon];
    }
    let mut known: Vec<f64> = window.iter().map(|v| (v - level) / size).collect();
    let period = if known.len() >= 3 * WEEK { WEEK } else { DAY };
    let delta = carry_on(&known, period, horizon);
    let rho = autoregress(&known, period, horizon);
    let from = known.len();
    known.extend(delta.iter().zip(&rho).map(|(d, r)| (d + r) / 2.0));
    let lags: &[usize] = if period == WEEK { &[DAY, WEEK] } else { &[DAY] };
    let coefficients = regress(&known, lags, period);
    (from..known.len()).map(|at| level + size * dot(&row(&known, at, lags, period), &coefficients)).collect()
}

/// The mean shape of the last cycles, from the level of the last day back to its own.
fn carry_on(known: &[f64], period: usize, horizon: usize) -> Vec<f64> {
    let shape = super::seasonal::seasonal_mean(known, period, CYCLES);
    let n = known.len();
    // The shape starts with the hour after the history, so its last day is the last of the cycle.
    let of_day: Vec<f64> = (period - DAY..period).map(|step| shape.at(step)).collect();
    let away = stats::mean(&known[n - DAY..]) - stats::mean(&of_day);
    (0..horizon).map(|step| shape.at(step) + away * FADING.powf((step + 1) as f64 / DAY as f64)).collect()
}

/// Steps on from hour to hour, within twice the range of the history.
fn autoregress(known: &[f64], period: usize, horizon: usize) -> Vec<f64> {
    let lags: &[usize] = if period == WEEK { &[1, DAY, WEEK] } else { &[1, DAY] };
    let coefficients = regress(known, lags, period);
    let low = known.iter().copied().fold(f64::INFINITY, f64::min);
    let high = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room = (high - low) / 2.0;
    let mut all = known.to_vec();
    for at in known.len()..known.len() + horizon {
        all.push(0.0);
        let said = dot(&row(&all, at, lags, period), &coefficients);
        all[at] = said.clamp(low - room, high + room);
    }
    all.split_off(known.len())
}

fn regress(known: &[f64], lags: &[usize], period: usize) -> Vec<f64> {
    let first = lags[lags.len() - 1];
    let mut rows = Rows::new(row(known, first, lags, period).len());
    for at in first..known.len() {
        rows.push(&row(known, at, lags, period), known[at] as f32, 1.0);
    }
    SQUARES.solve(&rows)
}

/// A constant, the lags, and sines of the day and, with it, of the week.
fn row(known: &[f64], at: usize, lags: &[usize], period: usize) -> Vec<f32> {
    let mut row = vec![1.0];
    row.extend(lags.iter().map(|lag| known[at - lag] as f32));
    let mut wave = |hours: usize, times: usize| {
        let turn = std::f64::consts::TAU * (at * times % hours) as f64 / hours as f64;
        row.extend([turn.sin() as f32, turn.cos() as f32]);
    };
    (1..=4).for_each(|times| wave(DAY, times));
    if period == WEEK {
        (1..=3).for_each(|times| wave(WEEK, times));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(h: usize) -> f64 {
        let weekend = if (h / 24) % 7 >= 5 { -8.0 } else { 0.0 };
        1e6 * (30.0 + weekend + ((h % 24) as f64 - 11.5).abs())
    }

    #[test]
    fn a_daily_and_a_weekly_shape_are_continued() {
        let values: Vec<f64> = (0..840).map(value).collect();
        for (step, said) in forecast(&values, 48).iter().enumerate() {
            let want = value(840 + step);
            assert!((said - want).abs() < 3e6, "step {step}: {said} for {want}");
        }
    }

    #[test]
    fn the_level_of_the_last_day_fades_into_the_usual_one() {
        let mut values: Vec<f64> = (0..400).map(|h| (h % 24) as f64).collect();
        values[376..].iter_mut().for_each(|v| *v += 10.0);
        let said = carry_on(&values, DAY, 96);
        let usual: f64 = (0..24).map(f64::from).sum::<f64>() / 24.0;
        let mean = |from: usize| stats::mean(&said[from..from + 24]);
        assert!(mean(0) > mean(24) && mean(24) > mean(72) && mean(72) > usual);
    }

    #[test]
    fn an_explosive_history_stays_within_its_range() {
        let values: Vec<f64> = (0..200).map(|h| 1.1f64.powi(h)).collect();
        let most = 2.0 * values[199];
        assert!(autoregress(&values, DAY, 168).iter().all(|v| v.abs() <= most));
    }
}
