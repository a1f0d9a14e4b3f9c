//! The contract that every engine passes, whatever it is.

use super::choice::Choice;
use super::engine::{Engine, Fitted};
use super::error::ForecastError;
use super::lstm::Schooling;
use super::model::{Model, Training};
use super::series::{MAX_VALUE, Series};
use super::{MAX_HORIZON, shift};

const GAP: f64 = f64::NAN;

fn wavy(hours: usize) -> Vec<f64> {
    (0..hours).map(|h| 20.0 + (h % 24) as f64 + ((h * 7919 + h * h * 31) % 101) as f64 / 20.0).collect()
}

fn series(values: Vec<f64>) -> Series {
    Series::new(1_000, values).unwrap()
}

fn every_engine() -> Vec<Engine> {
    let lstm = Schooling { epochs: 1, ..Schooling::default() };
    let how = Training { lstm, windows: 6, short_windows: 2, passes: 1, ..Training::default() };
    let taught: Vec<Series> = (0..4).map(|s| series(wavy(500 + s))).collect();
    let mut engines = Model::train("contract", &taught, &how).unwrap().engines();
    engines.push(Engine::Naive);
    engines
}

#[test]
fn the_same_series_gives_the_same_numbers_twice() {
    for engine in every_engine() {
        let (a, b) = (engine.fit(&series(wavy(700))).unwrap(), engine.fit(&series(wavy(700))).unwrap());
        assert_eq!(a.predict(48).unwrap(), b.predict(48).unwrap(), "{}", engine.name());
    }
}

#[test]
fn what_was_fitted_predicts_the_same_after_it_was_stored() {
    for engine in every_engine() {
        let fitted = engine.fit(&series(wavy(700))).unwrap();
        let text = serde_json::to_string(&fitted).unwrap();
        let back: Fitted = serde_json::from_str(&text).unwrap();
        assert_eq!(back.predict(168).unwrap(), fitted.predict(168).unwrap(), "{}", engine.name());
    }
}

#[test]
fn every_history_from_one_hour_on_is_answered_or_refused_with_the_hours_needed() {
    for engine in every_engine() {
        for hours in [1, 2, 23, 24, 25, 47, 48, 49, 71, 72, 167, 168, 169, 336, 505, 1200] {
            match engine.fit(&series(wavy(hours))) {
                Ok(fitted) => {
                    assert!(hours >= engine.needs(), "{} with {hours}", engine.name());
                    let said = fitted.predict(24).unwrap();
                    assert!(said.iter().all(|v| v.is_finite()), "{} with {hours}: {said:?}", engine.name());
                }
                Err(ForecastError::TooShort { need, .. }) => {
                    assert!(hours < need, "{} with {hours}", engine.name());
                }
                Err(other) => panic!("{} with {hours}: {other}", engine.name()),
            }
        }
    }
}

#[test]
fn a_constant_is_forecast_as_itself() {
    for engine in every_engine() {
        for value in [0.0, 3.0, -7.5, 1e12] {
            for said in engine.fit(&series(vec![value; 600])).unwrap().predict(72).unwrap() {
                assert!((said - value).abs() <= 1e-9 * value.abs(), "{}: {said} for {value}", engine.name());
            }
        }
    }
}

#[test]
fn gaps_are_bridged_and_give_numbers() {
    let mut values = wavy(700);
    (0..700).filter(|h| h % 5 == 3).for_each(|h| values[h] = GAP);
    values[300..420].fill(GAP);
    values[690..699].fill(GAP);
    for engine in every_engine() {
        let said = engine.fit(&series(values.clone())).unwrap().predict(24).unwrap();
        assert!(
            said.iter().all(|v| v.is_finite() && (0.0..200.0).contains(v)),
            "{}: {said:?}",
            engine.name()
        );
    }
}

#[test]
fn the_largest_and_wildest_values_give_finite_forecasts() {
    let mut wild: Vec<f64> = (0..600).map(|h| if h % 2 == 0 { MAX_VALUE } else { -MAX_VALUE }).collect();
    wild[100..200].fill(1e-300);
    let mut outlier = wavy(600);
    outlier[599] = MAX_VALUE;
    for engine in every_engine() {
        for values in [&wild, &outlier] {
            let said = engine.fit(&series(values.clone())).unwrap().predict(168).unwrap();
            assert!(said.iter().all(|v| v.is_finite()), "{}", engine.name());
        }
    }
}

#[test]
fn horizons_are_one_hour_to_a_week() {
    for engine in every_engine() {
        let fitted = engine.fit(&series(wavy(700))).unwrap();
        assert_eq!(fitted.predict(1).unwrap().len(), 1);
        assert_eq!(fitted.predict(MAX_HORIZON).unwrap().len(), MAX_HORIZON);
        assert!(fitted.predict(0).is_err() && fitted.predict(MAX_HORIZON + 1).is_err());
    }
}

#[test]
fn what_was_never_negative_is_not_forecast_below_zero() {
    let values: Vec<f64> = (0..700).map(|h| (700 - h) as f64 / 10.0).collect();
    for engine in every_engine() {
        let said = engine.fit(&series(values.clone())).unwrap().predict(168).unwrap();
        assert!(said.iter().all(|v| *v >= 0.0), "{}: {said:?}", engine.name());
    }
}

#[test]
fn after_a_level_shift_no_engine_forecasts_the_old_level() {
    let mut values = wavy(600);
    values[540..].iter_mut().for_each(|v| *v /= 1e6);
    assert_eq!(shift::latest(&values), 540);
    for engine in every_engine() {
        match engine.fit(&series(values.clone())) {
            Ok(fitted) => {
                let said = fitted.predict(24).unwrap();
                assert!(said.iter().all(|v| *v < 1e-3), "{}: {said:?}", engine.name());
            }
            Err(error) => assert!(matches!(error, ForecastError::TooShort { .. }), "{}", engine.name()),
        }
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = every_engine().iter().map(Engine::name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_series_too_short_for_a_backtest_gets_what_other_series_taught_with_intervals() {
    let engines = every_engine();
    let names: Vec<&str> = engines.iter().map(Engine::name).collect();
    for hours in [24, 30, 47] {
        let series = series(wavy(hours));
        let choice = Choice::without_backtest(hours, &names, 0.02);
        let forecast = choice.forecast(&series, &engines, 24).unwrap();
        assert_eq!(forecast.engine, "lstm+pooled");
        let bounds = forecast.intervals.unwrap();
        for hour in 0..24 {
            let mean = forecast.mean[hour];
            assert!(0.0 <= bounds.lower95[hour] && bounds.lower95[hour] <= bounds.lower80[hour]);
            assert!(bounds.lower80[hour] <= mean && mean <= bounds.upper80[hour]);
            assert!(bounds.upper80[hour] <= bounds.upper95[hour]);
        }
        assert!(forecast.notes.iter().any(|note| note.contains("not calibrated")));
        // Beyond a day the network has no quantiles of its own.
        assert!(choice.forecast(&series, &engines, 30).unwrap().intervals.is_none());
    }
}
