//! What levels, times and templates say about a log, in one pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use opsroom_analytics::parse::{Kind, Level, LogParser, Parsed, TemplateId};
use opsroom_core::Result;

use super::input::{Limits, LogReader, RawLine, ReadLog, Source, Watch, read_batches};
use super::model::{Analysis, Bucket, ErrorGroup, Example, LevelCount, TemplateUse};
use super::shown::{clean, shown};

/// Bytes of a line or a template that an answer quotes.
const MOST_BYTES: usize = 1_000;
/// Buckets that the rate over time is answered in.
const BUCKETS: usize = 60;
/// Buckets that are counted in while the log is read; when there are more they are made twice as long.
const COUNTED: usize = 4_096;
const LEVELS: [(Level, &str); 6] = [
    (Level::Fatal, "fatal"),
    (Level::Error, "error"),
    (Level::Warn, "warn"),
    (Level::Info, "info"),
    (Level::Debug, "debug"),
    (Level::Trace, "trace"),
];

/// Say what levels, times and templates tell about a log; lists have at most `limit` entries. Blocks, for
/// as long as reading takes.
///
/// # Errors
/// Those of reading; `Cancelled` when the watch says so.
pub fn analyze(sources: Vec<Source>, limits: Limits, watch: &Watch, limit: usize) -> Result<Analysis> {
    let reader = LogReader::new(sources, limits, watch.clone());
    let mut parser = LogParser::new(reader.parser_config());
    let mut counts = Counts::default();
    let mut log = read_batches(
        reader,
        |_| {},
        |batch| {
            for (number, line) in batch.lines() {
                counts.add(number, &parser.push(line));
            }
            Ok(())
        },
    )?;
    let errors = counts.error_groups(&parser, limit);
    let wanted: BTreeSet<u64> = errors.iter().flat_map(|(_, group)| [group.first, group.last]).collect();
    let raw = log.fetch(&wanted, watch)?;
    Ok(answer(&counts, &parser, &log, &errors, &raw, limit))
}

#[derive(Default)]
struct Counts {
    records: u64,
    levels: HashMap<Option<Level>, u64>,
    rate: Rate,
    errors: HashMap<TemplateId, Errors>,
}

/// The error records of a template.
#[derive(Clone, Copy)]
struct Errors {
    count: u64,
    first: u64,
    last: u64,
    times: Option<(i64, i64)>,
}

impl Counts {
    fn add(&mut self, line: u64, parsed: &Parsed) {
        let (Kind::Head, Some(template)) = (parsed.kind, parsed.template) else { return };
        self.records += 1;
        *self.levels.entry(parsed.level).or_default() += 1;
        let error = parsed.level.is_some_and(|level| level >= Level::Error);
        if let Some(time) = parsed.time {
            self.rate.add(time, error);
        }
        if error {
            let here =
                Errors { count: 1, first: line, last: line, times: parsed.time.map(|time| (time, time)) };
            self.errors.entry(template).and_modify(|errors| errors.join(here)).or_insert(here);
        }
    }

    /// The groups with the most errors, by the templates that remain in the end.
    fn error_groups(&self, parser: &LogParser, limit: usize) -> Vec<(TemplateId, Errors)> {
        let mut groups: BTreeMap<TemplateId, Errors> = BTreeMap::new();
        for (&id, &errors) in &self.errors {
            groups.entry(parser.resolve(id)).and_modify(|group| group.join(errors)).or_insert(errors);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(&b.0)));
        groups.truncate(limit);
        groups
    }
}

impl Errors {
    fn join(&mut self, other: Errors) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.times = match (self.times, other.times) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (times, None) | (None, times) => times,
        };
    }
}

/// Records over time, in buckets that grow with the span.
struct Rate {
    micros: i64,
    /// Records and errors by bucket.
    buckets: BTreeMap<i64, (u64, u64)>,
    times: Option<(i64, i64)>,
}

impl Default for Rate {
    fn default() -> Self {
        Self { micros: 1_000_000, buckets: BTreeMap::new(), times: None }
    }
}

