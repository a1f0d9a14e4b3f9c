//! How sequences of different lengths share one block of rows without padding.
//!
//! Sequences are ordered from the longest to the shortest; rows lie step by step, and step `t` has a row
//! only for the sequences that reach it, which are the first ones. So the rows of a step are the first
//! rows of the step before it, carried one step on, and no number is ever computed for a step that a
//! sequence does not have.

use std::ops::Range;

/// The places of the rows of a batch of sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// `starts[t]` is the first row of step `t`; the last entry is the number of rows.
    starts: Vec<usize>,
}

impl Packed {
    /// Places for sequences of these lengths, longest first.
    ///
    /// # Panics
    /// When a sequence is longer than the one before it.
    pub fn new(lengths: &[usize]) -> Self {
        assert!(lengths.is_sorted_by(|a, b| a >= b), "sequences come from the longest to the shortest");
        let steps = lengths.first().copied().unwrap_or(0);
        let mut starts = Vec::with_capacity(steps + 1);
        let (mut active, mut rows) = (lengths.len(), 0);
        for step in 0..steps {
            while active > 0 && lengths[active - 1] <= step {
                active -= 1;
            }
            starts.push(rows);
            rows += active;
        }
        starts.push(rows);
        Self { starts }
    }

    /// The number of steps of the longest sequence.
    pub fn steps(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of rows of all steps.
    pub fn rows(&self) -> usize {
        self.starts[self.steps()]
    }

    /// The rows of step `step`; empty past the end.
    pub fn step(&self, step: usize) -> Range<usize> {
        if step < self.steps() { self.starts[step]..self.starts[step + 1] } else { 0..0 }
    }

    /// How many sequences reach step `step`.
    pub fn active(&self, step: usize) -> usize {
        self.step(step).len()
    }

    /// The row of sequence `sequence` at step `step`, if it reaches it.
    pub fn row(&self, sequence: usize, step: usize) -> Option<usize> {
        let rows = self.step(step);
        (sequence < rows.len()).then_some(rows.start + sequence)
    }

    /// The rows of one sequence, first step first.
    pub fn sequence(&self, sequence: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.steps()).map_while(move |step| self.row(sequence, step))
    }

    /// Lays the items of the sequences out in the order of rows.
    pub fn lay_out<T: Copy>(&self, sequences: &[&[T]]) -> Vec<T> {
        let mut rows = Vec::with_capacity(self.rows());
        for step in 0..self.steps() {
            rows.extend(sequences[..self.active(step)].iter().map(|items| items[step]));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::Packed;

    #[test]
    fn every_step_has_rows_only_for_the_sequences_that_reach_it() {
        let packed = Packed::new(&[4, 2, 2, 1]);
        assert_eq!((packed.steps(), packed.rows()), (4, 9));
        assert_eq!((0..5).map(|t| packed.active(t)).collect::<Vec<_>>(), [4, 3, 1, 1, 0]);
        assert_eq!(packed.sequence(1).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(packed.row(3, 1), None);
        let rows = packed.lay_out(&[&[1, 2, 3, 4][..], &[5, 6], &[7, 8], &[9]]);
        assert_eq!(rows, [1, 5, 7, 9, 2, 6, 8, 3, 4]);
    }

    #[test]
    fn empty_sequences_have_no_rows() {
        assert_eq!(Packed::new(&[]).rows(), 0);
        let packed = Packed::new(&[2, 0]);
        assert_eq!((packed.rows(), packed.sequence(1).count()), (2, 0));
    }
}
