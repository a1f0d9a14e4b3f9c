//! From a row for each step to one row for each sequence: attention, or the plain mean.
//!
//! Attention (Yang et al. 2016; without their bias) scores a row `h` by `u . tanh(W h)`, turns the
//! scores of a sequence's own rows into shares that sum to one, and adds the rows by their shares. Rows
//! that a sequence does not have are never made, so there is nothing to mask. The mean gives every row
//! the same share.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::cell::arch;
use super::layout::{Axis, Layout};
use super::matrix::{Output, View, ViewMut, multiply};
use super::packed::Packed;
use super::real::Real;

/// How the rows of a sequence become one.
#[derive(Clone, Debug)]
pub enum Pool {
    /// Every row counts the same.
    Mean,
    /// Rows count by trained scores.
    Attention(Attention),
}

/// The places of the trained scores' parameters.
#[derive(Clone, Debug)]
pub struct Attention {
    matrix: Range<usize>,
    vector: Range<usize>,
}

/// The rows to pool.
#[derive(Clone, Copy)]
pub struct Rows<'a, F> {
    /// Their places.
    pub packed: &'a Packed,
    /// Their numbers.
    pub data: &'a [F],
    /// Numbers in a row.
    pub width: usize,
}

impl<'a, F> Rows<'a, F> {
    fn row(&self, row: usize) -> &'a [F] {
        &self.data[row * self.width..][..self.width]
    }

    fn view(&self) -> View<'a, F> {
        View::new(self.data, self.packed.rows(), self.width)
    }
}

/// What forward keeps for backward.
#[derive(Default)]
pub struct PoolTape<F> {
    /// `tanh(W h)`, row by row.
    squashed: Vec<F>,
    /// The share of each row in its sequence, in packed order.
    pub shares: Vec<F>,
    /// The result, a row for each sequence.
    pub pooled: Vec<F>,
    d_shares: Vec<F>,
}

impl Attention {
    /// Adds `{name}.weight` (the matrix) and `{name}.context` (the vector) to `layout`.
    pub fn new(layout: &mut Layout, name: &str, rows: Axis) -> Self {
        Self {
            matrix: layout.add(format!("{name}.weight"), rows, Some(rows)),
            vector: layout.add(format!("{name}.context"), rows, None),
        }
    }
}

impl Pool {
    /// Pools the rows into `tape`.
    pub fn forward<F: Real>(&self, parameters: &[F], rows: Rows<'_, F>, tape: &mut PoolTape<F>) {
        let Rows { packed, width, .. } = rows;
        tape.shares.clear();
        match self {
            Self::Mean => tape.shares.resize(packed.rows(), F::ZERO),
            Self::Attention(attention) => {
                tape.squashed.resize(rows.data.len(), F::ZERO);
                let matrix = View::new(&parameters[attention.matrix.clone()], width, width);
                let squashed = ViewMut::new(&mut tape.squashed, packed.rows(), width);
                multiply(squashed, Output::Replace, rows.view(), matrix);
                arch().dispatch(Squash(&mut tape.squashed));
                let vector = &parameters[attention.vector.clone()];
                let scores = tape.squashed.chunks_exact(width).map(|row| dot(row, vector));
                tape.shares.extend(scores);
            }
        }
        softmax(packed, &mut tape.shares);
        tape.pooled.clear();
        tape.pooled.resize(packed.active(0) * width, F::ZERO);
        for step in 0..packed.steps() {
            for (sequence, row) in packed.step(step).enumerate() {
                let pooled = &mut tape.pooled[sequence * width..][..width];
                add_scaled(pooled, tape.shares[row], rows.row(row));
            }
        }
    }

