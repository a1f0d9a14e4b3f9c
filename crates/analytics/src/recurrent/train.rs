//! Training a classifier: epochs of shuffled batches, a rate that may fall, early stopping.
//!
//! Everything random comes from the seed; nothing depends on the number of threads. The caller watches
//! through a callback, which sees every batch and, after every epoch, the parameters (to save them), and
//! which can end the run.

use std::ops::ControlFlow;

use super::classifier::{Classifier, Example, Pass, Workspace, softmax};
use super::optimiser::{Optimiser, Rule, clip};
use super::random::Random;
use super::score::Scorer;

/// How the learning rate moves over the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls along half a cosine to a hundredth of itself (Loshchilov and Hutter 2017, one cycle).
    Cosine,
}

/// The settings of a run.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Training {
    /// Passes over the examples.
    pub epochs: usize,
    /// Examples in a batch; equal ones of a batch are computed once.
    pub batch_size: usize,
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// How the rate moves.
    pub schedule: Schedule,
    /// How gradients move the parameters.
    pub rule: Rule,
    /// Share of outputs dropped between layers, in `[0, 1)`.
    pub dropout: f64,
    /// The longest gradient that is followed whole.
    pub clip: f64,
    /// Epochs without a better validation loss before the run ends; 0 never ends it early.
    pub patience: usize,
    /// Decides the order of examples and what is dropped.
    pub seed: u64,
}

/// What a watcher sees.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// A batch is done.
    Batch {
        /// The epoch, from 0.
        epoch: usize,
        /// The share of the epoch that is done, in `(0, 1]`.
        done: f64,
    },
    /// An epoch is done.
    Epoch {
        /// Its record, the last of the history so far.
        record: &'a Epoch,
        /// The parameters after it.
        parameters: &'a [f32],
    },
}

/// What is remembered of an epoch.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Its number, from 0.
    pub epoch: usize,
    /// The mean loss of the batches as they were trained on.
    pub loss: f64,
    /// The mean loss of the validation examples after it, if there are any.
    pub validation_loss: Option<f64>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// The validation loss no longer fell.
    Early,
    /// The watcher ended it.
    Cancelled,
}

/// A run's result.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The parameters of the best epoch by validation loss; of the last one without validation.
    pub parameters: Vec<f32>,
    /// All epochs.
    pub history: Vec<Epoch>,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TrainError {
    /// A setting is out of its range.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it was.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// There is nothing to learn from.
    #[error("there are no examples to train on")]
    NoExamples,
    /// The loss grew out of all bounds.
    #[error("training diverged in epoch {}: the loss reached {loss}; try a smaller learning rate", .epoch + 1)]
    Diverged {
        /// The epoch, from 0.
        epoch: usize,
        /// The loss then.
        loss: f64,
    },
}

impl Training {
    /// Checks every setting.
    pub fn check(&self) -> Result<(), TrainError> {
        let rules: [(&'static str, f64, bool, &'static str); 5] = [
            ("epochs", self.epochs as f64, self.epochs > 0, "at least 1"),
            ("batch_size", self.batch_size as f64, self.batch_size > 0, "at least 1"),
            (
                "learning_rate",
                self.learning_rate,
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                "a number above 0",
            ),
            ("dropout", self.dropout, (0.0..1.0).contains(&self.dropout), "at least 0 and below 1"),
            ("clip", self.clip, self.clip > 0.0, "a number above 0"),
        ];
        match rules.into_iter().find(|rule| !rule.2) {
            Some((name, value, _, expected)) => Err(TrainError::Setting { name, value, expected }),
            None => Ok(()),
        }
    }

    /// The learning rate when this share of the run is done.
    pub fn rate(&self, done: f64) -> f64 {
        let share = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Cosine => 0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.learning_rate * share
    }
}

