//! The global LSTM: one network over the days of all series, with a direct day of quantiles.
//!
//! A window is seen in its own units, as [`super::pooled`] sees it, and values are drawn together by
//! the inverse hyperbolic sine, so that one spike does not drown a fortnight. The network answers with
//! what is to be added to the pooled linear forecast, for every hour and quantile; days beyond the
//! first are forecast from the forecast. Training is decided by its seed to the last bit, on any
//! number of threads of the same kind of processor.

pub mod net;

use std::sync::Arc;

use rayon::prelude::*;

use super::pooled::{Example, Pooled, Window, series_errors};
use super::{DAY, WEEK, stats};
use crate::recurrent::optimiser::{Optimiser, Rule, clip};
use crate::recurrent::random::Random;
use net::{MIDDLE, Net, OUTPUTS, Pass, QUANTILES, Sample, Scratch, Shape, Sight, Workspace};

/// Numbers of a step: a day, how long ago it was, and whether it was the same day of the week.
const TOKEN: usize = DAY + 2;

/// Features beside the sequence.
const SIDE: usize = 3 * DAY + 15 + 5 + 2;

/// The shape that is trained and served.
pub const SHAPE: Shape = Shape { token: TOKEN, side: SIDE, hidden: 64, layers: 1, head: 96 };

/// How the network is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schooling {
    /// Passes over the windows; 0 leaves the network out.
    pub epochs: usize,
    /// Windows of a batch.
    pub batch: usize,
    /// The learning rate at the start; it falls along half a cosine.
    pub rate: f64,
    /// Share of the head's units left out of a step.
    pub dropout: f64,
    /// Decides the start, the order and what is left out.
    pub seed: u64,
}

impl Default for Schooling {
    fn default() -> Self {
        Self { epochs: 8, batch: 256, rate: 3e-3, dropout: 0.1, seed: 1 }
    }
}

/// The trained network with the linear model that it adds to.
#[derive(Debug, Clone)]
pub struct Lstm {
    pooled: Arc<Pooled>,
    net: Net,
    parameters: Vec<f32>,
}

impl PartialEq for Lstm {
    fn eq(&self, other: &Self) -> bool {
        self.parameters == other.parameters && self.pooled == other.pooled
    }
}

impl Lstm {
    /// The network of given tensors, by their names; `None` when one is missing, of another size or not
    /// finite.
    #[must_use]
    pub fn from_tensors(pooled: Arc<Pooled>, tensor: impl Fn(&str) -> Option<Vec<f32>>) -> Option<Self> {
        let net = Net::new(SHAPE);
        let mut parameters = vec![0.0; net.layout().len()];
        for place in net.layout().tensors() {
            let values = tensor(&place.name)?;
            let right = values.len() == place.shape().iter().product::<usize>();
            if !right || !values.iter().all(|v| v.is_finite()) {
                return None;
            }
            net.layout().write(place, &mut parameters, &values);
        }
        Some(Self { pooled, net, parameters })
    }

    /// Name, shape and numbers of every tensor.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let layout = self.net.layout();
        let of = |t: &crate::recurrent::layout::Tensor| {
            (t.name.clone(), t.shape(), layout.read(t, &self.parameters))
        };
        layout.tensors().iter().map(of).collect()
    }

    /// Learns from examples. As in the pooled model every series counts alike: a window weighs one over
    /// the floor's error on its series.
    #[must_use]
    pub fn learn(pooled: Arc<Pooled>, examples: &[Example], how: &Schooling) -> Self {
        let units = series_errors(examples, |example| example.window.naive());
        let mut samples: Vec<Sample<f32>> = examples
            .par_iter()
            .filter_map(|example| {
                let (window, unit) = (&example.window, units[example.series]);
                if window.size <= 0.0 || unit <= 0.0 {
                    return None;
                }
                let came = |step: usize| {
                    let value = example.day.get(step).copied().unwrap_or(f64::NAN);
                    window.relative(value).clamp(-50.0, 50.0) as f32
                };
                let day = std::array::from_fn(came);
                Some(Sample { sight: sight(&pooled, window), day, weight: (window.size / unit).min(5.0) })
            })
            .collect();
        samples.sort_by_key(|sample| std::cmp::Reverse(sample.sight.tokens.len()));
        let net = Net::new(SHAPE);
        let parameters = train(&net, &samples, how);
        Self { pooled, net, parameters }
    }

    /// The quantiles of the day after a window, in the metric's unit, each hour's in order.
    #[must_use]
    pub fn quantiles(&self, window: &Window) -> Vec<[f64; QUANTILES.len()]> {
        let sight = sight(&self.pooled, window);
        let weights = self.net.weights(&self.parameters, false);
        let mut scratch = Scratch::default();
        let (_, _, out) = self.net.forward(&self.parameters, &weights, &[&sight], None, &mut scratch);
        let hour = |step: usize| {
            let mut of_hour: [f64; QUANTILES.len()] =
                std::array::from_fn(|q| window.level + window.size * f64::from(out[q * DAY + step]));
            of_hour.sort_unstable_by(f64::total_cmp);
            of_hour
        };
        debug_assert_eq!(out.len(), OUTPUTS);
        (0..DAY).map(hour).collect()
    }

    /// Forecasts the hours after `values`, of which there is at least a day.
    #[must_use]
    pub fn forecast(&self, values: &[f64], horizon: usize) -> Vec<f64> {
        let mut known = values[values.len().saturating_sub(4 * WEEK)..].to_vec();
        let mut out = Vec::with_capacity(horizon + DAY);
        while out.len() < horizon {
            let day = self.quantiles(&Window::new(&known)).into_iter().map(|hour| hour[MIDDLE]);
            let from = out.len();
            out.extend(day);
            known.extend(&out[from..]);
        }
        out.truncate(horizon);
        out
    }
}

