//! `tree`: extremely randomised trees on event counts (Geurts, Ernst and Wehenkel 2006).
//!
//! Every tree sees all rows; at every node a few events are drawn, each with a random cut between its
//! lowest and highest count there, and the best by Gini impurity is taken, until rows agree. A single
//! tree says yes or no; the share of trees that say yes is a probability that a stated share of anomalies
//! can be set against. What an event contributed is how far its cuts moved the answer on the way down.

use rayon::prelude::*;

use super::counts::{CountRow, Counts, at};
use crate::recurrent::random::Random;

/// Trees of a forest.
pub const TREES: usize = 100;
/// Nodes of a tree, at most.
const MAX_NODES: usize = 1 << 20;

/// A node: a cut, or an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The event that is cut at; unused in an answer.
    pub event: u32,
    /// Counts up to it go left.
    pub cut: f32,
    /// The places of the sides; both 0 in an answer.
    pub sides: (u32, u32),
    /// The share of anomalies here, by weight.
    pub share: f32,
}

/// Trees, each with its root first.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// The trees.
    pub trees: Vec<Vec<Node>>,
}

impl Forest {
    /// Grows a forest for counts of `events` places.
    pub fn fit(rows: &[CountRow], events: usize, seed: u64) -> Self {
        let grow = |tree: usize| {
            let random = Random::stream(seed, &[tree as u64]);
            Grower { rows, events, random, nodes: Vec::new() }.grow()
        };
        Self { trees: (0..TREES).into_par_iter().map(grow).collect() }
    }

    /// The probability of an anomaly, as balanced as the training rows.
    pub fn probability(&self, counts: &Counts) -> f64 {
        let leaf = |tree: &Vec<Node>| f64::from(walk(tree, counts).last().map_or(0.5, |node| node.share));
        self.trees.iter().map(leaf).sum::<f64>() / self.trees.len().max(1) as f64
    }

    /// How far each event moved the probability, largest first.
    pub fn contributions(&self, counts: &Counts) -> Vec<(u32, f64)> {
        let mut moved: std::collections::BTreeMap<u32, f64> = Default::default();
        for tree in &self.trees {
            let path: Vec<&Node> = walk(tree, counts).collect();
            for pair in path.windows(2) {
                let step = f64::from(pair[1].share - pair[0].share);
                *moved.entry(pair[0].event).or_default() += step / self.trees.len() as f64;
            }
        }
        let mut moved: Vec<(u32, f64)> = moved.into_iter().collect();
        moved.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        moved
    }
}

/// The nodes from the root to the answer.
fn walk<'a>(tree: &'a [Node], counts: &'a Counts) -> impl Iterator<Item = &'a Node> {
    std::iter::successors(tree.first(), move |node| match node.sides {
        (0, 0) => None,
        (left, right) => {
            let side = if at(counts, node.event) as f32 <= node.cut { left } else { right };
            tree.get(side as usize)
        }
    })
}

struct Grower<'a> {
    rows: &'a [CountRow],
    events: usize,
    random: Random,
    nodes: Vec<Node>,
}

