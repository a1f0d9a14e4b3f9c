//! Layers of LSTM cells over packed sequences, in one or both directions: the part that a classifier
//! and a forecaster share.
//!
//! A layer projects the inputs of all its rows at once; then each step is one small matrix product and
//! one fused pass ([`super::cell`]). Backward mirrors it, with one large product for each weight matrix.
//! The first layer takes dense rows, or the rows of a table of events: a log has few distinct events, so
//! each is projected once and looked up, and its gradient gathered in the table.
//!
//! Words: a *tape* keeps what forward computed and backward needs; *weights* are the parameters of a
//! step in the forms that the products want, made once for all threads.

use std::ops::Range;

use super::layout::{Axis, Layout};
use super::matrix::{Output, View, ViewMut, multiply, transpose};
use super::random::Random;
use super::real::Real;

/// Hidden sizes are padded to this many numbers, one 512-bit register of `f32`.
const LANES: usize = 16;

/// The sizes of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackShape {
    /// Numbers in an input row.
    pub input: usize,
    /// Hidden units of one direction.
    pub hidden: usize,
    /// Layers, each reading the outputs of the one below.
    pub layers: usize,
    /// Whether every layer also reads its input backwards.
    pub bidirectional: bool,
}

/// Where the parameters of one layer and direction lie.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) input: usize,
    pub(super) from_input: Range<usize>,
    pub(super) from_hidden: Range<usize>,
    pub(super) bias_input: Range<usize>,
    pub(super) bias_hidden: Range<usize>,
}

/// A stack of LSTM layers; its parameters lie in a [`Layout`] under PyTorch's names.
#[derive(Clone, Debug)]
pub struct Stack {
    pub(super) shape: StackShape,
    pub(super) padded: usize,
    /// Direction by direction within layer by layer.
    pub(super) cells: Vec<Cell>,
}

/// The rows that a stack reads.
#[derive(Clone, Copy)]
pub enum Input<'a, F> {
    /// Rows of numbers, in packed order.
    Rows(&'a [F]),
    /// For each row, in packed order, the row of the table that the weights were made with.
    Table(&'a [u32]),
}

/// The rows that a stack read, and where their gradient goes.
pub enum InputBack<'a, F> {
    /// The rows, and a place like theirs if their own gradient is wanted (replaced).
    Rows(&'a [F], Option<&'a mut [F]>),
    /// The rows of the table, and the gradient of the projected table of each direction (added);
    /// [`Stack::finish_table`] ends the work.
    Table(&'a [u32], &'a mut [Vec<F>]),
}

/// The parameters of a stack in the forms that its products want.
pub struct Weights<'a, F> {
    pub(super) parameters: &'a [F],
    pub(super) biases: Vec<Vec<F>>,
    pub(super) hidden_transposed: Vec<Vec<F>>,
    pub(super) input_transposed: Vec<Vec<F>>,
    /// The events of the table, projected for each direction of the first layer.
    pub(super) projected: Vec<Vec<F>>,
}

/// What forward keeps for backward. Reused from batch to batch.
#[derive(Default)]
pub struct Tape<F> {
    pub(super) layers: Vec<LayerTape<F>>,
    pub(super) d_hidden: Vec<F>,
    pub(super) d_cell: Vec<F>,
    pub(super) shifted: Vec<F>,
}

#[derive(Default)]
pub(super) struct LayerTape<F> {
    pub(super) gates: [Vec<F>; 2],
    pub(super) cells: [Vec<F>; 2],
    pub(super) output: Vec<F>,
    pub(super) d_output: Vec<F>,
    /// What each output was multiplied by before the next layer; empty without dropout.
    pub(super) kept: Vec<F>,
    pub(super) dropped: Vec<F>,
}

impl<F> LayerTape<F> {
    /// What the next layer reads.
    pub(super) fn passed_on(&self) -> &[F] {
        if self.kept.is_empty() { &self.output } else { &self.dropped }
    }
}

impl<F: Real> Tape<F> {
    /// The outputs of the last layer, a row of [`Stack::output_width`] for each packed row.
    pub fn output(&self) -> &[F] {
        self.layers.last().map_or(&[], |layer| &layer.output)
    }

