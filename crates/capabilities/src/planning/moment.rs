//! Times as files and callers write them. Without a zone they are UTC. Only the years 1970 to 2199 are
//! taken: what lies outside is a mistake of units. A zone in brackets (RFC 9557) is honoured.

use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use jiff::{Timestamp, Zoned};
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
    taken(written(text)?.as_second())
}

/// The moment of an ISO 8601 time.
fn written(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    if pieces.time_zone_annotation().is_some() {
        // An hour that a zone has twice is its first; an offset that the zone does not have is refused.
        return text.parse::<Zoned>().ok().map(|zoned| zoned.timestamp());
    }
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    let offset = pieces.offset().map_or(Offset::UTC, |offset| offset.to_numeric_offset());
    // RFC 3339 has no offset of a day or more.
    (offset.seconds().abs() < 86_400).then(|| offset.to_timestamp(civil).ok())?
}

/// These seconds since 1970, when they are of the years that are taken.
pub fn taken(seconds: i64) -> Option<i64> {
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
    fn a_zone_in_brackets_is_honoured_and_a_wrong_one_refused() {
        assert_eq!(parse("2026-10-25T04:00:00[Europe/Berlin]"), parse("2026-10-25T03:00:00Z"));
        assert_eq!(parse("2026-10-25T02:00:00+02:00[Europe/Berlin]"), parse("2026-10-25T00:00:00Z"));
        assert_eq!(parse("2026-10-25T02:00:00+01:00[Europe/Berlin]"), parse("2026-10-25T01:00:00Z"));
        for text in ["2026-10-25T04:00:00[Mars/Base]", "2026-10-25T04:00:00+05:00[Europe/Berlin]"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2025-13-01", "NaN", "inf", "-5", "1900-01-01T00:00:00Z", "9e300"] {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in
            ["2025-11-11T10:00+25:00", "2025-11-11T10:00-24:00", "2200-01-01", "2025-11-11T10:00+99:00"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
