//! The M4 hourly series at hand, last 48 hours: sMAPE, MASE and OWA, by the competition's formulas.

use std::error::Error;

use opsroom_analytics::forecast::backtest::Plan;
use opsroom_analytics::forecast::choice::Policy;
use opsroom_analytics::forecast::model::{Model, Training};
use opsroom_analytics::forecast::rolling;
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::stats::mean;
use rayon::prelude::*;

use super::data::Groups;

const AHEAD: usize = 48;
const PERIOD: usize = 24;

/// Prints the scores of what is shipped and of each engine alone.
pub fn report(groups: &Groups) -> Result<(), Box<dyn Error>> {
    let all: Vec<&Series> = groups["m4h"].iter().map(|n| &n.series).collect();
    let known: Vec<Series> = all.iter().map(|s| s.before(s.len() - AHEAD)).collect::<Result<_, _>>()?;
    let model = Model::train("m4", &known, &Training::default())?;
    let engines = model.engines();
    let mut rows: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    let naive2: Vec<Vec<f64>> = known.iter().map(|s| naive2(&s.filled())).collect();
    rows.push(("naive 2".into(), scores(&all, &known, &naive2)));
    for engine in &engines {
        let said: Vec<Vec<f64>> = known
            .par_iter()
            .map(|s| engine.fit_for(s, AHEAD).and_then(|f| f.predict(AHEAD)))
            .collect::<Result<_, _>>()?;
        rows.push((engine.name().into(), scores(&all, &known, &said)));
    }
    let plan = Plan { origins: 1, step: 24, horizon: AHEAD };
    let shipped: Vec<Vec<f64>> = all
        .par_iter()
        .map(|s| Ok(rolling::roll(s, &engines, &Policy::default(), &plan)?.remove(0).forecast.mean))
        .collect::<Result<_, opsroom_analytics::forecast::error::ForecastError>>()?;
    rows.push(("shipped".into(), scores(&all, &known, &shipped)));
    let (base_smape, base_mase) = center(&rows[0].1);
    println!("M4 hourly, {} series, last 48 h: sMAPE, MASE, OWA", all.len());
    for (name, of_series) in &rows {
        let (smape, mase) = center(of_series);
        let owa = (smape / base_smape + mase / base_mase) / 2.0;
        println!("{name:<16} {smape:7.3} {mase:7.3} {owa:7.3}");
    }
    println!();
    Ok(())
}

fn center(rows: &[(f64, f64)]) -> (f64, f64) {
    let (a, b): (Vec<f64>, Vec<f64>) = rows.iter().copied().unzip();
    (mean(&a), mean(&b))
}

/// sMAPE in per cent and MASE of each series.
fn scores(all: &[&Series], known: &[Series], said: &[Vec<f64>]) -> Vec<(f64, f64)> {
    let one = |((whole, known), said): ((&&Series, &Series), &Vec<f64>)| {
        let (truth, past) = (whole.tail(AHEAD), known.filled());
        let seasonal: Vec<f64> = past.windows(PERIOD + 1).map(|w| (w[PERIOD] - w[0]).abs()).collect();
        let unit = mean(&seasonal);
        let pairs = || truth.iter().zip(said);
        let smape: Vec<f64> = pairs().map(|(y, f)| 200.0 * (y - f).abs() / (y.abs() + f.abs())).collect();
        let mase: Vec<f64> = pairs().map(|(y, f)| (y - f).abs() / unit).collect();
        (mean(&smape), mean(&mase))
    };
    all.iter().zip(known).zip(said).map(one).collect()
}

/// The competition's reference: naive on the series without its multiplicative daily shape, where
/// the shape is significant at 90 %.
fn naive2(past: &[f64]) -> Vec<f64> {
    let n = past.len();
    let shape = if is_seasonal(past) { indices(past) } else { vec![1.0; PERIOD] };
    let last = past[n - 1] / shape[(n - 1) % PERIOD];
    (0..AHEAD).map(|h| last * shape[(n + h) % PERIOD]).collect()
}

fn is_seasonal(past: &[f64]) -> bool {
    let center = mean(past);
    let around: Vec<f64> = past.iter().map(|v| v - center).collect();
    let variance: f64 = around.iter().map(|v| v * v).sum();
    let at = |lag: usize| around.iter().zip(&around[lag..]).map(|(a, b)| a * b).sum::<f64>() / variance;
    let before: f64 = (1..PERIOD).map(|lag| at(lag).powi(2)).sum();
    at(PERIOD).abs() > 1.645 * ((1.0 + 2.0 * before) / past.len() as f64).sqrt()
}

fn indices(past: &[f64]) -> Vec<f64> {
    let half = PERIOD / 2;
    let mut ratios = vec![Vec::new(); PERIOD];
    for at in half..past.len() - half {
        let around = &past[at - half..=at + half];
        let inner: f64 = around[1..PERIOD].iter().sum();
        let trend = (inner + (around[0] + around[PERIOD]) / 2.0) / PERIOD as f64;
        ratios[at % PERIOD].push(past[at] / trend);
    }
    let raw: Vec<f64> = ratios.iter().map(|r| mean(r)).collect();
    let center = mean(&raw);
    raw.iter().map(|r| r / center).collect()
}