impl Rate {
    fn add(&mut self, time: i64, error: bool) {
        let (from, to) = self.times.unwrap_or((time, time));
        self.times = Some((from.min(time), to.max(time)));
        let bucket = self.buckets.entry(time.div_euclid(self.micros)).or_default();
        bucket.0 += 1;
        bucket.1 += u64::from(error);
        while self.buckets.len() > COUNTED {
            self.widen(2);
        }
    }

    fn widen(&mut self, factor: i64) {
        self.micros = self.micros.saturating_mul(factor);
        let before = std::mem::take(&mut self.buckets);
        for (at, (records, errors)) in before {
            let bucket = self.buckets.entry(at.div_euclid(factor)).or_default();
            bucket.0 += records;
            bucket.1 += errors;
        }
    }

    /// At most [`BUCKETS`] of a length that people count in, silent ones included.
    fn answered(&self) -> (Option<u64>, Vec<Bucket>) {
        let Some((from, to)) = self.times else { return (None, Vec::new()) };
        let span = (to.saturating_sub(from)) / 1_000_000 + 1;
        let steps = [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400];
        let fits = |step: &i64| span / step < BUCKETS as i64 - 1 && step * 1_000_000 >= self.micros;
        let step = steps.into_iter().find(fits).unwrap_or_else(|| {
            let days = span / 86_400 / (BUCKETS as i64 - 2) + 1;
            days * 86_400
        });
        let mut buckets: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (at, (records, errors)) in &self.buckets {
            let start = at.saturating_mul(self.micros).max(from).div_euclid(step * 1_000_000);
            let bucket = buckets.entry(start).or_default();
            bucket.0 += records;
            bucket.1 += errors;
        }
        let (Some((&first, _)), Some((&last, _))) = (buckets.first_key_value(), buckets.last_key_value())
        else {
            return (None, Vec::new());
        };
        let rate = (first..=last).take(BUCKETS).filter_map(|at| {
            let (records, errors) = buckets.get(&at).copied().unwrap_or_default();
            Some(Bucket { start: time_text(at * step * 1_000_000)?, records, errors })
        });
        (u64::try_from(step).ok(), rate.collect())
    }
}

fn time_text(micros: i64) -> Option<String> {
    Timestamp::from_microsecond(micros).ok().map(|time| time.to_string())
}

fn answer(
    counts: &Counts,
    parser: &LogParser,
    log: &ReadLog,
    errors: &[(TemplateId, Errors)],
    raw: &BTreeMap<u64, RawLine>,
    limit: usize,
) -> Analysis {
    let templates = parser.templates();
    let uses: Vec<TemplateUse> = templates
        .iter()
        .map(|template| {
            let (file, first_line) = place(log, template.first_line);
            let text = shown(template.template.as_bytes(), MOST_BYTES);
            TemplateUse { id: template.id.0, template: text, count: template.count, file, first_line }
        })
        .collect();
    let by = |order: &dyn Fn(&TemplateUse) -> u64| {
        let mut sorted = uses.clone();
        sorted.sort_by_key(|one| (order(one), one.id));
        sorted.truncate(limit);
        sorted
    };
    let late = log.lines - log.lines / 10;
    let first_lines: HashMap<u32, u64> = templates.iter().map(|t| (t.id.0, t.first_line)).collect();
    let new = uses.iter().filter(|one| first_lines[&one.id] > late).take(limit).cloned().collect();
    let texts: HashMap<u32, &str> = uses.iter().map(|one| (one.id, one.template.as_str())).collect();
    let (bucket_seconds, rate) = counts.rate.answered();
    Analysis {
        lines: log.lines,
        records: counts.records,
        templates: templates.len() as u64,
        levels: levels(counts),
        from: counts.rate.times.and_then(|(from, _)| time_text(from)),
        to: counts.rate.times.and_then(|(_, to)| time_text(to)),
        bucket_seconds,
        rate,
        top_templates: by(&|one| u64::MAX - one.count),
        new_templates: new,
        rare_templates: by(&|one| one.count),
        error_groups: errors.iter().map(|(id, group)| error_group(*id, group, &texts, log, raw)).collect(),
        sources: log.sources.iter().map(|read| clean(&read.source.name)).collect(),
        warnings: log.warnings.iter().map(|warning| clean(warning)).collect(),
    }
}

