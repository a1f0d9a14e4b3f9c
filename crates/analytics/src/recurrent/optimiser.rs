//! How a gradient moves the parameters: plain and momentum descent, Adam, and the clipping before them.

use super::real::Real;

/// A rule and its constants.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `velocity = momentum * velocity + gradient; parameters -= rate * velocity`, as PyTorch's SGD.
    Sgd {
        /// Share of the last velocity that is kept; 0 is plain descent.
        momentum: f64,
    },
    /// Kingma and Ba 2015, with bias correction and epsilon outside the root, as PyTorch's Adam.
    Adam {
        /// Decay of the mean of gradients.
        beta1: f64,
        /// Decay of the mean of squares.
        beta2: f64,
        /// Keeps the quotient finite.
        epsilon: f64,
    },
}

impl Rule {
    /// Adam with its authors' constants.
    pub const ADAM: Self = Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
}

/// A rule with its memory of earlier gradients.
#[derive(Clone, Debug)]
pub struct Optimiser<F> {
    rule: Rule,
    steps: i32,
    first: Vec<F>,
    second: Vec<F>,
}

impl<F: Real> Optimiser<F> {
    /// A fresh optimiser of `len` parameters.
    pub fn new(rule: Rule, len: usize) -> Self {
        let second = if matches!(rule, Rule::Adam { .. }) { len } else { 0 };
        Self { rule, steps: 0, first: vec![F::ZERO; len], second: vec![F::ZERO; second] }
    }

    /// Moves `parameters` against `gradient`.
    pub fn step(&mut self, parameters: &mut [F], gradient: &[F], rate: f64) {
        self.steps = self.steps.saturating_add(1);
        match self.rule {
            Rule::Sgd { momentum } => {
                let (momentum, rate) = (F::of(momentum), F::of(rate));
                for ((p, v), &g) in parameters.iter_mut().zip(&mut self.first).zip(gradient) {
                    *v = momentum * *v + g;
                    *p -= rate * *v;
                }
            }
            Rule::Adam { beta1, beta2, epsilon } => {
                let rate = F::of(rate / (1.0 - beta1.powi(self.steps)));
                let scale = F::of(1.0 / (1.0 - beta2.powi(self.steps)));
                let (keep1, keep2, epsilon) = (F::of(beta1), F::of(beta2), F::of(epsilon));
                let (new1, new2) = (F::of(1.0 - beta1), F::of(1.0 - beta2));
                let memory = self.first.iter_mut().zip(&mut self.second);
                for ((p, (m, v)), &g) in parameters.iter_mut().zip(memory).zip(gradient) {
                    *m = keep1 * *m + new1 * g;
                    *v = keep2 * *v + new2 * g * g;
                    *p -= rate * *m / ((*v * scale).square_root() + epsilon);
                }
            }
        }
    }
}

/// Scales `gradient` down to a Euclidean norm of at most `limit`; returns the norm it had.
pub fn clip<F: Real>(gradient: &mut [F], limit: f64) -> f64 {
    let norm = gradient.iter().map(|g| g.to_f64() * g.to_f64()).sum::<f64>().sqrt();
    if norm > limit {
        let scale = F::of(limit / norm);
        gradient.iter_mut().for_each(|g| *g *= scale);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::{Optimiser, Rule, clip};

    #[test]
    fn momentum_descends_a_parabola_as_its_recurrence_says() {
        let mut optimiser = Optimiser::new(Rule::Sgd { momentum: 0.5 }, 1);
        let mut x = [1.0f64];
        for want in [0.8, 0.54, 0.302] {
            let gradient = [2.0 * x[0]];
            optimiser.step(&mut x, &gradient, 0.1);
            assert!((x[0] - want).abs() < 1e-12, "{} is not {want}", x[0]);
        }
    }

    #[test]
    fn the_first_step_of_adam_has_the_length_of_the_rate() {
        let mut optimiser = Optimiser::new(Rule::ADAM, 2);
        let mut x = [1.0f64, -3.0];
        optimiser.step(&mut x, &[250.0, -0.004], 0.01);
        assert!((x[0] - 0.99).abs() < 1e-7 && (x[1] + 2.99).abs() < 1e-7);
    }

    #[test]
    fn clipping_bounds_the_norm_and_keeps_the_direction() {
        let mut gradient = [3.0f64, 4.0];
        assert_eq!(clip(&mut gradient, 1.0), 5.0);
        assert!((gradient[0] - 0.6).abs() < 1e-12 && (gradient[1] - 0.8).abs() < 1e-12);
        assert_eq!(clip(&mut gradient, f64::INFINITY), 1.0);
    }
}
