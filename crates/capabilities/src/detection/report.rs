//! From verdicts to an answer: in words, with the lines that show it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use opsroom_analytics::detect::{Cause, FittedDetector, Judgement, Reason, Verdict};
use opsroom_analytics::features::Groups;
use opsroom_analytics::parse::Template;
use opsroom_core::Result;

use super::causes::ranked;
use super::examples;
use super::model::{Anomaly, Detected, Options, ShortVerdict, Summary, TimeRange};
use super::run::refused;
use crate::logs::input::{RawLine, ReadLog, Watch};
use crate::logs::model::Example;
use crate::logs::shown::{clean, shown};

/// Bytes of a line that an answer quotes.
const EXAMPLE_BYTES: usize = 1_000;
/// Bytes of a template that a reason quotes.
const TEMPLATE_BYTES: usize = 300;
/// Keys of similar groups that an answer names.
const SIMILAR_KEYS: usize = 5;

/// What templates are called.
pub(super) struct Names {
    texts: HashMap<u32, String>,
    count: u64,
}

impl Names {
    pub(super) fn templates(templates: Vec<Template>) -> Self {
        let count = templates.len() as u64;
        let text = |template: Template| (template.id.0, shown(template.template.as_bytes(), TEMPLATE_BYTES));
        Self { texts: templates.into_iter().map(text).collect(), count }
    }

    pub(super) fn events(names: Vec<String>) -> Self {
        let count = names.len() as u64;
        Self { texts: (0..).zip(names).collect(), count }
    }

    pub(super) fn text(&self, id: u32) -> String {
        self.texts.get(&id).cloned().unwrap_or_else(|| format!("template {id}"))
    }
}

/// All that an answer is made from.
pub(super) struct Judged<'a> {
    pub(super) detector: &'a FittedDetector,
    pub(super) groups: &'a Groups,
    pub(super) names: &'a Names,
    pub(super) grouping: String,
    pub(super) session_pattern: Option<String>,
    pub(super) learnt_from: Option<&'a ReadLog>,
    pub(super) times: Option<(i64, i64)>,
}

/// The answer.
pub(super) fn report(
    judged: &Judged,
    log: &mut ReadLog,
    options: &Options,
    watch: &Watch,
) -> Result<Detected> {
    let judgement = judged.detector.judge(judged.groups).map_err(refused)?;
    watch.check()?;
    let causes = ranked(&judgement, judged.groups, judged.learnt_from.is_none());
    let listed: Vec<(&Cause, Verdict)> =
        causes.iter().take(options.limit).map(|cause| (cause, judgement.verdict(cause.groups[0]))).collect();
    let group = |cause: &Cause| judged.groups.group(cause.groups[0]);
    let wanted: BTreeSet<u64> =
        listed.iter().flat_map(|(cause, verdict)| examples::wanted(verdict, &group(cause))).collect();
    let raw = log.fetch(&wanted, watch)?;
    let words = Words { judged, judgement: &judgement, log };
    let anomalies = listed.iter().map(|(cause, verdict)| words.anomaly(cause, verdict, &raw)).collect();
    let verdicts = options.all.then(|| words.verdicts(options.verdict_limit));
    let more_verdicts = verdicts.as_ref().map(|verdicts| (judged.groups.len() - verdicts.len()) as u64);
    Ok(Detected {
        summary: summary(judged, &judgement, log),
        anomalies,
        more: (causes.len() - listed.len()) as u64,
        more_verdicts: more_verdicts.filter(|&more| more > 0),
        verdicts,
    })
}

fn summary(judged: &Judged, judgement: &Judgement, log: &ReadLog) -> Summary {
    let groups = judged.groups;
    let mut warnings: Vec<String> = log.warnings.iter().map(|warning| clean(warning)).collect();
    if let Some(learnt) = judged.learnt_from {
        warnings.extend(learnt.warnings.iter().map(|warning| format!("to learn from: {}", clean(warning))));
    }
    if groups.left_out_lines() > 0 {
        warnings
            .push(format!("{} lines were left out: there are too many sessions", groups.left_out_lines()));
    }
    if log.lines > 0 && groups.len() < 20 && judged.learnt_from.is_none() {
        warnings.push(format!(
            "there are only {} {}: too few to tell well what is usual",
            groups.len(),
            judged.grouping
        ));
    }
    let outside = groups.outside_lines();
    if outside * 5 > log.lines && judged.session_pattern.is_some() {
        warnings.push(format!(
            "{outside} of {} lines carry no session's id and were not judged; a window such as 60s judges all",
            log.lines
        ));
    }
    Summary {
        lines: log.lines,
        templates: judged.names.count,
        sessions: groups.len() as u64,
        anomalous: judgement.anomalous() as u64,
        threshold: judged.detector.threshold(),
        grouping: judged.grouping.clone(),
        session_pattern: judged.session_pattern.clone(),
        learnt_from: judged.learnt_from.map_or_else(|| "the log itself".to_owned(), names_of),
        time_range: judged
            .times
            .and_then(|(from, to)| Some(TimeRange { from: time_text(from)?, to: time_text(to)? })),
        sources: log.sources.iter().map(|read| clean(&read.source.name)).collect(),
        outside_lines: outside,
        warnings,
    }
}

