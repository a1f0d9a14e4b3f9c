//! How far two count vectors lie apart, in units of what usually varies.
//!
//! Counts are compared on a logarithmic scale, template by template, and each difference is divided by how
//! much that template usually varies plus [`FLOOR`]. A template that comes anything between once and
//! twenty times may come eight times; one that comes exactly three times in every session may not come
//! four times. Two spreads are kept for each template: over all sessions (is it usually there at all?)
//! and over the sessions that have it (how often, if it is there?).

use std::sync::LazyLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The spread granted to a template that never varies. With it, one line of a template that no session
/// has weighs `ln 2 / 0.1`, about 7.
const FLOOR: f32 = 0.1;
/// Spreads are the distance between these two quantiles: a tenth of the sessions on either side may be
/// anything without widening what counts as usual.
const QUANTILES: (f64, f64) = (0.1, 0.9);

/// Templates that at most this many sessions have count as strange.
pub(super) const HARDLY_ANY: u32 = 4;

/// A sparse count vector: templates ascending, counts from 1.
pub(super) type Entries = [(u16, u32)];

/// What a difference in one template weighs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    /// When only one of the two sessions has the template.
    presence: f32,
    /// When both have it.
    amount: f32,
}

/// The scales of all templates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Scales {
    known: Vec<Scale>,
    /// Of a template that was never seen.
    strange: Scale,
}

/// Vectors with their masses, as far as a comparison needs them.
pub(super) struct Weighted<'a> {
    pub(super) vectors: Vec<&'a Entries>,
    pub(super) masses: Vec<f64>,
    /// Whether more than one session has the vector.
    pub(super) repeats: Vec<bool>,
}

impl Weighted<'_> {
    /// Those at these places.
    pub(super) fn only(&self, kept: &[usize]) -> Self {
        Self {
            vectors: kept.iter().map(|&i| self.vectors[i]).collect(),
            masses: kept.iter().map(|&i| self.masses[i]).collect(),
            repeats: kept.iter().map(|&i| self.repeats[i]).collect(),
        }
    }
}

/// The scales of templates, of which `support` says how many sessions have each.
///
/// `novelty`, from 0 to 1, is how much it says in this log that a template is there which hardly any session
/// has: less in a log whose templates never settle.
pub(super) fn scales(set: &Weighted, support: &[u32], novelty: f32) -> Scales {
    let total: f64 = set.masses.iter().sum();
    let mut present: Vec<Vec<(u32, f64)>> = vec![Vec::new(); support.len()];
    for (vector, &mass) in set.vectors.iter().zip(&set.masses) {
        for &(template, count) in *vector {
            present[usize::from(template)].push((count, mass));
        }
    }
    let calmed = |scale: Scale| Scale { presence: scale.presence * novelty, amount: scale.amount * novelty };
    let known = present.par_iter_mut().zip(support).map(|(counts, &support)| {
        let scale = scale(counts, total);
        if support <= HARDLY_ANY { calmed(scale) } else { scale }
    });
    Scales { known: known.collect(), strange: calmed(Scale { presence: 1.0 / FLOOR, amount: 1.0 / FLOOR }) }
}

fn scale(counts: &mut [(u32, f64)], total: f64) -> Scale {
    counts.sort_unstable_by_key(|&(count, _)| count);
    let here: f64 = counts.iter().map(|&(_, mass)| mass).sum();
    let spread = |absent: f64, total: f64| {
        log(quantile(counts, absent, QUANTILES.1 * total))
            - log(quantile(counts, absent, QUANTILES.0 * total))
    };
    let overall = spread(total - here, total);
    let inside = spread(0.0, here);
    Scale { presence: 1.0 / (FLOOR + overall), amount: 1.0 / (FLOOR + overall.max(inside)) }
}

/// The count below which `mass` of the sessions lie, when `absent` of them have none.
pub(super) fn quantile(counts: &[(u32, f64)], absent: f64, mass: f64) -> u32 {
    let mut below = absent;
    // A hair of slack keeps sums of many masses from falling just short.
    let wanted = mass * (1.0 - 1e-9);
    if below > 0.0 && below >= wanted {
        return 0;
    }
    for &(count, mass) in counts {
        below += mass;
        if below >= wanted {
            return count;
        }
    }
    counts.last().map_or(0, |&(count, _)| count)
}

