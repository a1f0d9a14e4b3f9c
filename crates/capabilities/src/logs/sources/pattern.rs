//! Key patterns: how the keys of objects tell the time, as `logs/%Y/%m/%d/%H/`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use opsroom_core::{Error, Result};

/// The most prefixes that a range is cut into; a longer one is listed by coarser ones.
const MOST_PREFIXES: usize = 500;
const HOUR: i64 = 3_600_000_000;

/// A pattern: a prefix of keys with `%Y`, `%m`, `%d` and `%H`, in that order, as far as they are there.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyPattern {
    text: String,
    /// The finest of them: 1 for the year up to 4 for the hour.
    finest: usize,
}

const MARKS: [&str; 4] = ["%Y", "%m", "%d", "%H"];

impl KeyPattern {
    /// # Errors
    /// `Invalid` for a pattern that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!(
                "key_pattern `{}`: {what}; such is logs/%Y/%m/%d/%H/",
                text.escape_debug()
            ))
        };
        let mut at = 0;
        let mut finest = 0;
        for (place, mark) in MARKS.iter().enumerate() {
            match text.match_indices(mark).collect::<Vec<_>>().as_slice() {
                [] => break,
                [(found, _)] if *found >= at => {
                    at = *found;
                    finest = place + 1;
                }
                _ => return Err(wrong("%Y, %m, %d and %H are there once each, in this order")),
            }
        }
        if finest == 0 {
            return Err(wrong("it has no %Y"));
        }
        let marks = text.matches('%').count();
        if marks != finest {
            return Err(wrong("it knows %Y, %m, %d and %H, each only with those before it"));
        }
        Ok(Self { text: text.to_owned(), finest })
    }

    /// The prefixes of the keys of a range (microseconds since 1970, in UTC). Empty when there is no telling.
    pub fn prefixes(&self, from: i64, until: i64) -> Vec<String> {
        for finest in (1..=self.finest).rev() {
            let mut found: Vec<String> = Vec::new();
            let mut at = from.div_euclid(HOUR) * HOUR;
            let step = [24 * 28, 24 * 28, 24, 1][finest - 1] * HOUR;
            if (until.saturating_sub(from)) / step > 4 * MOST_PREFIXES as i64 {
                continue;
            }
            loop {
                let prefix = self.at(at.min(until.saturating_sub(1)), finest);
                if found.last() != Some(&prefix) {
                    found.push(prefix);
                }
                if at >= until {
                    break;
                }
                at += step;
            }
            found.dedup();
            if found.len() <= MOST_PREFIXES {
                return found;
            }
        }
        Vec::new()
    }

    /// The range of time that a key tells, where it is one of this pattern.
    pub fn span(&self, key: &str) -> Option<(i64, i64)> {
        let mut numbers = [1970i16, 1, 1, 0];
        let (mut pattern, mut rest) = (self.text.as_str(), key);
        while let Some(at) = pattern.find('%') {
            rest = rest.strip_prefix(&pattern[..at])?;
            let place = MARKS.iter().position(|mark| pattern[at..].starts_with(mark))?;
            let digits = if place == 0 { 4 } else { 2 };
            let text = rest.get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
            numbers[place] = text.parse().ok()?;
            rest = &rest[digits..];
            pattern = &pattern[at + 2..];
        }
        let [year, month, day, hour] = numbers;
        let small = |n: i16| i8::try_from(n).ok();
        let begin = DateTime::new(year, small(month)?, small(day)?, small(hour)?, 0, 0, 0).ok()?;
        let days = |n: i64| n * 24 * HOUR;
        let micros = begin.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond();
        let length = [days(366), days(31), days(1), HOUR][self.finest - 1];
        Some((micros, micros + length))
    }

    /// The pattern with a moment in the place of its marks, ending behind the mark `finest`.
    fn at(&self, micros: i64, finest: usize) -> String {
        let moment = Timestamp::from_microsecond(micros).unwrap_or_default();
        let end = self.text.find(MARKS[finest - 1]).map_or(self.text.len(), |at| at + 2);
        // What stands behind the finest mark belongs to the prefix when the whole pattern is used.
        let text = if finest == self.finest { self.text.as_str() } else { &self.text[..end] };
        moment.strftime(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: i64 = 1_763_719_200_000_000;

    #[test]
    fn a_range_becomes_the_prefixes_of_its_hours_or_of_its_days() {
        let pattern = KeyPattern::parse("app/%Y/%m/%d/%H/").unwrap();
        assert_eq!(
            pattern.prefixes(TEN + HOUR / 2, TEN + 2 * HOUR),
            ["app/2025/11/21/10/", "app/2025/11/21/11/"]
        );
        assert_eq!(pattern.prefixes(TEN, TEN + 1), ["app/2025/11/21/10/"]);
        let days = pattern.prefixes(TEN, TEN + 30 * 24 * HOUR);
        assert_eq!((days.len(), days[0].as_str()), (31, "app/2025/11/21"));
        assert!(pattern.prefixes(i64::MIN / 2, i64::MAX / 2).is_empty());
        let daily = KeyPattern::parse("%Y%m%d").unwrap();
        assert_eq!(daily.prefixes(TEN, TEN + 20 * HOUR), ["20251121", "20251122"]);
    }

    #[test]
    fn a_key_tells_its_time() {
        let pattern = KeyPattern::parse("app/%Y/%m/%d/%H/").unwrap();
        assert_eq!(pattern.span("app/2025/11/21/10/x.gz"), Some((TEN, TEN + HOUR)));
        for key in ["app/2025/11/21/xx/", "app/2025/13/21/10/", "app/2025", "", "ap\u{0}p/2025"] {
            assert_eq!(pattern.span(key), None, "{key}");
        }
        for wrong in ["logs/", "%m/%Y", "%Y/%Y", "%Y/%d", "%Y %S"] {
            assert!(KeyPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
