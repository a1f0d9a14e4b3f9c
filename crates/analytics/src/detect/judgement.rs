//! The verdicts of a detector on the groups of a log.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FittedDetector;
use super::rates::{Finding, Rates};
use super::reason::{Reason, Unit};
use super::shapes::{Seen, Shapes};
use crate::features::{Group, Grouping, Groups};

const MAX_EVIDENCE: usize = 6;
/// How many shapes of groups, those with the highest scores, are looked at to tell causes apart.
const LOOKED_AT: usize = 5_000;

/// What a detector says about one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The session's id, the window's start or its lines.
    pub key: String,
    /// How abnormal it is; comparable within a run.
    pub score: f64,
    /// Whether the score reaches the threshold.
    pub anomalous: bool,
    /// Why, weightiest first; empty when it is not anomalous.
    pub reasons: Vec<Reason>,
    /// The first line of the group.
    pub first_line: u64,
    /// How many lines the group has.
    pub lines: u64,
    /// A few lines of the log that show it, ascending.
    pub evidence_lines: Vec<u64>,
}

/// Groups that are anomalous for the same reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// Numbers of the groups, most telling first.
    pub groups: Vec<usize>,
    /// How telling the first of them is; causes are ranked by it.
    pub priority: f64,
}

/// The scores of all groups of a log; reasons and lines are worked out for those one asks for.
#[derive(Debug, Clone)]
pub struct Judgement<'a> {
    detector: &'a FittedDetector,
    groups: &'a Groups,
    scores: Vec<f32>,
    view: View<'a>,
}

/// What was worked out while scoring and explains the scores.
#[derive(Debug, Clone)]
pub(super) enum View<'a> {
    Shapes(&'a Shapes, Seen),
    Rates(&'a Rates, Vec<Finding>),
}

impl<'a> Judgement<'a> {
    pub(super) const fn new(
        detector: &'a FittedDetector,
        groups: &'a Groups,
        scores: Vec<f32>,
        view: View<'a>,
    ) -> Self {
        Self { detector, groups, scores, view }
    }

    /// The score of every group, in the order of the groups.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Whether a group's score reaches the threshold.
    pub fn is_anomalous(&self, index: usize) -> bool {
        f64::from(self.scores[index]) >= self.detector.threshold()
    }

    /// How many groups are anomalous.
    pub fn anomalous(&self) -> usize {
        (0..self.scores.len()).filter(|&index| self.is_anomalous(index)).count()
    }

    /// What reasons speak of: sessions or windows.
    pub const fn unit(&self) -> Unit {
        match self.groups.grouping() {
            Grouping::Session => Unit::Session,
            Grouping::TimeWindow { .. } | Grouping::LineWindow { .. } => Unit::Window,
        }
    }

    /// The verdict on one group.
    pub fn verdict(&self, index: usize) -> Verdict {
        let group = self.groups.group(index);
        let anomalous = self.is_anomalous(index);
        let reasons = if anomalous { self.reasons(index) } else { Vec::new() };
        let evidence_lines = if anomalous { self.evidence(index, &group, &reasons) } else { Vec::new() };
        Verdict {
            key: self.groups.key(index),
            score: f64::from(self.scores[index]),
            anomalous,
            reasons,
            first_line: group.first_line,
            lines: group.lines.into(),
            evidence_lines,
        }
    }

    /// All verdicts, in the order of the groups, made one at a time.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        (0..self.scores.len()).map(|index| self.verdict(index))
    }

    /// The numbers of the anomalous groups, most telling first.
    ///
    /// What counts beside the score: lines of an error level weigh in, and what happens only in the first
    /// moments of the log weighs less, for that is how programs start.
    pub fn ranked(&self) -> Vec<usize> {
        let mut found: Vec<(f64, usize)> = (0..self.scores.len())
            .filter(|&index| self.is_anomalous(index))
            .map(|index| (self.priority(index), index))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found.into_iter().map(|(_, index)| index).collect()
    }

    /// The anomalous groups put together by cause, most telling first: groups share a cause when they have
    /// the same weightiest reasons, whatever the numbers in them.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes: Vec<Cause> = Vec::new();
        let mut known: HashMap<Vec<(u8, Option<u32>)>, usize> = HashMap::new();
        // Sessions of one shape have the same reasons, so a frequent cause does not hide the rare ones.
        let mut shapes: HashMap<(u32, u32), usize> = HashMap::new();
        let mut looked_at = 0;
        for index in self.ranked() {
            let group = self.groups.group(index);
            let shape = matches!(self.view, View::Shapes(..)).then_some((group.vector, group.order));
            if let Some(&at) = shape.and_then(|shape| shapes.get(&shape)) {
                causes[at].groups.push(index);
                continue;
            }
            looked_at += 1;
            if looked_at > LOOKED_AT {
                continue;
            }
            let mut signature: Vec<_> = self.reasons(index).iter().take(2).map(Reason::signature).collect();
            signature.sort_unstable();
            let at = *known.entry(signature).or_insert(causes.len());
            if at == causes.len() {
                causes.push(Cause { groups: Vec::new(), priority: self.priority(index) });
            }
            shapes.extend(shape.map(|shape| (shape, at)));
            causes[at].groups.push(index);
        }
        causes
    }

    fn reasons(&self, index: usize) -> Vec<Reason> {
        match &self.view {
            View::Shapes(shapes, seen) => shapes.explain(self.groups, seen, index, self.detector.own),
            View::Rates(rates, findings) => {
                let from = findings.partition_point(|finding| (finding.window as usize) < index);
                let to = findings.partition_point(|finding| finding.window as usize <= index);
                rates.explain(&findings[from..to])
            }
        }
    }

    fn priority(&self, index: usize) -> f64 {
        let group = self.groups.group(index);
        let errors = f64::from(group.errors) / f64::from(group.lines.max(1));
        let starting = self.detector.own && self.groups.len() >= 50 && index * 100 < self.groups.len();
        let level = if group.errors > 0 { 1.5 + errors } else { 1.0 };
        f64::from(self.scores[index]).ln_1p() * level * if starting { 0.5 } else { 1.0 }
    }

    /// Lines that show the reasons: sightings of the templates named, the first error, the last line.
    fn evidence(&self, index: usize, group: &Group, reasons: &[Reason]) -> Vec<u64> {
        let mut lines = Vec::new();
        for template in reasons.iter().filter_map(Reason::template) {
            let used = self.groups.templates().iter().find(|used| used.id == template);
            let here = used.into_iter().flat_map(|used| &used.sightings);
            lines.extend(here.filter(|&&(seen_in, _)| seen_in as usize == index).map(|&(_, line)| line));
        }
        lines.extend(self.groups.error_line(index));
        if group.lines > 0 {
            lines.extend([group.first_line, group.last_line]);
        }
        let mut kept: Vec<u64> = Vec::new();
        for line in lines {
            if kept.len() < MAX_EVIDENCE && !kept.contains(&line) {
                kept.push(line);
            }
        }
        kept.sort_unstable();
        kept
    }
}
