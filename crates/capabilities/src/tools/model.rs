//! The words of tools: what is allowed for one, how calls are counted, how a search ranks.

use std::collections::HashMap;
use std::time::Duration;

use opsroom_gateway::world::ToolPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The categories that there are from the start; a tool may have any other.
pub const CATEGORIES: [&str; 8] =
    ["system", "database", "file", "search", "knowledge", "agent", "utility", "custom"];

/// What somebody configured for a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Whether it is listed and can be called.
    pub enabled: bool,
    /// Another name.
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
    /// The longest time for one call, in seconds.
    pub timeout_seconds: Option<u32>,
    /// How often a call that could not be delivered is tried again.
    pub max_retries: u32,
    /// The most calls in a minute.
    pub rate_limit_per_minute: Option<u32>,
    /// Whether results are kept, when it is a tool that only reads.
    pub cache_enabled: bool,
    /// For how long, in seconds.
    pub cache_ttl: u32,
    /// What kind of tool it is.
    pub category: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            name: None,
            description: None,
            timeout_seconds: None,
            max_retries: 0,
            rate_limit_per_minute: None,
            cache_enabled: false,
            cache_ttl: 1800,
            category: None,
            tags: Vec::new(),
        }
    }
}

impl Settings {
    /// What the gateway needs of it.
    pub fn policy(&self, pin: Option<String>) -> ToolPolicy {
        ToolPolicy {
            enabled: self.enabled,
            name: self.name.clone(),
            description: self.description.clone(),
            deadline: self.timeout_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            retries: self.max_retries,
            rate_per_minute: self.rate_limit_per_minute,
            cache_seconds: if self.cache_enabled { self.cache_ttl } else { 0 },
            pin,
            quarantined: false,
        }
    }
}

/// How a tool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It is listed and can be called.
    Active,
    /// Somebody switched it off.
    Inactive,
    /// Its service says that it will go.
    Deprecated,
    /// Its service does not answer.
    Error,
    /// Its definition changed after it was approved: it is withheld until somebody approves it anew.
    Quarantined,
}

/// How many buckets of durations there are: each ends 10 % above the one before, from 0.01 ms to over an
/// hour.
pub const BUCKETS: usize = 208;

/// Calls of one tool, counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// All of them.
    pub calls: u64,
    /// Those that went well.
    pub ok: u64,
    /// Those that were answered from the cache.
    pub cached: u64,
    /// Those that were refused by a limit or a policy before they reached the tool.
    pub refused: u64,
    /// How long all took together, in milliseconds.
    pub total_ms: f64,
    /// The bytes of all answers.
    pub bytes: u64,
    /// The last one, in microseconds since 1970.
    pub last: i64,
    /// How many took how long: bucket, count.
    pub buckets: HashMap<u16, u64>,
}

impl Count {
    /// Counts one call.
    pub fn add(&mut self, ok: bool, cached: bool, refused: bool, took: Duration, bytes: u64, now: i64) {
        let ms = took.as_secs_f64() * 1e3;
        self.calls += 1;
        self.ok += u64::from(ok);
        self.cached += u64::from(cached);
        self.refused += u64::from(refused);
        self.total_ms += ms;
        self.bytes += bytes;
        self.last = self.last.max(now);
        *self.buckets.entry(bucket(ms)).or_default() += 1;
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Count) {
        self.calls += other.calls;
        self.ok += other.ok;
        self.cached += other.cached;
        self.refused += other.refused;
        self.total_ms += other.total_ms;
        self.bytes += other.bytes;
        self.last = self.last.max(other.last);
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
    }

    /// The duration that this share of the calls did not exceed, in milliseconds, to within 10 %; 0 without
    /// calls.
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.calls as f64 * share).ceil().max(1.0) as u64;
        let mut buckets: Vec<(&u16, &u64)> = self.buckets.iter().collect();
        buckets.sort();
        let mut seen = 0;
        for (bucket, count) in buckets {
            seen += count;
            if seen >= wanted {
                return 0.01 * 1.1_f64.powi(i32::from(*bucket));
            }
        }
        0.0
    }
}

