//! `nearest`: the label of the training sequence whose counts are nearest, and the nearest normal one.

use super::counts::{CountRow, Counts, count, distance};

/// Count vectors that are kept, at most; those of least weight are left out.
const MAX_KEPT: usize = 20_000;

/// The count vectors of training with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The rows.
    pub rows: Vec<CountRow>,
}

impl Nearest {
    /// Keeps the rows.
    pub fn fit(rows: &[CountRow]) -> Self {
        let mut rows = rows.to_vec();
        if rows.len() > MAX_KEPT {
            rows.sort_by(|a, b| b.weight.total_cmp(&a.weight));
            rows.truncate(MAX_KEPT);
        }
        Self { rows }
    }

    /// The probability of an anomaly: by how much the nearest anomaly is nearer than the nearest normal
    /// row. Rows at the very same counts answer by their weights.
    pub fn probability(&self, counts: &Counts) -> f64 {
        let (mut nearest, mut weights) = ([f64::INFINITY; 2], [0.0; 2]);
        for row in &self.rows {
            let label = usize::from(row.anomalous);
            let distance = distance(&row.counts, counts);
            nearest[label] = nearest[label].min(distance);
            if distance == 0.0 {
                weights[label] += row.weight;
            }
        }
        let [normal, anomalous] = weights;
        if normal + anomalous > 0.0 {
            return anomalous / (normal + anomalous);
        }
        let nearer = nearest[0].min(FAR) - nearest[1].min(FAR);
        1.0 / (1.0 + (-SHARPNESS * nearer).exp())
    }
}

/// Log-odds for each unit by which one squared distance is below the other: one event more or less is
/// strong evidence, as for a kernel of a third of a count.
const SHARPNESS: f64 = 5.0;
/// A squared distance that stands for no row of that label.
const FAR: f64 = 1e6;

/// Distinct normal sequences of training, to show what a sequence should have been.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normals {
    sequences: Vec<Vec<u32>>,
    counts: Vec<Counts>,
}

/// Normal sequences that are kept, at most.
const MAX_NORMALS: usize = 2000;
/// Events of a kept normal sequence, at most.
const MAX_NORMAL_LENGTH: usize = 500;

impl Normals {
    /// Keeps the heaviest sequence of each count vector.
    pub fn fit<'a>(rows: impl Iterator<Item = (&'a [u32], f64)>) -> Self {
        let mut kept: std::collections::BTreeMap<Counts, (f64, f64, &[u32])> = Default::default();
        let mut weights: std::collections::BTreeMap<&[u32], f64> = Default::default();
        for (places, weight) in rows.filter(|(places, _)| places.len() <= MAX_NORMAL_LENGTH) {
            *weights.entry(places).or_default() += weight;
        }
        for (places, weight) in weights {
            let entry = kept.entry(count(places)).or_insert((0.0, weight, places));
            entry.0 += weight;
            if weight > entry.1 {
                (entry.1, entry.2) = (weight, places);
            }
        }
        let mut kept: Vec<(f64, f64, &[u32])> = kept.into_values().collect();
        kept.sort_by(|a, b| b.0.total_cmp(&a.0));
        kept.truncate(MAX_NORMALS);
        Self::of(kept.into_iter().map(|(.., places)| places.to_vec()).collect())
    }

    /// Normals of these sequences.
    pub fn of(sequences: Vec<Vec<u32>>) -> Self {
        let counts = sequences.iter().map(|sequence| count(sequence)).collect();
        Self { sequences, counts }
    }

    /// The kept sequences.
    pub fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences
    }

    /// The kept sequence whose counts are nearest.
    pub fn nearest(&self, counts: &Counts) -> Option<&[u32]> {
        let distances = self.counts.iter().map(|normal| distance(normal, counts));
        let best = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(at, _)| &self.sequences[at][..])
    }
}

#[cfg(test)]
mod tests {
    use super::{Nearest, Normals};
    use crate::classify::counts::{CountRow, count};

    #[test]
    fn the_nearer_label_wins_and_equal_counts_answer_by_weight() {
        let row = |places: &[u32], anomalous, weight| CountRow { counts: count(places), anomalous, weight };
        let rows = [row(&[0, 1], false, 3.0), row(&[0, 1], true, 1.0), row(&[0, 2, 2], true, 1.0)];
        let nearest = Nearest::fit(&rows);
        assert_eq!(nearest.probability(&count(&[0, 1])), 0.25);
        assert!(nearest.probability(&count(&[0, 2, 2, 2])) > 0.99);
        assert!(nearest.probability(&count(&[0, 1, 1])) < 0.6);
        assert_eq!(nearest.probability(&count(&[0, 2, 2])), 1.0);
        assert_eq!(Nearest::fit(&[]).probability(&count(&[0])), 0.5);
    }

    #[test]
    fn the_nearest_normal_is_the_common_order_of_the_nearest_counts() {
        let rows: [(&[u32], f64); 4] =
            [(&[0, 1, 2], 1.0), (&[0, 2, 1], 5.0), (&[3, 3], 1.0), (&[4; 600], 9.0)];
        let normals = Normals::fit(rows.into_iter());
        assert_eq!(normals.sequences().len(), 2);
        assert_eq!(normals.nearest(&count(&[0, 1, 2, 2])), Some(&[0, 2, 1][..]));
        assert_eq!(Normals::default().nearest(&count(&[1])), None);
    }
}
