//! Work on a batch cut into shards of fixed size, done by any number of threads with one result.
//!
//! A shard's size does not depend on the threads, each shard computes alone in a scratch of its own, and
//! results are merged in the order of shards on the calling thread: so sums round the same way whatever
//! the machine. Shards go in waves, which bounds the scratches that exist.

use std::ops::Range;

use rayon::prelude::*;

/// Scratches that exist at a time. It is part of the order of additions, so it is fixed.
const WAVE: usize = 16;

/// Calls `work` for every shard of `0..count`, in parallel, and `merge` with each scratch in order.
pub fn run<S: Default + Send>(
    count: usize,
    shard: usize,
    scratches: &mut Vec<S>,
    work: impl Fn(usize, Range<usize>, &mut S) + Sync,
    mut merge: impl FnMut(Range<usize>, &mut S),
) {
    let shard = shard.max(1);
    let range = |index: usize| index * shard..((index + 1) * shard).min(count);
    let shards = count.div_ceil(shard);
    for first in (0..shards).step_by(WAVE) {
        let wave = (shards - first).min(WAVE);
        if scratches.len() < wave {
            scratches.resize_with(wave, S::default);
        }
        let each = |(at, scratch): (usize, &mut S)| work(first + at, range(first + at), scratch);
        if wave == 1 {
            each((0, &mut scratches[0]));
        } else {
            scratches[..wave].par_iter_mut().enumerate().for_each(each);
        }
        for (at, scratch) in scratches[..wave].iter_mut().enumerate() {
            merge(range(first + at), scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_item_is_worked_on_once_and_merged_in_order() {
        let mut seen = Vec::new();
        let work = |index: usize, range: std::ops::Range<usize>, scratch: &mut Vec<usize>| {
            scratch.clear();
            scratch.extend(range);
            assert_eq!(scratch[0], index * 3);
        };
        super::run(100, 3, &mut Vec::new(), work, |_, scratch| seen.extend_from_slice(scratch));
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        super::run(0, 3, &mut Vec::new(), work, |_, _| panic!("there is no shard of nothing"));
    }
}
