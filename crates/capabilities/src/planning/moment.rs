//! Times as files and callers write them. Without a zone they are UTC. Only the years 1970 to 2199 are
//! taken: what lies outside is a mistake of units.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use opsroom_core::Time;

/// The first second of the year 2200.
const END: i64 = 7_258_118_400;
/// From here on a number is milliseconds: the begin of 1980.
const MILLISECONDS: f64 = 315_532_800_000.0;

/// Seconds since 1970 of an ISO 8601 time, or of a number in text.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return from_number(number);
    }
    let seconds = match text.parse::<Timestamp>() {
        Ok(timestamp) => timestamp.as_second(),
        Err(_) => {
            let civil: DateTime = text.parse().ok()?;
            civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()
        }
    };
    (0..END).contains(&seconds).then_some(seconds)
}

/// Seconds since 1970 of a number of seconds or milliseconds.
pub fn from_number(number: f64) -> Option<i64> {
    let seconds = if number.abs() >= MILLISECONDS { number / 1000.0 } else { number };
    // A NaN is in no range.
    (0.0..END as f64).contains(&seconds).then_some(seconds as i64)
}

/// RFC 3339 in UTC, as answers show times.
pub fn show(seconds: i64) -> String {
    Time(seconds.saturating_mul(1_000_000)).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_a_zone_and_numbers_are_read() {
        for text in
            ["2025-11-11T10:00:00Z", "2025-11-11T10:00:00", "2025-11-11 10:00", "2025-11-11T11:00+01:00"]
        {
            assert_eq!(parse(text), Some(1_762_855_200), "{text}");
        }
        assert_eq!(parse("1762855200"), Some(1_762_855_200));
        assert_eq!(parse("1762855200000"), Some(1_762_855_200));
        assert_eq!(show(1_762_855_200), "2025-11-11T10:00:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2025-13-01", "NaN", "inf", "-5", "1900-01-01T00:00:00Z", "9e300"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
