//! The network of the global forecaster: LSTM layers over days, a head with a direct day of quantiles.
//!
//! A step of the sequence is a whole day, so a fortnight is fourteen steps. What the last step leaves
//! is joined with features of the window, passes one hidden layer, and is added to a base forecast for
//! every hour and quantile. The loss is the quantile loss (Koenker and Bassett, 1978).

use crate::forecast::DAY;
use crate::recurrent::dense::Dense;
use crate::recurrent::layout::{Axis, Layout, Tensor};
use crate::recurrent::packed::Packed;
use crate::recurrent::random::Random;
use crate::recurrent::real::Real;
use crate::recurrent::shards;
use crate::recurrent::stack::{Dropout, Input, InputBack, Stack, StackShape, Tape, Weights};

/// The quantiles of each hour; the middle one is the forecast.
pub const QUANTILES: [f64; 5] = [0.025, 0.1, 0.5, 0.9, 0.975];

/// Which of [`QUANTILES`] is the forecast.
pub const MIDDLE: usize = 2;

/// Numbers of an answer: 24 hours of each quantile in turn.
pub const OUTPUTS: usize = QUANTILES.len() * DAY;

/// How much the loss of each quantile counts: the forecast itself counts most.
const SHARES: [f64; 5] = [0.3, 0.3, 1.0, 0.3, 0.3];

/// Sequences of one shard.
const SHARD: usize = 32;

/// What numbers below zero are multiplied by in the head.
const SLOPE: f64 = 0.1;

/// The sizes of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Numbers of a step.
    pub token: usize,
    /// Features beside the sequence.
    pub side: usize,
    /// Hidden units of a layer, a multiple of 16.
    pub hidden: usize,
    /// LSTM layers.
    pub layers: usize,
    /// Units of the head.
    pub head: usize,
}

/// What the network reads of one window.
#[derive(Clone, Debug)]
pub struct Sight<F> {
    /// Steps of the sequence, oldest first.
    pub tokens: Vec<F>,
    /// Features of the window.
    pub side: Vec<F>,
    /// The forecast that answers are added to.
    pub base: [F; DAY],
}

/// A window with what followed it.
#[derive(Clone, Debug)]
pub struct Sample<F> {
    /// What was known.
    pub sight: Sight<F>,
    /// What came; a `NaN` is a gap.
    pub day: [F; DAY],
    /// How much it counts.
    pub weight: f64,
}

/// The network; its parameters are kept apart, in one flat vector.
#[derive(Clone, Debug)]
pub struct Net {
    shape: Shape,
    layout: Layout,
    stack: Stack,
    first: Dense,
    second: Dense,
}

/// What one shard computes in; reused.
#[derive(Default)]
pub struct Scratch<F> {
    tape: Tape<F>,
    joined: Vec<F>,
    hidden: Vec<F>,
    out: Vec<F>,
    kept: Vec<F>,
    d_hidden: Vec<F>,
    d_joined: Vec<F>,
    gradient: Vec<F>,
    loss: f64,
}

/// The buffers of a training run and the gradient of its last batch.
#[derive(Default)]
pub struct Workspace<F> {
    scratches: Vec<Scratch<F>>,
    /// The gradient, laid out as the parameters.
    pub gradient: Vec<F>,
}

/// What a batch's gradient is computed with.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Every loss is multiplied by it.
    pub scale: f64,
    /// Share of the head's units that are left out, in `[0, 1)`.
    pub dropout: f64,
    /// Where the leaving out comes from; give each batch its own.
    pub seed: u64,
}