/// Trains `parameters` on examples over the rows of `table`.
pub fn train(
    net: &Classifier,
    mut parameters: Vec<f32>,
    table: &[f32],
    examples: &[Example<'_>],
    validation: &[Example<'_>],
    settings: &Training,
    watch: &mut dyn FnMut(Moment<'_>) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    settings.check()?;
    let total: f64 = examples.iter().map(|example| example.weight).sum();
    if examples.is_empty() || total <= 0.0 {
        return Err(TrainError::NoExamples);
    }
    let mut run = Run { net, table, settings, examples, mean_weight: total / examples.len() as f64 };
    let mut optimiser = Optimiser::new(settings.rule, parameters.len());
    let mut workspace = Workspace::default();
    let mut history: Vec<Epoch> = Vec::new();
    let mut best: Option<(f64, usize, Vec<f32>)> = None;
    let mut ending = Ending::Finished;
    for epoch in 0..settings.epochs {
        let loss = run.epoch(epoch, &mut parameters, &mut optimiser, &mut workspace, watch)?;
        let Some(loss) = loss else {
            ending = Ending::Cancelled;
            break;
        };
        let validation_loss =
            (!validation.is_empty()).then(|| mean_loss(net, &parameters, table, validation));
        if let Some(loss) = validation_loss {
            if !loss.is_finite() {
                return Err(TrainError::Diverged { epoch, loss });
            }
            if best.as_ref().is_none_or(|(lowest, ..)| loss < *lowest) {
                best = Some((loss, epoch, parameters.clone()));
            }
        }
        history.push(Epoch { epoch, loss, validation_loss });
        let record = &history[epoch];
        if watch(Moment::Epoch { record, parameters: &parameters }).is_break() {
            ending = Ending::Cancelled;
            break;
        }
        let waited = best.as_ref().map_or(0, |(_, at, _)| epoch - at);
        if settings.patience > 0 && waited >= settings.patience {
            ending = Ending::Early;
            break;
        }
    }
    let parameters = best.map_or(parameters, |(.., parameters)| parameters);
    Ok(Trained { parameters, history, ending })
}

/// The mean cross-entropy of examples, by their weights.
pub fn mean_loss(net: &Classifier, parameters: &[f32], table: &[f32], examples: &[Example<'_>]) -> f64 {
    let sequences: Vec<&[u32]> = examples.iter().map(|example| example.events).collect();
    let scored = Scorer::new(net, parameters, table).score(&sequences, false);
    let loss = |(example, scored): (&Example<'_>, &super::score::Scored<f32>)| {
        let probability = softmax(&scored.logits)[example.class as usize];
        -example.weight * probability.max(f64::MIN_POSITIVE).ln()
    };
    let total: f64 = examples.iter().map(|example| example.weight).sum();
    examples.iter().zip(&scored).map(loss).sum::<f64>() / total
}

/// Equal examples as one of their joint weight (the same gradient for less work), longest first.
pub fn merge(mut examples: Vec<Example<'_>>) -> Vec<Example<'_>> {
    let key = |example: &Example<'_>| (std::cmp::Reverse(example.events.len()), example.class);
    examples.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.events.cmp(b.events)));
    let mut merged: Vec<Example<'_>> = Vec::with_capacity(examples.len());
    for example in examples {
        match merged.last_mut() {
            Some(last) if last.class == example.class && last.events == example.events => {
                last.weight += example.weight;
            }
            _ => merged.push(example),
        }
    }
    merged
}

/// Examples whose equals were merged, cut again into copies of at most `heaviest`: an example of great
/// weight would push a whole batch its way, while its copies fall into different batches.
pub fn spread<'a>(examples: &[Example<'a>], heaviest: f64) -> Vec<Example<'a>> {
    let copies = |example: &Example<'a>| {
        let copies = (example.weight / heaviest.max(f64::MIN_POSITIVE)).ceil().max(1.0);
        let copy = Example { weight: example.weight / copies, ..*example };
        std::iter::repeat_n(copy, copies as usize)
    };
    examples.iter().flat_map(copies).collect()
}

/// A mean loss (in nats) that only a network gone astray has: guessing costs the logarithm of the number
/// of classes.
const HOPELESS: f64 = 10.0;

struct Run<'a> {
    net: &'a Classifier,
    table: &'a [f32],
    settings: &'a Training,
    examples: &'a [Example<'a>],
    mean_weight: f64,
}

impl Run<'_> {
    /// One pass; `None` when the watcher ended it.
    fn epoch(
        &mut self,
        epoch: usize,
        parameters: &mut [f32],
        optimiser: &mut Optimiser<f32>,
        workspace: &mut Workspace<f32>,
        watch: &mut dyn FnMut(Moment<'_>) -> ControlFlow<()>,
    ) -> Result<Option<f64>, TrainError> {
        let Self { net, table, settings, examples, mean_weight } = *self;
        let mut order: Vec<usize> = (0..examples.len()).collect();
        Random::stream(settings.seed, &[0, epoch as u64]).shuffle(&mut order);
        let batches = examples.len().div_ceil(settings.batch_size);
        let mut loss = 0.0;
        for (at, chunk) in order.chunks(settings.batch_size).enumerate() {
            let batch = merge(chunk.iter().map(|&index| examples[index]).collect());
            let pass = Pass {
                scale: 1.0 / (chunk.len() as f64 * mean_weight),
                dropout: settings.dropout,
                seed: Random::stream(settings.seed, &[1, epoch as u64, at as u64]).bits(),
            };
            let batch_loss = net.gradient(parameters, table, &batch, pass, workspace);
            let norm = clip(&mut workspace.gradient, settings.clip);
            if !batch_loss.is_finite() || !norm.is_finite() {
                return Err(TrainError::Diverged { epoch, loss: batch_loss + norm });
            }
            loss += batch_loss * chunk.len() as f64 / examples.len() as f64;
            let done = (epoch * batches + at) as f64 / (settings.epochs * batches) as f64;
            optimiser.step(parameters, &workspace.gradient, settings.rate(done));
            let done = (at + 1) as f64 / batches as f64;
            if watch(Moment::Batch { epoch, done }).is_break() {
                return Ok(None);
            }
        }
        if loss > HOPELESS { Err(TrainError::Diverged { epoch, loss }) } else { Ok(Some(loss)) }
    }
}
