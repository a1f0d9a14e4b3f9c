//! A dense layer: rows times a matrix, plus a bias. The head of a classifier or a forecaster.

use std::ops::Range;

use super::layout::{Axis, Layout};
use super::matrix::{Output, View, ViewMut, multiply};
use super::real::Real;

/// A dense layer's place among the parameters.
#[derive(Clone, Debug)]
pub struct Dense {
    weight: Range<usize>,
    bias: Range<usize>,
    inputs: usize,
    outputs: usize,
}

impl Dense {
    /// Adds `{name}.weight` and `{name}.bias` to `layout`.
    pub fn new(layout: &mut Layout, name: &str, inputs: Axis, outputs: Axis) -> Self {
        Self {
            weight: layout.add(format!("{name}.weight"), outputs, Some(inputs)),
            bias: layout.add(format!("{name}.bias"), outputs, None),
            inputs: inputs.stored(),
            outputs: outputs.stored(),
        }
    }

    /// Numbers in a row of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Replaces `out` by a row of outputs for each row of `rows`.
    pub fn forward<F: Real>(&self, parameters: &[F], rows: &[F], out: &mut Vec<F>) {
        let n = rows.len() / self.inputs;
        out.clear();
        for _ in 0..n {
            out.extend_from_slice(&parameters[self.bias.clone()]);
        }
        let weight = View::new(&parameters[self.weight.clone()], self.inputs, self.outputs);
        let rows = View::new(rows, n, self.inputs);
        multiply(ViewMut::new(out, n, self.outputs), Output::Add, rows, weight);
    }

    /// Adds the gradients of the parameters to `gradient` and replaces `d_rows` by that of the rows.
    pub fn backward<F: Real>(
        &self,
        parameters: &[F],
        rows: &[F],
        d_out: &[F],
        d_rows: &mut Vec<F>,
        gradient: &mut [F],
    ) {
        let n = rows.len() / self.inputs;
        let d_out_view = View::new(d_out, n, self.outputs);
        let d_weight = &mut gradient[self.weight.clone()];
        multiply(
            ViewMut::new(d_weight, self.inputs, self.outputs),
            Output::Add,
            View::new(rows, n, self.inputs).transposed(),
            d_out_view,
        );
        for row in d_out.chunks_exact(self.outputs) {
            for (sum, &value) in gradient[self.bias.clone()].iter_mut().zip(row) {
                *sum += value;
            }
        }
        d_rows.resize(rows.len(), F::ZERO);
        let weight = View::new(&parameters[self.weight.clone()], self.inputs, self.outputs);
        multiply(ViewMut::new(d_rows, n, self.inputs), Output::Replace, d_out_view, weight.transposed());
    }
}
