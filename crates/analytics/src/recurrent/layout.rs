//! Where the tensors of a network lie in its one flat vector of parameters.
//!
//! One vector makes averaging, optimising and saving loops over a slice. A tensor is stored as
//! `[inputs, outputs]`, so that a row of inputs times it is one product; PyTorch names and shapes
//! (`[outputs, inputs]`) are the form in which tensors are read and written. Hidden sizes are padded to
//! whole vector registers: the padding of weights starts at zero, its gradient is exactly zero, and so
//! it stays zero.

use std::ops::Range;

use super::random::Random;
use super::real::Real;

/// One side of a tensor: `blocks` runs of `size` numbers, each run stored `padded` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The number of runs.
    pub blocks: usize,
    /// Numbers in a run.
    pub size: usize,
    /// Numbers stored for a run.
    pub padded: usize,
}

impl Axis {
    /// A side without padding.
    pub fn plain(size: usize) -> Self {
        Self { blocks: 1, size, padded: size }
    }

    /// Numbers outside the padding.
    pub fn logical(self) -> usize {
        self.blocks * self.size
    }

    /// Numbers stored.
    pub fn stored(self) -> usize {
        self.blocks * self.padded
    }

    fn place(self, index: usize) -> usize {
        index / self.size * self.padded + index % self.size
    }
}

/// A tensor's name, sides and place.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name in saved files.
    pub name: String,
    /// Where its numbers lie.
    pub range: Range<usize>,
    /// The output side: the first of the saved shape.
    pub outputs: Axis,
    /// The input side; absent for a vector.
    pub inputs: Option<Axis>,
}

impl Tensor {
    /// The shape in saved files.
    pub fn shape(&self) -> Vec<usize> {
        std::iter::once(self.outputs).chain(self.inputs).map(Axis::logical).collect()
    }

    /// Places in the flat vector, in the order of the saved shape.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let inputs = self.inputs.unwrap_or(Axis::plain(1));
        let width = self.outputs.stored();
        (0..self.outputs.logical()).flat_map(move |output| {
            let column = self.range.start + self.outputs.place(output);
            (0..inputs.logical()).map(move |input| column + inputs.place(input) * width)
        })
    }
}

/// The tensors of a network.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Layout {
    /// Adds a tensor and returns its place.
    pub fn add(&mut self, name: impl Into<String>, outputs: Axis, inputs: Option<Axis>) -> Range<usize> {
        let size = outputs.stored() * inputs.map_or(1, Axis::stored);
        let range = self.len..self.len + size;
        self.len = range.end;
        self.tensors.push(Tensor { name: name.into(), range: range.clone(), outputs, inputs });
        range
    }

    /// Numbers in the flat vector, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensors, in the order of the flat vector.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The number of parameters outside the padding.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|t| t.shape().iter().product::<usize>()).sum()
    }

    /// Places of the parameters outside the padding, in the order of the saved tensors.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.tensors.iter().flat_map(Tensor::places)
    }

    /// A tensor's numbers, in the order of its saved shape.
    pub fn read<F: Real>(&self, tensor: &Tensor, parameters: &[F]) -> Vec<F> {
        tensor.places().map(|place| parameters[place]).collect()
    }

    /// Sets a tensor from numbers in the order of its saved shape.
    ///
    /// # Panics
    /// When their number is not that of the shape.
    pub fn write<F: Real>(&self, tensor: &Tensor, parameters: &mut [F], values: &[F]) {
        assert_eq!(values.len(), tensor.shape().iter().product::<usize>(), "numbers of `{}`", tensor.name);
        for (place, &value) in tensor.places().zip(values) {
            parameters[place] = value;
        }
    }

    /// Draws every parameter from `[-bound, bound)`, where `bound` gives each tensor its own (PyTorch's
    /// start for recurrent layers is `1 / sqrt(hidden)`, for dense ones `1 / sqrt(inputs)`).
    pub fn initialise<F: Real>(&self, random: &mut Random, bound: impl Fn(&Tensor) -> f64) -> Vec<F> {
        let mut parameters = vec![F::ZERO; self.len];
        for tensor in &self.tensors {
            let bound = bound(tensor);
            for place in tensor.places() {
                parameters[place] = F::of((2.0 * random.unit() - 1.0) * bound);
            }
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Layout};
    use crate::recurrent::random::Random;

    #[test]
    fn a_tensor_is_stored_transposed_with_its_padding_left_alone() {
        let mut layout = Layout::default();
        let gates = Axis { blocks: 2, size: 2, padded: 3 };
        layout.add("w", gates, Some(Axis::plain(2)));
        let bias = layout.add("b", gates, None);
        assert_eq!((bias, layout.len(), layout.parameters()), (12..18, 18, 12));
        let mut parameters = vec![0.0f32; layout.len()];
        let values: Vec<f32> = (1..=8).map(|v| v as f32).collect();
        layout.write(&layout.tensors()[0], &mut parameters, &values);
        assert_eq!(parameters[..12], [1., 3., 0., 5., 7., 0., 2., 4., 0., 6., 8., 0.]);
        assert_eq!(layout.read(&layout.tensors()[0], &parameters), values);
    }

    #[test]
    fn initial_parameters_stay_in_their_bound_and_out_of_the_padding() {
        let mut layout = Layout::default();
        layout.add("w", Axis { blocks: 4, size: 5, padded: 16 }, Some(Axis::plain(3)));
        let parameters: Vec<f64> = layout.initialise(&mut Random::new(1), |_| 0.5);
        assert_eq!(parameters.iter().filter(|v| **v != 0.0).count(), 60);
        assert_eq!(layout.places().filter(|&p| parameters[p] != 0.0).count(), 60);
        assert!(parameters.iter().all(|v| v.abs() <= 0.5));
    }
}
