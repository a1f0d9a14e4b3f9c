//! Rolling-origin backtests: what each engine would have said, and what then came.
//!
//! At every origin an engine is fitted to the hours before it and forecasts the hours from it on
//! (Tashman, 2000). Origins are counted back from the end of the series, so that the last one
//! ends where the series ends. An engine that could not be fitted at an origin has no prediction
//! there. A [`Backtest`] keeps the predictions themselves: choosing, blending and calibrating at
//! a later origin reuse them without fitting again.

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::{ForecastError, check_horizon};
use super::series::Series;
use super::stats::mean_absolute_error;
use super::{DAY, MAX_HORIZON};

/// The most origins of one backtest.
pub const MAX_ORIGINS: usize = 2_000;

/// Where a backtest forecasts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many origins at most, counted back from the end.
    pub origins: usize,
    /// Hours between two origins.
    pub step: usize,
    /// Hours forecast at each origin.
    pub horizon: usize,
}

impl Default for Plan {
    /// Four weeks, a day ahead each.
    fn default() -> Self {
        Self { origins: 28, step: DAY, horizon: DAY }
    }
}

/// The predictions of several engines at several origins of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Backtest {
    /// Positions in the series of the first forecast hours, ascending.
    pub origins: Vec<usize>,
    /// Hours forecast at each origin.
    pub horizon: usize,
    /// What came, for each origin; a `NaN` is a gap.
    pub truth: Vec<Vec<f64>>,
    /// What each engine said.
    pub runs: Vec<Run>,
}

/// What one engine said at each origin of a backtest.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Name of the engine.
    pub engine: &'static str,
    /// For each origin the forecast; `None` where the engine could not be fitted.
    pub predictions: Vec<Option<Vec<f64>>>,
}

impl Plan {
    /// The origins of a series of `length` hours, ascending: none before the second day.
    ///
    /// # Errors
    /// [`ForecastError::Horizon`] and [`ForecastError::Parameter`] for a plan out of bounds.
    pub fn positions(&self, length: usize) -> Result<Vec<usize>, ForecastError> {
        check_horizon(self.horizon)?;
        let bad = |name, value: usize, want| ForecastError::Parameter { name, value: value as f64, want };
        if self.step == 0 || self.step > MAX_HORIZON {
            return Err(bad("step", self.step, "1 to 168 hours"));
        }
        if self.origins > MAX_ORIGINS {
            return Err(bad("origins", self.origins, "at most 2000"));
        }
        let last = length.saturating_sub(self.horizon);
        let mut positions: Vec<usize> = (0..self.origins)
            .map_while(|back| last.checked_sub(back * self.step))
            .take_while(|origin| *origin >= DAY)
            .collect();
        positions.reverse();
        Ok(positions)
    }
}

/// Lets every engine forecast at every origin of the plan.
///
/// # Errors
/// As [`Plan::positions`]. A series too short for any origin gives a backtest without origins.
pub fn run(series: &Series, engines: &[Engine], plan: &Plan) -> Result<Backtest, ForecastError> {
    run_at(series, engines, &plan.positions(series.len())?, plan.horizon)
}

/// Lets every engine forecast at the positions `origins`. Those with less than a day of history, or
/// in a gap longer than six days, are left out; hours after the end of the series count as gaps.
///
/// # Errors
/// [`ForecastError::Horizon`] for a horizon out of bounds.
pub fn run_at(
    series: &Series,
    engines: &[Engine],
    origins: &[usize],
    horizon: usize,
) -> Result<Backtest, ForecastError> {
    check_horizon(horizon)?;
    let runs = engines.iter().map(|e| Run { engine: e.name(), predictions: Vec::new() }).collect();
    let mut backtest = Backtest { origins: Vec::new(), horizon, truth: Vec::new(), runs };
    for &origin in origins {
        let Ok(history) = series.before(origin) else { continue };
        // A gap before the origin ends the history early: the forecast has to reach over it.
        let gap = origin.saturating_sub(history.len());
        if history.len() < DAY || horizon + gap > MAX_HORIZON {
            continue;
        }
        let said = |engine: &Engine| {
            let all = engine.fit_for(&history, horizon + gap).ok()?.predict(horizon + gap).ok()?;
            Some(all[gap..].to_vec())
        };
        for (engine, run) in engines.iter().zip(&mut backtest.runs) {
            run.predictions.push(said(engine));
        }
        let value = |at: usize| series.values().get(at).copied().unwrap_or(f64::NAN);
        backtest.truth.push((origin..origin + horizon).map(value).collect());
        backtest.origins.push(origin);
    }
    Ok(backtest)
}