/// `ln(1 + count)`, looked up for the counts that are met most.
pub(super) fn log(count: u32) -> f32 {
    static LOGS: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|count| (count as f32).ln_1p()));
    LOGS.get(count as usize).copied().unwrap_or_else(|| (count as f32).ln_1p())
}

/// The distance of two vectors, or any larger number once it exceeds `enough`.
pub(super) fn distance(a: &Entries, b: &Entries, scales: &Scales, enough: f32) -> f32 {
    let mut sum = 0.0;
    differences(a, b, scales, |_, weight| {
        sum += weight;
        sum <= enough
    });
    sum
}

/// Calls `each` with every template in which the vectors differ and what the difference weighs, until it
/// returns `false`.
pub(super) fn differences(a: &Entries, b: &Entries, scales: &Scales, mut each: impl FnMut(u16, f32) -> bool) {
    let scale = |template: u16| scales.known.get(usize::from(template)).copied().unwrap_or(scales.strange);
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let left = a.get(i).map_or(u32::MAX, |&(template, _)| u32::from(template));
        let right = b.get(j).map_or(u32::MAX, |&(template, _)| u32::from(template));
        let template = left.min(right) as u16;
        let weight = if left == right {
            let (x, y) = (a[i].1, b[j].1);
            i += 1;
            j += 1;
            if x == y {
                continue;
            }
            (log(x) - log(y)).abs() * scale(template).amount
        } else if left < right {
            i += 1;
            log(a[i - 1].1) * scale(template).presence
        } else {
            j += 1;
            log(b[j - 1].1) * scale(template).presence
        };
        if !each(template, weight) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales_of(vectors: &[(&Entries, f64)], templates: usize) -> Scales {
        let set = Weighted {
            vectors: vectors.iter().map(|v| v.0).collect(),
            masses: vectors.iter().map(|v| v.1).collect(),
            repeats: vec![true; vectors.len()],
        };
        scales(&set, &vec![100; templates], 1.0)
    }

    #[test]
    fn what_varies_weighs_less_than_what_never_varies() {
        let (a, b, c): (&Entries, &Entries, &Entries) =
            (&[(0, 3), (1, 1)], &[(0, 3), (1, 9)], &[(0, 4), (1, 1)]);
        let scales = scales_of(&[(a, 50.0), (b, 50.0)], 2);
        assert!(distance(a, c, &scales, f32::MAX) > 2.0 * distance(a, b, &scales, f32::MAX));
    }

    #[test]
    fn a_strange_template_weighs_about_seven() {
        let scales = scales_of(&[(&[(0, 1)], 10.0)], 1);
        let far = distance(&[(0, 1)], &[(0, 1), (9, 1)], &scales, f32::MAX);
        assert!((far - 6.93).abs() < 0.01, "{far}");
    }

    #[test]
    fn distance_is_symmetric_and_zero_only_to_itself() {
        let (a, b): (&Entries, &Entries) = (&[(0, 3), (2, 1)], &[(1, 2), (2, 4), (3, 1)]);
        let scales = scales_of(&[(a, 1.0), (b, 3.0)], 4);
        assert_eq!(distance(a, b, &scales, f32::MAX), distance(b, a, &scales, f32::MAX));
        assert_eq!(distance(a, a, &scales, f32::MAX), 0.0);
        assert!(distance(a, &[], &scales, f32::MAX) > 0.0);
    }

    #[test]
    fn quantiles_count_the_absent_as_zero() {
        let counts = [(1, 5.0), (4, 5.0)];
        assert_eq!(quantile(&counts, 10.0, 10.0), 0);
        assert_eq!(quantile(&counts, 10.0, 11.0), 1);
        assert_eq!(quantile(&counts, 0.0, 9.0), 4);
        assert_eq!(quantile(&[], 0.0, 1.0), 0);
    }
}
