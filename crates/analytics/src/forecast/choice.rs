//! Which engines a series is forecast with, decided by its own backtest.
//!
//! [`super::blend`] weighs the engines; the blend is then drawn towards the floor until it does not
//! lose to it in the backtest. A series too
//! short for a backtest, or for the engines, gets the next simpler thing, and the choice says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backtest::{Backtest, Plan, Run};
use super::blend::{self, Weighing};
use super::capacity::{self, OVER};
use super::conformal::{Intervals, Levels, Spread};
use super::engine::Engine;
use super::error::{ForecastError, check_horizon};
use super::lstm::net::QUANTILES;
use super::pooled::Window;
use super::series::Series;
use super::{DAY, stats};

/// The floor's name.
pub const FLOOR: &str = "seasonal_naive";

/// How choices are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// How engines are weighed.
    pub weighing: Weighing,
    /// The most origins, one a day, that are looked back on.
    pub lookback: usize,
    /// The fewest origins that make a backtest.
    pub origins: usize,
    /// Levels of the intervals.
    pub levels: Levels,
    /// Share of hours that may exceed the recommended limit.
    pub over: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            weighing: Weighing::default(),
            lookback: 28,
            origins: 3,
            levels: Levels::default(),
            over: OVER,
        }
    }
}

/// What a series is forecast with. Plain data: a job makes it, a plan uses it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Engines and their weights, which add up to 1; never empty.
    pub members: Vec<Member>,
    /// Errors in the backtest; `None` when the series is too short for one.
    pub backtest: Option<Scores>,
    /// The calibrated size of errors; `None` without a backtest.
    pub spread: Option<Spread>,
    /// Share of hours that may exceed the recommended limit.
    pub over: f64,
    /// Why these engines, in words.
    pub reason: String,
}

/// One engine of a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Name of the engine.
    pub engine: String,
    /// Its share of the forecast.
    pub weight: f64,
}

/// How the choice did in the backtest that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Number of origins.
    pub origins: usize,
    /// Mean absolute error of the choice, in the metric's unit.
    pub error: f64,
    /// Mean absolute error of the seasonal naive on the same hours.
    pub floor_error: f64,
    /// Mean absolute error of each engine that took part.
    pub engines: BTreeMap<String, f64>,
}

/// A forecast with what is known about its truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Position in the series of the first hour forecast.
    pub origin: usize,
    /// Engines really used, largest weight first, as `name` or `name+name`.
    pub engine: String,
    /// The forecast, one value an hour.
    pub mean: Vec<f64>,
    /// The intervals around it; `None` when there was nothing to calibrate them on.
    pub intervals: Option<Intervals>,
    /// The constant capacity recommended for these hours; `None` with less than a day of history.
    pub limit: Option<f64>,
    /// What a reader should know: fallbacks taken, what was missing.
    pub notes: Vec<String>,
}

impl Choice {
    /// The choice for a series that no backtest can judge: its best stand-in and the reason.
    #[must_use]
    pub fn without_backtest(length: usize, engines: &[&str], over: f64) -> Self {
        let learnt: Vec<&str> =
            ["lstm", "pooled"].into_iter().filter(|name| length >= DAY && engines.contains(name)).collect();
        let (names, used) = match (learnt.is_empty(), length >= DAY) {
            (false, _) => (learnt, "a backtest: what other series taught is used"),
            (true, true) => (vec![FLOOR], "a backtest: the same hour yesterday is used"),
            (true, false) => (vec!["naive"], "a forecast of a day's shape: the last value is used"),
        };
        let weight = 1.0 / names.len() as f64;
        let members = names.into_iter().map(|name| Member { engine: name.to_owned(), weight }).collect();
        let reason = format!("{length} hours of history are too few for {used}");
        Self { members, backtest: None, spread: None, over, reason }
    }

