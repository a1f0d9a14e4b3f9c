//! Matrix products on slices: the one place that calls the unsafe routine of the `gemm` crate.
//!
//! A [`View`] is a slice read as a matrix with a distance between rows and one between columns; a
//! [`ViewMut`] is written by rows. Views are checked against their slice when they are made, so that a
//! product cannot leave it.

use super::real::Real;

/// A matrix read from a slice.
#[derive(Clone, Copy)]
pub struct View<'a, F> {
    data: &'a [F],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a, F> View<'a, F> {
    /// A `rows` x `cols` matrix that lies by rows, without gaps, at the start of `data`.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn new(data: &'a [F], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// As [`View::new`], with rows `row_step` apart.
    ///
    /// # Panics
    /// When the slice is too short, or rows overlap.
    pub fn strided(data: &'a [F], rows: usize, cols: usize, row_step: usize) -> Self {
        check(data.len(), rows, cols, row_step);
        Self { data, rows, cols, row_step, col_step: 1 }
    }

    /// The same numbers, rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_step: self.col_step, col_step: self.row_step, ..self }
    }
}

/// A matrix written to a slice by rows.
pub struct ViewMut<'a, F> {
    data: &'a mut [F],
    rows: usize,
    cols: usize,
    row_step: usize,
}

impl<'a, F> ViewMut<'a, F> {
    /// A `rows` x `cols` matrix that lies by rows, without gaps, at the start of `data`.
    ///
    /// # Panics
    /// When the slice is too short.
    pub fn new(data: &'a mut [F], rows: usize, cols: usize) -> Self {
        check(data.len(), rows, cols, cols);
        Self { data, rows, cols, row_step: cols }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_step: usize) {
    assert!(rows < 2 || row_step >= cols, "rows of {cols} numbers overlap at a distance of {row_step}");
    if rows > 0 && cols > 0 {
        let end = (rows - 1)
            .checked_mul(row_step)
            .and_then(|start| start.checked_add(cols))
            .expect("a matrix in memory has fewer numbers than `usize` counts");
        assert!(end <= len, "a {rows} x {cols} matrix needs {end} numbers, the slice has {len}");
    }
}

/// What becomes of the numbers that the output held before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// They are replaced by the product.
    Replace,
    /// The product is added to them.
    Add,
}

/// `out = left * right`, or `out += left * right`, on the calling thread.
///
/// # Panics
/// When the shapes do not fit.
#[expect(unsafe_code, reason = "the fastest portable matrix product takes pointers; the views were checked")]
pub fn multiply<F: Real>(out: ViewMut<'_, F>, output: Output, left: View<'_, F>, right: View<'_, F>) {
    assert_eq!(left.cols, right.rows, "inner sizes differ");
    assert_eq!((out.rows, out.cols), (left.rows, right.cols), "the output has another shape");
    // SAFETY: every view was checked when it was made: its last number, at
    // (rows - 1) * row_step + (cols - 1) * col_step, lies in its slice, and a transposed view exchanges
    // both pairs. The shapes agree (above). `out` is borrowed mutably, so it overlaps neither operand,
    // and its rows do not overlap each other. `Real` is implemented for f32 and f64 alone, which the
    // routine knows by their type.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            left.cols,
            out.data.as_mut_ptr(),
            1,
            out.row_step as isize,
            output == Output::Add,
            left.data.as_ptr(),
            left.col_step as isize,
            left.row_step as isize,
            right.data.as_ptr(),
            right.col_step as isize,
            right.row_step as isize,
            F::ONE,
            F::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// A copy of a `rows` x `cols` matrix with rows and columns exchanged.
pub fn transpose<F: Real>(data: &[F], rows: usize, cols: usize) -> Vec<F> {
    let mut out = vec![F::ZERO; rows * cols];
    for (row, values) in data.chunks_exact(cols).take(rows).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            out[col * rows + row] = value;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Output, View, ViewMut, multiply, transpose};

    fn naive(a: &[f64], b: &[f64], m: usize, k: usize, n: usize) -> Vec<f64> {
        let cell = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
        (0..m * n).map(|at| cell(at / n, at % n)).collect()
    }

    #[test]
    fn products_agree_with_the_definition_for_every_orientation() {
        for (m, k, n) in [(1, 1, 1), (1, 7, 3), (5, 3, 1), (17, 16, 33), (2, 40, 2)] {
            let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.7).sin()).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 1.3).cos()).collect();
            let want = naive(&a, &b, m, k, n);
            let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
            for left in [View::new(&a, m, k), View::new(&at, k, m).transposed()] {
                for right in [View::new(&b, k, n), View::new(&bt, n, k).transposed()] {
                    let mut out = vec![1.0; m * n];
                    multiply(ViewMut::new(&mut out, m, n), Output::Add, left, right);
                    multiply(ViewMut::new(&mut out, m, n), Output::Add, left, right);
                    for (got, want) in out.iter().zip(&want) {
                        assert!((got - 1.0 - 2.0 * want).abs() < 1e-12);
                    }
                    multiply(ViewMut::new(&mut out, m, n), Output::Replace, left, right);
                    assert!(out.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-12));
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "needs 6 numbers")]
    fn a_view_larger_than_its_slice_is_refused() {
        View::new(&[0.0f32; 5], 2, 3);
    }

    #[test]
    #[should_panic(expected = "fewer numbers than")]
    fn a_view_whose_size_overflows_is_refused() {
        View::strided(&[0.0f32; 4], usize::MAX, 2, usize::MAX);
    }
}
