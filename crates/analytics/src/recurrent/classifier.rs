//! LogRobust's network (Zhang et al., ESEC/FSE 2019) as it was meant: a stack of bidirectional LSTM
//! layers over the vectors of a sequence's events, attention that is trained, and a small head.
//!
//! An *example* is a sequence of events, given as rows of a table of event vectors, with its class and
//! its weight (equal examples are merged into one that weighs as much). The loss is the weighted sum of
//! cross-entropies times a scale that the caller chooses.

use super::dense::Dense;
use super::layout::{Axis, Layout, Tensor};
use super::packed::Packed;
use super::pool::{Attention, Pool, PoolTape, Rows};
use super::random::Random;
use super::real::Real;
use super::shards;
use super::stack::{Dropout, Input, InputBack, Stack, StackShape, Tape, Weights};

/// Sequences of one shard: enough rows for full products, few enough to share a small batch.
pub const SHARD: usize = 32;

/// The sizes and forms of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ClassifierShape {
    /// Numbers in an event's vector.
    pub input: usize,
    /// Hidden units of one direction.
    pub hidden: usize,
    /// Bidirectional layers.
    pub layers: usize,
    /// Classes.
    pub classes: usize,
    /// Whether steps count by trained scores; else all the same, as in the first LogRobust server.
    pub attention: bool,
    /// What numbers below zero are multiplied by between the two layers of the head: 1 leaves them, as
    /// the first LogRobust server did; 0 is a rectifier, whose units can die; 0.1 is neither.
    pub slope: f64,
}

/// The network; its parameters are kept apart, in one flat vector.
#[derive(Clone, Debug)]
pub struct Classifier {
    shape: ClassifierShape,
    layout: Layout,
    stack: Stack,
    pool: Pool,
    first: Dense,
    second: Dense,
}

/// A sequence of rows of the table of events, its class and its weight.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Rows of the table, in order.
    pub events: &'a [u32],
    /// The class, below [`ClassifierShape::classes`].
    pub class: u32,
    /// How many equal examples this one stands for.
    pub weight: f64,
}

/// What one shard computes in; reused.
#[derive(Default)]
pub struct Scratch<F> {
    tape: Tape<F>,
    pool: PoolTape<F>,
    hidden: Vec<F>,
    logits: Vec<F>,
    d_hidden: Vec<F>,
    d_pooled: Vec<F>,
    gradient: Vec<F>,
    tables: Vec<Vec<F>>,
    loss: f64,
}

/// The buffers of a training run and the gradient of its last batch.
#[derive(Default)]
pub struct Workspace<F> {
    scratches: Vec<Scratch<F>>,
    tables: Vec<Vec<F>>,
    /// The gradient, laid out as the parameters.
    pub gradient: Vec<F>,
}

/// What a batch's gradient is computed with.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Every loss is multiplied by it.
    pub scale: f64,
    /// Share of outputs dropped between layers, in `[0, 1)`.
    pub dropout: f64,
    /// Where the dropping comes from; give each batch its own.
    pub seed: u64,
}

impl Classifier {
    /// The network of a shape.
    pub fn new(shape: ClassifierShape) -> Self {
        let mut layout = Layout::default();
        let ClassifierShape { input, hidden, layers, .. } = shape;
        let stack_shape = StackShape { input, hidden, layers, bidirectional: true };
        let stack = Stack::new(&mut layout, "lstm", stack_shape);
        let rows = stack.output_axis();
        let pool = if shape.attention {
            Pool::Attention(Attention::new(&mut layout, "attention", rows))
        } else {
            Pool::Mean
        };
        let hidden = Axis::plain(shape.hidden);
        let first = Dense::new(&mut layout, "fc1", rows, hidden);
        let second = Dense::new(&mut layout, "fc2", hidden, Axis::plain(shape.classes));
        Self { shape, layout, stack, pool, first, second }
    }

