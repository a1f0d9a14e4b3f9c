//! What is abnormal in a metric: in a forecast against its history, and in what arrives.
//!
//! Four checks, each with its score and threshold in the answer. The seed's z-score: the highest
//! hour forecast, in standard deviations from the mean of 168 hours. The robust z-score: the same
//! with median and median absolute deviation, which one old spike cannot inflate. Drift: the level
//! of the last day against the days before, in usual day-to-day changes. Level shift: a day that
//! has nothing in common with the two weeks before ([`super::shift`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DAY, WEEK, shift, stats};

/// The threshold of the seed (`ANOMALY_Z`).
pub const THRESHOLD: f64 = 3.0;

/// Ratio to the mean from which the seed calls a peak over a constant history abnormal.
const CONSTANT_RATIO: f64 = 2.0;

/// The fewest days that a drift is measured against: a week, with its weekend.
const DAYS_OF_DRIFT: usize = 7;

/// The fewest hours of history that can say what is usual.
pub const NEEDS: usize = DAY;

/// The seed's answer, field by field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ZScore {
    /// Whether the score reaches the threshold.
    pub anomaly_detected: bool,
    /// Standard deviations of the highest forecast hour from the mean; over a constant history the
    /// ratio to the mean. Absent where it would be infinite.
    pub score: Option<f64>,
    /// The highest forecast hour.
    pub max_pred: f64,
    /// Mean of the history.
    pub hist_mean: f64,
    /// Population standard deviation of the history.
    pub hist_std: f64,
    /// The threshold.
    pub threshold: f64,
    /// Why there is no judgement; absent when there is one.
    pub reason: Option<String>,
}

/// What a check looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A value far from the median.
    RobustZ,
    /// A level that moves away over days.
    Drift,
    /// Another level from one hour on.
    LevelShift,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What was looked for.
    pub kind: Kind,
    /// Whether it was found.
    pub found: bool,
    /// How strongly: in units of what is usual.
    pub score: f64,
    /// From which score on it counts.
    pub threshold: f64,
    /// Position in the values checked: of the worst hour, or of the shift.
    pub at: usize,
    /// In words.
    pub reason: String,
}

/// The seed's check of a forecast against its history (gaps left out).
#[must_use]
pub fn z_score(history: &[f64], forecast: &[f64], threshold: f64) -> ZScore {
    let known = known(history);
    let highest = forecast.iter().copied().filter(|v| !v.is_nan()).fold(f64::NEG_INFINITY, f64::max);
    let mut answer = ZScore {
        anomaly_detected: false,
        score: Some(0.0),
        max_pred: if highest.is_finite() { highest } else { 0.0 },
        hist_mean: stats::mean(&known),
        hist_std: stats::deviation(&known),
        threshold,
        reason: None,
    };
    if known.is_empty() || !highest.is_finite() {
        answer.reason = Some("no history or no forecast to compare".to_owned());
        return answer;
    }
    let spread = answer.hist_std;
    // Rounding leaves a constant with a deviation of the size of the last bit.
    if spread > 1e-12 * answer.hist_mean.abs() {
        let score = (highest - answer.hist_mean) / spread;
        answer.anomaly_detected = score >= threshold;
        answer.score = Some(score);
    } else if answer.hist_mean > 0.0 {
        let ratio = highest / answer.hist_mean;
        answer.anomaly_detected = ratio >= CONSTANT_RATIO;
        answer.score = Some(ratio);
    } else {
        answer.score = None;
        answer.reason = Some("the history is constant at 0 or below: a ratio to it says nothing".to_owned());
    }
    answer
}

/// The value of `values` farthest from the median of `history`, in robust deviations. `None` with
/// less than a day of history or without values.
#[must_use]
pub fn robust_z(history: &[f64], values: &[f64], threshold: f64) -> Option<Finding> {
    let known = known(history);
    if known.len() < NEEDS {
        return None;
    }
    let center = stats::median(&known);
    let spread = usual_spread(&known, center);
    let (at, value) = values
        .iter()
        .enumerate()
        .filter(|(_, v)| !v.is_nan())
        .max_by(|a, b| (a.1 - center).abs().total_cmp(&(b.1 - center).abs()))?;
    let score = (value - center).abs() / spread;
    Some(Finding {
        kind: Kind::RobustZ,
        found: score >= threshold,
        score,
        threshold,
        at,
        reason: format!("{value:.4} is {score:.1} usual deviations from the median {center:.4}"),
    })
}

/// Whether the level of the last day left that of the days before, in usual day-to-day changes.
/// `None` with less than four days.
#[must_use]
pub fn drift(history: &[f64], threshold: f64) -> Option<Finding> {
    let from = history.len() % DAY;
    let days: Vec<f64> = history[from..]
        .chunks_exact(DAY)
        .map(known)
        .filter(|day| day.len() >= DAY / 2)
        .map(|day| stats::median(&day))
        .collect();
    let (last, before) = days.split_last()?;
    if before.len() < DAYS_OF_DRIFT {
        return None;
    }
    let level = stats::median(before);
    let steps: Vec<f64> = before.windows(2).map(|w| (w[1] - w[0]).abs()).collect();
    // A level that never moved by itself still may by a hundredth without being called drift.
    let usual = stats::mean(&steps).max(0.01 * level.abs()).max(f64::MIN_POSITIVE);
    let score = (last - level).abs() / usual;
    // A weekend lies far from the level of most days, and within what the week before had.
    let beyond = before.iter().all(|day| day < last) || before.iter().all(|day| day > last);
    Some(Finding {
        kind: Kind::Drift,
        found: beyond && score >= threshold,
        score,
        threshold,
        at: history.len() - DAY,
        reason: format!(
            "the last day lies at {last:.4}, the days before at {level:.4}: {score:.1} usual changes"
        ),
    })
}

