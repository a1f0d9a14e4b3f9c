//! What a line of a log is to the store: its time, its level, where it comes from, its text and its fields.

use jiff::Timestamp;
use opsroom_analytics::parse::Level;
use opsroom_analytics::segments::{Labels, MOST_TEXT};
use serde_json::{Map, Value};

use super::store::{Batch, FIELDS, TEAM};

/// The names of levels, as they are kept: 0 for none, up to 6.
pub const LEVELS: [&str; 7] = ["none", "trace", "debug", "info", "warn", "error", "fatal"];
/// The most labels of a stream.
const MOST_LABELS: usize = 32;
/// The most bytes of a label's name and of its value.
const LABEL_BYTES: (usize, usize) = (64, 512);
/// How far in the future a line's time may lie: clocks differ, and zones are mistaken.
const AHEAD: i64 = 86_400_000_000;
/// How far in the past: before that it is a mistake, such as seconds taken for nanoseconds.
const EARLIEST: i64 = 0;

/// The number of a level.
pub fn level_number(level: Option<Level>) -> u8 {
    level.map_or(0, |level| level as u8 + 1)
}

/// The number of a level that a word names, in any case.
pub fn level_of(word: &str) -> u8 {
    level_number(Level::from_word(word.trim().as_bytes()))
}

/// Gathers lines into a batch, within the bounds of what a line may be.
pub struct Gather {
    /// What was gathered.
    pub batch: Batch,
    /// Lines whose time could not be, and got the time of their arrival.
    pub retimed: u64,
    /// Lines that were cut.
    pub cut: u64,
    now: i64,
    /// The stream of the last line.
    last: Option<(Labels, u32)>,
}

impl Gather {
    /// Nothing yet; `now` in microseconds since 1970.
    pub fn at(now: i64) -> Self {
        Self { batch: Batch::default(), retimed: 0, cut: 0, now, last: None }
    }

    /// When lines arrived, in microseconds since 1970.
    pub fn arrival(&self) -> i64 {
        self.now
    }

    /// The time that stands for one that a line states, or states not.
    pub fn time(&mut self, time: Option<i64>) -> i64 {
        match time {
            Some(time) if (EARLIEST..=self.now.saturating_add(AHEAD)).contains(&time) => time,
            Some(_) => {
                self.retimed += 1;
                self.now
            }
            None => self.now,
        }
    }

    /// The number of a stream.
    pub fn stream(&mut self, labels: &Labels) -> u32 {
        if let Some((known, at)) = &self.last
            && known == labels
        {
            return *at;
        }
        let at = self.batch.stream(labels);
        self.last = Some((labels.clone(), at));
        at
    }

    /// Adds a line with its fields.
    pub fn push(
        &mut self,
        time: Option<i64>,
        level: u8,
        stream: u32,
        text: &[u8],
        fields: &Map<String, Value>,
    ) {
        let time = self.time(time);
        if fields.is_empty() && memchr::memchr(FIELDS, text).is_none() {
            self.cut += u64::from(text.len() > MOST_TEXT);
            return self.batch.rows.push(time, level, stream, text);
        }
        let json = Value::Object(fields.clone()).to_string();
        let room = MOST_TEXT.saturating_sub(json.len() + 1);
        if room == 0 {
            // Fields of a megabyte are no fields.
            self.cut += 1;
            return self.batch.rows.push(time, level, stream, text);
        }
        self.cut += u64::from(text.len() > room);
        let mut whole = text[..text.len().min(room)].to_vec();
        whole.push(FIELDS);
        whole.extend_from_slice(json.as_bytes());
        self.batch.rows.push(time, level, stream, &whole);
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.batch.rows.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Labels as they may be kept: names of letters, digits, `_`, `.`, `-`; what is longer is cut.
pub fn labels(given: impl IntoIterator<Item = (String, String)>) -> Labels {
    let mut labels = Labels::new();
    for (name, value) in given {
        if labels.len() >= MOST_LABELS {
            break;
        }
        let mut name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "_.-/".contains(c) { c } else { '_' })
            .take(LABEL_BYTES.0)
            .collect();
        // `_team` says whose lines they are, and only we say that.
        if name.is_empty() || name == TEAM {
            name.push('_');
        }
        let mut value = value;
        if value.len() > LABEL_BYTES.1 {
            let cut = (0..=LABEL_BYTES.1).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
            value.truncate(cut);
        }
        if !value.is_empty() {
            labels.insert(name, value);
        }
    }
    labels
}

/// A line's text and its fields.
pub fn parts(line: &[u8]) -> (&[u8], Option<Map<String, Value>>) {
    let Some(at) = memchr::memrchr(FIELDS, line) else { return (line, None) };
    match serde_json::from_slice(&line[at + 1..]) {
        Ok(Value::Object(fields)) => (&line[..at], Some(fields)),
        _ => (line, None),
    }
}

/// A time as JSON has it: RFC 3339, or seconds, milliseconds, microseconds or nanoseconds since 1970, by its
/// size.
pub fn time_of(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => time_of_text(text),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(by_size(whole)),
            None => number
                .as_f64()
                .filter(|n| n.abs() < MILLISECONDS as f64)
                .map(|seconds| (seconds * 1e6) as i64),
        },
        _ => None,
    }
}