    /// Chooses from a backtest, which should end where the history ends.
    #[must_use]
    pub fn from_backtest(backtest: &Backtest, length: usize, policy: &Policy) -> Self {
        let Some((floor, floor_error)) = judged_floor(backtest, policy) else {
            let engines: Vec<&str> = backtest.runs.iter().map(|run| run.engine).collect();
            return Self::without_backtest(length, &engines, policy.over);
        };
        let errors = engine_errors(backtest, &floor);
        let weights = if floor_error > 0.0 {
            blend::weigh(backtest, &floor, &policy.weighing)
        } else {
            // Nothing can do better than never wrong, and blending would only add rounding.
            BTreeMap::from([(FLOOR.to_owned(), 1.0)])
        };
        let blend = blend::mix(backtest, &floor, &weights);
        let (share, forecasts) = draw_to_floor(&blend, floor, &backtest.truth, floor_error);
        let mut members: Vec<Member> = weights
            .iter()
            .map(|(engine, weight)| Member { engine: engine.clone(), weight: weight * (1.0 - share) })
            .collect();
        match members.iter_mut().find(|m| m.engine == FLOOR) {
            Some(member) => member.weight += share,
            None => members.push(Member { engine: FLOOR.to_owned(), weight: share }),
        }
        members.retain(|m| m.weight > 1e-6);
        members.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let error = mean_error(&forecasts, &backtest.truth).unwrap_or(floor_error);
        let spread = Spread::calibrate(&residuals(&forecasts, &backtest.truth), policy.levels);
        let reason = reason(&members, error, floor_error, backtest.origins.len());
        let scores = Scores { origins: backtest.origins.len(), error, floor_error, engines: errors };
        Self { members, backtest: Some(scores), spread, over: policy.over, reason }
    }

    /// Runs a backtest on a series and chooses from it.
    ///
    /// # Errors
    /// As [`super::backtest::run`].
    pub fn make(
        series: &Series,
        engines: &[Engine],
        plan: &Plan,
        policy: &Policy,
    ) -> Result<Self, ForecastError> {
        let backtest = super::backtest::run(series, engines, plan)?;
        Ok(Self::from_backtest(&backtest, series.observed(), policy))
    }

    /// Forecasts the hours after a series. An engine of the choice that is missing or cannot be
    /// fitted is left out with a note; the others share its weight.
    ///
    /// # Errors
    /// [`ForecastError::Horizon`] for a horizon out of bounds; the last engine's own error when
    /// none could be fitted.
    pub fn forecast(
        &self,
        series: &Series,
        engines: &[Engine],
        horizon: usize,
    ) -> Result<Forecast, ForecastError> {
        check_horizon(horizon)?;
        let mut notes = Vec::new();
        if self.backtest.is_none() {
            notes.push(self.reason.clone());
        }
        let mut sum = vec![0.0; horizon];
        let mut total = 0.0;
        let mut used = Vec::new();
        for member in &self.members {
            match member.predict(series, engines, horizon) {
                Ok(values) => {
                    sum.iter_mut().zip(values).for_each(|(s, v)| *s += member.weight * v);
                    total += member.weight;
                    used.push(member.engine.as_str());
                }
                Err(error) => notes.push(format!("left out: {error}")),
            }
        }
        if used.is_empty() {
            let floor = Engine::SeasonalNaive.fit(series);
            let fitted = floor.or_else(|_| Engine::Naive.fit(series))?;
            sum = fitted.predict(horizon)?;
            total = 1.0;
            used.push(if fitted.engine == FLOOR { FLOOR } else { "naive" });
            notes.push(format!("no chosen engine could be fitted: {} is used", fitted.engine));
        }
        let mean: Vec<f64> = sum.iter().map(|s| s / total).collect();
        let intervals = match &self.spread {
            Some(spread) => Some(spread.around(&mean, series.is_non_negative())),
            None if used.contains(&"lstm") => learnt_intervals(series, engines, &mean),
            None => None,
        };
        if self.spread.is_none() && intervals.is_some() {
            notes.push(
                "the intervals are what other series taught, and not calibrated on this one".to_owned(),
            );
        }
        let limit = capacity::limit(series, &mean, self.spread.as_ref(), self.over)?;
        Ok(Forecast { origin: series.len(), engine: used.join("+"), mean, intervals, limit, notes })
    }
}

impl Forecast {
    /// Leaves out the first `hours` hours: those that have passed without a value.
    pub fn skip(&mut self, hours: usize) {
        let cut = hours.min(self.mean.len());
        self.origin += cut;
        self.mean.drain(..cut);
        if let Some(bounds) = &mut self.intervals {
            for side in [&mut bounds.lower80, &mut bounds.upper80, &mut bounds.lower95, &mut bounds.upper95] {
                side.drain(..cut);
            }
        }
    }
}

