//! Behaviour of training runs.

use std::ops::ControlFlow;

use super::classifier::{Classifier, ClassifierShape, Example, Pass, Workspace};
use super::optimiser::Rule;
use super::random::Random;
use super::train::{Ending, Moment, Schedule, TrainError, Trained, Training, merge, spread, train};

const SHAPE: ClassifierShape =
    ClassifierShape { input: 6, hidden: 6, layers: 2, classes: 2, attention: true, slope: 0.1 };

fn settings() -> Training {
    Training {
        epochs: 8,
        batch_size: 16,
        learning_rate: 0.02,
        schedule: Schedule::Cosine,
        rule: Rule::ADAM,
        dropout: 0.1,
        clip: 1.0,
        patience: 0,
        seed: 1,
    }
}

/// Sequences of four events that are anomalous when event 2 follows event 1 at once.
fn sequences() -> Vec<(Vec<u32>, u32)> {
    let mut random = Random::new(5);
    let mut draw = || {
        let events: Vec<u32> = (0..4 + random.below(5)).map(|_| random.below(4) as u32).collect();
        let class = events.windows(2).any(|pair| pair == [1, 2]);
        (events, u32::from(class))
    };
    (0..300).map(|_| draw()).collect()
}

fn examples(sequences: &[(Vec<u32>, u32)]) -> Vec<Example<'_>> {
    let mut examples = Vec::new();
    for (events, class) in sequences {
        examples.push(Example { events, class: *class, weight: 1.0 });
    }
    examples
}

fn table() -> Vec<f32> {
    let mut random = Random::new(9);
    (0..4 * SHAPE.input).map(|_| random.normal() as f32).collect()
}

fn run(
    settings: &Training,
    validate: bool,
    watch: &mut dyn FnMut(Moment<'_>) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let sequences = sequences();
    let examples = examples(&sequences);
    let (training, validation) = examples.split_at(220);
    let validation = if validate { validation } else { &[] };
    let net = Classifier::new(SHAPE);
    train(&net, net.initialise(2), &table(), training, validation, settings, watch)
}

fn keep_on(_: Moment<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn the_order_of_events_is_learnt_and_holds_for_sequences_not_seen() {
    let trained = run(&Training { epochs: 40, ..settings() }, true, &mut keep_on).unwrap();
    let last = trained.history.last().unwrap();
    assert!(last.validation_loss.unwrap() < 0.2, "{last:?}");
    assert_eq!(trained.ending, Ending::Finished);
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let bits = |seed| {
        let trained = run(&Training { epochs: 2, seed, ..settings() }, false, &mut keep_on).unwrap();
        trained.parameters.iter().map(|p| p.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(bits(1), bits(1));
    assert_ne!(bits(1), bits(2));
}

#[test]
fn a_watcher_sees_progress_grow_and_can_end_the_run_within_an_epoch() {
    let mut seen = Vec::new();
    let mut watch = |moment: Moment<'_>| {
        if let Moment::Batch { epoch, done } = moment {
            seen.push(epoch as f64 + done);
        }
        if seen.len() == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trained = run(&settings(), false, &mut watch).unwrap();
    assert_eq!((trained.ending, trained.history.len()), (Ending::Cancelled, 1));
    assert!(seen.is_sorted() && seen.len() == 20);
}

#[test]
fn a_run_that_no_longer_improves_ends_early_with_its_best_parameters() {
    let settings = Training { epochs: 400, patience: 3, learning_rate: 0.05, ..settings() };
    let mut kept = Vec::new();
    let mut watch = |moment: Moment<'_>| {
        if let Moment::Epoch { record, parameters } = moment {
            kept.push((record.validation_loss.unwrap(), parameters.to_vec()));
        }
        ControlFlow::Continue(())
    };
    let trained = run(&settings, true, &mut watch).unwrap();
    assert_eq!(trained.ending, Ending::Early);
    let best = kept.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    assert_eq!(best.1, trained.parameters);
}

#[test]
fn a_rate_that_is_far_too_large_is_reported_as_divergence() {
    let error = run(&Training { learning_rate: 1e9, ..settings() }, false, &mut keep_on).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("smaller learning rate"));
}

#[test]
fn settings_out_of_range_are_named() {
    for (settings, name) in [
        (Training { learning_rate: 0.0, ..settings() }, "learning_rate"),
        (Training { learning_rate: f64::NAN, ..settings() }, "learning_rate"),
        (Training { epochs: 0, ..settings() }, "epochs"),
        (Training { batch_size: 0, ..settings() }, "batch_size"),
        (Training { dropout: 1.0, ..settings() }, "dropout"),
    ] {
        let error = run(&settings, false, &mut keep_on).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn merged_examples_have_the_gradient_of_all_of_them() {
    let sequences: Vec<(Vec<u32>, u32)> = sequences().into_iter().take(12).flat_map(|s| vec![s; 3]).collect();
    let all = examples(&sequences);
    let merged = merge(all.clone());
    assert!(merged.len() <= 12);
    let mut sorted = all;
    sorted.sort_by_key(|e| std::cmp::Reverse(e.events.len()));
    let net = Classifier::new(SHAPE);
    let parameters: Vec<f64> = net.initialise(2);
    let table: Vec<f64> = table().into_iter().map(f64::from).collect();
    let gradient = |batch: &[Example<'_>]| {
        let mut workspace = Workspace::default();
        let pass = Pass { scale: 1.0, dropout: 0.0, seed: 0 };
        let loss = net.gradient(&parameters, &table, batch, pass, &mut workspace);
        (loss, workspace.gradient)
    };
    let (a, b) = (gradient(&sorted), gradient(&merged));
    assert!((a.0 - b.0).abs() < 1e-9);
    assert!(a.1.iter().zip(&b.1).all(|(x, y)| (x - y).abs() < 1e-9));
}

#[test]
fn a_heavy_example_is_spread_over_copies_of_its_whole_weight() {
    let events = [1, 2];
    let heavy = Example { events: &events, class: 1, weight: 10.0 };
    let copies = spread(&[heavy, Example { weight: 0.5, ..heavy }], 4.0);
    assert_eq!(copies.len(), 4);
    assert!((copies.iter().map(|c| c.weight).sum::<f64>() - 10.5).abs() < 1e-12);
    assert!(copies.iter().all(|c| c.weight <= 4.0));
}
