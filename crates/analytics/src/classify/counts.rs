//! How often each event occurs in a sequence: what the cheap detectors look at.
//!
//! A count vector lists the places of the known events that occur, with their counts; events that are
//! not known are counted together under the place after the last.

use std::collections::BTreeMap;

/// Counts by place, places rising.
pub type Counts = Vec<(u32, u32)>;

/// A count vector with its label and the weight of all rows that share both.
#[derive(Clone, Debug, PartialEq)]
pub struct CountRow {
    /// The counts.
    pub counts: Counts,
    /// Whether it is an anomaly.
    pub anomalous: bool,
    /// The weight.
    pub weight: f64,
}

/// Counts of a sequence of places.
pub fn count(places: &[u32]) -> Counts {
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    let mut counts: Counts = Vec::new();
    for place in sorted {
        match counts.last_mut() {
            Some((last, count)) if *last == place => *count += 1,
            _ => counts.push((place, 1)),
        }
    }
    counts
}

/// The count at a place.
pub fn at(counts: &Counts, place: u32) -> u32 {
    counts.binary_search_by_key(&place, |entry| entry.0).map_or(0, |found| counts[found].1)
}

/// Equal count vectors of one label as one.
pub fn merge<'a>(rows: impl Iterator<Item = (&'a [u32], bool, f64)>) -> Vec<CountRow> {
    let mut merged: BTreeMap<(Counts, bool), f64> = BTreeMap::new();
    for (places, anomalous, weight) in rows {
        *merged.entry((count(places), anomalous)).or_default() += weight;
    }
    let row = |((counts, anomalous), weight)| CountRow { counts, anomalous, weight };
    merged.into_iter().map(row).collect()
}

/// The square of the Euclidean distance between two count vectors.
pub fn distance(a: &Counts, b: &Counts) -> f64 {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut sum = 0.0;
    loop {
        let difference = match (a.peek(), b.peek()) {
            (None, None) => return sum,
            (Some(x), Some(y)) if x.0 == y.0 => {
                let difference = f64::from(x.1) - f64::from(y.1);
                a.next();
                b.next();
                difference
            }
            (Some(x), y) if y.is_none_or(|y| x.0 < y.0) => {
                let count = f64::from(x.1);
                a.next();
                count
            }
            (_, Some(y)) => {
                let count = f64::from(y.1);
                b.next();
                count
            }
            (Some(_), None) => unreachable!("the second arm takes what only one side has"),
        };
        sum += difference * difference;
    }
}

#[cfg(test)]
mod tests {
    use super::{at, count, distance, merge};

    #[test]
    fn counts_merge_and_differ_as_vectors_do() {
        let counts = count(&[5, 2, 5, 9]);
        assert_eq!(counts, [(2, 1), (5, 2), (9, 1)]);
        assert_eq!((at(&counts, 5), at(&counts, 4)), (2, 0));
        assert_eq!(distance(&counts, &count(&[5, 7, 7])), 1.0 + 1.0 + 4.0 + 1.0);
        assert_eq!(distance(&counts, &counts), 0.0);
        let rows: [(&[u32], bool, f64); 3] =
            [(&[1, 2], true, 1.0), (&[2, 1], true, 2.0), (&[1, 2], false, 4.0)];
        let merged = merge(rows.into_iter());
        assert_eq!(merged.iter().map(|row| row.weight).collect::<Vec<_>>(), [4.0, 3.0]);
    }
}
