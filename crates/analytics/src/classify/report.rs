//! Figures of a detector in the shape of scikit-learn's `classification_report`, which the first
//! LogRobust server meant to return.

use std::collections::BTreeMap;

use crate::metrics::{Confusion, Judged};

/// The figures of one class, or a mean of them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Figures {
    /// The share of rows called so that are so; 0 when none was called so.
    pub precision: f64,
    /// The share of rows that are so and were called so; 0 when none is so.
    pub recall: f64,
    /// The harmonic mean of both.
    #[serde(rename = "f1-score")]
    pub f1: f64,
    /// Rows that are so, by weight.
    pub support: f64,
}

/// Figures by class and their means.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ClassificationReport {
    /// The classes that occur: `"0"` is normal, `"1"` anomalous.
    #[serde(flatten)]
    pub classes: BTreeMap<String, Figures>,
    /// The share of right answers.
    pub accuracy: f64,
    /// The plain mean of the classes.
    #[serde(rename = "macro avg")]
    pub macro_avg: Figures,
    /// The mean of the classes by support.
    #[serde(rename = "weighted avg")]
    pub weighted_avg: Figures,
}

/// A report with the fields that callers of the first LogRobust server look for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// Figures by class and their means.
    pub classification_report: ClassificationReport,
    /// The weighted mean of precision.
    pub precision: f64,
    /// The weighted mean of recall.
    pub recall: f64,
    /// The weighted mean of F1.
    pub f1_score: f64,
    /// The F1 of the anomalous class.
    pub anomaly_f1: f64,
    /// Judged rows.
    pub support: usize,
}

impl Report {
    /// The report of judged rows; a row was called anomalous when its score is at least 0.5.
    pub fn of(rows: &[Judged]) -> Self {
        let ours = Confusion::at(rows, 0.5);
        let flipped = Confusion {
            true_positives: ours.true_negatives,
            false_positives: ours.false_negatives,
            true_negatives: ours.true_positives,
            false_negatives: ours.false_positives,
        };
        let mut classes = BTreeMap::new();
        for (name, counts) in [("0", flipped), ("1", ours)] {
            let support = counts.true_positives + counts.false_negatives;
            if support + counts.false_positives > 0.0 {
                classes.insert(name.to_owned(), figures(&counts, support));
            }
        }
        let all: Vec<&Figures> = classes.values().collect();
        let total: f64 = all.iter().map(|class| class.support).sum();
        let macro_avg = mean(&all, |_| 1.0, total);
        let weighted_avg = mean(&all, |class| class.support, total);
        let anomaly_f1 = ours.f1().unwrap_or(0.0);
        Self {
            precision: weighted_avg.precision,
            recall: weighted_avg.recall,
            f1_score: weighted_avg.f1,
            anomaly_f1,
            support: rows.len(),
            classification_report: ClassificationReport {
                accuracy: ours.accuracy().unwrap_or(0.0),
                classes,
                macro_avg,
                weighted_avg,
            },
        }
    }

    /// The share of right answers.
    pub fn accuracy(&self) -> f64 {
        self.classification_report.accuracy
    }
}

fn figures(counts: &Confusion, support: f64) -> Figures {
    Figures {
        precision: counts.precision().unwrap_or(0.0),
        recall: counts.recall().unwrap_or(0.0),
        f1: counts.f1().unwrap_or(0.0),
        support,
    }
}

fn mean(classes: &[&Figures], weight: impl Fn(&Figures) -> f64, support: f64) -> Figures {
    let total: f64 = classes.iter().map(|class| weight(class)).sum();
    let of = |figure: fn(&Figures) -> f64| {
        let sum: f64 = classes.iter().map(|class| weight(class) * figure(class)).sum();
        if total > 0.0 { sum / total } else { 0.0 }
    };
    Figures { precision: of(|c| c.precision), recall: of(|c| c.recall), f1: of(|c| c.f1), support }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::metrics::Judged;

    fn rows(pairs: &[(bool, bool)]) -> Vec<Judged> {
        let row = |&(positive, called)| Judged { score: f64::from(u8::from(called)), positive, weight: 1.0 };
        pairs.iter().map(row).collect()
    }

    #[test]
    fn figures_are_those_of_scikit_learn() {
        // Truth 0 0 0 1 1, called 0 0 1 1 0; the numbers are scikit-learn's.
        let report =
            Report::of(&rows(&[(false, false), (false, false), (false, true), (true, true), (true, false)]));
        let json = serde_json::to_value(&report).unwrap();
        let near = |pointer: &str, want: f64| {
            let got = json.pointer(pointer).and_then(serde_json::Value::as_f64).unwrap();
            assert!((got - want).abs() < 1e-9, "{pointer}: {got} is not {want}");
        };
        near("/classification_report/0/precision", 2.0 / 3.0);
        near("/classification_report/1/f1-score", 0.5);
        near("/classification_report/1/support", 2.0);
        near("/classification_report/accuracy", 0.6);
        near("/classification_report/macro avg/recall", (2.0 / 3.0 + 0.5) / 2.0);
        near("/classification_report/weighted avg/f1-score", 0.6);
        near("/f1_score", 0.6);
        assert_eq!(report.support, 5);
    }

    #[test]
    fn a_class_that_neither_occurs_nor_was_called_is_left_out() {
        let report = Report::of(&rows(&[(true, true), (true, true)]));
        assert_eq!(report.classification_report.classes.keys().collect::<Vec<_>>(), ["1"]);
        assert_eq!(report.f1_score, 1.0);
        assert_eq!(Report::of(&[]).support, 0);
    }
}
