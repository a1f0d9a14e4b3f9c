//! One metric of one service: a value an hour, with gaps.
//!
//! Invariants: the length is 1 to [`MAX_HOURS`]; every value is finite within ±[`MAX_VALUE`] or a
//! gap (`NaN`); at least one is not a gap; the first and the last are not gaps after
//! [`Series::new`], so that the origin of a forecast is the hour after something observed.

use serde::{Deserialize, Serialize};

use super::DAY;
use super::error::ForecastError;

/// The most hours that a series holds: more than eleven years.
pub const MAX_HOURS: usize = 100_000;

/// The largest magnitude of a value.
pub const MAX_VALUE: f64 = 1e15;

/// Gaps up to this many hours are bridged by a straight line; longer ones by the day before.
const SHORT_GAP: usize = 3;

/// Hourly values with gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Series {
    start: i64,
    values: Vec<f64>,
}

/// How a series is written down: a gap is `null`.
#[derive(Serialize, Deserialize)]
struct Wire {
    start: i64,
    values: Vec<Option<f64>>,
}

impl TryFrom<Wire> for Series {
    type Error = ForecastError;
    fn try_from(wire: Wire) -> Result<Self, ForecastError> {
        Self::new(wire.start, wire.values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
    }
}

impl From<Series> for Wire {
    fn from(series: Series) -> Self {
        let values = series.values.into_iter().map(|v| (!v.is_nan()).then_some(v)).collect();
        Self { start: series.start, values }
    }
}

impl Series {
    /// A series whose first value belongs to hour `start` (hours since 1970-01-01 00:00 UTC); a
    /// `NaN` is a gap. Gaps at both ends are cut off.
    ///
    /// # Errors
    /// [`ForecastError::Empty`] when nothing is left, [`ForecastError::Value`] for an infinite or
    /// too large value, [`ForecastError::TooLong`] beyond [`MAX_HOURS`].
    pub fn new(start: i64, mut values: Vec<f64>) -> Result<Self, ForecastError> {
        for (position, &value) in values.iter().enumerate() {
            if value.abs() > MAX_VALUE {
                return Err(ForecastError::Value { position, value });
            }
        }
        let first = values.iter().position(|v| !v.is_nan());
        let last = values.iter().rposition(|v| !v.is_nan());
        let (Some(first), Some(last)) = (first, last) else {
            return Err(ForecastError::Empty { need: 1 });
        };
        values.truncate(last + 1);
        values.drain(..first);
        if values.len() > MAX_HOURS {
            return Err(ForecastError::TooLong { hours: values.len() as u64, max: MAX_HOURS });
        }
        Ok(Self { start: start.saturating_add(first as i64), values })
    }

    /// Hour of the first value, since 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The hour after the last value: the first that a forecast answers.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.values.len() as i64)
    }

    /// The values; a `NaN` is a gap.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Number of hours, gaps included. Never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a series is never empty")]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Number of hours with a value.
    #[must_use]
    pub fn observed(&self) -> usize {
        self.values.iter().filter(|v| !v.is_nan()).count()
    }

    /// The history of an origin: the hours before position `origin`.
    ///
    /// # Errors
    /// [`ForecastError::Empty`] when there is none.
    pub fn before(&self, origin: usize) -> Result<Self, ForecastError> {
        Self::new(self.start, self.values[..origin.min(self.values.len())].to_vec())
    }

    /// The last `hours` hours, or all of them.
    #[must_use]
    pub fn tail(&self, hours: usize) -> &[f64] {
        &self.values[self.values.len().saturating_sub(hours)..]
    }

    /// Whether no value is below 0: forecasts of such a series are not either.
    #[must_use]
    pub fn is_non_negative(&self) -> bool {
        self.values.iter().all(|v| v.is_nan() || *v >= 0.0)
    }

    /// The values with every gap filled: up to three hours by a straight line, longer ones by the
    /// same hour of the day before; in the first day by a straight line.
    #[must_use]
    pub fn filled(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        let mut at = 0;
        while at < values.len() {
            if !values[at].is_nan() {
                at += 1;
                continue;
            }
            let end = at + values[at..].iter().take_while(|v| v.is_nan()).count();
            bridge(&mut values, at, end);
            at = end;
        }
        values
    }
}

/// Fills the gap `from..to`; both neighbours are values.
fn bridge(values: &mut [f64], from: usize, to: usize) {
    let (left, right) = (values[from - 1], values[to]);
    let width = (to - from + 1) as f64;
    for at in from..to {
        let line = left + (right - left) * (at - from + 1) as f64 / width;
        values[at] = if to - from <= SHORT_GAP {
            line
        } else if at >= DAY {
            values[at - DAY]
        } else {
            line
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: f64 = f64::NAN;

    #[test]
    fn gaps_at_both_ends_are_cut_off_and_the_start_moves() {
        let series = Series::new(100, vec![GAP, GAP, 1.0, GAP, 2.0, GAP]).unwrap();
        assert_eq!((series.start(), series.len(), series.observed()), (102, 3, 2));
        assert_eq!(series.end(), 105);
    }

    #[test]
    fn nothing_but_gaps_is_refused() {
        assert_eq!(Series::new(0, vec![GAP; 9]), Err(ForecastError::Empty { need: 1 }));
        assert_eq!(Series::new(0, vec![]), Err(ForecastError::Empty { need: 1 }));
    }

    #[test]
    fn infinity_is_refused_with_its_position() {
        let answer = Series::new(0, vec![1.0, f64::INFINITY]);
        assert!(matches!(answer, Err(ForecastError::Value { position: 1, .. })));
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_take_the_day_before() {
        let short = Series::new(0, vec![1.0, GAP, GAP, 4.0]).unwrap();
        assert_eq!(short.filled(), vec![1.0, 2.0, 3.0, 4.0]);
        let mut values: Vec<f64> = (0..72).map(|h| f64::from(h % 24)).collect();
        values[30..40].fill(GAP);
        let long = Series::new(0, values).unwrap().filled();
        assert_eq!(long[30..40], long[6..16]);
    }

    #[test]
    fn a_series_survives_json_with_its_gaps() {
        let series = Series::new(7, vec![1.0, GAP, 0.1]).unwrap();
        let text = serde_json::to_string(&series).unwrap();
        assert_eq!(text, r#"{"start":7,"values":[1.0,null,0.1]}"#);
        let back: Series = serde_json::from_str(&text).unwrap();
        assert_eq!(back.len(), 3);
        assert!(back.values()[1].is_nan());
    }

    #[test]
    fn history_ends_before_its_origin() {
        let series = Series::new(0, vec![1.0, 2.0, 3.0]).unwrap();
        assert_eq!(series.before(2).unwrap().values(), &[1.0, 2.0]);
        assert!(series.before(0).is_err());
    }
}