impl Grower<'_> {
    fn grow(mut self) -> Vec<Node> {
        let mut waiting =
            vec![(self.leaf(&(0..self.rows.len()).collect::<Vec<_>>()), (0..self.rows.len()).collect())];
        while let Some((node, members)) = waiting.pop() {
            let members: Vec<usize> = members;
            let share = self.nodes[node].share;
            if share == 0.0 || share == 1.0 || self.nodes.len() + 2 > MAX_NODES {
                continue;
            }
            let Some((event, cut)) = self.choose(&members) else { continue };
            let below = |&row: &usize| at(&self.rows[row].counts, event) as f32 <= cut;
            let (left, right): (Vec<usize>, Vec<usize>) = members.into_iter().partition(below);
            let sides = (self.leaf(&left), self.leaf(&right));
            self.nodes[node] = Node { event, cut, sides: (sides.0 as u32, sides.1 as u32), share };
            waiting.push((sides.0, left));
            waiting.push((sides.1, right));
        }
        self.nodes
    }

    /// Adds a node that answers for `members`.
    fn leaf(&mut self, members: &[usize]) -> usize {
        let (anomalies, all) = self.weights(members.iter().copied());
        let share = if all > 0.0 { (anomalies / all) as f32 } else { 0.5 };
        self.nodes.push(Node { event: 0, cut: 0.0, sides: (0, 0), share });
        self.nodes.len() - 1
    }

    fn weights(&self, members: impl Iterator<Item = usize>) -> (f64, f64) {
        members.fold((0.0, 0.0), |(anomalies, all), row| {
            let CountRow { anomalous, weight, .. } = self.rows[row];
            (anomalies + if anomalous { weight } else { 0.0 }, all + weight)
        })
    }

    /// The best of a few random cuts; `None` when all counts are equal. Events that do not vary here count as
    /// tried: far down a tree few are left that do, and cuts are nearly random. So trees disagree about counts
    /// unlike those of training, where sharper ones would be surer than they should.
    fn choose(&mut self, members: &[usize]) -> Option<(u32, f32)> {
        let wanted = (self.events as f64).sqrt().ceil() as usize;
        let mut order: Vec<u32> = (0..self.events as u32).collect();
        self.random.shuffle(&mut order);
        let mut best: Option<(f64, u32, f32)> = None;
        for (tried, event) in order.into_iter().enumerate() {
            if tried >= wanted && best.is_some() {
                break;
            }
            let counts = || members.iter().map(|&row| at(&self.rows[row].counts, event));
            let (low, high) = (counts().min()?, counts().max()?);
            if low == high {
                continue;
            }
            let cut = f64::from(low) + self.random.unit() * f64::from(high - low);
            let cut = (cut as f32).clamp(low as f32, high as f32 - 0.5);
            let impurity = self.impurity(members, event, cut);
            if best.is_none_or(|(lowest, ..)| impurity < lowest) {
                best = Some((impurity, event, cut));
            }
        }
        best.map(|(_, event, cut)| (event, cut))
    }

    /// The Gini impurity of both sides of a cut, by weight.
    fn impurity(&self, members: &[usize], event: u32, cut: f32) -> f64 {
        let is_left = |row: &usize| at(&self.rows[*row].counts, event) as f32 <= cut;
        let gini = |(anomalies, all): (f64, f64)| {
            if all > 0.0 { 2.0 * anomalies * (all - anomalies) / all } else { 0.0 }
        };
        gini(self.weights(members.iter().copied().filter(is_left)))
            + gini(self.weights(members.iter().copied().filter(|row| !is_left(row))))
    }
}

#[cfg(test)]
mod tests {
    use super::Forest;
    use crate::classify::counts::{CountRow, count};

    fn rows() -> Vec<CountRow> {
        // Anomalies have event 3, or more than two of event 1.
        let row = |places: &[u32], anomalous| CountRow { counts: count(places), anomalous, weight: 1.0 };
        vec![
            row(&[0, 1], false),
            row(&[0, 1, 1], false),
            row(&[0, 0, 1, 2], false),
            row(&[0, 1, 1, 1], true),
            row(&[0, 1, 1, 1, 1, 2], true),
            row(&[0, 1, 3], true),
            row(&[0, 0, 3, 2], true),
        ]
    }

    #[test]
    fn training_rows_are_separated_and_the_reason_is_the_event() {
        let forest = Forest::fit(&rows(), 4, 1);
        for row in rows() {
            let wanted = if row.anomalous { 1.0 } else { 0.0 };
            assert!((forest.probability(&row.counts) - wanted).abs() < 1e-6);
        }
        let unseen = count(&[0, 1, 2, 3]);
        assert!(forest.probability(&unseen) > 0.5);
        let (event, moved) = forest.contributions(&unseen)[0];
        assert!(event == 3 && moved > 0.0);
        assert_eq!(forest, Forest::fit(&rows(), 4, 1));
    }

    #[test]
    fn rows_that_contradict_each_other_give_their_share() {
        let mut rows = rows();
        rows.push(CountRow { anomalous: true, weight: 3.0, ..rows[0].clone() });
        let forest = Forest::fit(&rows, 4, 1);
        assert!((forest.probability(&rows[0].counts) - 0.75).abs() < 1e-6);
        assert!(Forest::fit(&[], 4, 1).probability(&count(&[1])) == 0.5);
    }
}