/// Whether the series lives at another level since at least a day. `None` with less than three days.
#[must_use]
pub fn level_shift(history: &[f64]) -> Option<Finding> {
    if history.len() < 3 * DAY || history.iter().any(|v| v.is_nan()) {
        return None;
    }
    let at = shift::latest(history);
    let found = at > 0;
    let (before, after) = history.split_at(if found { at } else { history.len() - DAY });
    let (was, is) = (stats::median(before), stats::median(after));
    let center = stats::median(before);
    let score = (is - was).abs() / usual_spread(before, center);
    let reason = if found {
        format!("the level went from {was:.4} to {is:.4} and stayed")
    } else {
        "the last days share values with the two weeks before".to_owned()
    };
    Some(Finding { kind: Kind::LevelShift, found, score, threshold: 1.0, at, reason })
}

/// All checks of a history, gaps filled: the last day's values, drift and level shift.
#[must_use]
pub fn check_history(filled: &[f64], threshold: f64) -> Vec<Finding> {
    let split = filled.len().saturating_sub(DAY);
    let usual = &filled[split.saturating_sub(WEEK)..split];
    let spikes = robust_z(usual, &filled[split..], threshold).map(|f| Finding { at: f.at + split, ..f });
    [spikes, drift(filled, threshold), level_shift(filled)].into_iter().flatten().collect()
}

/// Robust deviation, never 0: where more than half of the values are equal the mean absolute
/// deviation stands in, and for a constant a hundredth of it (Iglewicz and Hoaglin, 1993).
fn usual_spread(known: &[f64], center: f64) -> f64 {
    let robust = stats::robust_deviation(known);
    if robust > 0.0 {
        return robust;
    }
    let away: Vec<f64> = known.iter().map(|v| (v - center).abs()).collect();
    let mean = 1.2533 * stats::mean(&away);
    mean.max(0.01 * center.abs()).max(f64::MIN_POSITIVE)
}

fn known(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|v| !v.is_nan()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(hours: usize) -> Vec<f64> {
        (0..hours).map(|h| 50.0 + 10.0 * ((h % 24) as f64 / 24.0) + ((h * 7919) % 13) as f64 / 10.0).collect()
    }

    #[test]
    fn a_forecast_of_ten_times_its_history_is_abnormal() {
        let answer = z_score(&daily(168), &[520.0; 24], THRESHOLD);
        assert!(answer.anomaly_detected && answer.score.unwrap() > 100.0);
        assert!(!z_score(&daily(168), &daily(24), THRESHOLD).anomaly_detected);
    }

    #[test]
    fn a_constant_history_is_judged_by_the_ratio() {
        assert!(z_score(&[0.1; 168], &[0.2], THRESHOLD).anomaly_detected);
        assert!(!z_score(&[0.1; 168], &[0.19], THRESHOLD).anomaly_detected);
        assert_eq!(z_score(&[0.0; 168], &[5.0], THRESHOLD).score, None);
    }

    #[test]
    fn missing_data_is_no_anomaly_and_says_so() {
        for answer in
            [z_score(&[], &[1.0], 3.0), z_score(&[1.0], &[], 3.0), z_score(&[f64::NAN], &[1.0], 3.0)]
        {
            assert!(!answer.anomaly_detected && answer.reason.is_some());
            assert_eq!(answer.score, Some(0.0));
        }
    }

    #[test]
    fn an_old_spike_hides_a_new_one_from_the_plain_score_but_not_from_the_robust_one() {
        let mut history = daily(168);
        history[20] = 100_000.0;
        assert!(!z_score(&history, &[500.0], THRESHOLD).anomaly_detected);
        assert!(robust_z(&history, &[500.0], THRESHOLD).unwrap().found);
    }

    #[test]
    fn drift_is_found_and_a_daily_shape_is_not_drift() {
        assert!(!drift(&daily(240), THRESHOLD).unwrap().found);
        let mut drifting = daily(240);
        drifting[216..].iter_mut().for_each(|v| *v *= 1.5);
        let finding = drift(&drifting, THRESHOLD).unwrap();
        assert!(finding.found && finding.at == 216);
        assert!(drift(&daily(72), THRESHOLD).is_none());
    }

    #[test]
    fn a_level_shift_is_found_where_it_happened() {
        let mut history = daily(300);
        history[260..].iter_mut().for_each(|v| *v += 400.0);
        let finding = level_shift(&history).unwrap();
        assert!(finding.found && finding.at == 260, "{finding:?}");
        assert!(!level_shift(&daily(300)).unwrap().found);
    }

    #[test]
    fn a_quiet_history_has_three_findings_and_none_is_found() {
        let findings = check_history(&daily(400), THRESHOLD);
        assert_eq!(findings.len(), 3);
        assert!(findings.iter().all(|f| !f.found && f.score.is_finite()), "{findings:?}");
    }

    #[test]
    fn constant_empty_and_short_histories_are_answered() {
        assert!(check_history(&[], THRESHOLD).is_empty());
        assert!(check_history(&[1.0; 10], THRESHOLD).is_empty());
        let findings = check_history(&[5.0; 400], THRESHOLD);
        assert!(findings.iter().all(|f| !f.found && f.score == 0.0));
    }
}
