//! Kinds of sessions: a log of requests holds as many kinds of session as there are requests.
//!
//! A session is of the kind whose heaviest vector shares at least half of the weight of the smaller of the
//! two; a template weighs the less the more sessions have it. A session cut short is thus of the kind that
//! it was going to be. What usually varies is asked kind by kind, and a failure that repeats is measured
//! against its kind, not against the log.

use std::collections::HashMap;

use super::distance::{Entries, Scales, Weighted, scales};

/// The least share of the weight that makes two vectors one kind.
const ALIKE: f64 = 0.5;
/// The weight of a template that every session has.
const EVERYWHERE: f64 = 0.2;
const MOST: usize = 64;
/// Scales kept over all kinds and templates.
const MOST_SCALES: usize = 2_000_000;
/// Kinds of fewer sessions than this share the scales of the whole log.
const FEWEST: f64 = 20.0;

/// The kinds of a set of vectors; number 0 stands for the whole log.
pub(super) struct Kinds {
    /// The kind of each vector.
    pub(super) of: Vec<u16>,
    /// The sessions of each vector's kind.
    pub(super) mass: Vec<f64>,
    count: usize,
}

impl Kinds {
    pub(super) fn new(set: &Weighted, templates: usize) -> Self {
        let weights = weights(set, templates);
        let weigh = |vector: &Entries| vector.iter().map(|e| weights[usize::from(e.0)]).sum::<f64>();
        let most = MOST.min(MOST_SCALES / templates.max(1));
        let mut order: Vec<usize> = (0..set.masses.len()).collect();
        order.sort_by(|&a, &b| {
            set.masses[b].total_cmp(&set.masses[a]).then(set.vectors[a].cmp(set.vectors[b]))
        });
        let mut leaders: Vec<(&Entries, f64)> = Vec::new();
        let mut group = vec![0; set.masses.len()];
        for i in order {
            let vector = set.vectors[i];
            let weight = weigh(vector);
            let mut best = (ALIKE, None);
            for (number, &(leader, leader_weight)) in leaders.iter().enumerate() {
                let alike =
                    shared(vector, leader, &weights) / weight.min(leader_weight).max(f64::MIN_POSITIVE);
                if alike > best.0 || (best.1.is_none() && alike >= ALIKE) {
                    best = (alike, Some(number));
                }
            }
            group[i] = best.1.unwrap_or_else(|| {
                leaders.push((vector, weight));
                leaders.len() - 1
            });
        }
        Self::numbered(set, &group, leaders.len(), most)
    }

    /// Gives the heaviest groups a kind of their own.
    fn numbered(set: &Weighted, group: &[usize], groups: usize, most: usize) -> Self {
        let mut masses = vec![0.0; groups];
        for (i, &group) in group.iter().enumerate() {
            masses[group] += set.masses[i];
        }
        let mut heaviest: Vec<usize> = (0..groups).filter(|&group| masses[group] >= FEWEST).collect();
        heaviest.sort_by(|&a, &b| masses[b].total_cmp(&masses[a]).then(a.cmp(&b)));
        heaviest.truncate(most);
        let numbers: HashMap<usize, u16> = heaviest.iter().copied().zip(1..).collect();
        Self {
            of: group.iter().map(|group| numbers.get(group).copied().unwrap_or(0)).collect(),
            mass: group.iter().map(|&group| masses[group]).collect(),
            count: heaviest.len() + 1,
        }
    }

    /// Only the vectors at these places.
    pub(super) fn only(&self, kept: &[usize]) -> Self {
        Self {
            of: kept.iter().map(|&i| self.of[i]).collect(),
            mass: kept.iter().map(|&i| self.mass[i]).collect(),
            count: self.count,
        }
    }

    /// The scales of every kind.
    pub(super) fn scales(&self, set: &Weighted, support: &[u32], novelty: f32) -> Vec<Scales> {
        let of_kind = |kind: usize| {
            let in_kind = |&i: &usize| kind == 0 || usize::from(self.of[i]) == kind;
            let members: Vec<usize> = (0..set.masses.len()).filter(in_kind).collect();
            scales(&set.only(&members), support, novelty)
        };
        (0..self.count).map(of_kind).collect()
    }
}

/// How much a template says about the kind of a session.
fn weights(set: &Weighted, templates: usize) -> Vec<f64> {
    let total: f64 = set.masses.iter().sum();
    let mut having = vec![0.0; templates];
    for (vector, &mass) in set.vectors.iter().zip(&set.masses) {
        for &(template, _) in *vector {
            having[usize::from(template)] += mass;
        }
    }
    having.iter().map(|&with| (1.0 - with / total.max(1.0)).max(EVERYWHERE)).collect()
}

/// The weight of the templates that both vectors have.
fn shared(a: &Entries, b: &Entries, weights: &[f64]) -> f64 {
    let mut others = b.iter().map(|e| e.0).peekable();
    let mut sum = 0.0;
    for &(template, _) in a {
        while others.next_if(|&other| other < template).is_some() {}
        if others.peek() == Some(&template) {
            sum += weights[usize::from(template)];
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_cut_short_are_of_the_kind_they_were_going_to_be() {
        let vectors: [&Entries; 4] = [
            &[(0, 1), (1, 1), (2, 3), (9, 1)],
            &[(0, 1), (5, 1), (6, 2), (9, 1)],
            &[(0, 1), (1, 1)],
            &[(0, 1), (5, 1)],
        ];
        let masses = vec![60.0, 40.0, 3.0, 2.0];
        let set = Weighted { vectors: vectors.to_vec(), masses, repeats: vec![true; 4] };
        let kinds = Kinds::new(&set, 10);
        assert_eq!(kinds.of, [1, 2, 1, 2]);
        assert_eq!(kinds.mass, [63.0, 42.0, 63.0, 42.0]);
    }

    #[test]
    fn small_kinds_share_the_scales_of_the_log() {
        let vectors: [&Entries; 2] = [&[(0, 1)], &[(1, 1)]];
        let set = Weighted { vectors: vectors.to_vec(), masses: vec![90.0, 4.0], repeats: vec![true; 2] };
        let kinds = Kinds::new(&set, 2);
        assert_eq!(kinds.of, [1, 0]);
    }
}
