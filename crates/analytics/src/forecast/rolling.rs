//! Forecasts from rolling origins, as a user would have got them: at each origin the choice is made
//! from what lies before it, and nothing after it is seen. One backtest serves all origins that lie
//! whole days apart.

use std::collections::BTreeMap;

use super::DAY;
use super::backtest::{self, Plan};
use super::choice::{Choice, Forecast, Policy};
use super::engine::Engine;
use super::error::ForecastError;
use super::series::Series;

/// The forecast at one origin, with the choice that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolled {
    /// Position in the series of the first hour forecast.
    pub origin: usize,
    /// What the series was forecast with.
    pub choice: Choice,
    /// The forecast.
    pub forecast: Forecast,
}

/// Forecasts at the origins of `plan`, counted back from the end of the series. Origins without a
/// day of history, or inside a gap longer than six days, are left out.
///
/// # Errors
/// As [`Plan::positions`].
pub fn roll(
    series: &Series,
    engines: &[Engine],
    policy: &Policy,
    plan: &Plan,
) -> Result<Vec<Rolled>, ForecastError> {
    let mut by_hour: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for origin in plan.positions(series.len())? {
        by_hour.entry(origin % DAY).or_default().push(origin);
    }
    let mut out = Vec::new();
    for origins in by_hour.into_values() {
        // Every origin looks back on days that end before it.
        let days_ahead = plan.horizon.div_ceil(DAY);
        let first = origins[0].saturating_sub((policy.lookback + days_ahead - 1) * DAY);
        let start = if first < DAY { origins[0] % DAY + DAY } else { first };
        let last = origins[origins.len() - 1];
        let past: Vec<usize> = (start..last).step_by(DAY).collect();
        let backtest = backtest::run_at(series, engines, &past, plan.horizon)?;
        for origin in origins {
            let history = series.before(origin)?;
            let gap = origin - history.len();
            if gap + plan.horizon > super::MAX_HORIZON {
                continue;
            }
            let choice =
                Choice::from_backtest(&backtest.before(origin, policy.lookback), history.len(), policy);
            let mut forecast = choice.forecast(&history, engines, plan.horizon + gap)?;
            forecast.skip(gap);
            forecast.origin = origin;
            out.push(Rolled { origin, choice, forecast });
        }
    }
    out.sort_by_key(|rolled| rolled.origin);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(hours: usize) -> Series {
        let value = |h: usize| 20.0 + (h % 24) as f64 + ((h * 7919 + h * h * 31) % 101) as f64 / 20.0;
        Series::new(5, (0..hours).map(value).collect()).unwrap()
    }

    fn rolled(series: &Series, plan: Plan) -> Vec<Rolled> {
        roll(series, &Engine::local(), &Policy::default(), &plan).unwrap()
    }

    #[test]
    fn a_rolled_forecast_is_the_one_made_from_the_history_alone() {
        let series = series(600);
        let all = rolled(&series, Plan { origins: 3, step: 24, horizon: 24 });
        let origins: Vec<usize> = all.iter().map(|r| r.origin).collect();
        assert_eq!(origins, [528, 552, 576]);
        let history = series.before(528).unwrap();
        let plan = Plan::default();
        let choice = Choice::make(&history, &Engine::local(), &plan, &Policy::default()).unwrap();
        assert_eq!(all[0].choice, choice);
        assert_eq!(all[0].forecast, choice.forecast(&history, &Engine::local(), 24).unwrap());
    }

    #[test]
    fn what_comes_after_an_origin_changes_nothing_at_it() {
        let before = series(600);
        let mut values = before.values().to_vec();
        values[576..].fill(0.0);
        let changed = Series::new(5, values).unwrap();
        let plan = Plan { origins: 2, step: 24, horizon: 24 };
        let (a, b) = (rolled(&before, plan), rolled(&changed, plan));
        assert_eq!(a[0].forecast, b[0].forecast);
        assert_eq!(a[1].forecast, b[1].forecast);
    }

    #[test]
    fn origins_an_hour_apart_are_in_order() {
        let all = rolled(&series(300), Plan { origins: 5, step: 1, horizon: 24 });
        assert_eq!(all.iter().map(|r| r.origin).collect::<Vec<_>>(), [272, 273, 274, 275, 276]);
        assert!(all.iter().all(|r| r.forecast.mean.len() == 24));
    }

    #[test]
    fn the_first_days_are_forecast_without_a_backtest_and_say_so() {
        let all = rolled(&series(72), Plan { origins: 9, step: 24, horizon: 24 });
        assert_eq!(all.iter().map(|r| r.origin).collect::<Vec<_>>(), [24, 48]);
        assert!(all[0].choice.backtest.is_none() && !all[0].forecast.notes.is_empty());
    }
}