    /// About how many bytes one step of a sequence takes in [`Classifier::forward`].
    pub fn step_memory<F>(&self) -> usize {
        // Of each layer: the gates and cells of each direction, and the outputs, which the pool keeps too.
        let (gates, outputs) = (self.stack.gate_width(), self.stack.output_width());
        let layer = self.stack.directions() * (gates + gates / 4) + 2 * outputs;
        self.shape.layers * layer * size_of::<F>() + 16
    }

    /// About how many bytes an event of the table takes in [`Classifier::weights`].
    pub fn event_memory<F>(&self) -> usize {
        self.stack.directions() * self.stack.gate_width() * size_of::<F>()
    }

    /// The sizes and forms.
    pub fn shape(&self) -> ClassifierShape {
        self.shape
    }

    /// The places of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Random parameters to start from, drawn as PyTorch draws them.
    pub fn initialise<F: Real>(&self, seed: u64) -> Vec<F> {
        let bound = |tensor: &Tensor| {
            let inputs = match tensor.name.as_str() {
                name if name.starts_with("lstm.") || name.starts_with("fc2.") => self.shape.hidden,
                _ => 2 * self.shape.hidden,
            };
            1.0 / (inputs as f64).sqrt()
        };
        self.layout.initialise(&mut Random::new(seed), bound)
    }

