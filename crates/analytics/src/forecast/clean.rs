//! From readings as they arrive to an hourly [`Series`], with a report of what was done.
//!
//! Readings come unsorted, twice, from the future, with holes, as counters that only grow and are
//! reset, and in local times that daylight saving skips or repeats. Each repair is counted in the
//! [`CleaningReport`], which is shown to the user beside the forecast.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ForecastError;
use super::series::{MAX_HOURS, MAX_VALUE, Series};

const HOUR: i64 = 3600;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub at: i64,
    /// The value in the metric's own unit; `NaN` is a reading without a value.
    pub value: f64,
}

/// What the readings measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A level: an hour is the mean of its readings.
    #[default]
    Gauge,
    /// A total that only grows: an hour is its growth. A fall is a reset to 0.
    Counter,
    /// Amounts that add up, such as events: an hour is the sum of its readings.
    Count,
}

/// What was found in the readings and done about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CleaningReport {
    /// Readings given.
    pub read: usize,
    /// Readings that became part of an hour.
    pub used: usize,
    /// Whether the readings were not in order of time.
    pub unsorted: bool,
    /// Readings with the time and the value of another; counted once.
    pub duplicates: usize,
    /// Readings with the time of another but a different value; the last one given is used.
    pub conflicts: usize,
    /// Readings left out because they have no finite value.
    pub without_value: usize,
    /// Readings left out because they are later than the time asked about.
    pub from_the_future: usize,
    /// Times that a counter fell and was taken to start again at 0.
    pub counter_resets: usize,
    /// Hours of the series, gaps included.
    pub hours: usize,
    /// Hours without a reading between the first and the last.
    pub missing_hours: usize,
    /// The longest run of hours without a reading.
    pub longest_gap: usize,
}

/// Makes an hourly series of `readings`. Readings later than `until` (seconds since 1970) are left
/// out; without it all are used.
///
/// # Errors
/// [`ForecastError::Empty`] when no reading is left, [`ForecastError::TooLong`] when the first and
/// the last are more than [`MAX_HOURS`] apart.
pub fn clean(
    readings: &[Reading],
    kind: Kind,
    until: Option<i64>,
) -> Result<(Series, CleaningReport), ForecastError> {
    let mut report = CleaningReport { read: readings.len(), ..CleaningReport::default() };
    let kept = keep(readings, until, &mut report);
    let (Some(first), Some(last)) = (kept.first(), kept.last()) else {
        return Err(ForecastError::Empty { need: 1 });
    };
    let start = first.at.div_euclid(HOUR);
    let hours = last.at.div_euclid(HOUR).abs_diff(start).saturating_add(1);
    if hours > MAX_HOURS as u64 {
        return Err(ForecastError::TooLong { hours, max: MAX_HOURS });
    }
    let values = match kind {
        Kind::Gauge => gather(&kept, start, hours as usize, |sum, count| sum / count),
        Kind::Count => gather(&kept, start, hours as usize, |sum, _| sum),
        Kind::Counter => growth(&kept, start, hours as usize, &mut report),
    };
    report.used = kept.len();
    let series = Series::new(start, values)?;
    report.hours = series.len();
    report.missing_hours = series.len() - series.observed();
    report.longest_gap = longest_gap(series.values());
    Ok((series, report))
}

/// Sorts, and leaves out what cannot be used.
fn keep(readings: &[Reading], until: Option<i64>, report: &mut CleaningReport) -> Vec<Reading> {
    report.unsorted = !readings.is_sorted_by_key(|r| r.at);
    let mut kept: Vec<Reading> = Vec::with_capacity(readings.len());
    for reading in readings {
        if !reading.value.is_finite() || reading.value.abs() > MAX_VALUE {
            report.without_value += 1;
        } else if until.is_some_and(|limit| reading.at > limit) {
            report.from_the_future += 1;
        } else {
            kept.push(*reading);
        }
    }
    kept.sort_by_key(|r| r.at);
    let mut unique: Vec<Reading> = Vec::with_capacity(kept.len());
    for reading in kept {
        match unique.last_mut() {
            Some(previous) if previous.at == reading.at => {
                if previous.value == reading.value {
                    report.duplicates += 1;
                } else {
                    report.conflicts += 1;
                    *previous = reading;
                }
            }
            _ => unique.push(reading),
        }
    }
    unique
}

/// Summarises the readings of each hour.
fn gather(kept: &[Reading], start: i64, hours: usize, summary: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); hours];
    for reading in kept {
        let cell = &mut sums[(reading.at.div_euclid(HOUR) - start) as usize];
        cell.0 += reading.value;
        cell.1 += 1.0;
    }
    sums.iter().map(|&(sum, count)| if count > 0.0 { summary(sum, count) } else { f64::NAN }).collect()
}

/// Growth of a counter in each hour; growth between two readings is spread evenly over the time
/// between them, except over holes of more than two hours, which stay gaps.
fn growth(kept: &[Reading], start: i64, hours: usize, report: &mut CleaningReport) -> Vec<f64> {
    let mut grown = vec![f64::NAN; hours];
    for pair in kept.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let amount = if to.value < from.value {
            report.counter_resets += 1;
            to.value.max(0.0)
        } else {
            to.value - from.value
        };
        let span = to.at - from.at;
        if span > 2 * HOUR {
            continue;
        }
        let mut at = from.at;
        while at < to.at {
            let hour = at.div_euclid(HOUR);
            let stop = ((hour + 1) * HOUR).min(to.at);
            let cell = &mut grown[(hour - start) as usize];
            let share = amount * (stop - at) as f64 / span as f64;
            *cell = if cell.is_nan() { share } else { *cell + share };
            at = stop;
        }
    }
    grown
}