fn levels(counts: &Counts) -> Vec<LevelCount> {
    let named = LEVELS.iter().map(|&(level, name)| (Some(level), name)).chain([(None, "none")]);
    named
        .filter_map(|(level, name)| {
            let count = *counts.levels.get(&level)?;
            Some(LevelCount { level: name.to_owned(), count })
        })
        .collect()
}

fn error_group(
    id: TemplateId,
    group: &Errors,
    texts: &HashMap<u32, &str>,
    log: &ReadLog,
    raw: &BTreeMap<u64, RawLine>,
) -> ErrorGroup {
    let lines: BTreeSet<u64> = [group.first, group.last].into();
    let examples = lines.into_iter().filter_map(|line| {
        let text = shown(raw.get(&line)?, MOST_BYTES);
        let (file, line) = place(log, line);
        Some(Example { file, line, text })
    });
    ErrorGroup {
        id: id.0,
        template: texts.get(&id.0).map(|text| (*text).to_owned()).unwrap_or_default(),
        count: group.count,
        first_time: group.times.and_then(|(first, _)| time_text(first)),
        last_time: group.times.and_then(|(_, last)| time_text(last)),
        examples: examples.collect(),
    }
}

/// The file (where there are several) and the line in it.
fn place(log: &ReadLog, line: u64) -> (Option<String>, u64) {
    let (name, number) = log.locate(line);
    ((log.sources.len() > 1).then(|| clean(name)), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysis(text: &str) -> Analysis {
        analyze(vec![Source::text("text", text)], Limits::default(), &Watch::silent(), 5).unwrap()
    }

    #[test]
    fn levels_times_rate_and_errors_are_counted() {
        let mut text = String::new();
        for i in 0..600 {
            text.push_str(&format!("2026-01-01 10:{:02}:{:02} INFO request {i} served\n", i / 60, i % 60));
        }
        text.push_str("2026-01-01 10:10:00 ERROR disk sda failed\n\tat a.B.c(B.java:1)\n");
        let found = analysis(&text);
        assert_eq!((found.lines, found.records, found.templates), (602, 601, 2));
        let levels: Vec<_> = found.levels.iter().map(|l| (l.level.as_str(), l.count)).collect();
        assert_eq!(levels, [("error", 1), ("info", 600)]);
        assert_eq!(found.from.as_deref(), Some("2026-01-01T10:00:00Z"));
        assert_eq!((found.bucket_seconds, found.rate.len()), (Some(30), 21));
        assert_eq!(found.rate.iter().map(|bucket| bucket.records).sum::<u64>(), 601);
        assert_eq!(found.rate.last().unwrap().errors, 1);
        assert_eq!(found.error_groups[0].examples[0].line, 601);
        assert!(found.error_groups[0].template.contains("failed"));
        assert_eq!(found.new_templates.len(), 1);
        assert_eq!(found.top_templates[0].count, 600);
    }

    #[test]
    fn logs_without_times_or_levels_or_lines_are_answered() {
        let found = analysis("one\ntwo\n");
        assert_eq!((found.rate.len(), found.from, found.levels[0].level.as_str()), (0, None, "none"));
        assert_eq!(analysis("").records, 0);
    }

    #[test]
    fn a_log_of_decades_has_no_more_buckets_than_asked_for() {
        let text: String =
            (1971..2026).map(|year| format!("{year}-06-01 10:00:00 INFO year ended\n")).collect();
        let found = analysis(&text);
        assert!(found.rate.len() <= BUCKETS, "{}", found.rate.len());
        assert_eq!(found.rate.iter().map(|bucket| bucket.records).sum::<u64>(), 55);
    }
}
