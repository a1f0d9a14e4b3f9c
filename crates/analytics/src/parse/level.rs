//! How loud a line is.
//!
//! Loggers spell the same six degrees in many ways; here is the one table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The severity that a line's header states, from quiet to loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finer than debugging: `TRACE`, `VERBOSE`, `FINEST`.
    Trace,
    /// `DEBUG`, `FINE`.
    Debug,
    /// `INFO`, `NOTICE`.
    Info,
    /// `WARN`, `WARNING`.
    Warn,
    /// `ERROR`, `SEVERE`, `FAILURE`.
    Error,
    /// `FATAL`, `CRITICAL`, `ALERT`, `EMERGENCY`, `PANIC`.
    Fatal,
}

const NAMES: &[(&[u8], Level)] = &[
    (b"trace", Level::Trace),
    (b"trce", Level::Trace),
    (b"verbose", Level::Trace),
    (b"finest", Level::Trace),
    (b"finer", Level::Trace),
    (b"debug", Level::Debug),
    (b"dbug", Level::Debug),
    (b"dbg", Level::Debug),
    (b"fine", Level::Debug),
    (b"info", Level::Info),
    (b"information", Level::Info),
    (b"informational", Level::Info),
    (b"inf", Level::Info),
    (b"notice", Level::Info),
    (b"config", Level::Info),
    (b"warn", Level::Warn),
    (b"wrn", Level::Warn),
    (b"warning", Level::Warn),
    (b"error", Level::Error),
    (b"err", Level::Error),
    (b"eror", Level::Error),
    (b"fail", Level::Error),
    (b"failure", Level::Error),
    (b"severe", Level::Error),
    (b"fatal", Level::Fatal),
    (b"ftl", Level::Fatal),
    (b"crit", Level::Fatal),
    (b"critical", Level::Fatal),
    (b"alert", Level::Fatal),
    (b"emerg", Level::Fatal),
    (b"emergency", Level::Fatal),
    (b"panic", Level::Fatal),
];

impl Level {
    /// The level that a whole word names, in any case.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        if !(3..=13).contains(&word.len()) {
            return None;
        }
        NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, level)| level)
    }

    /// The level that one letter stands for (Android and klog headers).
    pub(super) fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'V' | b'T' => Self::Trace,
            b'D' => Self::Debug,
            b'I' | b'N' => Self::Info,
            b'W' => Self::Warn,
            b'E' => Self::Error,
            b'F' | b'C' => Self::Fatal,
            _ => return None,
        })
    }

    /// The level of a number: pino and bunyan count 10 to 60, syslog 7 down to 0.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0..=2 => Self::Fatal,
            3 => Self::Error,
            4 => Self::Warn,
            5 | 6 | 30 => Self::Info,
            7 | 20 => Self::Debug,
            10 => Self::Trace,
            40 => Self::Warn,
            50 => Self::Error,
            60 => Self::Fatal,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_a_level_in_any_case_and_only_as_a_whole() {
        assert_eq!(Level::from_word(b"Warning"), Some(Level::Warn));
        assert_eq!(Level::from_word(b"SEVERE"), Some(Level::Error));
        assert_eq!(Level::from_word(b"notice"), Some(Level::Info));
        assert_eq!(Level::from_word(b"information-desk"), None);
        assert_eq!(Level::from_word(b""), None);
    }

    #[test]
    fn numbers_follow_bunyan_and_syslog() {
        assert_eq!(Level::from_number(30), Some(Level::Info));
        assert_eq!(Level::from_number(3), Some(Level::Error));
        assert_eq!(Level::from_number(31), None);
    }

    #[test]
    fn levels_are_ordered_from_quiet_to_loud() {
        assert!(Level::Trace < Level::Info && Level::Error < Level::Fatal);
    }
}
