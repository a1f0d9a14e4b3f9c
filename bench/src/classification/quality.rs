//! How good the network is after five passes, and what `auto` picks.

use std::ops::ControlFlow;

use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::detector::Method;
use opsroom_analytics::classify::fit::{FitConfig, fit};
use opsroom_analytics::classify::model::Model;
use opsroom_analytics::classify::predict::Evaluation;

use super::Options;
use super::figures::spread;
use super::sessions::{EXPECTED, Sessions};

/// The F1 of anomalies: each row once, and by weight.
pub fn f1(evaluation: &Evaluation) -> (f64, f64) {
    let once = evaluation.report.anomaly_f1;
    (once, evaluation.weighted.as_ref().map_or(once, |weighted| weighted.anomaly_f1))
}

pub fn evaluate(model: &Model, rows: &Dataset) -> Result<Evaluation, String> {
    model.evaluate(rows).map_err(|e| e.to_string())
}

/// Five passes over `train.csv`, hidden 10.
pub fn network(sessions: &Sessions, options: &Options) -> Result<(), String> {
    let parts = [
        ("embedded", sessions.embedded(&sessions.train), sessions.embedded(&sessions.test)),
        ("texts", sessions.train.clone(), sessions.test.clone()),
    ];
    for (vectors, train, test) in parts {
        let (mut once, mut weighted) = (Vec::new(), Vec::new());
        for seed in 0..options.seeds {
            let config = FitConfig {
                method: Some(Method::Network),
                expected_share: Some(EXPECTED),
                network: options.network(seed, 5),
            };
            let model = fit(&train, None, &config, &mut |_| ControlFlow::Continue(()));
            let figures = f1(&evaluate(&model.map_err(|e| e.to_string())?, &test)?);
            once.push(figures.0);
            weighted.push(figures.1);
        }
        println!("network, hidden 10, 5 epochs, vectors {vectors}: F1 once     {}", spread(&once, 4));
        println!("network, hidden 10, 5 epochs, vectors {vectors}: F1 weighted {}", spread(&weighted, 4));
    }
    Ok(())
}

/// What the comparison of methods picks, and how good that is.
pub fn auto(sessions: &Sessions, options: &Options) -> Result<(), String> {
    let unseen = sessions.test.select(&sessions.unseen_counts);
    let mut figures: [Vec<f64>; 5] = Default::default();
    for seed in 0..options.seeds {
        let config =
            FitConfig { method: None, expected_share: Some(EXPECTED), network: options.network(seed, 5) };
        let model = fit(&sessions.train, Some(&sessions.valid), &config, &mut |_| ControlFlow::Continue(()))
            .map_err(|e| e.to_string())?;
        println!("auto, seed {seed}: {:?}, {}", model.detector.method(), model.provenance.reason);
        for candidate in &model.provenance.candidates {
            println!(
                "    {:?}: F1 {:.4}, log loss {:.5}",
                candidate.method, candidate.f1, candidate.log_loss
            );
        }
        let (all, new) = (f1(&evaluate(&model, &sessions.test)?), f1(&evaluate(&model, &unseen)?));
        // Rows that count once are as mixed as those of training, and not as those of use.
        let even = Model { expected_share: model.training_share, ..model.clone() };
        let even = f1(&evaluate(&even, &unseen)?).0;
        for (list, figure) in figures.iter_mut().zip([all.0, all.1, new.0, new.1, even]) {
            list.push(figure);
        }
    }
    let names = [
        "all rows once",
        "all rows weighted",
        "unseen counts once",
        "unseen counts weighted",
        "unseen counts once, at even shares",
    ];
    for (name, figures) in names.iter().zip(&figures) {
        println!("auto: F1, {name:<24} {}", spread(figures, 4));
    }
    Ok(())
}
