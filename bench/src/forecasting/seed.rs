//! The seed's own 720 hours: the last 144 as test, 121 hourly origins, 24 hours ahead.

use std::error::Error;
use std::path::Path;

use opsroom_analytics::forecast::backtest::Plan;
use opsroom_analytics::forecast::choice::Policy;
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::model::Model;
use opsroom_analytics::forecast::rolling;
use opsroom_analytics::forecast::series::Series;
use opsroom_analytics::forecast::stats::{mean, mean_absolute_error};

use super::data;

/// Prints the mean absolute error of each metric.
pub fn report(data: &Path, model: &Model) -> Result<(), Box<dyn Error>> {
    let (header, rows) = data::table(&data.join("metrics/lstm_ready_cluster_data.csv"))?;
    // Rows of a half hour are interpolated between their neighbours, so they would leak.
    let real: Vec<&Vec<f64>> = rows.iter().filter(|row| row[0].fract() == 0.0).collect();
    println!("the seed's data, {} real hours, 121 origins, MAE (relative to the seasonal naive)", real.len());
    for metric in ["total_events", "avg_cpu", "avg_memory"] {
        let column = header.iter().position(|h| h == metric).ok_or("a column is missing")?;
        let series = Series::new(0, real.iter().map(|row| row[column]).collect())?;
        let plan = Plan { origins: 121, step: 1, horizon: 24 };
        let rolled = rolling::roll(&series, &model.engines(), &Policy::default(), &plan)?;
        let (mut errors, mut floors) = (Vec::new(), Vec::new());
        for one in &rolled {
            let truth = &series.values()[one.origin..one.origin + 24];
            let floor = Engine::SeasonalNaive.fit(&series.before(one.origin)?)?.predict(24)?;
            errors.extend(mean_absolute_error(truth, &one.forecast.mean));
            floors.extend(mean_absolute_error(truth, &floor));
        }
        let (error, floor) = (mean(&errors), mean(&floors));
        println!(
            "{metric:<13} {} origins   {error:.4}   seasonal naive {floor:.4}   ({:.3})",
            rolled.len(),
            error / floor
        );
    }
    println!();
    Ok(())
}
