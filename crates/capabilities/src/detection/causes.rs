//! Which causes there are, and which one to look at first.
//!
//! The detector puts together what has the same weightiest reasons. Here causes that show the same rare
//! event become one, and what happens all through the log goes behind what began, or came in a burst: a
//! card that is declined now and then is part of every day, a timeout that nobody had before noon is not.

use std::collections::HashMap;

use opsroom_analytics::detect::{Cause, Judgement, Reason};
use opsroom_analytics::features::Groups;

/// Causes that are compared with each other; those behind are told as they are.
const COMPARED: usize = 2_000;
/// A template with fewer lines than this share of the groups is telling by itself.
const TELLING: f64 = 0.05;
/// Parts into which a log is cut to see whether something happens all through it.
const PARTS: usize = 10;
/// A cause with fewer groups than this cannot be said to happen all through the log.
const FEWEST_STEADY: usize = 15;
/// What a cause weighs that happens all through the log.
const STEADY_WEIGHT: f64 = 0.5;

/// The causes of what is abnormal, most telling first. `own` says that what is normal was learnt from the
/// same log.
pub(super) fn ranked(judgement: &Judgement, groups: &Groups, own: bool) -> Vec<Cause> {
    let mut causes = joined(judgement.causes(), judgement, groups);
    if own {
        for cause in &mut causes {
            if is_steady(&cause.groups, groups.len()) {
                cause.priority *= STEADY_WEIGHT;
            }
        }
    }
    causes.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.groups[0].cmp(&b.groups[0])));
    causes
}

/// Joins causes that show the same rare event: the timeout is the cause, whatever request it ended.
fn joined(causes: Vec<Cause>, judgement: &Judgement, groups: &Groups) -> Vec<Cause> {
    let lines: HashMap<u32, u64> = groups.templates().iter().map(|used| (used.id, used.lines)).collect();
    let most = (groups.len() as f64 * TELLING) as u64;
    let telling = |cause: &Cause| {
        let reasons = judgement.verdict(cause.groups[0]).reasons;
        let there = reasons.iter().filter_map(|reason| match reason {
            Reason::NewTemplate { template, .. }
            | Reason::RareTemplate { template, .. }
            | Reason::Unexpected { template, .. } => Some(*template),
            _ => None,
        });
        there.map(|id| (lines.get(&id).copied().unwrap_or(0), id)).filter(|&(count, _)| count <= most).min()
    };
    let mut places: HashMap<(u64, u32), usize> = HashMap::new();
    let mut joined: Vec<Cause> = Vec::new();
    for (at, cause) in causes.into_iter().enumerate() {
        let sign = if at < COMPARED { telling(&cause) } else { None };
        let place = sign.map_or(joined.len(), |sign| *places.entry(sign).or_insert(joined.len()));
        match joined.get_mut(place) {
            Some(earlier) => earlier.groups.extend(cause.groups),
            None => joined.push(cause),
        }
    }
    joined
}

/// Whether groups lie in every part of the log, none of which has more than twice its share of them.
fn is_steady(groups: &[usize], total: usize) -> bool {
    if groups.len() < FEWEST_STEADY {
        return false;
    }
    let mut parts = [0usize; PARTS];
    for &group in groups {
        parts[(group * PARTS / total.max(1)).min(PARTS - 1)] += 1;
    }
    let empty = parts.iter().filter(|&&part| part == 0).count();
    let most = parts.iter().max().copied().unwrap_or(0);
    empty <= 1 && most * PARTS <= groups.len() * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_late_or_came_in_a_burst_is_not_steady() {
        let every: Vec<usize> = (0..40).map(|i| i * 250).collect();
        assert!(is_steady(&every, 10_000));
        assert!(!is_steady(&every[16..], 10_000), "began late");
        let burst: Vec<usize> = every.iter().copied().chain(6_000..6_100).collect();
        assert!(!is_steady(&burst, 10_000));
        assert!(!is_steady(&every[..5], 10_000), "too few to tell");
    }
}