impl Member {
    fn predict(
        &self,
        series: &Series,
        engines: &[Engine],
        horizon: usize,
    ) -> Result<Vec<f64>, ForecastError> {
        let basic = [Engine::SeasonalNaive, Engine::Naive];
        let engine = engines
            .iter()
            .chain(&basic)
            .find(|e| e.name() == self.engine)
            .ok_or_else(|| ForecastError::UnknownEngine { name: self.engine.clone() })?;
        engine.fit_for(series, horizon)?.predict(horizon)
    }
}

/// The network's own quantiles around a forecast of at most a day, for a series too short for others.
fn learnt_intervals(series: &Series, engines: &[Engine], mean: &[f64]) -> Option<Intervals> {
    let network = engines.iter().find_map(|engine| match engine {
        Engine::Lstm(network) => Some(network),
        _ => None,
    })?;
    let filled = series.filled();
    let values = &filled[super::shift::latest(&filled)..];
    if values.len() < DAY || mean.len() > DAY {
        return None;
    }
    let hours = network.quantiles(&Window::new(values));
    let least = if series.is_non_negative() { 0.0 } else { f64::NEG_INFINITY };
    let bound = |quantile: usize, upper: bool| -> Vec<f64> {
        let pairs = hours.iter().zip(mean);
        let around = |(hour, mean): (&[f64; QUANTILES.len()], &f64)| {
            if upper { hour[quantile].max(*mean) } else { hour[quantile].max(least).min(*mean) }
        };
        pairs.map(around).collect()
    };
    let [lower95, lower80, upper80, upper95] =
        [(0, false), (1, false), (3, true), (4, true)].map(|(q, up)| bound(q, up));
    Some(Intervals { lower80, upper80, lower95, upper95 })
}

/// The floor's predictions and error, when there are enough origins to judge by.
fn judged_floor<'a>(backtest: &'a Backtest, policy: &Policy) -> Option<(Vec<&'a [f64]>, f64)> {
    let run = backtest.run_of(FLOOR)?;
    let floor: Option<Vec<&[f64]>> = run.predictions.iter().map(Option::as_deref).collect();
    let (error, origins) = run.error(&backtest.truth)?;
    Some((floor?, error)).filter(|_| origins >= policy.origins.max(1))
}

/// The error of each engine, the floor standing in where it did not answer.
fn engine_errors(backtest: &Backtest, floor: &[&[f64]]) -> BTreeMap<String, f64> {
    let answered = backtest.runs.iter().filter(|run| run.predictions.iter().any(Option::is_some));
    let error = |run: &Run| {
        let only = BTreeMap::from([(run.engine.to_owned(), 1.0)]);
        mean_error(&blend::mix(backtest, floor, &only), &backtest.truth)
    };
    answered.filter_map(|run| Some((run.engine.to_owned(), error(run)?))).collect()
}

/// The smallest share of the floor, in tenths, with which the blend does not lose to it.
fn draw_to_floor(
    blend: &[Vec<f64>],
    floor: Vec<&[f64]>,
    truth: &[Vec<f64>],
    floor_error: f64,
) -> (f64, Vec<Vec<f64>>) {
    for tenths in 0..10 {
        let share = f64::from(tenths) / 10.0;
        let mixed: Vec<Vec<f64>> = blend
            .iter()
            .zip(&floor)
            .map(|(b, f)| b.iter().zip(*f).map(|(b, f)| (1.0 - share) * b + share * f).collect())
            .collect();
        if mean_error(&mixed, truth).is_some_and(|error| error <= floor_error) {
            return (share, mixed);
        }
    }
    (1.0, floor.into_iter().map(<[f64]>::to_vec).collect())
}

fn mean_error(forecasts: &[Vec<f64>], truth: &[Vec<f64>]) -> Option<f64> {
    let errors: Vec<f64> =
        forecasts.iter().zip(truth).filter_map(|(f, y)| stats::mean_absolute_error(y, f)).collect();
    (!errors.is_empty()).then(|| stats::mean(&errors))
}

