//! Level shifts: the point from which a series lives at another level than before.
//!
//! A machine that was emptied or resized yesterday says nothing about tomorrow with the weeks
//! before. A shift is accepted only when it is plain: for at least a day every value has been
//! outside the range of the two weeks before, a few of their hours excepted, with a gap between
//! the ranges, so that a quiet weekend or a spike is none.

use super::DAY;

/// How far back a shift is looked for.
const REACH: usize = 7 * DAY;

/// How much before a candidate is compared with.
const BEFORE: usize = 14 * DAY;

/// Share of the hours before that have to be apart from those after.
const APART: f64 = 0.98;

/// Position of the latest level shift at least a day before the end; 0 when there is none.
#[must_use]
pub fn latest(values: &[f64]) -> usize {
    let n = values.len();
    if n < 3 * DAY {
        return 0;
    }
    let mut found = 0;
    let mut low = f64::INFINITY;
    let mut high = f64::NEG_INFINITY;
    for value in &values[n - DAY + 1..] {
        low = low.min(*value);
        high = high.max(*value);
    }
    for at in (n.saturating_sub(REACH).max(2 * DAY)..=n - DAY).rev() {
        low = low.min(values[at]);
        high = high.max(values[at]);
        if is_apart(low, high, &values[at.saturating_sub(BEFORE)..at]) {
            found = at;
        } else if found > 0 {
            break;
        }
    }
    found
}

/// Whether the range `low..=high` and nearly all values `before` are apart, with more room
/// between them than the newer range is wide.
fn is_apart(low: f64, high: f64, before: &[f64]) -> bool {
    let room = high - low;
    let most = |apart: usize| apart as f64 >= APART * before.len() as f64;
    most(before.iter().filter(|v| **v > high + room).count())
        || most(before.iter().filter(|v| **v < low - room).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day_shape(hours: usize, at: usize, after: f64) -> Vec<f64> {
        (0..hours).map(|h| (if h < at { 1000.0 } else { after }) + (h % 24) as f64).collect()
    }

    #[test]
    fn a_plain_fall_is_found_where_it_happened() {
        assert_eq!(latest(&day_shape(400, 360, 10.0)), 360);
        assert_eq!(latest(&day_shape(400, 376, 5000.0)), 376);
    }

    #[test]
    fn a_fall_of_less_than_a_day_is_not_yet_one() {
        assert_eq!(latest(&day_shape(400, 380, 10.0)), 0);
    }

    #[test]
    fn a_quiet_weekend_and_a_spike_are_none() {
        let weekly: Vec<f64> =
            (0..500).map(|h| if (h / 24) % 7 >= 5 { 1.0 } else { 100.0 + (h % 24) as f64 }).collect();
        assert_eq!(latest(&weekly), 0);
        let mut spike = day_shape(400, 400, 0.0);
        spike[390] = 1e6;
        assert_eq!(latest(&spike), 0);
        assert_eq!(latest(&[5.0; 300]), 0);
    }
}
