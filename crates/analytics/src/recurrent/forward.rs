//! The forward pass of a [`Stack`].

use std::ops::Range;

use super::cell::{Forward, arch};
use super::matrix::{Output, View, ViewMut, multiply};
use super::packed::Packed;
use super::real::Real;
use super::stack::{Dropout, Input, LayerTape, Stack, Tape, Weights};

impl Stack {
    /// Computes the outputs of every row into `tape`.
    pub fn forward<F: Real>(
        &self,
        weights: &Weights<'_, F>,
        packed: &Packed,
        input: Input<'_, F>,
        mut dropout: Option<Dropout<'_>>,
        tape: &mut Tape<F>,
    ) {
        tape.layers.resize_with(self.shape.layers, LayerTape::default);
        for layer in 0..self.shape.layers {
            let (below, above) = tape.layers.split_at_mut(layer);
            let current = &mut above[0];
            current.output.resize(packed.rows() * self.output_width(), F::ZERO);
            for direction in 0..self.directions() {
                let at = layer * self.directions() + direction;
                let gates = &mut current.gates[direction];
                gates.clear();
                match below.last() {
                    Some(below) => self.project(weights, at, below.passed_on(), packed.rows(), gates),
                    None => match input {
                        Input::Rows(rows) => self.project(weights, at, rows, packed.rows(), gates),
                        Input::Table(ids) => self.look_up(weights, direction, ids, gates),
                    },
                }
                self.run(weights, at, packed, current);
            }
            current.kept.clear();
            if let Some(dropout) = dropout.as_mut().filter(|_| layer + 1 < self.shape.layers) {
                current.drop_out(dropout);
            }
        }
    }

    fn project<F: Real>(
        &self,
        weights: &Weights<'_, F>,
        at: usize,
        rows: &[F],
        n: usize,
        gates: &mut Vec<F>,
    ) {
        let (cell, width) = (&self.cells[at], self.gate_width());
        for _ in 0..n {
            gates.extend_from_slice(&weights.biases[at]);
        }
        let from_input = View::new(&weights.parameters[cell.from_input.clone()], cell.input, width);
        multiply(ViewMut::new(gates, n, width), Output::Add, View::new(rows, n, cell.input), from_input);
    }

    fn look_up<F: Real>(&self, weights: &Weights<'_, F>, direction: usize, ids: &[u32], gates: &mut Vec<F>) {
        let width = self.gate_width();
        for &id in ids {
            gates.extend_from_slice(&weights.projected[direction][id as usize * width..][..width]);
        }
    }

    /// The steps of one layer and direction over gates that hold the projected input.
    fn run<F: Real>(&self, weights: &Weights<'_, F>, at: usize, packed: &Packed, layer: &mut LayerTape<F>) {
        let (padded, width, out_step) = (self.padded, self.gate_width(), self.output_width());
        let direction = at % self.directions();
        let from_hidden = &weights.parameters[self.cells[at].from_hidden.clone()];
        let LayerTape { gates, cells, output, .. } = layer;
        let (gates, cells) = (&mut gates[direction], &mut cells[direction]);
        cells.resize(packed.rows() * padded, F::ZERO);
        let mut fresh = vec![F::ZERO; packed.active(0) * padded];
        for turn in 0..packed.steps() {
            let step = if direction == 0 { turn } else { packed.steps() - 1 - turn };
            let rows = packed.step(step);
            let before = earlier(packed, step, direction);
            let common = before.len().min(rows.len());
            let gates = &mut gates[rows.start * width..rows.end * width];
            if common > 0 {
                let hidden = &output[before.start * out_step + direction * padded..];
                multiply(
                    ViewMut::new(gates, common, width),
                    Output::Add,
                    View::strided(hidden, common, padded, out_step),
                    View::new(from_hidden, padded, width),
                );
            }
            // The states are written beside those they are read from, so they pass through a buffer.
            let fresh = &mut fresh[..rows.len() * padded];
            let out = &mut output[rows.start * out_step + direction * padded..];
            let (joined, begun) = gates.split_at_mut(common * width);
            let (joined_cells, begun_cells) = fresh.split_at_mut(common * padded);
            let before = Some(&cells[before.start * padded..][..common * padded]);
            arch().dispatch(Forward {
                width: padded,
                gates: joined,
                before,
                cells: joined_cells,
                out,
                out_step,
            });
            if !begun.is_empty() {
                let out = &mut out[common * out_step..];
                let before = None;
                arch().dispatch(Forward {
                    width: padded,
                    gates: begun,
                    before,
                    cells: begun_cells,
                    out,
                    out_step,
                });
            }
            cells[rows.start * padded..rows.end * padded].copy_from_slice(fresh);
        }
    }
}

impl<F: Real> LayerTape<F> {
    fn drop_out(&mut self, dropout: &mut Dropout<'_>) {
        let scale = F::of(1.0 / (1.0 - dropout.rate));
        let random = &mut dropout.random;
        let kept = self.output.iter().map(|_| if random.unit() < dropout.rate { F::ZERO } else { scale });
        self.kept.extend(kept);
        self.dropped.clear();
        self.dropped.extend(self.output.iter().zip(&self.kept).map(|(&value, &kept)| value * kept));
    }
}

/// The rows of the step that a direction ran just before `step`; empty at its first.
pub(super) fn earlier(packed: &Packed, step: usize, direction: usize) -> Range<usize> {
    match direction {
        0 => step.checked_sub(1).map_or(0..0, |before| packed.step(before)),
        _ => packed.step(step + 1),
    }
}