/// A time as text.
pub fn time_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Some(by_size(number));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < MILLISECONDS as f64).then_some((seconds * 1e6) as i64);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let civil = text.parse::<jiff::civil::DateTime>().ok();
    civil
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|at| at.timestamp().as_microsecond())
}

/// From here on a number since 1970 is milliseconds: the begin of 1980. As seconds it is the year 11963.
const MILLISECONDS: u64 = 315_532_800_000;
/// From here on it is microseconds.
const MICROSECONDS: u64 = MILLISECONDS * 1_000;
/// From here on it is nanoseconds.
const NANOSECONDS: u64 = MICROSECONDS * 1_000;

fn by_size(number: i64) -> i64 {
    match number.unsigned_abs() {
        0..MILLISECONDS => number.saturating_mul(1_000_000),
        MILLISECONDS..MICROSECONDS => number.saturating_mul(1_000),
        MICROSECONDS..NANOSECONDS => number,
        _ => number / 1_000,
    }
}

/// A moment as answers show it.
pub fn shown_time(micros: i64) -> String {
    opsroom_core::clock::Time(micros).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_known_by_their_size_or_their_spelling() {
        let moment = 1_763_719_200_000_000;
        let spelt = [
            json!(1_763_719_200),
            json!(1_763_719_200_000i64),
            json!(moment),
            json!("1763719200"),
            json!(1_763_719_200_000_000_000i64),
            json!("2025-11-21T10:00:00Z"),
            json!("2025-11-21T11:00:00+01:00"),
            json!("2025-11-21 10:00:00"),
            json!(1_763_719_200.0),
        ];
        for value in spelt {
            assert_eq!(time_of(&value), Some(moment), "{value}");
        }
        assert_eq!((time_of(&json!("yesterday")), time_of(&json!(true))), (None, None));
        // The first second of the year 10000 is not a millisecond of 1978.
        assert_eq!(time_of(&json!(253_402_300_800i64)), Some(253_402_300_800_000_000));
    }

    #[test]
    fn a_time_in_the_future_or_before_1970_becomes_that_of_the_arrival() {
        let mut gather = Gather::at(1_763_719_200_000_000);
        let stream = gather.stream(&Labels::new());
        for time in [Some(i64::MAX), Some(-1), None, Some(1_763_719_100_000_000)] {
            gather.push(time, 0, stream, b"x", &Map::new());
        }
        let times: Vec<i64> = gather.batch.rows.rows.iter().map(|row| row.time / 1_000_000).collect();
        assert_eq!(
            (times, gather.retimed),
            (vec![1_763_719_200, 1_763_719_200, 1_763_719_200, 1_763_719_100], 2)
        );
    }

    #[test]
    fn fields_come_back_whatever_the_text_holds() {
        let mut gather = Gather::at(1);
        let fields = json!({ "a": 1 }).as_object().cloned().unwrap();
        gather.push(None, 0, 0, b"odd \x1f{\"b\":2}", &Map::new());
        gather.push(None, 0, 0, b"text", &fields);
        let line = |at: usize| parts(gather.batch.rows.text_of(&gather.batch.rows.rows[at]));
        assert_eq!(line(0), (&b"odd \x1f{\"b\":2}"[..], Some(Map::new())));
        assert_eq!(line(1), (&b"text"[..], Some(fields)));
    }

    #[test]
    fn nobody_can_say_that_lines_are_another_teams() {
        let labels =
            labels([("_team".to_owned(), "other".to_owned()), ("a b".to_owned(), "x".repeat(2_000))]);
        assert!(!labels.contains_key(TEAM));
        assert_eq!(labels["a_b"].len(), 512);
    }
}
