//! Machines not trained on, last 14 daily origins: errors, intervals, capacity, cold start.

use std::error::Error;

use opsroom_analytics::forecast::backtest::Plan;
use opsroom_analytics::forecast::choice::{Choice, Policy};
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::model::Model;
use opsroom_analytics::forecast::rolling;
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::stats::{mean_absolute_error, median};
use rayon::prelude::*;

use super::data::{self, Groups};
use super::{GROUPS, geometric};

const DAYS: usize = 14;

/// Sums over the origins of one series.
#[derive(Default, Clone)]
struct Sums {
    error: f64,
    floor: f64,
    engines: Vec<f64>,
    hours: f64,
    in80: f64,
    in95: f64,
    over: f64,
    unused: f64,
    used: f64,
    over_max: f64,
    unused_max: f64,
}

/// Prints the tables.
pub fn report(groups: &Groups, model: &Model, fold: u32) -> Result<(), Box<dyn Error>> {
    let engines = model.engines();
    let names: Vec<&str> = engines.iter().map(Engine::name).collect();
    println!(
        "geometric mean of MAE relative to the seasonal naive (x/ standard error), and what the choice reached"
    );
    println!(
        "{:<13} {:>6} {:>22} {:>9} {:>7} {:>7}  {}",
        "",
        "series",
        "shipped",
        "beat",
        ">1.15",
        "worst",
        names[1..].join(" ")
    );
    let mut all = Vec::new();
    for set in GROUPS {
        let test: Vec<&Series> =
            groups[set].iter().filter(|n| data::fold(&n.uid) == fold).map(|n| &n.series).collect();
        let sums: Vec<Sums> = test
            .par_iter()
            .map(|s| walk(s, &engines))
            .collect::<Result<_, _>>()
            .map_err(|e| e.to_string())?;
        let kept: Vec<&Sums> = sums.iter().filter(|s| s.floor > 0.0).collect();
        let ratios: Vec<f64> = kept.iter().map(|s| s.error / s.floor).collect();
        let (center, spread) = geometric(&ratios);
        let beat = ratios.iter().filter(|r| **r < 1.0).count() as f64 / ratios.len() as f64;
        let over = ratios.iter().filter(|r| **r > 1.15).count();
        let worst = ratios.iter().copied().fold(0.0, f64::max);
        let each: Vec<String> = (1..engines.len())
            .map(|k| {
                let of_engine: Vec<f64> = kept.iter().map(|s| s.engines[k] / s.floor).collect();
                format!("{:.3}", geometric(&of_engine).0)
            })
            .collect();
        println!(
            "{set:<13} {:>3}-{:<2} {center:>14.3} x/ {spread:.3} {:>8.1}% {over:>7} {worst:>7.2}  {}",
            sums.len(),
            sums.len() - kept.len(),
            100.0 * beat,
            each.join(" ")
        );
        all.push((set, sums));
    }
    println!(
        "\nintervals, and capacity (share of hours over; median of unused / used), beside yesterday's maximum + 15 %"
    );
    for (set, sums) in &all {
        let total = |field: fn(&Sums) -> f64| sums.iter().map(field).sum::<f64>();
        let hours = total(|s| s.hours);
        let slack = |field: fn(&Sums) -> f64| {
            median(&sums.iter().filter(|s| s.used > 0.0).map(|s| field(s) / s.used).collect::<Vec<_>>())
        };
        println!(
            "{set:<13} 80 %: {:.1} %  95 %: {:.1} %   over {:.2} % slack {:.3}   yesterday over {:.2} % slack {:.3}",
            100.0 * total(|s| s.in80) / hours,
            100.0 * total(|s| s.in95) / hours,
            100.0 * total(|s| s.over) / hours,
            slack(|s| s.unused),
            100.0 * total(|s| s.over_max) / hours,
            slack(|s| s.unused_max),
        );
    }
    cold_start(groups, &engines, fold);
    Ok(())
}

/// Forecasts of the last days of one series, each from what is before it.
fn walk(
    series: &Series,
    engines: &[Engine],
) -> Result<Sums, opsroom_analytics::forecast::error::ForecastError> {
    let plan = Plan { origins: DAYS, step: 24, horizon: 24 };
    let mut sums = Sums { engines: vec![0.0; engines.len()], ..Sums::default() };
    for rolled in rolling::roll(series, engines, &Policy::default(), &plan)? {
        let truth = &series.values()[rolled.origin..rolled.origin + 24];
        let history = series.before(rolled.origin)?;
        let floor = Engine::SeasonalNaive.fit_for(&history, 24)?.predict(24)?;
        sums.error += mean_absolute_error(truth, &rolled.forecast.mean).unwrap_or(0.0);
        sums.floor += mean_absolute_error(truth, &floor).unwrap_or(0.0);
        for (sum, engine) in sums.engines.iter_mut().zip(engines) {
            let said = engine.fit_for(&history, 24).and_then(|f| f.predict(24));
            *sum += mean_absolute_error(truth, said.as_ref().unwrap_or(&floor)).unwrap_or(0.0);
        }
        let limit = rolled.forecast.limit.unwrap_or(f64::INFINITY);
        let yesterday = 1.15 * history.tail(24).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (hour, y) in truth.iter().enumerate().filter(|(_, y)| !y.is_nan()) {
            sums.hours += 1.0;
            if let Some(i) = &rolled.forecast.intervals {
                sums.in80 += f64::from(u8::from((i.lower80[hour]..=i.upper80[hour]).contains(y)));
                sums.in95 += f64::from(u8::from((i.lower95[hour]..=i.upper95[hour]).contains(y)));
            }
            sums.over += f64::from(u8::from(*y > limit));
            sums.over_max += f64::from(u8::from(*y > yesterday));
            sums.unused += (limit - y).max(0.0);
            sums.unused_max += (yesterday - y).max(0.0);
            sums.used += y;
        }
    }
    Ok(sums)
}

/// Histories cut to one, two and three days before each of seven origins.
fn cold_start(groups: &Groups, engines: &[Engine], fold: u32) {
    println!(
        "\ncold start: geometric mean of MAE relative to the seasonal naive with 24 / 48 / 72 h of history"
    );
    for set in GROUPS {
        let test: Vec<&Series> =
            groups[set].iter().filter(|n| data::fold(&n.uid) == fold).map(|n| &n.series).collect();
        let of_days = |days: usize| {
            let ratios: Vec<f64> = test.par_iter().filter_map(|s| cold_ratio(s, engines, days)).collect();
            format!("{:.3}", geometric(&ratios).0)
        };
        println!("{set:<13} {} / {} / {}", of_days(1), of_days(2), of_days(3));
    }
}

fn cold_ratio(series: &Series, engines: &[Engine], days: usize) -> Option<f64> {
    let (mut error, mut floor_error) = (0.0, 0.0);
    for back in 0..7 {
        let origin = series.len() - 24 - back * 48;
        let history = Series::new(0, series.values()[origin - 24 * days..origin].to_vec()).ok()?;
        let truth = &series.values()[origin..origin + 24];
        let choice = Choice::make(&history, engines, &Plan::default(), &Policy::default()).ok()?;
        let said = choice.forecast(&history, engines, 24).ok()?.mean;
        let floor = Engine::SeasonalNaive.fit_for(&history, 24).ok()?.predict(24).ok()?;
        error += mean_absolute_error(truth, &said)?;
        floor_error += mean_absolute_error(truth, &floor)?;
    }
    (floor_error > 0.0).then(|| error / floor_error)
}
