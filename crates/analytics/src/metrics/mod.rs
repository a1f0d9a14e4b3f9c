//! How good a detector's answers are, when the truth is known.
//!
//! Every figure counts each row by its weight, so that a test set in which the anomalies were enriched can
//! be scored at the abundance they have in operation. A figure that the data cannot give (recall without a
//! single positive row, say) is `None`, never a zero that looks like a bad result.

/// One judged row: what the detector said and what is true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The detector's score; higher is more anomalous.
    pub score: f64,
    /// Whether the row is truly anomalous.
    pub positive: bool,
    /// How many rows this one stands for; rows of zero or unusable weight count for nothing.
    pub weight: f64,
}

impl Judged {
    /// The weight, or zero when it is not a usable number.
    fn mass(&self) -> f64 {
        if self.weight.is_finite() && self.weight > 0.0 { self.weight } else { 0.0 }
    }
}

/// Weighted counts of right and wrong answers at one threshold.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Confusion {
    /// Anomalous and flagged.
    pub true_positives: f64,
    /// Normal but flagged.
    pub false_positives: f64,
    /// Normal and not flagged.
    pub true_negatives: f64,
    /// Anomalous but not flagged.
    pub false_negatives: f64,
}

impl Confusion {
    /// Counts rows; a row is flagged when its score is at least `threshold`.
    pub fn at(rows: &[Judged], threshold: f64) -> Self {
        let mut counts = Self::default();
        for row in rows {
            let cell = match (row.score >= threshold, row.positive) {
                (true, true) => &mut counts.true_positives,
                (true, false) => &mut counts.false_positives,
                (false, false) => &mut counts.true_negatives,
                (false, true) => &mut counts.false_negatives,
            };
            *cell += row.mass();
        }
        counts
    }

    /// The share of flagged rows that are anomalous; `None` when nothing was flagged.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of anomalous rows that were flagged; `None` when there are none.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The share of normal rows that were flagged; `None` when there are none.
    pub fn false_positive_rate(&self) -> Option<f64> {
        ratio(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// The harmonic mean of precision and recall; `None` when no row is anomalous and none was flagged.
    pub fn f1(&self) -> Option<f64> {
        let twice = 2.0 * self.true_positives;
        ratio(twice, twice + self.false_positives + self.false_negatives)
    }

    /// The share of right answers; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positives + self.true_negatives;
        ratio(right, right + self.false_positives + self.false_negatives)
    }
}

/// The chance that a random anomalous row scores above a random normal one, ties counting half
/// (the area under the ROC curve; Hanley and McNeil 1982). `None` unless both kinds are present.
/// Rows whose score is not a number count as the lowest.
pub fn roc_auc(rows: &[Judged]) -> Option<f64> {
    let (positives, negatives) = masses(rows);
    let mut below = 0.0;
    let mut won = 0.0;
    for tie in ties(rows).iter().rev() {
        won += tie.positives * (below + 0.5 * tie.negatives);
        below += tie.negatives;
    }
    ratio(won, positives * negatives)
}

/// The area under the precision-recall curve as average precision: the mean of the precision at each
/// threshold, weighted by the recall gained there. `None` without anomalous rows.
pub fn pr_auc(rows: &[Judged]) -> Option<f64> {
    let (positives, _) = masses(rows);
    let (mut hits, mut flagged, mut area) = (0.0, 0.0, 0.0);
    for tie in ties(rows) {
        hits += tie.positives;
        flagged += tie.positives + tie.negatives;
        if flagged > 0.0 {
            area += tie.positives * hits / flagged;
        }
    }
    ratio(area, positives)
}

/// The rows of one score, together.
struct Tie {
    positives: f64,
    negatives: f64,
}

/// Groups rows by score, highest first, so that equal scores are never told apart by their order.
fn ties(rows: &[Judged]) -> Vec<Tie> {
    let key = |row: &Judged| if row.score.is_nan() { f64::NEG_INFINITY } else { row.score };
    let mut order: Vec<&Judged> = rows.iter().collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)));
    let mut out: Vec<Tie> = Vec::new();
    let mut last = None;
    for row in order {
        if last != Some(key(row)) {
            out.push(Tie { positives: 0.0, negatives: 0.0 });
            last = Some(key(row));
        }
        let tie = out.last_mut().expect("a tie was just pushed");
        *(if row.positive { &mut tie.positives } else { &mut tie.negatives }) += row.mass();
    }
    out
}

fn masses(rows: &[Judged]) -> (f64, f64) {
    rows.iter()
        .fold((0.0, 0.0), |(p, n), row| if row.positive { (p + row.mass(), n) } else { (p, n + row.mass()) })
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(scores: &[(f64, bool, f64)]) -> Vec<Judged> {
        scores.iter().map(|&(score, positive, weight)| Judged { score, positive, weight }).collect()
    }

    #[test]
    fn weights_bring_back_the_abundance_of_normal_rows() {
        let rows = rows(&[(2.0, true, 1.0), (2.0, false, 3.0), (0.0, true, 1.0), (0.0, false, 5.0)]);
        let counts = Confusion::at(&rows, 1.0);
        assert_eq!(counts.precision(), Some(0.25));
        assert_eq!(counts.recall(), Some(0.5));
        assert_eq!(counts.f1(), Some(2.0 / 6.0));
        assert_eq!(counts.false_positive_rate(), Some(3.0 / 8.0));
        assert_eq!(counts.accuracy(), Some(0.6));
    }

    #[test]
    fn a_score_on_the_threshold_is_flagged() {
        assert_eq!(Confusion::at(&rows(&[(1.0, true, 1.0)]), 1.0).recall(), Some(1.0));
    }

    #[test]
    fn figures_the_data_cannot_give_are_absent() {
        let counts = Confusion::at(&[], 1.0);
        assert_eq!((counts.precision(), counts.recall(), counts.f1()), (None, None, None));
        assert_eq!(roc_auc(&rows(&[(1.0, true, 1.0)])), None);
        assert_eq!(pr_auc(&rows(&[(1.0, false, 1.0)])), None);
    }

    #[test]
    fn equal_scores_count_half_in_the_roc_area() {
        assert_eq!(roc_auc(&rows(&[(1.0, true, 1.0), (1.0, false, 9.0)])), Some(0.5));
        let mixed = rows(&[(3.0, true, 1.0), (2.0, false, 2.0), (1.0, true, 1.0), (0.0, false, 2.0)]);
        assert_eq!(roc_auc(&mixed), Some(0.75));
    }

    #[test]
    fn average_precision_is_the_mean_precision_over_recall_steps() {
        let rows = rows(&[(3.0, true, 1.0), (2.0, false, 1.0), (1.0, true, 1.0)]);
        assert_eq!(pr_auc(&rows), Some((1.0 + 2.0 / 3.0) / 2.0));
    }

    #[test]
    fn unusable_weights_and_scores_do_not_poison_the_figures() {
        let rows =
            rows(&[(f64::NAN, true, 1.0), (1.0, false, 1.0), (2.0, true, f64::NAN), (2.0, true, -4.0)]);
        assert_eq!(roc_auc(&rows), Some(0.0));
        assert_eq!(Confusion::at(&rows, 1.5).precision(), None);
    }
}
