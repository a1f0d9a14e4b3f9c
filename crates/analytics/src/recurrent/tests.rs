//! Proofs of the engine: finite differences, PyTorch's numbers, and bits on any number of threads.

use super::classifier::{Classifier, ClassifierShape, Example, Pass, Scratch, Workspace};
use super::layout::Layout;
use super::optimiser::{Optimiser, Rule};
use super::packed::Packed;
use super::random::Random;
use super::real::Real;
use super::stack::{Input, InputBack, Stack, StackShape, Tape};

const PLAIN: Pass = Pass { scale: 1.0, dropout: 0.0, seed: 0 };

fn sequences(count: usize, longest: usize, events: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut random = Random::new(seed);
    let mut sequences: Vec<Vec<u32>> = (0..count)
        .map(|_| (0..1 + random.below(longest)).map(|_| random.below(events) as u32).collect())
        .collect();
    sequences.sort_by_key(|s| std::cmp::Reverse(s.len()));
    sequences
}

fn examples(sequences: &[Vec<u32>]) -> Vec<Example<'_>> {
    let mut examples = Vec::new();
    for (at, events) in sequences.iter().enumerate() {
        examples.push(Example { events, class: (at % 2) as u32, weight: 0.5 + (at % 3) as f64 });
    }
    examples
}

fn table<F: Real>(numbers: usize, seed: u64) -> Vec<F> {
    let mut random = Random::new(seed);
    (0..numbers).map(|_| F::of(random.normal() * 0.5)).collect()
}

/// Compares a gradient with central differences of `loss` at some of the places.
fn compare(gradient: &[f64], parameters: &[f64], places: &[usize], loss: impl Fn(&[f64]) -> f64) {
    let step = 1e-5;
    for &place in places {
        let mut moved = parameters.to_vec();
        moved[place] = parameters[place] + step;
        let above = loss(&moved);
        moved[place] = parameters[place] - step;
        let slope = (above - loss(&moved)) / (2.0 * step);
        let error = (slope - gradient[place]).abs();
        assert!(error < 1e-6 * (1.0 + slope.abs()), "place {place}: {} is not {slope}", gradient[place]);
    }
}

fn classifier_agrees(shape: ClassifierShape, count: usize, longest: usize, pass: Pass) {
    let net = Classifier::new(shape);
    let parameters: Vec<f64> = net.initialise::<f64>(5).iter().map(|p| p * 1.5).collect();
    let events = table(7 * shape.input, 2);
    let sequences = sequences(count, longest, 7, 3);
    let batch = examples(&sequences);
    let loss =
        |parameters: &[f64]| net.gradient(parameters, &events, &batch, pass, &mut Workspace::default());
    let mut workspace = Workspace::default();
    net.gradient(&parameters, &events, &batch, pass, &mut workspace);
    let all: Vec<usize> = net.layout().places().collect();
    let some: Vec<usize> = all.iter().copied().step_by(1 + all.len() / 300).collect();
    compare(&workspace.gradient, &parameters, &some, loss);
    let mut padding = workspace.gradient.clone();
    all.iter().for_each(|&place| padding[place] = 0.0);
    assert!(padding.iter().all(|&g| g == 0.0), "the padding has a gradient");
}

const SHAPE: ClassifierShape =
    ClassifierShape { input: 3, hidden: 3, layers: 2, classes: 2, attention: true, slope: 0.0 };

#[test]
fn gradients_of_the_classifier_agree_with_finite_differences() {
    classifier_agrees(SHAPE, 5, 6, PLAIN);
}

#[test]
fn gradients_agree_for_a_head_that_leaks() {
    classifier_agrees(ClassifierShape { slope: 0.1, ..SHAPE }, 5, 4, PLAIN);
}

#[test]
fn gradients_agree_for_sequences_of_one_event_and_for_more_classes() {
    classifier_agrees(ClassifierShape { hidden: 1, classes: 3, ..SHAPE }, 3, 1, PLAIN);
}

#[test]
fn gradients_agree_for_an_odd_hidden_size_beyond_one_register() {
    classifier_agrees(ClassifierShape { hidden: 17, layers: 1, ..SHAPE }, 4, 5, PLAIN);
}