impl Net {
    /// The network of a shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let mut layout = Layout::default();
        let stack_shape = StackShape {
            input: shape.token,
            hidden: shape.hidden,
            layers: shape.layers,
            bidirectional: false,
        };
        let stack = Stack::new(&mut layout, "lstm", stack_shape);
        let joined = Axis::plain(stack.output_width() + shape.side);
        let head = Axis::plain(shape.head);
        let first = Dense::new(&mut layout, "head1", joined, head);
        let second = Dense::new(&mut layout, "head2", head, Axis::plain(OUTPUTS));
        Self { shape, layout, stack, first, second }
    }

    /// The places of the parameters.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Random parameters to start from; the last layer starts near zero, so that the base forecast is
    /// the first answer.
    #[must_use]
    pub fn initialise<F: Real>(&self, seed: u64) -> Vec<F> {
        let bound = |tensor: &Tensor| match tensor.name.as_str() {
            name if name.starts_with("lstm.") => 1.0 / (self.shape.hidden as f64).sqrt(),
            name if name.starts_with("head1.") => {
                1.0 / ((self.stack.output_width() + self.shape.side) as f64).sqrt()
            }
            _ => 0.1 / (self.shape.head as f64).sqrt(),
        };
        self.layout.initialise(&mut Random::new(seed), bound)
    }

    /// The parameters in the forms that passes want.
    #[must_use]
    pub fn weights<'a, F: Real>(&self, parameters: &'a [F], train: bool) -> Weights<'a, F> {
        self.stack.weights(parameters, None, train)
    }

    /// The answers to windows, [`OUTPUTS`] each, in the windows' own units; windows come from the longest
    /// to the shortest.
    pub fn forward<'s, F: Real>(
        &self,
        parameters: &[F],
        weights: &Weights<'_, F>,
        sights: &[&Sight<F>],
        dropout: Option<Dropout<'_>>,
        scratch: &'s mut Scratch<F>,
    ) -> (Packed, Vec<F>, &'s [F]) {
        let token = self.shape.token;
        let lengths: Vec<usize> = sights.iter().map(|sight| sight.tokens.len() / token).collect();
        let packed = Packed::new(&lengths);
        let mut rows = Vec::with_capacity(packed.rows() * token);
        for step in 0..packed.steps() {
            for sight in &sights[..packed.active(step)] {
                rows.extend_from_slice(&sight.tokens[step * token..(step + 1) * token]);
            }
        }
        self.stack.forward(weights, &packed, Input::Rows(&rows), None, &mut scratch.tape);
        let width = self.stack.output_width();
        scratch.joined.clear();
        for (at, sight) in sights.iter().enumerate() {
            let last = packed.row(at, lengths[at].saturating_sub(1)).expect("a window has a day");
            scratch.joined.extend_from_slice(&scratch.tape.output()[last * width..(last + 1) * width]);
            scratch.joined.extend_from_slice(&sight.side);
        }
        self.first.forward(parameters, &scratch.joined, &mut scratch.hidden);
        let slope = F::of(SLOPE);
        scratch.hidden.iter_mut().filter(|v| **v < F::ZERO).for_each(|v| *v *= slope);
        scratch.kept.clear();
        if let Some(Dropout { rate, random }) = dropout {
            let scale = F::of(1.0 / (1.0 - rate));
            let keep = |_: &F| if random.unit() < rate { F::ZERO } else { scale };
            scratch.kept.extend(scratch.hidden.iter().map(keep));
            scratch.hidden.iter_mut().zip(&scratch.kept).for_each(|(v, k)| *v *= *k);
        }
        self.second.forward(parameters, &scratch.hidden, &mut scratch.out);
        for (out, sight) in scratch.out.chunks_exact_mut(OUTPUTS).zip(sights) {
            for quantile in out.chunks_exact_mut(DAY) {
                quantile.iter_mut().zip(&sight.base).for_each(|(o, b)| *o += *b);
            }
        }
        (packed, rows, &scratch.out)
    }

    /// The loss of a batch, and its gradient in `workspace`: bit for bit the same on any number of
    /// threads. Samples come from the longest to the shortest.
    pub fn gradient<F: Real>(
        &self,
        parameters: &[F],
        batch: &[&Sample<F>],
        pass: Pass,
        workspace: &mut Workspace<F>,
    ) -> f64 {
        let weights = self.weights(parameters, true);
        let Workspace { scratches, gradient } = workspace;
        gradient.clear();
        gradient.resize(self.layout.len(), F::ZERO);
        let mut loss = 0.0;
        let work = |shard: usize, range: std::ops::Range<usize>, scratch: &mut Scratch<F>| {
            scratch.gradient.clear();
            scratch.gradient.resize(self.layout.len(), F::ZERO);
            self.shard(parameters, &weights, &batch[range], shard, pass, scratch);
        };
        shards::run(batch.len(), SHARD, scratches, work, |_, scratch| {
            loss += scratch.loss;
            gradient.iter_mut().zip(&scratch.gradient).for_each(|(sum, g)| *sum += *g);
        });
        loss
    }

    fn shard<F: Real>(
        &self,
        parameters: &[F],
        weights: &Weights<'_, F>,
        samples: &[&Sample<F>],
        shard: usize,
        pass: Pass,
        scratch: &mut Scratch<F>,
    ) {
        let sights: Vec<&Sight<F>> = samples.iter().map(|sample| &sample.sight).collect();
        let mut random = Random::stream(pass.seed, &[shard as u64]);
        let dropout = (pass.dropout > 0.0).then_some(Dropout { rate: pass.dropout, random: &mut random });
        let (packed, rows, _) = self.forward(parameters, weights, &sights, dropout, scratch);
        let Scratch { tape, joined, hidden, out, kept, d_hidden, d_joined, gradient, loss } = scratch;
        *loss = quantile_loss(out, samples, pass.scale);
        self.second.backward(parameters, hidden, out, d_hidden, gradient);
        d_hidden.iter_mut().zip(kept.iter()).for_each(|(d, k)| *d *= *k);
        let slope = F::of(SLOPE);
        d_hidden.iter_mut().zip(hidden.iter()).filter(|(_, v)| **v < F::ZERO).for_each(|(d, _)| *d *= slope);
        self.first.backward(parameters, joined, d_hidden, d_joined, gradient);
        let width = self.stack.output_width();
        let (_, d_rows) = tape.output_and_gradient();
        d_rows.fill(F::ZERO);
        for (at, sample) in samples.iter().enumerate() {
            let last = sample.sight.tokens.len() / self.shape.token - 1;
            let row = packed.row(at, last).expect("a window has a day");
            let from = at * (width + self.shape.side);
            d_rows[row * width..(row + 1) * width].copy_from_slice(&d_joined[from..from + width]);
        }
        self.stack.backward(weights, &packed, InputBack::Rows(&rows, None), tape, gradient);
    }
}

