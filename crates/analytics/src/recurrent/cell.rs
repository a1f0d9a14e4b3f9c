//! The element-wise half of one LSTM step (Hochreiter and Schmidhuber 1997, with forget gates), fused
//! into one pass over the gates, forward and backward.
//!
//! A row of gates holds four runs of `width` numbers: input, forget, candidate, output. Before the step
//! they are sums; after it they are the activations, which the backward step turns into gradients in
//! place.

use std::sync::LazyLock;

use pulp::{Arch, NullaryFnOnce};

use super::real::Real;

/// The instruction set of this processor, asked once.
pub(super) fn arch() -> Arch {
    static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);
    *ARCH
}

/// The forward half of a step for the rows of `gates`.
pub(super) struct Forward<'a, F> {
    /// Numbers in a run of gates.
    pub width: usize,
    /// Sums in, activations out.
    pub gates: &'a mut [F],
    /// The cell states one step earlier; absent for rows that begin here.
    pub before: Option<&'a [F]>,
    /// The cell states, written.
    pub cells: &'a mut [F],
    /// The first output of the rows, written; rows are `out_step` apart.
    pub out: &'a mut [F],
    /// The distance between rows of `out`.
    pub out_step: usize,
}

impl<F: Real> NullaryFnOnce for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.width;
        for (row, gates) in self.gates.chunks_exact_mut(4 * width).enumerate() {
            let (input, rest) = gates.split_at_mut(width);
            let (forget, rest) = rest.split_at_mut(width);
            let (candidate, output) = rest.split_at_mut(width);
            let output = &mut output[..width];
            let cells = &mut self.cells[row * width..][..width];
            let out = &mut self.out[row * self.out_step..][..width];
            let before = self.before.map(|before| &before[row * width..][..width]);
            for k in 0..width {
                let i = input[k].sigmoid();
                let z = candidate[k].hyperbolic_tangent();
                let f = forget[k].sigmoid();
                let o = output[k].sigmoid();
                let kept = before.map_or(F::ZERO, |before| before[k]);
                let cell = f.fused(kept, i * z);
                (input[k], forget[k], candidate[k], output[k]) = (i, f, z, o);
                cells[k] = cell;
                out[k] = o * cell.hyperbolic_tangent();
            }
        }
    }
}

/// The backward half of a step for the rows of `gates`.
pub(super) struct Backward<'a, F> {
    /// Numbers in a run of gates.
    pub width: usize,
    /// Activations in, gradients of the sums out.
    pub gates: &'a mut [F],
    /// The cell states one step earlier; absent for rows that began here.
    pub before: Option<&'a [F]>,
    /// The cell states.
    pub cells: &'a [F],
    /// The gradient of the outputs from above; rows are `out_step` apart.
    pub d_out: &'a [F],
    /// The distance between rows of `d_out`.
    pub out_step: usize,
    /// The gradient of the outputs from the step after.
    pub d_hidden: &'a [F],
    /// The gradient of the cell states: from the step after in, for the step before out.
    pub d_cell: &'a mut [F],
}

impl<F: Real> NullaryFnOnce for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.width;
        for (row, gates) in self.gates.chunks_exact_mut(4 * width).enumerate() {
            let (input, rest) = gates.split_at_mut(width);
            let (forget, rest) = rest.split_at_mut(width);
            let (candidate, output) = rest.split_at_mut(width);
            let output = &mut output[..width];
            let cells = &self.cells[row * width..][..width];
            let d_out = &self.d_out[row * self.out_step..][..width];
            let d_hidden = &self.d_hidden[row * width..][..width];
            let d_cell = &mut self.d_cell[row * width..][..width];
            let before = self.before.map(|before| &before[row * width..][..width]);
            for k in 0..width {
                let (i, f, z, o) = (input[k], forget[k], candidate[k], output[k]);
                let kept = before.map_or(F::ZERO, |before| before[k]);
                let squashed = cells[k].hyperbolic_tangent();
                let d = d_out[k] + d_hidden[k];
                let d_state = (d * o).fused(F::ONE - squashed * squashed, d_cell[k]);
                output[k] = d * squashed * o * (F::ONE - o);
                input[k] = d_state * z * i * (F::ONE - i);
                forget[k] = d_state * kept * f * (F::ONE - f);
                candidate[k] = d_state * i * (F::ONE - z * z);
                d_cell[k] = d_state * f;
            }
        }
    }
}