#[test]
fn gradients_agree_for_the_mean_and_a_linear_head() {
    let shape = ClassifierShape { attention: false, slope: 1.0, layers: 3, ..SHAPE };
    classifier_agrees(shape, 4, 5, Pass { scale: 0.25, ..PLAIN });
}

#[test]
fn gradients_agree_when_the_last_shard_is_a_tail() {
    classifier_agrees(SHAPE, super::classifier::SHARD + 3, 4, PLAIN);
}

#[test]
fn gradients_agree_through_dropout() {
    classifier_agrees(SHAPE, 6, 6, Pass { dropout: 0.4, seed: 9, ..PLAIN });
}

/// The loss `sum(output * target)` of a stack over dense rows, as a forecaster would use it.
fn dense_agrees(bidirectional: bool) {
    let shape = StackShape { input: 4, hidden: 5, layers: 2, bidirectional };
    let mut layout = Layout::default();
    let stack = Stack::new(&mut layout, "lstm", shape);
    let packed = Packed::new(&[5, 3, 3, 1]);
    let parameters: Vec<f64> = layout.initialise(&mut Random::new(4), |_| 0.7);
    let rows: Vec<f64> = table(packed.rows() * shape.input, 6);
    let targets: Vec<f64> = table(packed.rows() * stack.output_width(), 7);
    let loss = |parameters: &[f64], rows: &[f64]| -> f64 {
        let mut tape = Tape::default();
        let weights = stack.weights(parameters, None, false);
        stack.forward(&weights, &packed, Input::Rows(rows), None, &mut tape);
        tape.output().iter().zip(&targets).map(|(o, t)| o * t).sum()
    };
    let mut tape = Tape::default();
    let weights = stack.weights(&parameters, None, true);
    stack.forward(&weights, &packed, Input::Rows(&rows), None, &mut tape);
    tape.output_and_gradient().1.copy_from_slice(&targets);
    let (mut gradient, mut d_rows) = (vec![0.0; layout.len()], vec![0.0; rows.len()]);
    let input = InputBack::Rows(&rows, Some(&mut d_rows));
    stack.backward(&weights, &packed, input, &mut tape, &mut gradient);
    let places: Vec<usize> = layout.places().step_by(3).collect();
    compare(&gradient, &parameters, &places, |p| loss(p, &rows));
    compare(&d_rows, &rows, &(0..rows.len()).collect::<Vec<_>>(), |rows| loss(&parameters, rows));
}

#[test]
fn gradients_of_a_stack_over_dense_rows_agree_in_one_direction_and_two() {
    dense_agrees(false);
    dense_agrees(true);
}

#[test]
fn a_sequence_without_events_is_scored_from_its_head_alone() {
    let net = Classifier::new(SHAPE);
    let parameters: Vec<f64> = net.initialise(1);
    let events = table(9, 1);
    let weights = net.weights(&parameters, &events, false);
    let mut scratch = Scratch::default();
    let (_, logits) = net.forward(&parameters, &weights, &[&[1, 2], &[]], None, &mut scratch);
    assert!(logits.len() == 4 && logits.iter().all(|l| l.is_finite()));
}

#[derive(serde::Deserialize)]
struct Golden {
    input: usize,
    hidden: usize,
    events: Vec<f64>,
    sequences: Vec<Vec<u32>>,
    classes: Vec<u32>,
    weights: Vec<f64>,
    parameters: std::collections::BTreeMap<String, Vec<f64>>,
    logits: Vec<Vec<f64>>,
    attention: Vec<Vec<f64>>,
    loss: f64,
    gradient: std::collections::BTreeMap<String, Vec<f64>>,
    adam_losses: Vec<f64>,
    sgd_losses: Vec<f64>,
}