fn names_of(log: &ReadLog) -> String {
    let names: Vec<String> = log.sources.iter().take(3).map(|read| clean(&read.source.name)).collect();
    let more = log.sources.len().saturating_sub(names.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(", "))
}

fn time_text(micros: i64) -> Option<String> {
    Timestamp::from_microsecond(micros).ok().map(|time| time.to_string())
}

/// A score with as many digits as mean something, so that answers can be compared as text.
fn rounded(score: f64) -> f64 {
    (score * 1_000.0).round() / 1_000.0
}

struct Words<'a> {
    judged: &'a Judged<'a>,
    judgement: &'a Judgement<'a>,
    log: &'a ReadLog,
}

impl Words<'_> {
    fn anomaly(&self, cause: &Cause, verdict: &Verdict, raw: &BTreeMap<u64, RawLine>) -> Anomaly {
        let group = self.judged.groups.group(cause.groups[0]);
        let (file, first_line) = self.place(verdict.first_line);
        let similar_keys = cause.groups.iter().skip(1).take(SIMILAR_KEYS);
        let lines = examples::chosen(verdict, &group, self.judged.groups.grouping(), self.judged.names, raw);
        Anomaly {
            key: clean(&verdict.key),
            score: rounded(verdict.score),
            reasons: self.why(verdict),
            file,
            first_line,
            lines: verdict.lines,
            time: group.times.and_then(|(first, _)| time_text(first)),
            examples: lines.into_iter().filter_map(|line| self.example(line, raw)).collect(),
            similar: cause.groups.len() as u64 - 1,
            similar_keys: similar_keys.map(|&index| clean(&self.judged.groups.key(index))).collect(),
            similar_range: self.range(&cause.groups),
        }
    }

    /// When the first and the last of several groups began.
    fn range(&self, groups: &[usize]) -> Option<TimeRange> {
        let begin = |&index: &usize| self.judged.groups.group(index).times.map(|(first, _)| first);
        let begins = || groups.iter().filter_map(begin);
        let several = groups.len() > 1;
        let (first, last) = begins().min().zip(begins().max()).filter(|_| several)?;
        Some(TimeRange { from: time_text(first)?, to: time_text(last)? })
    }

    fn example(&self, line: u64, raw: &BTreeMap<u64, RawLine>) -> Option<Example> {
        let text = shown(raw.get(&line)?, EXAMPLE_BYTES);
        let (file, line) = self.place(line);
        Some(Example { file, line, text })
    }

    fn verdicts(&self, most: usize) -> Vec<ShortVerdict> {
        let short = |verdict: Verdict| {
            let (file, first_line) = self.place(verdict.first_line);
            ShortVerdict {
                key: clean(&verdict.key),
                score: rounded(verdict.score),
                anomalous: verdict.anomalous,
                reasons: self.why(&verdict),
                file,
                first_line,
                lines: verdict.lines,
            }
        };
        self.judgement.verdicts().take(most).map(short).collect()
    }

    fn reasons(&self, reasons: &[Reason]) -> Vec<String> {
        let text = |id| self.judged.names.text(id);
        reasons.iter().map(|reason| reason.words(self.judgement.unit(), &text)).collect()
    }

    /// The reasons of what is abnormal. There is always one: many small differences make a large one too.
    fn why(&self, verdict: &Verdict) -> Vec<String> {
        if verdict.anomalous && verdict.reasons.is_empty() {
            return vec!["differs a little from the others in many templates at once".to_owned()];
        }
        self.reasons(&verdict.reasons)
    }

    /// The file (where there are several) and the line in it.
    fn place(&self, line: u64) -> (Option<String>, u64) {
        let (name, number) = self.log.locate(line);
        let file = (self.log.sources.len() > 1).then(|| clean(name));
        (file, number)
    }
}
