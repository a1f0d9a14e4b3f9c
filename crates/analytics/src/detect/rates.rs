//! Windows judged by the rate of each template: bursts, silences, errors, and what was never seen.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::rarity::{ERROR_NEW, Rarity};
use super::reason::Reason;
use super::series::{Hit, Rate, starts};
use crate::features::{Grouping, Groups};

/// Fewer windows than this show nothing usual.
const FEWEST: usize = 8;
/// A window that holds something new is anomalous by that where fewer than this share of windows do.
const NEW_TEMPLATE: f64 = 0.005;
/// How much more a template says most of whose lines are of an error level.
const ERROR_BURST: f32 = 1.5;
/// A run of this many windows is no longer one event, but something that is usually there.
const LASTING: usize = 10;

/// What more than one in this many windows have is no find in any of them.
const USUAL: usize = 4;

/// What is usual in the windows of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Rates {
    windows: u64,
    /// By template id, ascending.
    templates: Vec<(u32, Known)>,
    lines: Rate,
    errors: Rate,
    rarity: Rarity,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    rate: Rate,
    /// Runs of windows that have the template; a run counts once for every [`LASTING`] windows.
    runs: u32,
}

/// What is out of the ordinary in one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finding {
    pub(super) window: u32,
    what: What,
    count: u32,
    pub(super) score: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    New(u32),
    Many(u32),
    Few(u32),
    Errors,
    Lines,
    Silence,
}

impl Rates {
    pub(super) fn fit(groups: &Groups) -> Self {
        let windows = groups.len() as u32;
        let table = by_template(groups);
        let mut templates: Vec<(u32, Known)> = table
            .par_iter()
            .zip(groups.templates())
            .map(|(counts, used)| (used.id, Known { rate: Rate::fit(counts, windows), runs: runs(counts) }))
            .collect();
        let rarity = rarity(&table, &templates, windows);
        templates.sort_unstable_by_key(|&(id, _)| id);
        Self {
            windows: groups.len() as u64,
            templates,
            lines: Rate::fit(&whole(groups, |group| group.lines), windows),
            errors: Rate::fit(&whole(groups, |group| group.errors), windows),
            rarity,
        }
    }

    /// All findings in some windows, by window, weightiest first.
    pub(super) fn findings(&self, groups: &Groups, own: bool) -> Vec<Finding> {
        if (self.windows as usize) < FEWEST {
            return Vec::new();
        }
        let windows = groups.len() as u32;
        let table = by_template(groups);
        let unknown = Known { rate: Rate::unknown(), runs: 0 };
        let mut findings: Vec<Finding> = table
            .par_iter()
            .zip(groups.templates())
            .flat_map_iter(|(counts, used)| {
                let at = self.templates.binary_search_by_key(&used.id, |&(id, _)| id);
                let known = at.map_or(&unknown, |at| &self.templates[at].1);
                let severe = used.errors * 2 > used.lines;
                self.of_template(used.id, counts, windows, known, severe, own)
            })
            .collect();
        // A window of a fixed number of lines says nothing by how many it has.
        if matches!(groups.grouping(), Grouping::TimeWindow { .. }) {
            let hits = self.lines.hits(&whole(groups, |group| group.lines), windows, own);
            findings.extend(hits.into_iter().map(|hit| match hit {
                Hit { few: true, count: 0, .. } => finding(hit, What::Silence, 1.0),
                _ => finding(hit, What::Lines, 0.8),
            }));
        }
        let hits = self.errors.hits(&whole(groups, |group| group.errors), windows, own);
        findings.extend(hits.into_iter().filter(|hit| !hit.few).map(|hit| finding(hit, What::Errors, 1.2)));
        findings.sort_by(|a, b| {
            a.window.cmp(&b.window).then(b.score.total_cmp(&a.score)).then(a.what.cmp(&b.what))
        });
        findings
    }

    fn of_template(
        &self,
        id: u32,
        counts: &[(u32, u32)],
        windows: u32,
        known: &Known,
        severe: bool,
        own: bool,
    ) -> Vec<Finding> {
        let burst = if severe { ERROR_BURST } else { 1.0 };
        let mut findings: Vec<Finding> = known
            .rate
            .hits(counts, windows, own)
            .into_iter()
            .map(|hit| match hit.few {
                true => finding(hit, What::Few(id), 1.0),
                false => finding(hit, What::Many(id), burst),
            })
            .collect();
        let usual = own && counts.len() * USUAL > windows as usize;
        if !usual && (own || known.runs == 0) {
            let surprise = self.rarity.surprise(if own { known.runs } else { 1 });
            let weight = if severe { ERROR_NEW } else { 1.0 };
            // In its own log a program's first moments are full of templates that never come back.
            let start = if own { windows.div_ceil(100) } else { 0 };
            if surprise > 0.3 {
                findings.extend(counts.iter().map(|&(window, count)| {
                    let early = if window < start && !severe { 0.5 } else { 1.0 };
                    Finding { window, what: What::New(id), count, score: surprise * weight * early }
                }));
            }
        }
        findings
    }

