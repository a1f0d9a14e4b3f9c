//! Grouping accuracy and F1 of grouping accuracy.

use std::collections::HashMap;
use std::hash::Hash;

/// How well groups were found, each from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Score {
    /// The share of lines whose group has exactly the lines of a true group.
    pub ga: f64,
    /// The harmonic mean of the shares of true groups found and of found groups true.
    pub fga: f64,
}

impl Score {
    pub fn of<T: Eq + Hash, F: Eq + Hash>(truth: &[T], found: &[F]) -> Self {
        let right = right_groups(truth, found);
        let true_groups = sizes(truth).len() as f64;
        let found_groups = sizes(found).len() as f64;
        let lines: usize = right.iter().sum();
        Self {
            ga: lines as f64 / truth.len() as f64,
            // 2PR / (P + R) with P = right / found and R = right / true.
            fga: 2.0 * right.len() as f64 / (true_groups + found_groups),
        }
    }
}

fn sizes<T: Eq + Hash>(labels: &[T]) -> HashMap<&T, usize> {
    let mut sizes = HashMap::new();
    for label in labels {
        *sizes.entry(label).or_default() += 1;
    }
    sizes
}

/// The sizes of the found groups that are exactly a true one.
fn right_groups<T: Eq + Hash, F: Eq + Hash>(truth: &[T], found: &[F]) -> Vec<usize> {
    let (true_sizes, found_sizes) = (sizes(truth), sizes(found));
    let pairs: Vec<(&T, &F)> = truth.iter().zip(found).collect();
    let right = |((t, f), n): ((&T, &F), usize)| (true_sizes[t] == n && found_sizes[f] == n).then_some(n);
    sizes(&pairs).into_iter().map(|(&pair, n)| (pair, n)).filter_map(right).collect()
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.ga += other.ga;
        self.fga += other.fga;
    }
}

impl std::ops::Div<f64> for Score {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { ga: self.ga / by, fga: self.fga / by }
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.3} / {:.3}", self.ga, self.fga))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_only_when_it_is_exactly_right() {
        let score = Score::of(&["a", "a", "b", "c"], &[1, 1, 2, 2]);
        assert!((score.ga - 0.5).abs() < 1e-12);
        assert!((score.fga - 2.0 / 5.0).abs() < 1e-12);
    }
}
