//! How surprising it is to meet something rare, in a log that has its own share of rare things.
//!
//! In a log in which every tenth session brings a template that no other has, a new template says nothing;
//! in one where none of a thousand does, it says much. So a thing known from `k` sessions is as surprising
//! as the share of sessions that hold anything known from at most `k` is small (the idea of Good and
//! Turing's estimate of the unseen, 1953). No threshold has to be set for a log's own restlessness.

use serde::{Deserialize, Serialize};

/// Levels of support at which the share is kept: 1, 2, 4, ...
const LEVELS: usize = 16;
/// The smallest log in which a find can be anomalous for being the only one of its kind.
const FEWEST: f64 = 20.0;

/// How much more a rare template says most of whose lines are of an error level.
pub(super) const ERROR_NEW: f32 = 1.3;

/// How often a group holds something of a given rarity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rarity {
    /// Groups whose rarest thing is known from at most `2^level` groups, by level.
    groups: Vec<f64>,
    total: f64,
    /// The share at which a find is exactly on the threshold.
    unusual: f64,
}

impl Rarity {
    /// From the support of the rarest thing in each group, with the number of such groups. A find is
    /// anomalous when less than the share `unusual` of the groups hold its like; in a log too small to
    /// show such a share, when it is the only one.
    pub(super) fn new(rarest: impl Iterator<Item = (u32, f64)>, unusual: f64) -> Self {
        let mut groups = vec![0.0; LEVELS];
        let mut total = 0.0;
        for (support, mass) in rarest {
            total += mass;
            if let Some(slot) = groups.get_mut(level(support)) {
                *slot += mass;
            }
        }
        let mut sum = 0.0;
        for slot in &mut groups {
            sum += *slot;
            *slot = sum;
        }
        let only_one = 2.0 / (total.max(FEWEST) + 1.0);
        Self { groups, total, unusual: unusual.max(only_one) }
    }

    /// How surprising a group is whose rarest thing is known from `support` groups, itself included; from
    /// 1 on it is anomalous.
    pub(super) fn surprise(&self, support: u32) -> f32 {
        let Some(groups) = self.groups.get(level(support)) else { return 0.0 };
        let share = (groups + 1.0) / (self.total + 1.0);
        (share.ln() / self.unusual.ln()).max(0.0) as f32
    }
}

/// The smallest level whose support is at least this.
fn level(support: u32) -> usize {
    support.max(1).next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_is_surprising_only_where_it_is_rare() {
        let calm = Rarity::new(std::iter::once((900, 1000.0)), 0.005);
        let restless = Rarity::new([(1, 100.0), (900, 900.0)].into_iter(), 0.005);
        assert!(calm.surprise(1) > 1.2);
        assert!(restless.surprise(1) < 0.5);
        assert!(calm.surprise(1000) < calm.surprise(1));
    }

    #[test]
    fn in_a_small_log_the_only_find_is_surprising_and_two_are_not() {
        for size in [20.0, 60.0, 150.0] {
            let one = Rarity::new([(1, 1.0), (12, size - 1.0)].into_iter(), 0.005);
            assert!(one.surprise(1) >= 1.0, "{size}: {}", one.surprise(1));
            let two = Rarity::new([(1, 2.0), (12, size - 2.0)].into_iter(), 0.005);
            assert!(two.surprise(1) < 1.0, "{size}: {}", two.surprise(1));
        }
    }

    #[test]
    fn a_handful_of_groups_makes_nothing_surprising() {
        let few = Rarity::new(std::iter::once((5, 5.0)), 0.005);
        assert!(few.surprise(1) < 1.0);
        assert_eq!(Rarity::new(std::iter::empty(), 0.005).surprise(1), 0.0);
    }
}
