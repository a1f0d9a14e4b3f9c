//! The order of events within sessions: which template directly follows which.
//!
//! Where sessions of several machines run into each other, unheard-of transitions are daily fare; where one
//! program writes its steps, they are not. [`Rarity`] tells the two apart, so order speaks up only in logs
//! in which it is kept.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::rarity::Rarity;
use super::reason::Reason;
use crate::features::{Groups, Orders};

/// Order is anomalous where less than this share of the sessions brings a transition of its own.
const NEW_TRANSITION: f64 = 0.002;

/// Stands for the start or end of a session among template ids.
const EDGE: Option<u32> = None;
type Pair = (Option<u32>, Option<u32>);

/// In how many sessions each transition occurs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Transitions {
    /// Sorted, so that what is saved does not depend on a hash table.
    support: Vec<(Pair, u32)>,
    rarity: Rarity,
}

impl Transitions {
    pub(super) fn fit(groups: &Groups) -> Self {
        let orders = groups.orders();
        let mut by_number = vec![0u32; orders.pair_count()];
        for set in 0..orders.len() {
            for &pair in orders.get(set) {
                by_number[usize::from(pair)] += orders.multiplicity(set);
            }
        }
        let rarest = (0..orders.len()).map(|set| {
            let rarest = orders.get(set).iter().map(|&pair| by_number[usize::from(pair)]).min();
            (rarest.unwrap_or(u32::MAX >> 1), f64::from(orders.multiplicity(set)))
        });
        let rarity = Rarity::new(rarest, NEW_TRANSITION);
        let mut support: Vec<(Pair, u32)> = by_number
            .iter()
            .enumerate()
            .map(|(number, &count)| (ids(groups, number as u16), count))
            .collect();
        support.sort_unstable();
        Self { support, rarity }
    }

    /// The score of every set of transitions of some groups; `known` is what [`Self::known`] says of them.
    pub(super) fn score(&self, groups: &Groups, known: &[u32], own: bool) -> Vec<f32> {
        (0..groups.orders().len() as u32).map(|set| self.score_of(groups, known, set, own)).collect()
    }

    /// The score of one set of transitions.
    pub(super) fn score_of(&self, groups: &Groups, known: &[u32], set: u32, own: bool) -> f32 {
        let set = groups.orders().get(set as usize);
        match set.iter().map(|&pair| known[usize::from(pair)]).min() {
            Some(0) if !self.support.is_empty() => self.rarity.surprise(1),
            Some(rarest) if own => self.rarity.surprise(rarest),
            _ => 0.0,
        }
    }

    /// The rarest transition of a set, and what usually comes in its place.
    pub(super) fn explain(&self, groups: &Groups, known: &[u32], set: u32) -> Option<Reason> {
        let set = groups.orders().get(set as usize);
        let rarest = *set.iter().min_by_key(|&&pair| (known[usize::from(pair)], pair))?;
        let (previous, next) = ids(groups, rarest);
        let from = self.support.partition_point(|&((before, _), _)| before < previous);
        let usual = self.support[from..]
            .iter()
            .take_while(|&&((before, _), _)| before == previous)
            .max_by_key(|&&((_, after), count)| (count, std::cmp::Reverse(after)))?;
        Some(Reason::Order { previous, next, usual: usual.0.1 })
    }

    /// In how many sessions learnt from each transition of some groups occurs.
    pub(super) fn known(&self, groups: &Groups) -> Vec<u32> {
        let known: HashMap<Pair, u32> = self.support.iter().copied().collect();
        let pairs = 0..groups.orders().pair_count();
        pairs.map(|number| known.get(&ids(groups, number as u16)).copied().unwrap_or(0)).collect()
    }
}

/// The template ids of a transition.
fn ids(groups: &Groups, pair: u16) -> Pair {
    let id = |number| if number == Orders::EDGE { EDGE } else { Some(groups.template_id(number)) };
    let (previous, next) = groups.orders().pair(pair);
    (id(previous), id(next))
}
