//! Counting lines by what they share, and over time.

use std::collections::HashMap;

use opsroom_core::{Error, Result};

use super::store::{By, Counted, Group};

/// Groups that are told apart while counting.
const MOST_GROUPS: usize = 100_000;
/// The level from which on a line counts as an error.
pub const ERROR: u8 = 5;

/// What lines of one value amount to.
#[derive(Clone, Default)]
pub struct Tally {
    count: u64,
    errors: u64,
    times: Option<(i64, i64)>,
    buckets: Vec<u64>,
}

impl Tally {
    /// Adds lines.
    pub fn add(&mut self, count: u64, errors: u64, times: Option<(i64, i64)>) {
        self.count += count;
        self.errors += errors;
        self.times = match (self.times, times) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }
}

/// What was counted so far, by value.
pub struct Tallies {
    groups: HashMap<String, Tally>,
    /// Lines of values beyond the most that are told apart.
    beyond: u64,
    /// From when until when, and into how many stretches of time it is cut.
    pub span: Option<(i64, i64, usize)>,
}

impl Tallies {
    /// Nothing yet.
    pub fn new(span: Option<(i64, i64, usize)>) -> Self {
        Self { groups: HashMap::new(), beyond: 0, span }
    }

    /// The same under other names; what has the same one is counted together.
    pub fn renamed(self, name: impl Fn(&str) -> String) -> Self {
        let mut all = Self { beyond: self.beyond, ..Self::new(self.span) };
        for (value, theirs) in self.groups {
            let one = HashMap::from([(name(&value), theirs)]);
            all.join(Self { groups: one, ..Self::new(self.span) });
        }
        all
    }

    /// The largest groups.
    pub fn counted(self, limit: usize) -> Counted {
        let count = self.groups.values().map(|tally| tally.count).sum::<u64>() + self.beyond;
        let group = |(value, tally): (String, Tally)| Group {
            value,
            count: tally.count,
            errors: tally.errors,
            times: tally.times.unwrap_or_default(),
            buckets: tally.buckets,
        };
        let mut groups: Vec<Group> = self.groups.into_iter().map(group).collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        let more = groups.len().saturating_sub(limit) as u64;
        groups.truncate(limit);
        Counted { count, groups, more, warnings: Vec::new() }
    }

    /// The tally of a value; `None` when too many are told apart already, and the line is beyond them.
    pub fn group(&mut self, value: &str) -> Option<&mut Tally> {
        if !self.groups.contains_key(value) {
            if self.groups.len() >= MOST_GROUPS {
                self.beyond += 1;
                return None;
            }
            let buckets = vec![0; self.span.map_or(0, |(_, _, buckets)| buckets)];
            self.groups.insert(value.to_owned(), Tally { buckets, ..Tally::default() });
        }
        self.groups.get_mut(value)
    }

    /// Adds a line.
    pub fn line(&mut self, value: &str, time: i64, level: u8) {
        let span = self.span;
        let Some(tally) = self.group(value) else { return };
        tally.add(1, u64::from(level >= ERROR), Some((time, time)));
        if let Some((from, to, buckets)) = span
            && (from..to).contains(&time)
        {
            let width = (to - from).max(1) as i128;
            tally.buckets[((time - from) as i128 * buckets as i128 / width) as usize] += 1;
        }
    }

    /// Adds what was counted elsewhere over the same stretches of time.
    pub fn join(&mut self, other: Tallies) {
        self.beyond += other.beyond;
        for (value, theirs) in other.groups {
            let Some(own) = self.group(&value) else { continue };
            own.add(theirs.count, theirs.errors, theirs.times);
            own.buckets.iter_mut().zip(theirs.buckets).for_each(|(a, b)| *a += b);
        }
    }
}

/// The expression that lines are counted by, where they are.
///
/// # Errors
/// `Invalid` for one that cannot be used.
pub fn expression(by: &By) -> Result<Option<regex::bytes::Regex>> {
    let By::Matched(text) = by else { return Ok(None) };
    let built = regex::bytes::RegexBuilder::new(text).size_limit(1 << 20).build();
    built.map(Some).map_err(|error| Error::invalid(format!("the expression to count by is not one: {error}")))
}

/// The name of a level.
pub fn level_name(level: u8) -> &'static str {
    super::entry::LEVELS[level.min(6) as usize]
}

/// What the first group of an expression matches, or else all of it.
pub fn matched<'a>(pattern: &regex::bytes::Regex, text: &'a [u8]) -> Option<&'a [u8]> {
    let captures = pattern.captures(text)?;
    captures.get(1).or_else(|| captures.get(0)).map(|found| found.as_bytes())
}
