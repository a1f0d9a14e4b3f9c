//! Searching and counting: over the segments, and over what is still in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use opsroom_analytics::segments::{Hits, LabelTest, Labels, Pattern, SegmentError, Test};
use opsroom_core::{Error, Result};
use rayon::prelude::*;

use super::embedded::{Embedded, Kept, State};
use super::memory::{Part, find};
use super::names::Names;
use super::{Batch, By, Counted, Counting, Line, Page, TEAM, Wanted};
use crate::logs::input::Watch;
use crate::logs::tally::{ERROR, Tallies, expression, level_name, matched};

/// Segments that are looked at before it is seen whether enough was found.
const WAVE: usize = 8;

/// The condition with the teams' own.
fn test_of(wanted: &Wanted) -> Test {
    let of_team = |team: &String| Test::Label(LabelTest { name: TEAM.to_owned(), value: team.clone() });
    Test::All(vec![Test::Any(wanted.teams.iter().map(of_team).collect()), wanted.test.clone()])
}

fn within(kept: &Kept, range: &Range<i64>) -> bool {
    kept.entry.times.1 >= range.start && kept.entry.times.0 < range.end
}

fn unread(kept: &Kept, error: &SegmentError) -> String {
    format!(
        "segment {:x} could not be read ({error}); its {} lines are missing here",
        kept.entry.id, kept.entry.rows
    )
}

fn shown_labels(labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.remove(TEAM);
    labels
}

/// Lines in memory: those of all parts, with the template of each told when it is asked for.
fn parts(state: &State) -> Vec<&Part> {
    std::iter::once(&state.open).chain(state.sealing.iter().map(Arc::as_ref)).collect()
}

fn template_of(names: &Names) -> impl Fn(&[u8]) -> String {
    |line: &[u8]| names.of(&[line]).pop().unwrap_or_default()
}

pub(super) fn search(
    store: &Embedded,
    wanted: &Wanted,
    limit: usize,
    context: usize,
    watch: &Watch,
) -> Result<Page> {
    let state = store.snapshot();
    let mut page = Page::default();
    let mut found: Vec<Line> = Vec::new();
    for part in parts(&state) {
        watch.check()?;
        found.extend(newest_in_memory(store, part, wanted, limit + 1, context));
    }
    let mut segments: Vec<&Arc<Kept>> =
        state.segments.iter().filter(|kept| within(kept, &wanted.range)).collect();
    segments.sort_by_key(|kept| std::cmp::Reverse(kept.entry.times.1));
    let test = test_of(wanted);
    for wave in segments.chunks(WAVE) {
        watch.check()?;
        newest_first(&mut found, limit + 1);
        let full = found.len() > limit;
        let oldest = found.last().map_or(i64::MIN, |line| line.time);
        let worth = wave.iter().filter(|kept| !full || kept.entry.times.1 > oldest);
        let worth: Vec<_> = worth.collect();
        if worth.is_empty() {
            break;
        }
        let results: Vec<_> =
            worth.par_iter().map(|kept| newest(kept, &test, &wanted.range, limit + 1, context)).collect();
        for (kept, result) in worth.iter().zip(results) {
            match result {
                Ok(lines) => found.extend(lines),
                Err(error) => page.warnings.push(unread(kept, &error)),
            }
        }
    }
    newest_first(&mut found, limit + 1);
    page.more = found.len() > limit;
    found.truncate(limit);
    page.lines = found;
    Ok(page)
}

fn newest_first(lines: &mut Vec<Line>, most: usize) {
    lines.sort_by_key(|line| std::cmp::Reverse(line.time));
    lines.truncate(most);
}