    /// The outputs of the last layer, and the place for their gradient.
    pub fn output_and_gradient(&mut self) -> (&[F], &mut [F]) {
        match self.layers.last_mut() {
            Some(layer) => {
                layer.d_output.resize(layer.output.len(), F::ZERO);
                (&layer.output, &mut layer.d_output)
            }
            None => (&[], &mut []),
        }
    }
}

/// Between layers, each output is dropped with probability `rate` and the others scaled up.
pub struct Dropout<'a> {
    /// The share dropped, in `[0, 1)`.
    pub rate: f64,
    /// Where the choice comes from.
    pub random: &'a mut Random,
}

impl Stack {
    /// Adds the parameters of a stack to `layout` under `prefix` (PyTorch: `lstm`).
    pub fn new(layout: &mut Layout, prefix: &str, shape: StackShape) -> Self {
        let padded = shape.hidden.next_multiple_of(LANES);
        let directions = if shape.bidirectional { 2 } else { 1 };
        let gates = Axis { blocks: 4, size: shape.hidden, padded };
        let hidden = Axis { blocks: 1, size: shape.hidden, padded };
        let mut cells = Vec::new();
        for layer in 0..shape.layers {
            let input = if layer == 0 {
                Axis::plain(shape.input)
            } else {
                Axis { blocks: directions, size: shape.hidden, padded }
            };
            for direction in 0..directions {
                let tail = if direction == 1 { "_reverse" } else { "" };
                let mut add =
                    |what: &str, inputs| layout.add(format!("{prefix}.{what}_l{layer}{tail}"), gates, inputs);
                cells.push(Cell {
                    input: input.stored(),
                    from_input: add("weight_ih", Some(input)),
                    from_hidden: add("weight_hh", Some(hidden)),
                    bias_input: add("bias_ih", None),
                    bias_hidden: add("bias_hh", None),
                });
            }
        }
        Self { shape, padded, cells }
    }

    /// The sizes.
    pub fn shape(&self) -> StackShape {
        self.shape
    }

    /// The output side of the stack, for the layer on top of it.
    pub fn output_axis(&self) -> Axis {
        Axis { blocks: self.directions(), size: self.shape.hidden, padded: self.padded }
    }

    /// Numbers in a row of outputs, padding included.
    pub fn output_width(&self) -> usize {
        self.output_axis().stored()
    }

    /// The directions, 1 or 2.
    pub fn directions(&self) -> usize {
        if self.shape.bidirectional { 2 } else { 1 }
    }

    /// Numbers in a row of gates, and so in a row of a projected table.
    pub fn gate_width(&self) -> usize {
        4 * self.padded
    }

    /// Makes the weights of `parameters`; `table` holds the events that [`Input::Table`] looks up, and
    /// `train` adds what backward needs.
    pub fn weights<'a, F: Real>(
        &self,
        parameters: &'a [F],
        table: Option<&[F]>,
        train: bool,
    ) -> Weights<'a, F> {
        let width = self.gate_width();
        let biases = self.cells.iter().map(|cell| {
            let hidden = &parameters[cell.bias_hidden.clone()];
            parameters[cell.bias_input.clone()].iter().zip(hidden).map(|(&a, &b)| a + b).collect()
        });
        let biases: Vec<Vec<F>> = biases.collect();
        let projected = table.map_or_else(Vec::new, |events| {
            let project = |(cell, bias): (&Cell, &Vec<F>)| {
                let rows = events.len() / self.shape.input;
                let mut out = bias.repeat(rows);
                let weights = View::new(&parameters[cell.from_input.clone()], self.shape.input, width);
                let events = View::new(events, rows, self.shape.input);
                multiply(ViewMut::new(&mut out, rows, width), Output::Add, events, weights);
                out
            };
            self.cells[..self.directions()].iter().zip(&biases).map(project).collect()
        });
        let (mut hidden_transposed, mut input_transposed) = (Vec::new(), Vec::new());
        if train {
            for cell in &self.cells {
                hidden_transposed.push(transpose(&parameters[cell.from_hidden.clone()], self.padded, width));
                input_transposed.push(transpose(&parameters[cell.from_input.clone()], cell.input, width));
            }
        }
        Weights { parameters, biases, hidden_transposed, input_transposed, projected }
    }
}
