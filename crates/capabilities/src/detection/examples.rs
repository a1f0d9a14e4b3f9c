//! Which lines show a finding: of those between its first line and its last, the ones that its reasons speak of.

use std::collections::{BTreeMap, BTreeSet};

use opsroom_analytics::detect::{Reason, Verdict};
use opsroom_analytics::features::{Group, Grouping};

use super::report::Names;
use crate::logs::input::RawLine;

/// Lines after a finding's first that are looked through.
const LOOKED_THROUGH: u64 = 1_000;
/// Lines that show one reason.
const A_REASON: usize = 3;
/// Lines that show a finding.
const MOST: usize = 6;

/// The lines to fetch for a finding: those that the detector remembers and those of its range.
pub(super) fn wanted(verdict: &Verdict, group: &Group) -> BTreeSet<u64> {
    let end = group.last_line.min(group.first_line + LOOKED_THROUGH);
    let range = if names_templates(verdict) { group.first_line..end + 1 } else { 0..0 };
    range.chain(verdict.evidence_lines.iter().copied()).collect()
}

fn names_templates(verdict: &Verdict) -> bool {
    verdict.reasons.iter().any(|reason| reason.template().is_some())
}

/// The numbers of the lines that show a finding, ascending: those that its reasons name, then those that the
/// detector remembers.
pub(super) fn chosen(
    verdict: &Verdict,
    group: &Group,
    grouping: Grouping,
    names: &Names,
    raw: &BTreeMap<u64, RawLine>,
) -> Vec<u64> {
    // Between the lines of a session are those of others: its own have its key in them.
    let key = matches!(grouping, Grouping::Session).then(|| verdict.key.as_bytes());
    let own = |line: &[u8]| key.is_none_or(|key| memchr::memmem::find(line, key).is_some());
    let range =
        || raw.range(group.first_line..=group.last_line.max(group.first_line)).take(LOOKED_THROUGH as usize);
    let mut kept: Vec<u64> = Vec::new();
    for template in verdict.reasons.iter().filter_map(Reason::template) {
        let text = names.text(template);
        let parts: Vec<&str> = text.split("<*>").map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            continue;
        }
        let shows = range().filter(|(_, line)| own(line) && has_in_order(line, &parts)).map(|(&at, _)| at);
        let new: Vec<u64> = shows.filter(|at| !kept.contains(at)).take(A_REASON).collect();
        kept.extend(new);
    }
    for &line in &verdict.evidence_lines {
        if !kept.contains(&line) {
            kept.push(line);
        }
    }
    kept.truncate(MOST);
    kept.sort_unstable();
    kept
}

/// Whether a line holds these texts one after the other.
fn has_in_order(line: &[u8], parts: &[&str]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| {
        let Some(at) = memchr::memmem::find(rest, part.as_bytes()) else { return false };
        rest = &rest[at + part.len()..];
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_in_their_order_only() {
        assert!(has_in_order(b"GET /a took 7ms", &["GET", "took"]));
        assert!(!has_in_order(b"took 7ms GET /a", &["GET", "took"]));
        assert!(!has_in_order(b"ab", &["a", "ab"]));
    }
}
