//! What is judged as one: chosen from the first lines of a log, unless the caller says.

use opsroom_analytics::features::{Grouping, SessionKey, guess_session_key};
use opsroom_analytics::parse::{Kind, LogParser, ParserConfig};
use opsroom_core::{Error, Result};

use super::model::{Options, Window};

/// How many lines are looked at to choose.
pub const SAMPLE_LINES: usize = 20_000;
const MINUTE: i64 = 60_000_000;
/// Windows of time that are tried, smallest first.
const WINDOWS: [i64; 3] = [MINUTE, 5 * MINUTE, 60 * MINUTE];
/// A window with fewer lines than this says little.
const LINES_A_WINDOW: f64 = 20.0;
/// With fewer windows than this there is nothing to compare.
const FEWEST_WINDOWS: f64 = 20.0;

/// How lines are put together.
#[derive(Clone, Debug)]
pub struct Choice {
    /// For the groups.
    pub grouping: Grouping,
    /// Finds the session of a line.
    pub key: Option<SessionKey>,
}

impl Choice {
    /// In words, for the summary.
    pub fn describe(&self) -> String {
        match self.grouping {
            Grouping::Session => "sessions".to_owned(),
            Grouping::TimeWindow { micros } => format!("windows of {}", Window::Time(micros).describe()),
            Grouping::LineWindow { lines } => format!("windows of {}", Window::Lines(lines).describe()),
        }
    }
}

/// Chooses from what the caller says and from the first lines. `scale` is about how many times longer the
/// log is than these lines.
pub fn choose(options: &Options, sample: &[&[u8]], scale: f64) -> Result<Choice> {
    match (&options.session, options.window) {
        (Some(_), Some(_)) => Err(Error::invalid(
            "a session pattern and a window were both given: lines are judged by one or the other",
        )),
        (Some(pattern), None) => {
            let key = SessionKey::regex(pattern).map_err(|error| Error::invalid(error.to_string()))?;
            Ok(Choice { grouping: Grouping::Session, key: Some(key) })
        }
        (None, Some(window)) => Ok(windows(window)),
        (None, None) => Ok(match guess(sample, &options.parser) {
            Some(key) => Choice { grouping: Grouping::Session, key: Some(key) },
            None => windows(usual_window(sample, scale, &options.parser)),
        }),
    }
}

/// Words of ids that stand for one unit of work, wherever in a line they are.
const UNITS: [&str; 13] = [
    "req",
    "trace",
    "correlation",
    "instance",
    "container",
    "attempt",
    "session",
    "txn",
    "transaction",
    "task",
    "job",
    "workflow",
    "blk",
];

/// The id that is evident in the messages, or else in whole lines. What stands before the message is more
/// often a host or a thread than a session, so there only an id that says what it is counts.
pub fn guess(sample: &[&[u8]], config: &ParserConfig) -> Option<SessionKey> {
    let mut parser = LogParser::new(config.clone());
    let parsed: Vec<_> = sample.iter().map(|line| parser.push(line)).collect();
    let heads = parsed.iter().filter(|parsed| parsed.kind == Kind::Head);
    guess_session_key(heads.map(|parsed| &*parsed.message)).or_else(|| {
        let key = guess_session_key(sample.iter().copied())?;
        let words = key.describe().to_ascii_lowercase();
        UNITS.iter().any(|unit| words.contains(unit)).then_some(key)
    })
}

fn windows(window: Window) -> Choice {
    let grouping = match window {
        Window::Time(micros) => Grouping::TimeWindow { micros },
        Window::Lines(lines) => Grouping::LineWindow { lines },
    };
    Choice { grouping, key: None }
}

/// The smallest window of time that has enough lines and occurs often enough, or else a number of lines.
fn usual_window(sample: &[&[u8]], scale: f64, config: &ParserConfig) -> Window {
    let mut parser = LogParser::new(config.clone());
    let (mut heads, mut times) = (0usize, Vec::new());
    for line in sample {
        let parsed = parser.push(line);
        heads += usize::from(parsed.kind == Kind::Head);
        times.extend(parsed.time);
    }
    if times.len() * 2 > heads {
        for micros in WINDOWS {
            let mut starts: Vec<i64> = times.iter().map(|time| time.div_euclid(micros)).collect();
            starts.sort_unstable();
            starts.dedup();
            let each = times.len() as f64 / starts.len().max(1) as f64;
            if each >= LINES_A_WINDOW && starts.len() as f64 * scale >= FEWEST_WINDOWS {
                return Window::Time(micros);
            }
        }
    }
    let lines = sample.len() as f64 * scale;
    Window::Lines(match lines {
        ..300.0 => 5,
        ..800.0 => 10,
        ..4_000.0 => 20,
        _ => 100,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lines: &[String], scale: f64) -> String {
        let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        choose(&Options::default(), &lines, scale).unwrap().describe()
    }

    fn every(seconds: i64, lines: i64) -> Vec<String> {
        let line = |i| {
            let time = jiff::Timestamp::new(1_770_000_000 + i * seconds, 0).unwrap();
            format!("{time} INFO tick {} of the clock", i % 10)
        };
        (0..lines).map(line).collect()
    }

    #[test]
    fn the_window_follows_the_rate_of_the_log() {
        assert_eq!(chosen(&every(1, 3_000), 1.0), "windows of 60s");
        assert_eq!(chosen(&every(10, 3_000), 1.0), "windows of 5m");
        assert_eq!(chosen(&every(120, 3_000), 1.0), "windows of 1h");
        assert_eq!(chosen(&every(7_200, 3_000), 1.0), "windows of 20lines");
        assert_eq!(chosen(&every(1, 600), 1.0), "windows of 10lines");
        assert_eq!(chosen(&every(1, 150), 1.0), "windows of 5lines");
        assert_eq!(chosen(&every(1, 600), 10.0), "windows of 60s");
    }

    #[test]
    fn an_id_that_groups_the_lines_is_preferred() {
        let lines: Vec<String> =
            (0..800).map(|i| format!("step {} of blk_{}", i % 8, 1000 + i / 8)).collect();
        assert_eq!(chosen(&lines, 1.0), "sessions");
    }

    #[test]
    fn a_host_before_the_message_is_no_session_and_a_request_id_there_is_one() {
        let hosts: Vec<String> = (0..3_000)
            .map(|i| format!("Jul  1 09:{:02}:{:02} host-10-{} cron: ran", i / 60, i % 60, 100 + i / 90))
            .collect();
        assert_ne!(chosen(&hosts, 1.0), "sessions");
        let requests: Vec<String> = (0..3_000)
            .map(|i| {
                format!(
                    "2026-01-01 10:{:02}:{:02} INFO [req-{:05x}] step {}",
                    i / 60,
                    i % 60,
                    0xa000 + i / 6,
                    i % 6
                )
            })
            .collect();
        assert_eq!(chosen(&requests, 1.0), "sessions");
    }

    #[test]
    fn a_pattern_and_a_window_together_are_refused() {
        let both =
            Options { session: Some("a".to_owned()), window: Some(Window::Lines(5)), ..Options::default() };
        assert!(choose(&both, &[], 1.0).unwrap_err().message.contains("one or the other"));
    }
}
