//! A bounded choice of distinct vectors that stands for all of them.

use crate::features::Vectors;

/// Vectors looked at with all their mutual distances.
const MOST: usize = 1_500;
/// How many of them are the heaviest; the others are drawn.
const HEAVIEST: usize = 1_000;

/// The numbers of the chosen vectors, ascending, and the sessions that each stands for: its own for the
/// heaviest, and an equal part of what is left for those drawn among the others.
pub(super) fn sample(vectors: &Vectors, seed: u64) -> (Vec<usize>, Vec<f64>) {
    let mass = |i: usize| f64::from(vectors.multiplicity(i));
    if vectors.len() <= MOST {
        return ((0..vectors.len()).collect(), (0..vectors.len()).map(mass).collect());
    }
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    order.sort_unstable_by_key(|&i| (std::cmp::Reverse(vectors.multiplicity(i)), i));
    let (heavy, light) = order.split_at_mut(HEAVIEST);
    let mut random = SplitMix(seed);
    let drawn = MOST - HEAVIEST;
    for i in 0..drawn {
        let j = i + random.below(light.len() - i);
        light.swap(i, j);
    }
    let rest: f64 = light.iter().map(|&i| mass(i)).sum();
    let drawn_mass: f64 = light[..drawn].iter().map(|&i| mass(i)).sum();
    let mut chosen: Vec<(usize, f64)> = heavy.iter().map(|&i| (i, mass(i))).collect();
    chosen.extend(light[..drawn].iter().map(|&i| (i, mass(i) * rest / drawn_mass)));
    chosen.sort_unstable_by_key(|&(i, _)| i);
    chosen.into_iter().unzip()
}

/// The generator of Steele, Lea and Flood (2014): small, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be zero.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}
