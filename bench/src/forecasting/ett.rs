//! ETTh1, 24 hours ahead: twelve months to learn from, the last four measured, every hour an origin.

use std::error::Error;
use std::path::Path;

use opsroom_analytics::forecast::linear::Fit;
use opsroom_analytics::forecast::lstm::Schooling;
use opsroom_analytics::forecast::model::{Model, Training};
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::stats::{deviation, mean};
use rayon::prelude::*;

use super::data;

const MONTH: usize = 30 * 24;
const LEARN: usize = 12 * MONTH;
const TEST: std::ops::Range<usize> = 16 * MONTH..20 * MONTH;

/// Prints mean squared and absolute errors of the seven channels, in units of what was learnt from.
pub fn report(data: &Path) -> Result<(), Box<dyn Error>> {
    let (_, rows) = data::table(&data.join("metrics/ETTh1.csv"))?;
    let channels: Vec<Vec<f64>> = (1..8)
        .map(|c| {
            let raw: Vec<f64> = rows[..TEST.end].iter().map(|row| row[c]).collect();
            let (center, size) = (mean(&raw[..LEARN]), deviation(&raw[..LEARN]));
            raw.iter().map(|v| (v - center) / size).collect()
        })
        .collect();
    let learn: Vec<Series> =
        channels.iter().map(|c| Series::new(0, c[..LEARN].to_vec())).collect::<Result<_, _>>()?;
    println!("ETTh1, 24 h ahead, MSE / MAE (closed-form linear .310 / .350, seasonal naive .424 / .389)");
    for (name, rounds) in [("least absolute errors", 8), ("least squares", 1)] {
        let fit = Fit { rounds, ..Training::default().fit };
        let lstm = Schooling { epochs: 0, ..Schooling::default() };
        let how = Training { windows: 1500, short_windows: 0, passes: 1, fit, lstm };
        let model = Model::train("ett", &learn, &how)?;
        let origins: Vec<usize> = (TEST.start..=TEST.end - 24).collect();
        let sums: Vec<(f64, f64)> = origins
            .par_iter()
            .map(|&origin| {
                let mut sum = (0.0, 0.0);
                for channel in &channels {
                    let said = model.pooled.forecast(&channel[..origin], 24);
                    for (f, y) in said.iter().zip(&channel[origin..]) {
                        sum.0 += (f - y).powi(2);
                        sum.1 += (f - y).abs();
                    }
                }
                sum
            })
            .collect();
        let count = (origins.len() * channels.len() * 24) as f64;
        let (squares, absolute) = sums.iter().fold((0.0, 0.0), |a, s| (a.0 + s.0, a.1 + s.1));
        println!("pooled, {name:<22} {:.3} / {:.3}", squares / count, absolute / count);
    }
    println!();
    Ok(())
}
