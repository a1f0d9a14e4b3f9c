//! Which windows suit a log without sessions.

use super::Grouping;

/// Usual lengths of a window of time, in seconds.
const LENGTHS: [i64; 9] = [1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600];
/// Fewer windows than this are too few to say what is usual.
const FEWEST: i64 = 40;
/// Windows should have this many lines on average.
const FILLED: u64 = 20;
const MOST: i64 = 50_000;

/// The windows for a log of `lines` lines from the first to the last of its times, in microseconds; lines
/// when it has no times, or when all of it happened within a few windows.
pub fn suggest_windows(lines: u64, times: Option<(i64, i64)>) -> Grouping {
    let by_lines = || Grouping::LineWindow { lines: if lines >= 4_000 { 100 } else { 20 } };
    let Some(span) = times.and_then(|(first, last)| last.checked_sub(first)).filter(|&span| span > 0) else {
        return by_lines();
    };
    let enough = |windows: i64| (FEWEST..=MOST).contains(&windows);
    let fitting = LENGTHS.iter().map(|seconds| seconds * 1_000_000).filter(|micros| enough(span / micros));
    let mut fallback = None;
    for micros in fitting {
        let windows = (span / micros).cast_unsigned().max(1);
        if lines / windows >= FILLED {
            return Grouping::TimeWindow { micros };
        }
        fallback = Some(Grouping::TimeWindow { micros });
    }
    // Sparse even in the longest windows that leave enough of them: those it is, if they hold anything.
    fallback.filter(|_| lines >= 200).unwrap_or_else(by_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;

    fn check(lines: u64, times: Option<(i64, i64)>, expected: Grouping) {
        assert_eq!(suggest_windows(lines, times), expected);
    }

    #[test]
    fn the_shortest_windows_that_are_filled_are_chosen() {
        check(8_000_000, Some((0, DAY)), Grouping::TimeWindow { micros: 10_000_000 });
        check(100_000, Some((0, DAY)), Grouping::TimeWindow { micros: 60_000_000 });
        check(10_000, Some((0, DAY)), Grouping::TimeWindow { micros: 300_000_000 });
        check(10_000, Some((0, 365 * DAY)), Grouping::TimeWindow { micros: DAY });
    }

    #[test]
    fn logs_without_usable_times_get_windows_of_lines() {
        check(10_000, None, Grouping::LineWindow { lines: 100 });
        check(500, Some((5, 5)), Grouping::LineWindow { lines: 20 });
        check(500, Some((i64::MIN, i64::MAX)), Grouping::LineWindow { lines: 20 });
        check(30, Some((0, 365 * DAY)), Grouping::LineWindow { lines: 20 });
    }
}