    /// The reasons behind the findings in one window.
    pub(super) fn explain(&self, findings: &[Finding]) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = Vec::new();
        for finding in findings.iter().filter(|finding| finding.score >= 0.6).take(8) {
            let reason = self.reason(finding);
            let told = |r: &Reason| r.template().is_some() && r.template() == reason.template();
            if !reasons.iter().any(told) && reasons.len() < 4 {
                reasons.push(reason);
            }
        }
        reasons
    }

    fn reason(&self, finding: &Finding) -> Reason {
        let count = finding.count;
        let known = |id: u32| {
            let at = self.templates.binary_search_by_key(&id, |&(known, _)| known).ok()?;
            Some(&self.templates[at].1)
        };
        let rate = |id: u32| known(id).map_or_else(Rate::unknown, |known| known.rate.clone());
        match finding.what {
            What::New(template) => match known(template) {
                Some(known) => {
                    Reason::RareTemplate { template, having: known.runs.into(), groups: self.windows }
                }
                None => Reason::NewTemplate { template, groups: self.windows },
            },
            What::Many(template) => Reason::Burst { template, count, usual: rate(template).high.into() },
            What::Few(template) => Reason::Vanished { template, count, usual: rate(template).low.into() },
            What::Errors => Reason::Errors { count, usual: self.errors.high.into() },
            What::Lines => Reason::Lines { count, low: self.lines.low, high: self.lines.high },
            What::Silence => Reason::Silence { usual: self.lines.median().into() },
        }
    }
}

/// One score for each window: findings in the same window add up, the weightiest most.
pub(super) fn scores(findings: &[Finding], windows: usize) -> Vec<f32> {
    let mut scores = vec![0.0f32; windows];
    for window in findings.chunk_by(|a, b| a.window == b.window) {
        // The fourth root of the sum of fourth powers: hardly more than the largest alone.
        let sum: f32 = window.iter().take(8).map(|finding| finding.score.powi(4)).sum();
        let only_one = window[0].score;
        scores[window[0].window as usize] = if only_one < 1.0 { only_one } else { sum.sqrt().sqrt() };
    }
    scores
}

fn finding(hit: Hit, what: What, weight: f32) -> Finding {
    Finding { window: hit.window, what, count: hit.count, score: hit.score * weight }
}

/// Of each template: the windows that have it, ascending, with its lines there.
fn by_template(groups: &Groups) -> Vec<Vec<(u32, u32)>> {
    let mut table = vec![Vec::new(); groups.templates().len()];
    for (window, group) in groups.iter().enumerate() {
        for &(template, count) in groups.vectors().get(group.vector as usize) {
            table[usize::from(template)].push((window as u32, count));
        }
    }
    table
}

/// How often a template comes and goes, or else how long it stays.
fn runs(counts: &[(u32, u32)]) -> u32 {
    (starts(counts).count() + counts.len() / LASTING) as u32
}

fn whole(groups: &Groups, number: fn(&crate::features::Group) -> u32) -> Vec<(u32, u32)> {
    let numbers = groups.iter().enumerate().map(|(window, group)| (window as u32, number(&group)));
    numbers.filter(|&(_, count)| count > 0).collect()
}

/// How rarely a window begins a run of something rare.
fn rarity(table: &[Vec<(u32, u32)>], known: &[(u32, Known)], windows: u32) -> Rarity {
    let mut rarest: HashMap<u32, u32> = HashMap::new();
    for (counts, (_, known)) in table.iter().zip(known) {
        for window in starts(counts) {
            let held = rarest.entry(window).or_insert(u32::MAX >> 1);
            *held = known.runs.min(*held);
        }
    }
    let without = f64::from(windows) - rarest.len() as f64;
    let mut with: Vec<u32> = rarest.into_values().collect();
    with.sort_unstable();
    let with = with.into_iter().map(|runs| (runs, 1.0));
    Rarity::new(with.chain(std::iter::once((u32::MAX >> 1, without))), NEW_TEMPLATE)
}