/// Turns answers into the gradient of the loss; returns the loss.
fn quantile_loss<F: Real>(out: &mut [F], samples: &[&Sample<F>], scale: f64) -> f64 {
    let mut loss = 0.0;
    for (row, sample) in out.chunks_exact_mut(OUTPUTS).zip(samples) {
        for ((quantile, level), share) in row.chunks_exact_mut(DAY).zip(QUANTILES).zip(SHARES) {
            let weight = sample.weight * scale * share;
            for (value, came) in quantile.iter_mut().zip(&sample.day) {
                if !came.finite() {
                    *value = F::ZERO;
                    continue;
                }
                let above = came.to_f64() - value.to_f64();
                let side = if above > 0.0 { level } else { level - 1.0 };
                loss += weight * side * above;
                *value = F::of(-weight * side);
            }
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { token: 3, side: 2, hidden: 16, layers: 2, head: 5 };

    fn samples(count: usize) -> Vec<Sample<f64>> {
        let mut random = Random::new(5);
        let mut some = |n: usize| (0..n).map(|_| random.normal()).collect::<Vec<f64>>();
        let one = |at: usize| {
            let sight = Sight {
                tokens: some(3 * (4 - at % 3)),
                side: some(2),
                base: std::array::from_fn(|h| h as f64),
            };
            let mut day: [f64; DAY] = std::array::from_fn(|h| h as f64 + (h * 7919 % 13) as f64 - 6.0);
            day[at % DAY] = f64::NAN;
            Sample { sight, day, weight: 1.0 + at as f64 }
        };
        let mut all: Vec<_> = (0..count).map(one).collect();
        all.sort_by_key(|sample| std::cmp::Reverse(sample.sight.tokens.len()));
        all
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let net = Net::new(SHAPE);
        let mut parameters: Vec<f64> = net.initialise(3);
        let samples = samples(5);
        let batch: Vec<&Sample<f64>> = samples.iter().collect();
        let pass = Pass { scale: 0.1, dropout: 0.3, seed: 9 };
        let mut workspace = Workspace::default();
        net.gradient(&parameters, &batch, pass, &mut workspace);
        let gradient = workspace.gradient.clone();
        let places: Vec<usize> = net.layout().places().collect();
        for place in places.into_iter().step_by(37) {
            let step = 1e-6;
            let mut at = |by: f64| {
                parameters[place] += by;
                let loss = net.gradient(&parameters, &batch, pass, &mut Workspace::default());
                parameters[place] -= by;
                loss
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!((slope - gradient[place]).abs() < 1e-4 * (1.0 + slope.abs()), "at {place}: {slope}");
        }
    }

    #[test]
    fn the_gradient_is_the_same_on_any_number_of_threads() {
        let net = Net::new(SHAPE);
        let parameters: Vec<f64> = net.initialise(3);
        let samples = samples(150);
        let batch: Vec<&Sample<f64>> = samples.iter().collect();
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut workspace = Workspace::default();
            let pass = Pass { scale: 1.0, dropout: 0.2, seed: 1 };
            pool.install(|| net.gradient(&parameters, &batch, pass, &mut workspace));
            workspace.gradient
        };
        assert_eq!(of(1), of(3));
    }
}
