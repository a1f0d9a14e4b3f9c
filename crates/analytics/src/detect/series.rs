//! How often something usually comes in a window, and when it comes too often or stays away.
//!
//! Counts are compared on the scale `2 sqrt(count + 3/8)`, on which Poisson counts have a spread of 1
//! whatever their rate (Anscombe, 1948). The centre is the median and the spreads come from the outer
//! tenths, so that a fault in the log learnt from moves neither, and a program that is livelier than
//! Poisson is granted its liveliness.

use serde::{Deserialize, Serialize};

/// Spreads above the centre at which a count is anomalous.
const FAR: f32 = 6.0;
/// A template that never varies is still granted this spread below its centre.
const STEADY: f32 = 0.25;
/// The quantile that sets the spread, and how many standard deviations it lies out for a normal variable.
const OUTER: (f64, f32) = (0.9, 1.2816);
/// Peaks and dips that are remembered.
const REMEMBERED: usize = 16;
/// Windows between two runs that still make them one.
const GAP: u32 = 2;

/// What one template (or all lines, or all errors) usually does from window to window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    median: u32,
    /// All but the outer twentieths lie between these.
    pub(super) low: u32,
    pub(super) high: u32,
    up: f32,
    down: f32,
    /// The highest count of each run of unusually many, highest first.
    peaks: Vec<u32>,
    /// Lowest count and length of each run of unusually few, longest first.
    dips: Vec<(u32, u32)>,
}

/// A window in which a count is out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hit {
    pub(super) window: u32,
    pub(super) count: u32,
    /// From 1 on anomalous.
    pub(super) score: f32,
    /// Too few rather than too many.
    pub(super) few: bool,
}

impl Rate {
    /// What is usual in `windows` windows, of which those listed, ascending, have these counts.
    pub(super) fn fit(counts: &[(u32, u32)], windows: u32) -> Self {
        let mut sorted: Vec<u32> = counts.iter().map(|&(_, count)| count).collect();
        sorted.sort_unstable();
        let absent = windows as usize - sorted.len();
        let at = |share: f64| {
            let rank = (share * f64::from(windows.saturating_sub(1))).round() as usize;
            rank.checked_sub(absent).and_then(|rank| sorted.get(rank)).copied().unwrap_or(0)
        };
        let (median, low, high) = (at(0.5), at(0.05), at(0.95));
        let steady = STEADY + 2.0 / (windows.max(1) as f32).sqrt();
        let spread = |outer: u32| (steadied(outer) - steadied(median)).abs() / OUTER.1;
        let mut rate = Self {
            median,
            low,
            high,
            up: spread(at(OUTER.0)).max(1.0),
            down: spread(at(1.0 - OUTER.0)).max(steady),
            peaks: Vec::new(),
            dips: Vec::new(),
        };
        rate.peaks = peaks(counts.iter().copied().filter(|&(_, count)| rate.is_many(count)));
        rate.peaks.sort_unstable_by(|a, b| b.cmp(a));
        rate.peaks.truncate(REMEMBERED);
        let few = rate.few(counts, windows);
        let dip =
            |run: &[(u32, u32)]| (run.iter().map(|&(_, count)| count).min().unwrap_or(0), run.len() as u32);
        rate.dips = few.chunk_by(|a, b| a.0 + 1 == b.0).map(dip).collect();
        rate.dips.sort_unstable_by_key(|&(lowest, length)| (std::cmp::Reverse(length), lowest));
        rate.dips.truncate(REMEMBERED);
        rate
    }

    /// What is usual for something never met.
    pub(super) const fn unknown() -> Self {
        Self { median: 0, low: 0, high: 0, up: 1.0, down: 1.0, peaks: Vec::new(), dips: Vec::new() }
    }

    /// The usual number in a window.
    pub(super) const fn median(&self) -> u32 {
        self.median
    }

