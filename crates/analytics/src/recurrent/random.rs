//! A small seeded generator, so that a run is the same on every machine and any number of threads.

/// SplitMix64 (Steele, Lea and Flood 2014): one word of state, every seed good, streams cheap to derive.
#[derive(Clone, Debug)]
pub struct Random(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(STEP)))
    }

    /// The generator of a seed and a path of numbers (epoch, batch, shard, ...): work that is split over
    /// threads draws from a stream of its own, so that the split does not change what is drawn.
    pub fn stream(seed: u64, path: &[u64]) -> Self {
        let state = path.iter().fold(mix(seed.wrapping_add(STEP)), |state, &part| {
            mix(state ^ mix(part.wrapping_mul(STEP).wrapping_add(STEP)))
        });
        Self(state)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts the items in random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn numbers_are_uniform_normal_and_repeatable() {
        let mut random = Random::new(7);
        let units: Vec<f64> = (0..20_000).map(|_| random.unit()).collect();
        let mean = units.iter().sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01 && units.iter().all(|u| (0.0..1.0).contains(u)));
        let normals: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let variance = normals.iter().map(|n| n * n).sum::<f64>() / 20_000.0;
        assert!((variance - 1.0).abs() < 0.05);
        assert_eq!(Random::new(7).bits(), Random::new(7).bits());
        assert_ne!(Random::stream(7, &[0, 1]).bits(), Random::stream(7, &[1, 0]).bits());
    }

    #[test]
    fn a_shuffle_keeps_every_item_once() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::new(3).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        assert_eq!(Random::new(1).below(0), 0);
    }
}
