//! Linear regression for absolute errors and quantiles, by iteratively reweighted least squares.
//!
//! Each round solves a ridge regression in which a row weighs one over its last residual (Schlossmacher,
//! 1973); a floor under the residual keeps the weights bounded. With an asymmetric weight the same
//! rounds give a quantile (Hunter and Lange, 2000). Sums run in a fixed order, so the same rows
//! give the same coefficients to the last bit.

/// Rows of a regression, stored one after the other.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// Number of features of a row.
    pub width: usize,
    /// Features, `width` a row.
    pub features: Vec<f32>,
    /// What is to be predicted, one a row.
    pub targets: Vec<f32>,
    /// How much a row counts.
    pub weights: Vec<f32>,
}

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The quantile, 0.5 for least absolute errors.
    pub quantile: f64,
    /// Ridge penalty, relative to the sum of the weights.
    pub ridge: f64,
    /// Residuals below this count as this.
    pub floor: f64,
    /// Rounds of reweighting.
    pub rounds: usize,
}

impl Rows {
    /// No rows of `width` features.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// Adds a row.
    pub fn push(&mut self, features: &[f32], target: f32, weight: f32) {
        debug_assert_eq!(features.len(), self.width);
        self.features.extend_from_slice(features);
        self.targets.push(target);
        self.weights.push(weight);
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.features[at * self.width..(at + 1) * self.width]
    }
}

impl Fit {
    /// The coefficients that minimise the weighted loss; zeros when there is no row.
    #[must_use]
    pub fn solve(&self, rows: &Rows) -> Vec<f64> {
        let mut coefficients = vec![0.0; rows.width];
        for round in 0..self.rounds.max(1) {
            let system = self.system(rows, &coefficients, round == 0);
            coefficients = system.solve();
        }
        coefficients
    }

    /// The normal equations, weighted by the residuals of `coefficients` after the first round.
    fn system(&self, rows: &Rows, coefficients: &[f64], first: bool) -> System {
        let width = rows.width;
        let mut system = System { width, matrix: vec![0.0; width * width], right: vec![0.0; width] };
        let mut total = 0.0;
        for at in 0..rows.targets.len() {
            let row = rows.row(at);
            let target = f64::from(rows.targets[at]);
            let mut weight = f64::from(rows.weights[at]);
            if !first {
                let residual = target - dot(row, coefficients);
                let side = if residual > 0.0 { self.quantile } else { 1.0 - self.quantile };
                weight *= side / residual.abs().max(self.floor);
            }
            total += weight;
            system.add(row, target, weight);
        }
        let penalty = self.ridge * total.max(f64::MIN_POSITIVE);
        for at in 0..width {
            system.matrix[at * width + at] += penalty;
        }
        system
    }
}

/// Value of a row under coefficients.
#[must_use]
pub fn dot(row: &[f32], coefficients: &[f64]) -> f64 {
    row.iter().zip(coefficients).map(|(x, c)| f64::from(*x) * c).sum()
}

/// A symmetric positive definite system; the lower triangle of the matrix is filled.
struct System {
    width: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl System {
    fn add(&mut self, row: &[f32], target: f64, weight: f64) {
        for (i, x) in row.iter().enumerate() {
            let scaled = weight * f64::from(*x);
            self.right[i] += scaled * target;
            let line = &mut self.matrix[i * self.width..i * self.width + i + 1];
            line.iter_mut().zip(row).for_each(|(m, y)| *m += scaled * f64::from(*y));
        }
    }

    /// Solves by Cholesky factors; a pivot that is not positive leaves its coefficient 0.
    fn solve(mut self) -> Vec<f64> {
        let n = self.width;
        for i in 0..n {
            for j in 0..=i {
                let sum: f64 = (0..j).map(|k| self.matrix[i * n + k] * self.matrix[j * n + k]).sum();
                let rest = self.matrix[i * n + j] - sum;
                self.matrix[i * n + j] = if i == j {
                    rest.max(0.0).sqrt()
                } else if self.matrix[j * n + j] > 0.0 {
                    rest / self.matrix[j * n + j]
                } else {
                    0.0
                };
            }
        }
        let mut x = self.right;
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| self.matrix[i * n + k] * x[k]).sum();
            let pivot = self.matrix[i * n + i];
            x[i] = if pivot > 0.0 { (x[i] - sum) / pivot } else { 0.0 };
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| self.matrix[k * n + i] * x[k]).sum();
            let pivot = self.matrix[i * n + i];
            x[i] = if pivot > 0.0 { (x[i] - sum) / pivot } else { 0.0 };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEDIAN: Fit = Fit { quantile: 0.5, ridge: 1e-9, floor: 1e-4, rounds: 40 };

    fn line(outlier: f32) -> Rows {
        let mut rows = Rows::new(2);
        for x in 0..50u8 {
            rows.push(&[f32::from(x), 1.0], 3.0 * f32::from(x) + 7.0, 1.0);
        }
        rows.targets[10] = outlier;
        rows
    }

    #[test]
    fn least_absolute_errors_ignore_an_outlier() {
        let c = MEDIAN.solve(&line(1e6));
        assert!((c[0] - 3.0).abs() < 1e-3 && (c[1] - 7.0).abs() < 1e-2, "{c:?}");
    }

    #[test]
    fn a_quantile_leaves_its_share_above() {
        let mut rows = Rows::new(1);
        (0..1000u16).for_each(|v| rows.push(&[1.0], f32::from(v), 1.0));
        let c = Fit { quantile: 0.9, floor: 0.5, rounds: 60, ..MEDIAN }.solve(&rows);
        assert!((c[0] - 900.0).abs() < 8.0, "{c:?}");
    }

    #[test]
    fn features_that_are_always_zero_or_equal_get_finite_coefficients() {
        let mut rows = Rows::new(3);
        (0..9u8).for_each(|v| rows.push(&[f32::from(v), f32::from(v), 0.0], f32::from(v), 1.0));
        let c = MEDIAN.solve(&rows);
        assert!(c.iter().all(|v| v.is_finite()), "{c:?}");
        assert!((c[0] + c[1] - 1.0).abs() < 1e-2);
    }

    #[test]
    fn no_row_gives_zeros() {
        assert_eq!(MEDIAN.solve(&Rows::new(2)), [0.0, 0.0]);
    }
}