/// Length of the longest run of gaps.
fn longest_gap(values: &[f64]) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for value in values {
        run = if value.is_nan() { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Seconds since 1970 for local times in `zone`, given in the order in which they were recorded.
///
/// Where daylight saving repeats an hour, a time is taken as the earlier one until times step back
/// and as the later one from there on; a time that daylight saving skips is moved forward by what
/// was skipped (as RFC 5545 does). `None` is a time beyond what the calendar holds. The second answer counts the times that were in either hour.
#[must_use]
pub fn local_times(times: &[DateTime], zone: &TimeZone) -> (Vec<Option<i64>>, usize) {
    let mut seconds = Vec::with_capacity(times.len());
    let mut touched = 0;
    let mut repeated = false;
    let mut previous: Option<DateTime> = None;
    for &time in times {
        let ambiguous = zone.to_ambiguous_timestamp(time);
        let stamp = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                repeated = false;
                ambiguous.compatible()
            }
            AmbiguousOffset::Gap { .. } => {
                touched += 1;
                ambiguous.compatible()
            }
            AmbiguousOffset::Fold { .. } => {
                touched += 1;
                repeated |= previous.is_some_and(|earlier| time < earlier);
                if repeated { ambiguous.later() } else { ambiguous.earlier() }
            }
        };
        previous = Some(time);
        seconds.push(stamp.ok().map(|s| s.as_second()));
    }
    (seconds, touched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn reading(at: i64, value: f64) -> Reading {
        Reading { at, value }
    }

    #[test]
    fn unsorted_duplicated_and_future_readings_are_counted() {
        let readings = [
            reading(7200, 3.0),
            reading(0, 1.0),
            reading(0, 1.0),
            reading(3600, 2.0),
            reading(3600, 4.0),
            reading(10_800, f64::NAN),
            reading(99_999_999, 5.0),
        ];
        let (series, report) = clean(&readings, Kind::Gauge, Some(20_000)).unwrap();
        assert_eq!(series.values(), &[1.0, 4.0, 3.0]);
        assert!(report.unsorted);
        assert_eq!((report.duplicates, report.conflicts), (1, 1));
        assert_eq!((report.without_value, report.from_the_future), (1, 1));
        assert_eq!((report.read, report.used), (7, 3));
    }

    #[test]
    fn gauges_are_averaged_and_counts_added_up() {
        let readings = [reading(0, 1.0), reading(1800, 3.0), reading(10_800, 5.0)];
        let (gauge, report) = clean(&readings, Kind::Gauge, None).unwrap();
        assert_eq!(gauge.values()[0], 2.0);
        assert_eq!((report.missing_hours, report.longest_gap, report.hours), (2, 2, 4));
        let (count, _) = clean(&readings, Kind::Count, None).unwrap();
        assert_eq!(count.values()[0], 4.0);
    }

    #[test]
    fn counters_become_growth_and_a_fall_is_a_reset() {
        let readings = [reading(0, 100.0), reading(3600, 160.0), reading(5400, 190.0), reading(7200, 10.0)];
        let (series, report) = clean(&readings, Kind::Counter, None).unwrap();
        assert_eq!(series.values(), &[60.0, 40.0]);
        assert_eq!(report.counter_resets, 1);
    }

    #[test]
    fn two_readings_far_apart_are_refused_before_memory_is_taken() {
        let answer = clean(&[reading(i64::MIN, 1.0), reading(i64::MAX, 1.0)], Kind::Gauge, None);
        assert!(matches!(answer, Err(ForecastError::TooLong { .. })));
    }

    #[test]
    fn no_reading_left_is_an_error() {
        assert!(clean(&[], Kind::Gauge, None).is_err());
        assert!(clean(&[reading(0, f64::INFINITY)], Kind::Gauge, None).is_err());
    }

    #[test]
    fn a_repeated_autumn_hour_becomes_two_hours() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let times = [
            date(2024, 10, 27).at(1, 0, 0, 0),
            date(2024, 10, 27).at(2, 0, 0, 0),
            date(2024, 10, 27).at(2, 30, 0, 0),
            date(2024, 10, 27).at(2, 0, 0, 0),
            date(2024, 10, 27).at(3, 0, 0, 0),
        ];
        let (seconds, touched) = local_times(&times, &zone);
        let steps: Vec<i64> = seconds.windows(2).map(|w| w[1].unwrap() - w[0].unwrap()).collect();
        assert_eq!(steps, [3600, 1800, 1800, 3600]);
        assert_eq!(touched, 3);
    }

    #[test]
    fn a_skipped_spring_hour_moves_forward() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let times = [date(2024, 3, 31).at(1, 30, 0, 0), date(2024, 3, 31).at(2, 30, 0, 0)];
        let (seconds, touched) = local_times(&times, &zone);
        assert_eq!(seconds[1].unwrap() - seconds[0].unwrap(), 3600);
        assert_eq!(touched, 1);
    }
}
