//! An alert, whoever sent it.

use std::collections::BTreeMap;

use opsroom_core::Time;
use opsroom_core::id::hex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::matchers::Labels;

/// The most labels or annotations that are kept of one alert.
pub const MOST_LABELS: usize = 64;
/// The longest label name or value that is kept, in bytes; what is longer is cut.
pub const LONGEST_LABEL: usize = 1024;
/// The longest annotation that is kept, in bytes.
pub const LONGEST_TEXT: usize = 8192;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody must act now.
    Critical,
    /// Somebody should look soon.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The word of the answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// From any sender's word; what is not known is a warning, so that it is not overlooked.
    pub fn of(word: &str) -> Self {
        match word.trim().to_ascii_lowercase().as_str() {
            "critical" | "crit" | "fatal" | "emergency" | "alert" | "error" | "err" | "page" | "high"
            | "p1" | "1" => Self::Critical,
            "info" | "informational" | "information" | "notice" | "none" | "debug" | "low" | "ok" | "p4"
            | "p5" => Self::Info,
            _ => Self::Warning,
        }
    }
}

/// One alert as a sender told it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incoming {
    /// What makes it the same alert when it comes again.
    pub fingerprint: String,
    /// Whether it begins or goes on, or is over.
    pub firing: bool,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// The value that broke the rule, as text.
    pub value: Option<String>,
    /// What it is about, as names and values.
    pub labels: Labels,
    /// What else the sender says.
    pub annotations: BTreeMap<String, String>,
    /// When it began, if the sender says so.
    #[serde(with = "micros")]
    pub starts_at: Option<Time>,
    /// When it ended, if it did and the sender says so; of one that fires, when it is over unless it is told
    /// again.
    #[serde(with = "micros")]
    pub ends_at: Option<Time>,
    /// Where to look, by name.
    pub links: BTreeMap<String, String>,
}

impl Incoming {
    /// An alert of these labels, which make its fingerprint.
    pub fn of_labels(labels: Labels, firing: bool) -> Self {
        let labels = bounded(labels, LONGEST_LABEL);
        Self {
            fingerprint: fingerprint(&labels),
            firing,
            severity: labels.get("severity").map_or(Severity::Warning, |word| Severity::of(word)),
            title: labels.get("alertname").cloned().unwrap_or_default(),
            description: String::new(),
            value: None,
            labels,
            annotations: BTreeMap::new(),
            starts_at: None,
            ends_at: None,
            links: BTreeMap::new(),
        }
    }
}

/// Times are kept in microseconds.
mod micros {
    use super::{Deserialize, Serialize, Time};

    pub fn serialize<S: serde::Serializer>(time: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|at| at.0).serialize(to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Time>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Time))
    }
}

/// A hash of all labels, the same in whatever order they came.
pub fn fingerprint(labels: &Labels) -> String {
    let mut hash = Sha256::new();
    for (name, value) in labels {
        for word in [name, value] {
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word.as_bytes());
        }
    }
    hex(&hash.finalize()[..16])
}

/// No more pairs than are kept, each cut to length at a character's end.
pub fn bounded(pairs: BTreeMap<String, String>, longest: usize) -> BTreeMap<String, String> {
    pairs
        .into_iter()
        .take(MOST_LABELS)
        .map(|(name, value)| (cut(&name, LONGEST_LABEL).to_owned(), cut(&value, longest).to_owned()))
        .collect()
}

/// The beginning of a text, at most so many bytes.
pub fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It goes on and nobody took it.
    Firing,
    /// Somebody looks after it.
    Acknowledged,
    /// It goes on and a silence or a mute keeps it quiet.
    Silenced,
    /// It is over.
    Resolved,
}

impl Status {
    /// The word of the database and the answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Silenced => "silenced",
            Self::Resolved => "resolved",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Firing, Self::Acknowledged, Self::Silenced, Self::Resolved]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_labels_does_not_make_another_alert_and_their_borders_do() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let one = fingerprint(&labels(&[("a", "1"), ("b", "2")]));
        assert_eq!(one, fingerprint(&labels(&[("b", "2"), ("a", "1")])));
        assert_ne!(one, fingerprint(&labels(&[("a", "1b"), ("", "2")])));
        assert_eq!(one.len(), 32);
    }

    #[test]
    fn a_million_label_values_are_cut_to_what_is_kept() {
        let many: Labels = (0..1_000_000).map(|n| (format!("l{n}"), "v".to_owned())).collect();
        let alert = Incoming::of_labels(many, true);
        assert_eq!(alert.labels.len(), MOST_LABELS);
        let long = Labels::from([("a".to_owned(), "é".repeat(LONGEST_LABEL))]);
        assert_eq!(Incoming::of_labels(long, true).labels["a"].len(), LONGEST_LABEL);
    }

    #[test]
    fn unknown_words_of_severity_are_not_overlooked() {
        assert_eq!(Severity::of("CRIT"), Severity::Critical);
        assert_eq!(Severity::of("purple"), Severity::Warning);
        assert_eq!(Severity::of("Info"), Severity::Info);
    }
}
