//! How long forecasts take: one, a choice with its backtest, the network alone, and a whole fleet.
//!
//! Times of a shared machine are mostly waiting, so that processor time stands beside them.

use std::error::Error;
use std::time::Instant;

use opsroom_analytics::forecast::backtest::Plan;
use opsroom_analytics::forecast::choice::{Choice, Policy};
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::error::ForecastError;
use opsroom_analytics::forecast::model::Model;
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::stats::sorted_quantile;
use rayon::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use super::data::Groups;

/// Four weeks.
const HOURS: usize = 672;
/// Forecasts of the network.
const FORECASTS: usize = 5_000;
/// Series of the fleet.
const FLEET: usize = 10_000;

/// Seconds of processor time.
pub fn processor(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Milliseconds of several runs, as they passed and as the processor counted them.
#[derive(Default)]
struct Times {
    wall: Vec<f64>,
    worked: Vec<f64>,
}

impl Times {
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, worked) = (Instant::now(), processor(ClockId::ThreadCPUTime));
        let answer = work();
        self.wall.push(begun.elapsed().as_secs_f64() * 1e3);
        self.worked.push((processor(ClockId::ThreadCPUTime) - worked) * 1e3);
        answer
    }

    fn show(mut self, what: &str) {
        let line = |times: &mut Vec<f64>| {
            times.sort_unstable_by(f64::total_cmp);
            format!(
                "median {:.2} ms, p99 {:.2} ms",
                sorted_quantile(times, 0.5),
                sorted_quantile(times, 0.99)
            )
        };
        let (wall, worked) = (line(&mut self.wall), line(&mut self.worked));
        println!("{what:<38} {wall}; of processor time {worked}");
    }
}

/// Prints the times.
pub fn report(groups: &Groups, model: &Model) -> Result<(), Box<dyn Error>> {
    let engines = model.engines();
    let machines: Vec<&Series> = groups["bb_cpu"].iter().map(|named| &named.series).collect();
    // Four weeks of every machine, beginning on different days.
    let window = |at: usize| -> Result<Series, ForecastError> {
        let values = machines[at % machines.len()].values();
        let room = values.len().saturating_sub(HOURS).max(1);
        let from = (at / machines.len() * 24) % room;
        Series::new(0, values[from..(from + HOURS).min(values.len())].to_vec())
    };
    println!("\nspeed on {HOURS} hours, one thread");
    let (mut fresh, mut stored, mut network) = (Times::default(), Times::default(), Times::default());
    let mut choices = Vec::new();
    for at in 0..60 {
        let series = window(at)?;
        let choice = fresh.of(|| Choice::make(&series, &engines, &Plan::default(), &Policy::default()))?;
        for _ in 0..5 {
            stored.of(|| choice.forecast(&series, &engines, 24))?;
        }
        choices.push(choice);
    }
    let lstm = engines.iter().find(|engine| engine.name() == "lstm").ok_or("the model has no network")?;
    for at in 0..FORECASTS {
        let series = window(at)?;
        network.of(|| lstm.fit_for(&series, 24).and_then(|fitted| fitted.predict(24)))?;
    }
    network.show("one forecast by the LSTM");
    stored.show("forecast by a stored choice");
    fresh.show("choice with a backtest of 28 origins");
    let fleet: Vec<Series> = (0..FLEET).map(window).collect::<Result<_, _>>()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    let (begun, worked) = (Instant::now(), processor(ClockId::ProcessCPUTime));
    let one = |(at, series): (usize, &Series)| forecast(&choices[at % choices.len()], series, &engines);
    let made: usize = pool.install(|| fleet.par_iter().enumerate().map(one).sum::<Result<_, _>>())?;
    println!(
        "{made} series by stored choices, two threads: {:.1} s; {:.1} s of processor time",
        begun.elapsed().as_secs_f64(),
        processor(ClockId::ProcessCPUTime) - worked
    );
    Ok(())
}

/// One, when the series was forecast.
fn forecast(choice: &Choice, series: &Series, engines: &[Engine]) -> Result<usize, ForecastError> {
    choice.forecast(series, engines, 24).map(|forecast| usize::from(forecast.mean.len() == 24))
}