fn golden<F: Real>() -> (Golden, Classifier, Vec<F>, Vec<F>) {
    let golden: Golden = serde_json::from_str(include_str!("golden.json")).unwrap();
    let net = Classifier::new(ClassifierShape { input: golden.input, hidden: golden.hidden, ..SHAPE });
    let mut parameters = vec![F::ZERO; net.layout().len()];
    assert_eq!(golden.parameters.len(), net.layout().tensors().len());
    for tensor in net.layout().tensors() {
        let values: Vec<F> = golden.parameters[&tensor.name].iter().map(|&v| F::of(v)).collect();
        net.layout().write(tensor, &mut parameters, &values);
    }
    let events = golden.events.iter().map(|&v| F::of(v)).collect();
    (golden, net, parameters, events)
}

fn agrees_with_pytorch<F: Real>(tolerance: f64) {
    let (golden, net, parameters, events) = golden::<F>();
    let sequences: Vec<&[u32]> = golden.sequences.iter().map(|s| &s[..]).collect();
    let near = |a: F, b: f64| (a.to_f64() - b).abs() < tolerance;
    let mut scratch = Scratch::default();
    let weights = net.weights(&parameters, &events, false);
    let (packed, logits) = net.forward(&parameters, &weights, &sequences, None, &mut scratch);
    assert!(logits.iter().zip(golden.logits.iter().flatten()).all(|(&a, &b)| near(a, b)));
    for (sequence, shares) in golden.attention.iter().enumerate() {
        let rows: Vec<usize> = packed.sequence(sequence).collect();
        assert_eq!(rows.len(), shares.len());
        assert!(rows.iter().zip(shares).all(|(&row, &b)| near(net.shares(&scratch)[row], b)));
    }
    let (loss, gradient) = loss_and_gradient(&golden, &net, &parameters, &events);
    assert!((loss - golden.loss).abs() < tolerance);
    for tensor in net.layout().tensors() {
        let got = net.layout().read(tensor, &gradient);
        let want = &golden.gradient[&tensor.name];
        assert!(got.iter().zip(want).all(|(&a, &b)| near(a, b)), "gradient of {}", tensor.name);
    }
}

fn loss_and_gradient<F: Real>(
    golden: &Golden,
    net: &Classifier,
    parameters: &[F],
    events: &[F],
) -> (f64, Vec<F>) {
    let batch: Vec<Example<'_>> = golden
        .sequences
        .iter()
        .zip(&golden.classes)
        .zip(&golden.weights)
        .map(|((events, &class), &weight)| Example { events, class, weight })
        .collect();
    let pass = Pass { scale: 1.0 / golden.weights.iter().sum::<f64>(), ..PLAIN };
    let mut workspace = Workspace::default();
    let loss = net.gradient(parameters, events, &batch, pass, &mut workspace);
    (loss, workspace.gradient)
}

#[test]
fn logits_attention_loss_and_gradients_are_pytorchs() {
    agrees_with_pytorch::<f64>(1e-8);
    agrees_with_pytorch::<f32>(2e-6);
}

#[test]
fn training_follows_pytorchs_trajectories() {
    let rules = [Rule::ADAM, Rule::Sgd { momentum: 0.9 }];
    for rule in rules {
        let (golden, net, mut parameters, events) = golden::<f64>();
        let mut optimiser = Optimiser::new(rule, parameters.len());
        let want = if rule == Rule::ADAM { &golden.adam_losses } else { &golden.sgd_losses };
        for (step, want) in want.iter().enumerate() {
            let (loss, gradient) = loss_and_gradient(&golden, &net, &parameters, &events);
            assert!((loss - want).abs() < 1e-7, "{rule:?}, step {step}: {loss} is not {want}");
            optimiser.step(&mut parameters, &gradient, 0.01);
        }
    }
}

#[test]
fn one_thread_and_several_give_the_same_bits() {
    let net = Classifier::new(ClassifierShape { input: 8, hidden: 10, ..SHAPE });
    let parameters: Vec<f32> = net.initialise(1);
    let events = table(7 * 8, 2);
    let sequences = sequences(600, 12, 7, 3);
    let batch = examples(&sequences);
    let pass = Pass { dropout: 0.3, seed: 4, ..PLAIN };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut workspace = Workspace::default();
        let loss = pool.install(|| net.gradient(&parameters, &events, &batch, pass, &mut workspace));
        (loss.to_bits(), workspace.gradient.iter().map(|g| g.to_bits()).collect::<Vec<_>>())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}