    /// Adds the gradients of the parameters to `gradient` and replaces `d_rows` by that of the rows,
    /// given that of the pooled rows.
    pub fn backward<F: Real>(
        &self,
        parameters: &[F],
        rows: Rows<'_, F>,
        d_pooled: &[F],
        tape: &mut PoolTape<F>,
        d_rows: &mut [F],
        gradient: &mut [F],
    ) {
        let Rows { packed, width, .. } = rows;
        d_rows.fill(F::ZERO);
        for step in 0..packed.steps() {
            for (sequence, row) in packed.step(step).enumerate() {
                let d_pooled = &d_pooled[sequence * width..][..width];
                add_scaled(&mut d_rows[row * width..][..width], tape.shares[row], d_pooled);
            }
        }
        let Self::Attention(attention) = self else { return };
        tape.score_gradient(rows, d_pooled);
        let vector = &parameters[attention.vector.clone()];
        let d_vector = &mut gradient[attention.vector.clone()];
        let rows_of = tape.squashed.chunks_exact_mut(width);
        for (squashed, &d_score) in rows_of.zip(&tape.d_shares) {
            add_scaled(d_vector, d_score, squashed);
            for (value, &weight) in squashed.iter_mut().zip(vector) {
                *value = d_score * weight * (F::ONE - *value * *value);
            }
        }
        let d_squashed = View::new(&tape.squashed, packed.rows(), width);
        let d_matrix = ViewMut::new(&mut gradient[attention.matrix.clone()], width, width);
        multiply(d_matrix, Output::Add, rows.view().transposed(), d_squashed);
        let matrix = View::new(&parameters[attention.matrix.clone()], width, width);
        multiply(ViewMut::new(d_rows, packed.rows(), width), Output::Add, d_squashed, matrix.transposed());
    }
}

impl<F: Real> PoolTape<F> {
    /// The gradient of the scores: of each share, less the mean of its sequence, by the share.
    fn score_gradient(&mut self, rows: Rows<'_, F>, d_pooled: &[F]) {
        let Rows { packed, width, .. } = rows;
        let mut means = vec![F::ZERO; packed.active(0)];
        self.d_shares.clear();
        for step in 0..packed.steps() {
            for (sequence, row) in packed.step(step).enumerate() {
                let d_share = dot(rows.row(row), &d_pooled[sequence * width..][..width]);
                means[sequence] += d_share * self.shares[row];
                self.d_shares.push(d_share);
            }
        }
        for step in 0..packed.steps() {
            for (sequence, row) in packed.step(step).enumerate() {
                self.d_shares[row] = self.shares[row] * (self.d_shares[row] - means[sequence]);
            }
        }
    }
}

/// Turns the scores of each sequence's rows into shares of one.
fn softmax<F: Real>(packed: &Packed, scores: &mut [F]) {
    let sequences = packed.active(0);
    let mut highest: Vec<F> = scores[..sequences].to_vec();
    let mut sums = vec![F::ZERO; sequences];
    for step in 0..packed.steps() {
        for (highest, &score) in highest.iter_mut().zip(&scores[packed.step(step)]) {
            if score > *highest {
                *highest = score;
            }
        }
    }
    for step in 0..packed.steps() {
        for (sequence, score) in scores[packed.step(step)].iter_mut().enumerate() {
            *score = (*score - highest[sequence]).exponential();
            sums[sequence] += *score;
        }
    }
    for step in 0..packed.steps() {
        for (score, &sum) in scores[packed.step(step)].iter_mut().zip(&sums) {
            *score /= sum;
        }
    }
}

struct Squash<'a, F>(&'a mut [F]);

impl<F: Real> NullaryFnOnce for Squash<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for value in self.0 {
            *value = value.hyperbolic_tangent();
        }
    }
}

fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    // Sixteen running sums, so that the order of additions does not forbid vector instructions.
    let mut sums = [F::ZERO; 16];
    let (a_chunks, b_chunks) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: F = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&x, &y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..16 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.into_iter().sum::<F>() + rest
}

fn add_scaled<F: Real>(out: &mut [F], scale: F, values: &[F]) {
    for (sum, &value) in out.iter_mut().zip(values) {
        *sum += scale * value;
    }
}