    /// The windows out of the ordinary. `own` says that the counts are those learnt from.
    pub(super) fn hits(&self, counts: &[(u32, u32)], windows: u32, own: bool) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        for &(window, count) in counts {
            let far = (steadied(count) - steadied(self.median)) / self.up / FAR;
            // A peak that comes back, such as a nightly job's, is no surprise.
            let alike = self.peaks.iter().filter(|&&peak| f64::from(peak) >= 0.6 * f64::from(count)).count();
            let score = far * familiarity(alike, own);
            if far > 0.5 && score > 0.3 {
                hits.push(Hit { window, count, score, few: false });
            }
        }
        let few = self.few(counts, windows);
        for run in few.chunk_by(|a, b| a.0 + 1 == b.0) {
            // The first and the last window of a log are cut short by it.
            let long = run.iter().filter(|&&(window, _)| window > 0 && window + 1 < windows).count().min(16);
            for &(window, count) in run {
                let far = (steadied(self.median) - steadied(count)) / self.down / FAR * (long as f32).sqrt();
                let like = |&&(lowest, length): &&(u32, u32)| {
                    lowest * 2 <= count * 3 && length as usize * 2 >= run.len()
                };
                let alike = self.dips.iter().filter(like).count();
                let score = far * familiarity(alike, own);
                if score > 0.3 {
                    hits.push(Hit { window, count, score, few: true });
                }
            }
        }
        hits
    }

    fn is_many(&self, count: u32) -> bool {
        count > self.high || (count > self.median && f64::from(count) >= 1.5 * f64::from(self.median))
    }

    /// The windows with less than half the usual number, zeros included.
    fn few(&self, counts: &[(u32, u32)], windows: u32) -> Vec<(u32, u32)> {
        if self.median == 0 {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut listed = counts.iter().copied().peekable();
        for window in 0..windows {
            let count = listed.next_if(|&(at, _)| at == window).map_or(0, |(_, count)| count);
            if count < self.median.div_ceil(2) {
                out.push((window, count));
            }
        }
        out
    }
}

/// How much of a surprise is left when the log has `alike` runs as extreme.
fn familiarity(alike: usize, own: bool) -> f32 {
    let runs = if own { alike.max(1) } else { alike + 1 };
    (runs as f32).powf(-0.75)
}

fn steadied(count: u32) -> f32 {
    2.0 * (count as f32 + 0.375).sqrt()
}

/// The highest count of each run of windows.
fn peaks(windows: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let mut out: Vec<u32> = Vec::new();
    let mut last = None;
    for (window, count) in windows {
        match (last, out.last_mut()) {
            (Some(before), Some(held)) if window - before <= GAP + 1 => *held = count.max(*held),
            _ => out.push(count),
        }
        last = Some(window);
    }
    out
}

/// The windows at which a run of presence starts.
pub(super) fn starts(counts: &[(u32, u32)]) -> impl Iterator<Item = u32> {
    let before = std::iter::once(None).chain(counts.iter().map(|&(window, _)| Some(window)));
    counts
        .iter()
        .zip(before)
        .filter(|((window, _), before)| before.is_none_or(|before| window - before > GAP + 1))
        .map(|((window, _), _)| *window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(counts: &[u32]) -> Option<Hit> {
        let listed: Vec<(u32, u32)> =
            counts.iter().enumerate().filter(|(_, c)| **c > 0).map(|(w, &c)| (w as u32, c)).collect();
        let windows = counts.len() as u32;
        let hits = Rate::fit(&listed, windows).hits(&listed, windows, true);
        hits.into_iter().filter(|hit| hit.score >= 1.0).max_by(|a, b| a.score.total_cmp(&b.score))
    }

    fn swinging(windows: u32) -> Vec<u32> {
        (0..windows).map(|i| 20 + i * 7919 % 13).collect()
    }

    #[test]
    fn usual_swings_are_no_hits() {
        assert_eq!(worst(&swinging(300)), None);
        assert_eq!(worst(&[0; 50]), None);
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[4]), None);
    }

    #[test]
    fn a_burst_is_a_hit_and_a_nightly_burst_is_not() {
        let mut once = swinging(300);
        once[170] = 300;
        assert_eq!(worst(&once).map(|hit| (hit.window, hit.few)), Some((170, false)));
        let mut nightly = swinging(300);
        nightly.iter_mut().skip(10).step_by(24).for_each(|count| *count = 300);
        assert_eq!(worst(&nightly), None);
        nightly[170] = 3000;
        assert_eq!(worst(&nightly).map(|hit| hit.window), Some(170));
    }

    #[test]
    fn a_heartbeat_that_stops_is_a_hit_and_one_that_jitters_is_not() {
        let mut beat = vec![1; 200];
        beat[50] = 0;
        beat[51] = 2;
        assert_eq!(worst(&beat), None);
        beat[120..132].fill(0);
        assert!(worst(&beat).is_some_and(|hit| hit.few && (120..132).contains(&hit.window)));
    }

    #[test]
    fn half_empty_edges_of_a_log_are_no_silence() {
        let mut counts = swinging(100);
        counts[0] = 1;
        counts[99] = 2;
        assert_eq!(worst(&counts), None);
    }

    #[test]
    fn runs_start_where_something_comes_after_a_pause() {
        let counts = [(3, 1), (4, 1), (7, 1), (20, 5)];
        assert_eq!(starts(&counts).collect::<Vec<_>>(), [3, 20]);
    }
}