fn newest_in_memory(
    store: &Embedded,
    part: &Part,
    wanted: &Wanted,
    limit: usize,
    context: usize,
) -> Vec<Line> {
    let names = template_of(&store.inner.names);
    let mut found: Vec<(i64, usize, usize)> = Vec::new();
    for (at, batch) in part.batches.iter().enumerate() {
        found.extend(find(batch, wanted, &names).map(|row| (batch.rows.rows[row].time, at, row)));
        if found.len() > 4 * limit + 4096 {
            found.sort_unstable_by(|a, b| b.cmp(a));
            found.truncate(limit);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(limit);
    let line = |&(_, at, row): &(i64, usize, usize)| line_in_memory(&part.batches, at, row, context);
    let mut lines: Vec<Line> = found.iter().map(line).collect();
    let texts: Vec<&[u8]> = lines.iter().map(|line| line.text.as_slice()).collect();
    let templates = store.inner.names.of(&texts);
    lines.iter_mut().zip(templates).for_each(|(line, template)| line.template = template);
    lines
}

fn line_in_memory(batches: &[Arc<Batch>], at: usize, row: usize, context: usize) -> Line {
    let batch = &batches[at];
    let found = &batch.rows.rows[row];
    let labels = &batch.streams[found.stream as usize];
    let same = |batch: &Batch, row: usize| batch.streams[batch.rows.rows[row].stream as usize] == *labels;
    let text = |batch: &Batch, row: usize| batch.rows.text_of(&batch.rows.rows[row]).to_vec();
    let mut before = Vec::new();
    let earlier = (0..=at).rev().flat_map(|b| {
        let end = if b == at { row } else { batches[b].rows.rows.len() };
        (0..end).rev().map(move |r| (b, r))
    });
    if context > 0 {
        before.extend(
            earlier.filter(|&(b, r)| same(&batches[b], r)).take(context).map(|(b, r)| text(&batches[b], r)),
        );
        before.reverse();
    }
    let later = (at..batches.len()).flat_map(|b| {
        let start = if b == at { row + 1 } else { 0 };
        (start..batches[b].rows.rows.len()).map(move |r| (b, r))
    });
    let mut after = Vec::new();
    if context > 0 {
        after.extend(
            later.filter(|&(b, r)| same(&batches[b], r)).take(context).map(|(b, r)| text(&batches[b], r)),
        );
    }
    Line {
        time: found.time,
        level: found.level,
        labels: shown_labels(labels),
        text: text(batch, row),
        template: String::new(),
        before,
        after,
    }
}

fn newest(
    kept: &Kept,
    test: &Test,
    range: &Range<i64>,
    limit: usize,
    context: usize,
) -> Result<Vec<Line>, SegmentError> {
    let hits = kept.segment.find(test, range.clone())?;
    if hits.count() == 0 {
        return Ok(Vec::new());
    }
    let mut rows = hits.rows()?;
    rows.drain(..rows.len().saturating_sub(limit));
    let around: BTreeMap<u32, (Vec<u32>, Vec<u32>)> = if context > 0 {
        let streams = hits.streams()?;
        rows.iter().map(|&row| (row, neighbours(streams, row, context))).collect()
    } else {
        BTreeMap::new()
    };
    let mut wanted = rows.clone();
    wanted.extend(around.values().flat_map(|(before, after)| before.iter().chain(after)));
    wanted.sort_unstable();
    wanted.dedup();
    let mut texts: HashMap<u32, (u8, usize, Vec<u8>)> = HashMap::new();
    hits.texts(&wanted, |row, level, template, text| {
        drop(texts.insert(row, (level, template, text.to_vec())))
    })?;
    let (times, streams) = (hits.times()?, hits.streams()?);
    let text = |row: &u32| texts.get(row).map(|(_, _, text)| text.clone()).unwrap_or_default();
    let line = |&row: &u32| {
        let (level, template, own) = texts.get(&row)?;
        let (before, after) = around.get(&row).cloned().unwrap_or_default();
        Some(Line {
            time: times[row as usize],
            level: *level,
            labels: shown_labels(&kept.segment.streams()[streams[row as usize] as usize]),
            text: own.clone(),
            template: kept.segment.templates()[*template].clone(),
            before: before.iter().map(text).collect(),
            after: after.iter().map(text).collect(),
        })
    };
    Ok(rows.iter().filter_map(line).collect())
}

/// The rows of the same stream before and after one, within reach.
fn neighbours(streams: &[u64], row: u32, context: usize) -> (Vec<u32>, Vec<u32>) {
    const REACH: usize = 20_000;
    let at = row as usize;
    let same = |other: &usize| streams[*other] == streams[at];
    let mut before: Vec<u32> =
        (at.saturating_sub(REACH)..at).rev().filter(same).take(context).map(|row| row as u32).collect();
    before.reverse();
    let after =
        (at + 1..streams.len().min(at + REACH)).filter(same).take(context).map(|row| row as u32).collect();
    (before, after)
}

pub(super) fn aggregate(
    store: &Embedded,
    wanted: &Wanted,
    counting: &Counting,
    watch: &Watch,
) -> Result<Counted> {
    let pattern = expression(&counting.by)?;
    let state = store.snapshot();
    let span = match counting.buckets {
        0 => None,
        buckets => bounds(&state, &wanted.range).map(|(from, to)| (from, to, buckets)),
    };
    let empty = || Tallies::new(span);
    let mut all = empty();
    let mut counted = Counted::default();
    for part in parts(&state) {
        watch.check()?;
        count_in_memory(store, part, wanted, &counting.by, pattern.as_ref(), &mut all);
    }
    let test = test_of(wanted);
    let segments: Vec<&Arc<Kept>> =
        state.segments.iter().filter(|kept| within(kept, &wanted.range)).collect();
    for wave in segments.chunks(WAVE) {
        watch.check()?;
        let results: Vec<_> = wave
            .par_iter()
            .map(|kept| {
                let mut own = empty();
                count(kept, &test, &wanted.range, &counting.by, pattern.as_ref(), &mut own).map(|()| own)
            })
            .collect();
        for (kept, result) in wave.iter().zip(results) {
            match result {
                Ok(own) => all.join(own),
                Err(error) => counted.warnings.push(unread(kept, &error)),
            }
        }
    }
    Ok(Counted { warnings: counted.warnings, ..all.counted(counting.limit) })
}

/// The range, cut to the times that there are.
pub(super) fn bounds(state: &State, range: &Range<i64>) -> Option<(i64, i64)> {
    let of_parts =
        parts(state).into_iter().flat_map(|part| part.batches.iter()).flat_map(|batch| &batch.rows.rows);
    let of_segments = state.segments.iter().filter(|kept| within(kept, range));
    let first = of_segments.clone().map(|kept| kept.entry.times.0);
    let last = of_segments.map(|kept| kept.entry.times.1);
    let times: Vec<i64> = of_parts.map(|row| row.time).filter(|time| range.contains(time)).collect();
    let from = first.chain(times.iter().copied()).min()?.max(range.start);
    let to = last.chain(times.iter().copied()).max()?.saturating_add(1).min(range.end);
    (from < to).then_some((from, to))
}

fn count_in_memory(
    store: &Embedded,
    part: &Part,
    wanted: &Wanted,
    by: &By,
    pattern: Option<&regex::bytes::Regex>,
    tallies: &mut Tallies,
) {
    let asked = template_of(&store.inner.names);
    for batch in &part.batches {
        let rows: Vec<usize> = find(batch, wanted, &asked).collect();
        let text = |row: usize| batch.rows.text_of(&batch.rows.rows[row]);
        let names = match by {
            By::Template => store.inner.names.of(&rows.iter().map(|&row| text(row)).collect::<Vec<_>>()),
            _ => Vec::new(),
        };
        for (at, &row) in rows.iter().enumerate() {
            let own = &batch.rows.rows[row];
            let labels = &batch.streams[own.stream as usize];
            match by {
                By::Nothing => tallies.line("", own.time, own.level),
                By::Template => tallies.line(&names[at], own.time, own.level),
                By::Level => tallies.line(level_name(own.level), own.time, own.level),
                By::Label(name) => {
                    tallies.line(labels.get(name).map_or("", String::as_str), own.time, own.level);
                }
                By::Matched(_) => {
                    if let Some(value) = pattern.and_then(|pattern| matched(pattern, text(row))) {
                        tallies.line(&String::from_utf8_lossy(value), own.time, own.level);
                    }
                }
            }
        }
    }
}

fn count(
    kept: &Kept,
    test: &Test,
    range: &Range<i64>,
    by: &By,
    pattern: Option<&regex::bytes::Regex>,
    tallies: &mut Tallies,
) -> Result<(), SegmentError> {
    let hits = kept.segment.find(test, range.clone())?;
    if hits.count() == 0 {
        return Ok(());
    }
    if tallies.span.is_none() && matches!(by, By::Nothing | By::Level) {
        return count_shapes(kept, &hits, range, by, tallies);
    }
    let rows = hits.rows()?;
    let times = hits.times()?;
    let mut levels: HashMap<u32, u8> = HashMap::new();
    match by {
        By::Label(name) => {
            let streams = hits.streams()?;
            let values: Vec<&str> = kept
                .segment
                .streams()
                .iter()
                .map(|labels| labels.get(name).map_or("", String::as_str))
                .collect();
            let of_row = hits.templates()?;
            for (row, _, level) in of_row {
                tallies.line(values[streams[row as usize] as usize], times[row as usize], level);
            }
        }
        By::Matched(_) => {
            let mut found = Vec::new();
            hits.texts(&rows, |row, level, _, text| {
                levels.insert(row, level);
                if let Some(value) = pattern.and_then(|pattern| matched(pattern, text)) {
                    found.push((row, String::from_utf8_lossy(value).into_owned()));
                }
            })?;
            for (row, value) in found {
                tallies.line(&value, times[row as usize], levels.get(&row).copied().unwrap_or(0));
            }
        }
        By::Nothing | By::Level | By::Template => {
            for (row, template, level) in hits.templates()? {
                let value = match by {
                    By::Template => kept.segment.templates()[template].as_str(),
                    By::Level => level_name(level),
                    _ => "",
                };
                tallies.line(value, times[row as usize], level);
            }
        }
    }
    Ok(())
}

/// Counts without looking at single lines; the times are those of the segment.
fn count_shapes(
    kept: &Kept,
    hits: &Hits,
    range: &Range<i64>,
    by: &By,
    tallies: &mut Tallies,
) -> Result<(), SegmentError> {
    let (first, last) = kept.segment.times();
    let times = Some((first.max(range.start), last.min(range.end.saturating_sub(1))));
    for (_, level, count) in hits.by_template() {
        let value = if matches!(by, By::Level) { level_name(level) } else { "" };
        let errors = if level >= ERROR { count } else { 0 };
        if let Some(tally) = tallies.group(value) {
            tally.add(count as u64, errors as u64, times);
        }
    }
    Ok(())
}

pub(super) fn scan(
    store: &Embedded,
    wanted: &Wanted,
    watch: &Watch,
    give: &mut dyn FnMut(Line) -> Result<bool>,
) -> Result<()> {
    let state = store.snapshot();
    let test = test_of(wanted);
    let mut segments: Vec<&Arc<Kept>> =
        state.segments.iter().filter(|kept| within(kept, &wanted.range)).collect();
    segments.sort_by_key(|kept| kept.entry.times.0);
    for kept in segments {
        watch.check()?;
        let lines = newest(kept, &test, &wanted.range, usize::MAX, 0);
        for line in lines.map_err(|error| Error::unavailable(unread(kept, &error)).because(error))? {
            if !give(line)? {
                return Ok(());
            }
        }
    }
    let mut memory = parts(&state);
    memory.sort_by_key(|part| part.id);
    for part in memory {
        watch.check()?;
        let mut lines = newest_in_memory(store, part, wanted, part.rows, 0);
        lines.reverse();
        for line in lines {
            if !give(line)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Compiles a condition's expression.
///
/// # Errors
/// `Invalid`, with what is wrong.
pub fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text)
        .map_err(|error| Error::invalid(format!("/{text}/ is not a regular expression: {error}")))
}