    /// The parameters in the forms that passes want; `table` is the vectors of the events.
    pub fn weights<'a, F: Real>(&self, parameters: &'a [F], table: &[F], train: bool) -> Weights<'a, F> {
        self.stack.weights(parameters, Some(table), train)
    }

    /// The logits of sequences, a row of classes each, and the attention shares in `scratch`.
    ///
    /// Sequences come from the longest to the shortest.
    pub fn forward<'s, F: Real>(
        &self,
        parameters: &[F],
        weights: &Weights<'_, F>,
        sequences: &[&[u32]],
        dropout: Option<Dropout<'_>>,
        scratch: &'s mut Scratch<F>,
    ) -> (Packed, &'s [F]) {
        let packed = Packed::new(&sequences.iter().map(|events| events.len()).collect::<Vec<_>>());
        let ids = packed.lay_out(sequences);
        self.stack.forward(weights, &packed, Input::Table(&ids), dropout, &mut scratch.tape);
        let width = self.stack.output_width();
        let rows = Rows { packed: &packed, data: scratch.tape.output(), width };
        self.pool.forward(parameters, rows, &mut scratch.pool);
        // A sequence without events has nothing to pool: its row is zero.
        scratch.pool.pooled.resize(sequences.len() * width, F::ZERO);
        self.first.forward(parameters, &scratch.pool.pooled, &mut scratch.hidden);
        let slope = F::of(self.shape.slope);
        scratch.hidden.iter_mut().filter(|value| **value < F::ZERO).for_each(|value| *value *= slope);
        self.second.forward(parameters, &scratch.hidden, &mut scratch.logits);
        (packed, &scratch.logits)
    }

    /// The attention share of every step of the sequences of the last [`Classifier::forward`].
    pub fn shares<'s, F>(&self, scratch: &'s Scratch<F>) -> &'s [F] {
        &scratch.pool.shares
    }

    /// The loss of a batch, and its gradient in `workspace`.
    ///
    /// Bit for bit the same on any number of threads. Examples come from the longest to the shortest.
    pub fn gradient<F: Real>(
        &self,
        parameters: &[F],
        table: &[F],
        batch: &[Example<'_>],
        pass: Pass,
        workspace: &mut Workspace<F>,
    ) -> f64 {
        let weights = self.weights(parameters, table, true);
        let size = table.len() / self.shape.input.max(1) * self.stack.gate_width();
        let Workspace { scratches, tables, gradient } = workspace;
        gradient.clear();
        gradient.resize(self.layout.len(), F::ZERO);
        tables.clear();
        tables.resize(self.stack.directions(), vec![F::ZERO; size]);
        let mut loss = 0.0;
        let work = |shard: usize, range: std::ops::Range<usize>, scratch: &mut Scratch<F>| {
            scratch.clear(self.layout.len(), self.stack.directions(), size);
            self.shard(parameters, &weights, &batch[range], shard, pass, scratch);
        };
        shards::run(batch.len(), SHARD, scratches, work, |_, scratch| {
            loss += scratch.loss;
            add(gradient, &scratch.gradient);
            for (sum, table) in tables.iter_mut().zip(&scratch.tables) {
                add(sum, table);
            }
        });
        self.stack.finish_table(table, tables, gradient);
        loss
    }

    fn shard<F: Real>(
        &self,
        parameters: &[F],
        weights: &Weights<'_, F>,
        examples: &[Example<'_>],
        shard: usize,
        pass: Pass,
        scratch: &mut Scratch<F>,
    ) {
        let sequences: Vec<&[u32]> = examples.iter().map(|example| example.events).collect();
        let mut random = Random::stream(pass.seed, &[shard as u64]);
        let dropout = (pass.dropout > 0.0).then_some(Dropout { rate: pass.dropout, random: &mut random });
        let (packed, _) = self.forward(parameters, weights, &sequences, dropout, scratch);
        let ids = packed.lay_out(&sequences);
        let Scratch { tape, pool, hidden, logits, d_hidden, d_pooled, gradient, tables, loss } = scratch;
        *loss = cross_entropy(logits, self.shape.classes, examples, pass.scale);
        self.second.backward(parameters, hidden, logits, d_hidden, gradient);
        // The sign of a unit survives its slope, unless the slope is zero: then so is its gradient.
        let slope = F::of(self.shape.slope);
        let below = |value: F| value < F::ZERO || (value == F::ZERO && slope == F::ZERO);
        d_hidden
            .iter_mut()
            .zip(hidden.iter())
            .filter(|(_, value)| below(**value))
            .for_each(|(d, _)| *d *= slope);
        self.first.backward(parameters, &pool.pooled, d_hidden, d_pooled, gradient);
        let (data, d_rows) = tape.output_and_gradient();
        let rows = Rows { packed: &packed, data, width: self.stack.output_width() };
        self.pool.backward(parameters, rows, d_pooled, pool, d_rows, gradient);
        self.stack.backward(weights, &packed, InputBack::Table(&ids, tables), tape, gradient);
    }
}

impl<F: Real> Scratch<F> {
    fn clear(&mut self, parameters: usize, directions: usize, table: usize) {
        self.gradient.clear();
        self.gradient.resize(parameters, F::ZERO);
        self.tables.resize_with(directions, Vec::new);
        for sums in &mut self.tables {
            sums.clear();
            sums.resize(table, F::ZERO);
        }
    }
}

/// Turns logits into the gradient of the loss; returns the loss.
fn cross_entropy<F: Real>(logits: &mut [F], classes: usize, examples: &[Example<'_>], scale: f64) -> f64 {
    let mut loss = 0.0;
    for (row, example) in logits.chunks_exact_mut(classes).zip(examples) {
        let weight = example.weight * scale;
        let probabilities = softmax(row);
        let class = example.class as usize;
        loss -= weight * probabilities[class].max(f64::MIN_POSITIVE).ln();
        for (index, (value, p)) in row.iter_mut().zip(probabilities).enumerate() {
            let target = if index == class { 1.0 } else { 0.0 };
            *value = F::of(weight * (p - target));
        }
    }
    loss
}

/// The probabilities of a row of logits.
pub fn softmax<F: Real>(logits: &[F]) -> Vec<f64> {
    let highest = logits.iter().map(|l| l.to_f64()).fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = logits.iter().map(|l| (l.to_f64() - highest).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.into_iter().map(|part| part / sum).collect()
}

fn add<F: Real>(sums: &mut [F], values: &[F]) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}