/// What the network reads of a window.
fn sight(pooled: &Pooled, window: &Window) -> Sight<f32> {
    let squash = |value: f64| value.asinh() as f32;
    let count = window.days.len() / DAY;
    let mut tokens = Vec::with_capacity(count * TOKEN);
    for (at, day) in window.days.chunks_exact(DAY).enumerate() {
        let ago = count - at;
        tokens.extend(day.iter().map(|v| squash(f64::from(*v))));
        tokens.push(ago as f32 / 14.0);
        tokens.push(if ago % 7 == 0 { 1.0 } else { 0.0 });
    }
    let base = pooled.relative_day(window).map(|v| v.clamp(-50.0, 50.0) as f32);
    let mut side = Vec::with_capacity(SIDE);
    side.extend(base.iter().map(|v| squash(f64::from(*v))));
    side.extend(window.week[WEEK - DAY..].iter().map(|v| squash(*v)));
    let median = |step: usize| {
        let mut of_step: [f64; 7] = std::array::from_fn(|day| window.week[day * DAY + step]);
        stats::median_in_place(&mut of_step)
    };
    side.extend((0..DAY).map(|step| squash(median(step))));
    side.extend(window.common.iter().map(|v| squash(*v)));
    side.extend(window.gates.iter().map(|v| *v as f32));
    side.push(count as f32 / 14.0);
    side.push(if count >= 7 { 1.0 } else { 0.0 });
    Sight { tokens, side, base }
}

/// Trains a network from its start; samples come from the longest to the shortest.
fn train(net: &Net, samples: &[Sample<f32>], how: &Schooling) -> Vec<f32> {
    let mut parameters: Vec<f32> = net.initialise(how.seed);
    let mut optimiser = Optimiser::new(Rule::ADAM, parameters.len());
    let mut workspace = Workspace::default();
    let mean_weight = stats::mean(&samples.iter().map(|s| s.weight).collect::<Vec<_>>());
    let batches = samples.len().div_ceil(how.batch.max(1));
    let mut order: Vec<usize> = (0..samples.len()).collect();
    for epoch in 0..how.epochs {
        Random::stream(how.seed, &[0, epoch as u64]).shuffle(&mut order);
        for (at, chunk) in order.chunks(how.batch.max(1)).enumerate() {
            // Samples are in order of length, so that of places is, too.
            let mut places = chunk.to_vec();
            places.sort_unstable();
            let batch: Vec<&Sample<f32>> = places.iter().map(|&place| &samples[place]).collect();
            let pass = Pass {
                scale: 1.0 / (chunk.len() as f64 * DAY as f64 * mean_weight),
                dropout: how.dropout,
                seed: Random::stream(how.seed, &[1, epoch as u64, at as u64]).bits(),
            };
            net.gradient(&parameters, &batch, pass, &mut workspace);
            clip(&mut workspace.gradient, 1.0);
            let done = (epoch * batches + at) as f64 / (how.epochs * batches) as f64;
            let rate = how.rate * (0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()));
            optimiser.step(&mut parameters, &workspace.gradient, rate);
        }
    }
    parameters
}