fn residuals(forecasts: &[Vec<f64>], truth: &[Vec<f64>]) -> Vec<Vec<f64>> {
    forecasts.iter().zip(truth).map(|(f, y)| y.iter().zip(f).map(|(y, f)| y - f).collect()).collect()
}

fn reason(members: &[Member], error: f64, floor_error: f64, origins: usize) -> String {
    let names: Vec<&str> = members.iter().map(|m| m.engine.as_str()).collect();
    format!(
        "{} had a mean absolute error of {error:.4} over the last {origins} origins, the same hour yesterday {floor_error:.4}",
        names.join("+"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::backtest;

    fn series(hours: usize, value: impl Fn(usize) -> f64) -> Series {
        Series::new(0, (0..hours).map(value).collect()).unwrap()
    }

    fn made(series: &Series) -> (Choice, Forecast) {
        let engines = Engine::local();
        let choice = Choice::make(series, &engines, &Plan::default(), &Policy::default()).unwrap();
        let forecast = choice.forecast(series, &engines, 24).unwrap();
        (choice, forecast)
    }

    #[test]
    fn what_is_chosen_never_loses_to_the_floor_in_its_backtest() {
        for kind in 0..4 {
            let series = series(600, |h| match kind {
                0 => (h % 24) as f64,
                1 => ((h * 7919) % 101) as f64,
                2 => h as f64 + (h % 24) as f64,
                _ => {
                    if (h / 24) % 7 < 5 {
                        (h % 24) as f64
                    } else {
                        0.0
                    }
                }
            });
            let scores = made(&series).0.backtest.unwrap();
            assert!(scores.error <= scores.floor_error, "kind {kind}: {scores:?}");
        }
    }

    #[test]
    fn noise_is_forecast_by_its_level_and_not_by_the_floor() {
        let series = series(600, |h| ((h * 7919 + h * h * 31) % 101) as f64);
        let scores = made(&series).0.backtest.unwrap();
        assert!(scores.error < 0.9 * scores.floor_error);
    }

    #[test]
    fn a_short_series_says_what_was_used_instead() {
        let (choice, forecast) = made(&series(30, |h| h as f64));
        assert!(choice.backtest.is_none());
        assert_eq!((forecast.engine.as_str(), forecast.mean[0]), (FLOOR, 6.0));
        assert!(forecast.notes[0].contains("too few for a backtest"));
        let (_, one) = made(&series(1, |_| 5.0));
        assert_eq!((one.engine.as_str(), one.mean.as_slice()), ("naive", &[5.0; 24][..]));
    }

    #[test]
    fn a_missing_engine_is_left_out_and_named() {
        let series = series(600, |h| (h % 24) as f64);
        let (mut choice, _) = made(&series);
        choice.members = vec![
            Member { engine: "oracle".into(), weight: 0.7 },
            Member { engine: FLOOR.into(), weight: 0.3 },
        ];
        let forecast = choice.forecast(&series, &Engine::local(), 24).unwrap();
        assert_eq!(forecast.engine, FLOOR);
        assert!(forecast.notes[0].contains("oracle"));
        assert_eq!(forecast.mean[5], 5.0);
    }

    #[test]
    fn a_constant_is_forecast_as_itself_with_no_width() {
        let (_, forecast) = made(&series(400, |_| 3.0));
        assert_eq!(forecast.mean, [3.0; 24]);
        assert!((forecast.limit.unwrap() - 3.3).abs() < 1e-9);
        assert_eq!(forecast.intervals.unwrap().upper95, [3.0; 24]);
    }

    #[test]
    fn a_choice_is_plain_data_that_forecasts_the_same_after_a_round_trip() {
        let series = series(500, |h| ((h * 7919) % 101) as f64 / 3.0);
        let (choice, forecast) = made(&series);
        let text = serde_json::to_string(&choice).unwrap();
        let back: Choice = serde_json::from_str(&text).unwrap();
        assert_eq!(back.forecast(&series, &Engine::local(), 24).unwrap(), forecast);
    }

    #[test]
    fn a_choice_from_an_empty_backtest_is_the_stand_in() {
        let empty = backtest::run(&series(20, |_| 1.0), &Engine::local(), &Plan::default()).unwrap();
        assert!(Choice::from_backtest(&empty, 20, &Policy::default()).backtest.is_none());
    }
}