impl Run {
    /// Mean absolute error over the origins where the engine answered, and their number.
    #[must_use]
    pub fn error(&self, truth: &[Vec<f64>]) -> Option<(f64, usize)> {
        let errors: Vec<f64> = self
            .predictions
            .iter()
            .zip(truth)
            .filter_map(|(p, y)| mean_absolute_error(y, p.as_ref()?))
            .collect();
        (!errors.is_empty()).then(|| (super::stats::mean(&errors), errors.len()))
    }
}

impl Backtest {
    /// The run of one engine.
    #[must_use]
    pub fn run_of(&self, engine: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.engine == engine)
    }

    /// The part of the backtest that lies wholly before position `end`, at most the last `origins`.
    /// What is chosen from it has seen nothing from `end` on.
    #[must_use]
    pub fn before(&self, end: usize, origins: usize) -> Self {
        let stop = self.origins.iter().take_while(|o| **o + self.horizon <= end).count();
        let keep = stop.saturating_sub(origins)..stop;
        Self {
            origins: self.origins[keep.clone()].to_vec(),
            horizon: self.horizon,
            truth: self.truth[keep.clone()].to_vec(),
            runs: self
                .runs
                .iter()
                .map(|r| Run { engine: r.engine, predictions: r.predictions[keep.clone()].to_vec() })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(hours: usize) -> Series {
        Series::new(0, (0..hours).map(|h| (h % 24) as f64 + (h / 24) as f64).collect()).unwrap()
    }

    #[test]
    fn the_last_origin_ends_where_the_series_ends() {
        let plan = Plan { origins: 3, step: 24, horizon: 48 };
        assert_eq!(plan.positions(240).unwrap(), [144, 168, 192]);
        assert_eq!(plan.positions(60).unwrap(), Vec::<usize>::new());
    }

    #[test]
    fn a_plan_out_of_bounds_is_refused() {
        let refused = |origins, step, horizon| Plan { origins, step, horizon }.positions(900).is_err();
        assert!(refused(1, 0, 24) && refused(1, 24, 0) && refused(1, 24, 169));
        assert!(refused(usize::MAX, 24, 24));
    }

    #[test]
    fn changing_what_comes_after_an_origin_changes_no_prediction_at_it() {
        let original = series(240);
        let mut changed = original.values().to_vec();
        changed[216..].fill(1e6);
        let changed = Series::new(0, changed).unwrap();
        let plan = Plan::default();
        let engines = Engine::local();
        let (a, b) = (run(&original, &engines, &plan).unwrap(), run(&changed, &engines, &plan).unwrap());
        assert_eq!(a.runs, b.runs);
        assert_ne!(a.truth, b.truth);
    }

    #[test]
    fn an_origin_after_a_gap_is_forecast_over_the_gap() {
        let mut values = series(240).values().to_vec();
        values[210..216].fill(f64::NAN);
        let gappy = Series::new(0, values).unwrap();
        let backtest = run_at(&gappy, &[Engine::SeasonalNaive], &[216], 24).unwrap();
        let said = backtest.runs[0].predictions[0].as_ref().unwrap();
        // The hours before the gap repeat a day later: hour 216 is like hour 192, hour 234 like 186.
        assert_eq!((said[0], said[18]), (gappy.values()[192], gappy.values()[186]));
    }

    #[test]
    fn the_part_before_an_end_holds_only_whole_forecasts() {
        let whole = run(&series(480), &Engine::local(), &Plan::default()).unwrap();
        let part = whole.before(400, 5);
        assert_eq!(part.origins.len(), 5);
        assert!(part.origins.iter().all(|o| o + 24 <= 400));
    }
}