fn bucket(ms: f64) -> u16 {
    let at = (ms.max(0.01) / 0.01).ln() / 1.1_f64.ln();
    // Clamped, so that it fits.
    at.ceil().clamp(0.0, (BUCKETS - 1) as f64) as u16
}

/// Ranks texts by how well they fit a query (Okapi BM25, k1 1.2, b 0.75; Robertson and Zaragoza 2009).
/// Answers the places of those that fit at all, the best first.
pub fn rank(query: &str, texts: &[String], limit: usize) -> Vec<(usize, f64)> {
    const K1: f64 = 1.2;
    const B: f64 = 0.75;
    let documents: Vec<HashMap<String, f64>> = texts
        .iter()
        .map(|text| {
            let mut counts = HashMap::new();
            for word in words(text) {
                *counts.entry(word).or_insert(0.0) += 1.0;
            }
            counts
        })
        .collect();
    let lengths: Vec<f64> = documents.iter().map(|counts| counts.values().sum()).collect();
    let mean = (lengths.iter().sum::<f64>() / lengths.len().max(1) as f64).max(1.0);
    let mut asked: Vec<String> = words(query).collect();
    asked.sort();
    asked.dedup();
    let mut scores = vec![0.0; texts.len()];
    for word in &asked {
        let with = documents.iter().filter(|counts| counts.contains_key(word)).count() as f64;
        let rarity = (1.0 + (texts.len() as f64 - with + 0.5) / (with + 0.5)).ln();
        for ((score, counts), length) in scores.iter_mut().zip(&documents).zip(&lengths) {
            let count = counts.get(word).copied().unwrap_or(0.0);
            *score += rarity * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length / mean));
        }
    }
    let mut ranked: Vec<(usize, f64)> =
        scores.into_iter().enumerate().filter(|(_, score)| *score > 0.0).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(limit);
    ranked
}

/// Words in small letters, without the endings that only say how many: `createIssues` is `create`, `issue`.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut small = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && small) {
            found.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        small = c.is_lowercase();
    }
    found.push(word);
    found.into_iter().filter(|word| !word.is_empty()).map(|word| match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem.to_owned(),
        _ => word,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_fitting_text_comes_first_and_what_does_not_fit_not_at_all() {
        let texts: Vec<String> = [
            "github__create_issue Creates an issue in a repository",
            "github__listIssues Lists the issues of a repository",
            "weather__forecast Tells the weather of tomorrow",
            "detect_anomalies Finds what is abnormal in a log",
        ]
        .map(str::to_owned)
        .into();
        let first = |query: &str| rank(query, &texts, 10).first().map(|(place, _)| *place);
        assert_eq!(first("create an issue"), Some(0));
        assert_eq!(first("list issues"), Some(1));
        assert_eq!(first("WEATHER tomorrow?"), Some(2));
        assert_eq!(first("abnormal logs"), Some(3));
        assert_eq!(first("zebra"), None);
        assert_eq!(first(""), None);
        assert_eq!(rank("a", &[], 10), []);
    }

    #[test]
    fn percentiles_are_within_ten_percent() {
        let mut count = Count::default();
        for ms in 1..=1000 {
            count.add(true, false, false, Duration::from_millis(ms), 1, ms as i64);
        }
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let got = count.percentile(share);
            assert!((got / expected - 1.0).abs() <= 0.1, "{share}: {got}");
        }
        let mut both = count.clone();
        both.merge(&count);
        assert_eq!((both.calls, both.percentile(0.5)), (2000, count.percentile(0.5)));
        assert_eq!(Count::default().percentile(0.5), 0.0);
        count.add(true, false, false, Duration::from_secs(1_000_000), 0, 0);
        assert!(count.percentile(1.0) > 3_600_000.0);
    }
}
