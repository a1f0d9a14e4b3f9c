//! The backward pass of a [`Stack`]: back-propagation through time over the tape that forward filled.

use super::cell::{Backward, arch};
use super::forward::earlier;
use super::matrix::{Output, View, ViewMut, multiply};
use super::packed::Packed;
use super::real::Real;
use super::stack::{InputBack, LayerTape, Stack, Tape, Weights};

impl Stack {
    /// Adds the gradients of the parameters to `gradient`, from the gradient of the outputs that was put
    /// in the tape ([`Tape::output_and_gradient`]).
    pub fn backward<F: Real>(
        &self,
        weights: &Weights<'_, F>,
        packed: &Packed,
        mut input: InputBack<'_, F>,
        tape: &mut Tape<F>,
        gradient: &mut [F],
    ) {
        for layer in (0..self.shape.layers).rev() {
            for direction in 0..self.directions() {
                let at = layer * self.directions() + direction;
                self.run_back(weights, at, packed, layer, tape);
                self.gather_recurrent(at, packed, layer, tape, gradient);
                let add = if direction == 0 { Output::Replace } else { Output::Add };
                let (below, above) = tape.layers.split_at_mut(layer);
                let gates = &above[0].gates[direction];
                if let Some(below) = below.last_mut() {
                    below.d_output.resize(below.output.len(), F::ZERO);
                    let d_rows = &mut below.d_output;
                    self.gather_bias(at, gates, gradient);
                    let rows = if below.kept.is_empty() { &below.output } else { &below.dropped };
                    self.gather_input(at, rows, gates, gradient);
                    self.input_back(weights, at, gates, d_rows, add);
                } else {
                    match &mut input {
                        InputBack::Table(ids, tables) => {
                            scatter(ids, gates, self.gate_width(), &mut tables[direction]);
                        }
                        InputBack::Rows(rows, d_rows) => {
                            self.gather_bias(at, gates, gradient);
                            self.gather_input(at, rows, gates, gradient);
                            if let Some(d_rows) = d_rows {
                                self.input_back(weights, at, gates, d_rows, add);
                            }
                        }
                    }
                }
            }
            if let Some(below) = layer.checked_sub(1) {
                tape.layers[below].undrop();
            }
        }
    }

    /// Turns activations into gradients of the sums, from the last step run to the first.
    fn run_back<F: Real>(
        &self,
        weights: &Weights<'_, F>,
        at: usize,
        packed: &Packed,
        layer: usize,
        tape: &mut Tape<F>,
    ) {
        let (padded, width, out_step) = (self.padded, self.gate_width(), self.output_width());
        let direction = at % self.directions();
        let Tape { layers, d_hidden, d_cell, .. } = tape;
        let LayerTape { gates, cells, d_output, .. } = &mut layers[layer];
        let (gates, cells) = (&mut gates[direction], &cells[direction]);
        for buffer in [&mut *d_hidden, &mut *d_cell] {
            buffer.clear();
            buffer.resize(packed.active(0) * padded, F::ZERO);
        }
        for turn in (0..packed.steps()).rev() {
            let step = if direction == 0 { turn } else { packed.steps() - 1 - turn };
            let rows = packed.step(step);
            let before = earlier(packed, step, direction);
            let common = before.len().min(rows.len());
            let gates = &mut gates[rows.start * width..rows.end * width];
            let (joined, begun) = gates.split_at_mut(common * width);
            let halves = [
                (joined, 0, Some(&cells[before.start * padded..][..common * padded])),
                (begun, common, None),
            ];
            for (gates, first, before) in halves {
                arch().dispatch(Backward {
                    width: padded,
                    gates,
                    before,
                    cells: &cells[(rows.start + first) * padded..rows.end * padded],
                    d_out: &d_output
                        [((rows.start + first) * out_step + direction * padded).min(d_output.len())..],
                    out_step,
                    d_hidden: &d_hidden[first * padded..],
                    d_cell: &mut d_cell[first * padded..],
                });
            }
            if common > 0 {
                multiply(
                    ViewMut::new(&mut d_hidden[..common * padded], common, padded),
                    Output::Replace,
                    View::new(&gates[..common * width], common, width),
                    View::new(&weights.hidden_transposed[at], width, padded),
                );
            }
        }
    }

    /// The gradient of the recurrent weights: outputs one step earlier times gradients of the gates.
    fn gather_recurrent<F: Real>(
        &self,
        at: usize,
        packed: &Packed,
        layer: usize,
        tape: &mut Tape<F>,
        gradient: &mut [F],
    ) {
        let (padded, width, out_step) = (self.padded, self.gate_width(), self.output_width());
        let direction = at % self.directions();
        let Tape { layers, shifted, .. } = tape;
        let LayerTape { gates, output, .. } = &layers[layer];
        shifted.clear();
        for step in 0..packed.steps() {
            let before = earlier(packed, step, direction);
            let rows = packed.active(step);
            let common = before.len().min(rows);
            for row in before.take(common) {
                let start = row * out_step + direction * padded;
                shifted.extend_from_slice(&output[start..start + padded]);
            }
            shifted.resize(shifted.len() + (rows - common) * padded, F::ZERO);
        }
        multiply(
            ViewMut::new(&mut gradient[self.cells[at].from_hidden.clone()], padded, width),
            Output::Add,
            View::new(shifted, packed.rows(), padded).transposed(),
            View::new(&gates[direction], packed.rows(), width),
        );
    }

    fn gather_input<F: Real>(&self, at: usize, rows: &[F], gates: &[F], gradient: &mut [F]) {
        let (cell, width) = (&self.cells[at], self.gate_width());
        let n = gates.len() / width;
        multiply(
            ViewMut::new(&mut gradient[cell.from_input.clone()], cell.input, width),
            Output::Add,
            View::new(rows, n, cell.input).transposed(),
            View::new(gates, n, width),
        );
    }

    fn gather_bias<F: Real>(&self, at: usize, gates: &[F], gradient: &mut [F]) {
        let cell = &self.cells[at];
        for row in gates.chunks_exact(self.gate_width()) {
            for range in [&cell.bias_input, &cell.bias_hidden] {
                for (sum, &value) in gradient[range.clone()].iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
    }

    fn input_back<F: Real>(
        &self,
        weights: &Weights<'_, F>,
        at: usize,
        gates: &[F],
        d_rows: &mut [F],
        output: Output,
    ) {
        let (cell, width) = (&self.cells[at], self.gate_width());
        let n = gates.len() / width;
        multiply(
            ViewMut::new(d_rows, n, cell.input),
            output,
            View::new(gates, n, width),
            View::new(&weights.input_transposed[at], width, cell.input),
        );
    }

    /// Adds the gradients of the first layer's input weights and biases from the gathered gradients of
    /// the projected table.
    pub fn finish_table<F: Real>(&self, events: &[F], tables: &[Vec<F>], gradient: &mut [F]) {
        for (at, table) in tables.iter().enumerate().take(self.directions()) {
            self.gather_bias(at, table, gradient);
            self.gather_input(at, events, table, gradient);
        }
    }
}

impl<F: Real> LayerTape<F> {
    fn undrop(&mut self) {
        for (value, &kept) in self.d_output.iter_mut().zip(&self.kept) {
            *value *= kept;
        }
    }
}

fn scatter<F: Real>(ids: &[u32], gates: &[F], width: usize, table: &mut [F]) {
    for (&id, row) in ids.iter().zip(gates.chunks_exact(width)) {
        for (sum, &value) in table[id as usize * width..][..width].iter_mut().zip(row) {
            *sum += value;
        }
    }
}
