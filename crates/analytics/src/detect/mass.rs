//! Which of the sessions learnt from are odd, when some of them may be failures that repeat.
//!
//! A session's *distance to mass* is its mean distance to the nearest share `q` of all sessions (Chazal,
//! Cohen-Steiner and Merigot, 2011). A failure that repeats has many close copies, but as long as they are
//! fewer than the share `q` it still has to reach into the bulk, and that is far.
//!
//! The share is taken of the log or of the session's own kind ([`super::kinds`]), whichever is more. Of the log
//! `q` estimates itself: it is the largest of [`LADDER`] at which the odd are a minority of the same order,
//! at most `2 q`. A log of one kind of session ends at the first step; one of many kinds, none of
//! which has 5 % of the sessions, goes down to the size of its kinds. Where even then more than [`MINORITY`] are
//! odd, the share of the kind goes down as well.

use rayon::prelude::*;

use super::distance::{Scales, Weighted, distance};
use super::kinds::Kinds;

/// Candidate shares of the neighbourhood, in the log and in a session's own kind.
const LADDER: [(f64, f64); 9] = [
    (0.05, 0.05),
    (0.04, 0.05),
    (0.02, 0.05),
    (0.01, 0.05),
    (0.005, 0.05),
    (0.002, 0.05),
    (0.002, 0.02),
    (0.002, 0.005),
    (0.002, 0.001),
];
/// The odd are never more than this share of the sessions: what is more is how the log is.
const MINORITY: f64 = 0.15;
/// A distance to mass from which a session is odd: four tenths of one line of a template never seen.
const ODD: f32 = 2.75;
/// How much of the usual distance between neighbours is allowed on top.
pub(super) const NOISE_ALLOWED: f32 = 2.0;
/// Neighbourhoods have at least this many sessions.
const LEAST: f64 = 3.0;

/// The vectors of a log and how they lie to each other.
pub(super) struct Cloud {
    masses: Vec<f64>,
    /// The sessions of each vector's kind.
    kinds: Vec<f64>,
    /// Of each vector: the others, nearest first, with their distance.
    neighbours: Vec<Vec<(f32, u32)>>,
    /// The distance of one session of each vector to the nearest other session.
    nearest: Vec<f32>,
}

/// How odd each vector is, from 1 on truly so, and the share of sessions that are.
pub(super) struct Oddness {
    pub(super) values: Vec<f32>,
    pub(super) share: f64,
}

impl Cloud {
    /// Measures all distances; quadratic, so the set must be small.
    pub(super) fn new(set: &Weighted, kinds: &Kinds, scales: &[Scales]) -> Self {
        let neighbours: Vec<Vec<(f32, u32)>> = set
            .vectors
            .par_iter()
            .map(|a| {
                let far = |i: usize| distance(a, set.vectors[i], &scales[usize::from(kinds.of[i])], f32::MAX);
                let mut row: Vec<(f32, u32)> = (0..set.vectors.len()).map(|i| (far(i), i as u32)).collect();
                row.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
                row
            })
            .collect();
        let nearest = (0..set.masses.len())
            .map(|i| {
                let other = neighbours[i].iter().find(|&&(_, j)| j as usize != i);
                if set.repeats[i] { 0.0 } else { other.map_or(0.0, |&(far, _)| far) }
            })
            .collect();
        Self { masses: set.masses.clone(), kinds: kinds.mass.clone(), neighbours, nearest }
    }

    /// How odd each vector is, at the largest share of the ladder that is consistent with itself.
    pub(super) fn oddness(&self) -> Oddness {
        let total: f64 = self.masses.iter().sum();
        let mut last = Oddness { values: vec![0.0; self.masses.len()], share: 0.0 };
        for (step, (q, of_kind)) in LADDER.into_iter().enumerate() {
            let least = LEAST.min((total - 1.0).max(1.0));
            let wanted = (q * total).max(least);
            let values: Vec<f32> = (0..self.masses.len())
                .into_par_iter()
                .map(|i| {
                    let wanted = wanted.max(of_kind * self.kinds[i]);
                    self.mean_distance(i, wanted) / (ODD + NOISE_ALLOWED * self.noise_at(i, wanted))
                })
                .collect();
            let odd: f64 = values.iter().zip(&self.masses).filter(|(v, _)| **v >= 1.0).map(|(_, m)| m).sum();
            last = Oddness { values, share: odd / total.max(1.0) };
            let most = if LADDER.get(step + 1).is_some_and(|next| next.0 < q) { 2.0 * q } else { MINORITY };
            if last.share <= most {
                break;
            }
        }
        last
    }

    /// How far sessions like each vector usually lie from their nearest neighbour.
    pub(super) fn noise(&self) -> Vec<f32> {
        let total: f64 = self.masses.iter().sum();
        let wanted = (LADDER[0].0 * total).max(LEAST);
        (0..self.masses.len()).into_par_iter().map(|i| self.noise_at(i, wanted)).collect()
    }

    /// The mean distance from vector `i` to the nearest `wanted` sessions, its own among them.
    fn mean_distance(&self, i: usize, wanted: f64) -> f32 {
        let (mut left, mut sum) = (wanted, 0.0);
        for &(far, j) in &self.neighbours[i] {
            let take = self.masses[j as usize].min(left);
            sum += f64::from(far) * take;
            left -= take;
            if left <= 0.0 {
                break;
            }
        }
        (sum / (wanted - left).max(f64::MIN_POSITIVE)) as f32
    }

    /// The median, by mass, of the nearest distances of the `wanted` sessions around vector `i`.
    fn noise_at(&self, i: usize, wanted: f64) -> f32 {
        let mut around: Vec<(f32, f64)> = Vec::new();
        let mut left = wanted;
        for &(_, j) in &self.neighbours[i] {
            let take = self.masses[j as usize].min(left);
            around.push((self.nearest[j as usize], take));
            left -= take;
            if left <= 0.0 {
                break;
            }
        }
        around.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let half = around.iter().map(|&(_, mass)| mass).sum::<f64>() / 2.0;
        let mut below = 0.0;
        around
            .iter()
            .find_map(|&(far, mass)| {
                below += mass;
                (below >= half).then_some(far)
            })
            .unwrap_or(0.0)
    }
}
