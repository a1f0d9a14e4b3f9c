//! Lines that are read where they lie: found as if they were kept, while nothing of them is.
//!
//! Times, levels and labels are read off the lines as they would be when they are kept. A line that states no
//! time has that of the line before it; before the first time it counts as within the range.

use std::collections::{HashMap, VecDeque};

use opsroom_analytics::parse::{Kind, LogParser, Miner, MinerConfig, ParserConfig, Template, TemplateId};
use opsroom_analytics::segments::Labels;
use opsroom_core::{Error, Result};
use serde_json::{Map, Value};

use super::entry::{Gather, labels, level_number, parts, shown_time};
use super::input::{Batch, Limits, LogReader, Source, Watch, read_batches};
use super::likeness::Likeness;
use super::lines::{dated, of_object};
use super::search::{FoundLine, FoundLogs, FoundTemplate};
use super::shown::{clean, shown};
use super::store::{By, Counted, Counting, Line, Wanted};
use super::tally::{ERROR, Tallies, expression, level_name, matched};

/// Bytes of a template in an answer.
const TEMPLATE_BYTES: usize = 1_000;

/// Logs to read, and how.
pub(super) struct Passing {
    /// They.
    pub sources: Vec<Source>,
    /// The name of the source that they lie in, where they do.
    pub source: Option<String>,
    /// What reading may cost.
    pub limits: Limits,
    /// Microseconds since 1970.
    pub now: i64,
}

/// A line as it passes by.
struct Passed<'a> {
    time: i64,
    level: u8,
    labels: &'a Labels,
    text: &'a [u8],
    /// Whether it is wanted.
    meant: bool,
}

/// What lines are read with: lines that go on take time and level from the one before.
struct Walk<'a> {
    parser: LogParser,
    wanted: &'a Wanted,
    likeness: Likeness,
    /// For each log the labels of its lines.
    own: Vec<Labels>,
    now: i64,
    /// The time of lines that state none.
    within: i64,
    source: Option<usize>,
    time: Option<i64>,
    level: u8,
}

impl Walk<'_> {
    /// Reads a batch's lines.
    fn gather(&mut self, batch: &Batch) -> Gather {
        let mut gather = Gather::at(self.now);
        if self.source.replace(batch.source) != Some(batch.source) {
            (self.time, self.level) = (None, 0);
        }
        let own = self.own.get(batch.source).cloned().unwrap_or_default();
        let (stream, none) = (gather.stream(&own), Map::new());
        for (_, line) in batch.lines() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            if line.trim_ascii_start().first() == Some(&b'{')
                && let Ok(Value::Object(object)) = serde_json::from_slice(line)
            {
                of_object(object, &own, &mut gather);
                let row = gather.batch.rows.rows.last().copied();
                (self.time, self.level) = row.map_or((None, 0), |row| (Some(row.time), row.level));
                continue;
            }
            let parsed = self.parser.push(line);
            if parsed.kind == Kind::Head {
                // Where some lines have no time, they have that of those before.
                self.time = parsed.time.or(self.time);
                self.level = level_number(parsed.level);
            }
            gather.push(self.time, self.level, stream, line, &none);
        }
        gather
    }

    /// Gives each line of a batch.
    fn pass(&mut self, batch: &Batch, give: &mut dyn FnMut(Passed<'_>) -> Result<()>) -> Result<()> {
        let gather = self.gather(batch);
        let rows = &gather.batch.rows;
        for row in &rows.rows {
            // What states no time, or one that cannot be, got that of its arrival.
            let time = if row.time == self.now { self.within } else { row.time };
            let (text, labels) = (rows.text_of(row), &gather.batch.streams[row.stream as usize]);
            let meant = self.wanted.range.contains(&time)
                && self.wanted.test.holds(text, row.level, labels, &|name| self.likeness.is(text, name));
            give(Passed { time, level: row.level, labels, text, meant })?;
        }
        Ok(())
    }
}

impl Passing {
    /// Reads all of it; answers what should be known of the reading.
    fn each(
        self,
        wanted: &Wanted,
        watch: &Watch,
        give: &mut dyn FnMut(Passed<'_>) -> Result<()>,
    ) -> Result<Vec<String>> {
        let own = |log: &Source| {
            let name = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            labels(match &self.source {
                Some(source) => vec![name("source", source), name("object", &log.name)],
                None => vec![name("source", &log.name)],
            })
        };
        let small =
            MinerConfig { max_templates: 64, max_examples: 0, max_bytes: 1 << 16, ..MinerConfig::default() };
        let mut walk = Walk {
            parser: LogParser::new(ParserConfig { miner: small, ..dated(self.now) }),
            wanted,
            likeness: Likeness::of(&wanted.test)?,
            own: self.sources.iter().map(own).collect(),
            now: self.now,
            within: self.now.min(wanted.range.end.saturating_sub(1)).max(wanted.range.start),
            source: None,
            time: None,
            level: 0,
        };
        let reader = LogReader::new(self.sources, self.limits, watch.clone());
        let read = read_batches(reader, |_| {}, |batch| walk.pass(batch, give))?;
        Ok(read.warnings.iter().map(|warning| clean(warning)).collect())
    }

    /// Gives every line that is wanted, in the order in which they are read, until `give` says that it is
    /// enough. Blocks.
    ///
    /// # Errors
    /// Those of reading and of `give`; `Cancelled` when the watch says so.
    pub fn scan(
        self,
        wanted: &Wanted,
        watch: &Watch,
        give: &mut dyn FnMut(Line) -> Result<bool>,
    ) -> Result<Vec<String>> {
        let mut enough = false;
        let outcome = self.each(wanted, watch, &mut |line| {
            if line.meant && !give(line.owned())? {
                enough = true;
                return Err(Error::cancelled("it is enough"));
            }
            Ok(())
        });
        if enough { Ok(Vec::new()) } else { outcome }
    }

    /// The newest lines that are wanted, with their templates and counts. Blocks.
    ///
    /// # Errors
    /// Those of reading; `Cancelled` when the watch says so.
    pub fn search(
        self,
        wanted: &Wanted,
        limit: usize,
        context: usize,
        templates: usize,
        watch: &Watch,
    ) -> Result<FoundLogs> {
        let mut finding = Finding::new(limit, context);
        let warnings = self.each(wanted, watch, &mut |line| {
            finding.add(&line);
            Ok(())
        })?;
        Ok(finding.found(templates, warnings))
    }
}

impl Passing {
    /// Counts the lines that are wanted. Blocks.
    ///
    /// # Errors
    /// Those of reading; `Invalid` for an expression that cannot be used, or stretches of time in a range that
    /// is open at an end; `Cancelled` when the watch says so.
    pub fn count(self, wanted: &Wanted, counting: &Counting, watch: &Watch) -> Result<Counted> {
        let pattern = expression(&counting.by)?;
        let range = &wanted.range;
        if counting.buckets > 0 && (range.start == i64::MIN || range.end == i64::MAX) {
            return Err(Error::invalid(
                "buckets: lines that are read where they lie are read once; give `from` and `until`, too",
            ));
        }
        let span = (counting.buckets > 0).then_some((range.start, range.end, counting.buckets));
        let mut tallies = Tallies::new(span);
        let mut mining = Mining::new();
        let warnings = self.each(wanted, watch, &mut |line| {
            if !line.meant {
                return Ok(());
            }
            let told: String;
            let value: &str = match &counting.by {
                By::Nothing => "",
                By::Level => level_name(line.level),
                By::Label(name) => line.labels.get(name).map_or("", String::as_str),
                By::Template => {
                    let (head, id) = mining.of(line.text);
                    told = format!("{}{}", u8::from(head), id.0);
                    &told
                }
                By::Matched(_) => match pattern.as_ref().and_then(|pattern| matched(pattern, line.text)) {
                    Some(value) => {
                        told = String::from_utf8_lossy(value).into_owned();
                        &told
                    }
                    None => return Ok(()),
                },
            };
            tallies.line(value, line.time, line.level);
            Ok(())
        })?;
        if counting.by == By::Template {
            let name = mining.names();
            tallies = tallies.renamed(|mined| {
                let id = mined.get(1..).and_then(|id| id.parse().ok()).unwrap_or(u32::MAX);
                name((mined.starts_with('1'), TemplateId(id)))
            });
        }
        Ok(Counted { warnings, ..tallies.counted(counting.limit) })
    }
}

/// Mines the templates of an answer, as those of lines that are kept are mined: a line that continues a record
/// has a template of its own.
struct Mining {
    parser: LogParser,
    rest: Miner,
}

/// A template, and whether it is one of lines that begin a record.
type Mined = (bool, TemplateId);

impl Mining {
    fn new() -> Self {
        let miner = MinerConfig { max_examples: 1, max_example_bytes: 64, ..MinerConfig::default() };
        let parser = LogParser::new(ParserConfig { miner: miner.clone(), ..ParserConfig::default() });
        Self { parser, rest: Miner::new(miner) }
    }

    fn of(&mut self, line: &[u8]) -> Mined {
        let text = parts(line).0;
        let parsed = self.parser.push(text);
        match (parsed.kind, parsed.template) {
            (Kind::Head, Some(id)) => (true, id),
            _ => (false, self.rest.mine(text).template),
        }
    }

    /// The names of all of them.
    fn names(&self) -> impl Fn(Mined) -> String {
        let by_id = |templates: Vec<Template>| -> HashMap<TemplateId, String> {
            templates.into_iter().map(|template| (template.id, template.template)).collect()
        };
        let (heads, rest) = (by_id(self.parser.templates()), by_id(self.rest.templates()));
        move |(head, id)| {
            let found = match head {
                true => heads.get(&self.parser.resolve(id)),
                false => rest.get(&self.rest.resolve(id)),
            };
            found.map_or_else(|| "<*>".to_owned(), Clone::clone)
        }
    }
}

impl Passed<'_> {
    fn owned(&self) -> Line {
        Line {
            time: self.time,
            level: self.level,
            labels: self.labels.clone(),
            text: self.text.to_vec(),
            template: String::new(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// Lines of a template.
struct Count {
    count: u64,
    errors: u64,
    times: (i64, i64),
}

/// What is found on the way.
struct Finding {
    limit: usize,
    context: usize,
    mining: Mining,
    counts: HashMap<Mined, Count>,
    lines: Vec<(Line, Mined)>,
    /// Whether lines were left out that are older than all that are held.
    more: bool,
    /// Older lines need not be looked at closely.
    floor: i64,
    before: VecDeque<Vec<u8>>,
    /// Lines that wait for those after them.
    open: Vec<(Line, Mined)>,
    /// The labels of the line before: context is of the same log.
    labels: Labels,
}

impl Finding {
    fn new(limit: usize, context: usize) -> Self {
        Self {
            limit,
            context,
            mining: Mining::new(),
            counts: HashMap::new(),
            lines: Vec::new(),
            more: false,
            floor: i64::MIN,
            before: VecDeque::new(),
            open: Vec::new(),
            labels: Labels::new(),
        }
    }

    fn add(&mut self, line: &Passed<'_>) {
        if self.context > 0 {
            self.surround(line);
        }
        if line.meant {
            let template = self.mining.of(line.text);
            let none = Count { count: 0, errors: 0, times: (i64::MAX, i64::MIN) };
            let count = self.counts.entry(template).or_insert(none);
            count.count += 1;
            count.errors += u64::from(line.level >= ERROR);
            count.times = (count.times.0.min(line.time), count.times.1.max(line.time));
            if line.time < self.floor || self.limit == 0 {
                self.more = true;
            } else {
                let mut found = line.owned();
                found.text = cut(found.text);
                found.before = self.before.iter().cloned().collect();
                if self.context > 0 { self.open.push((found, template)) } else { self.keep(found, template) }
            }
        }
        if self.context > 0 {
            self.before.push_back(cut(line.text.to_vec()));
            if self.before.len() > self.context {
                self.before.pop_front();
            }
        }
    }

    /// Gives a line to those that wait for what comes after them.
    fn surround(&mut self, line: &Passed<'_>) {
        if self.labels != *line.labels {
            self.labels = line.labels.clone();
            self.before.clear();
            let open = std::mem::take(&mut self.open);
            open.into_iter().for_each(|(found, template)| self.keep(found, template));
        }
        for (found, template) in std::mem::take(&mut self.open) {
            let mut found = found;
            found.after.push(cut(line.text.to_vec()));
            if found.after.len() >= self.context {
                self.keep(found, template);
            } else {
                self.open.push((found, template));
            }
        }
    }

    fn keep(&mut self, line: Line, template: Mined) {
        self.lines.push((line, template));
        if self.lines.len() > 2 * self.limit + 256 {
            self.prune();
        }
    }

    /// Keeps the newest; among those of one time the later ones.
    fn prune(&mut self) {
        self.lines.reverse();
        self.lines.sort_by_key(|(line, _)| std::cmp::Reverse(line.time));
        if self.lines.len() > self.limit {
            self.lines.truncate(self.limit);
            self.more = true;
            self.floor = self.lines.last().map_or(self.floor, |(line, _)| line.time);
        }
        self.lines.reverse();
    }

    fn found(mut self, templates: usize, warnings: Vec<String>) -> FoundLogs {
        for (line, template) in std::mem::take(&mut self.open) {
            self.keep(line, template);
        }
        self.prune();
        self.lines.reverse();
        let named = self.mining.names();
        let name = |mined: Mined| shown(named(mined).as_bytes(), TEMPLATE_BYTES);
        let mut by_name: HashMap<String, Count> = HashMap::new();
        for (id, count) in &self.counts {
            let all = by_name.entry(name(*id)).or_insert(Count {
                count: 0,
                errors: 0,
                times: (i64::MAX, i64::MIN),
            });
            all.count += count.count;
            all.errors += count.errors;
            all.times = (all.times.0.min(count.times.0), all.times.1.max(count.times.1));
        }
        let count = by_name.values().map(|count| count.count).sum();
        let mut groups: Vec<FoundTemplate> = by_name
            .into_iter()
            .map(|(template, count)| FoundTemplate {
                template,
                count: count.count,
                errors: count.errors,
                first: shown_time(count.times.0),
                last: shown_time(count.times.1),
            })
            .collect();
        groups.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.template.cmp(&b.template)));
        let more_templates = groups.len().saturating_sub(templates) as u64;
        groups.truncate(templates);
        let next_until = self.lines.last().filter(|_| self.more).map(|(line, _)| shown_time(line.time));
        let lines = std::mem::take(&mut self.lines).into_iter().map(|(line, template)| {
            let template = name(template);
            FoundLine::of(Line { template, ..line })
        });
        let lines = lines.collect();
        FoundLogs {
            count: Some(count),
            more_templates: if templates == 0 { 0 } else { more_templates },
            templates: groups,
            lines,
            more: self.more,
            next_until,
            warnings,
        }
    }
}

/// Of a very long line what answers may show; fields are behind the text.
fn cut(text: Vec<u8>) -> Vec<u8> {
    const MOST: usize = 16 << 10;
    if text.len() <= MOST {
        return text;
    }
    let mut text = super::entry::parts(&text).0.to_vec();
    text.truncate(MOST);
    text
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::*;

    const NOW: i64 = 1_763_800_000_000_000;
    const LOG: &str = "2025-11-21 10:00:00 INFO one began\n\
        2025-11-21 10:00:01 ERROR disk of user 7 is full\n\
        \tat a.B\n\
        {\"ts\":\"2025-11-21T10:00:02Z\",\"level\":\"error\",\"service\":\"api\",\"msg\":\"refused\",\"n\":7}\n\
        2025-11-21 10:00:03 ERROR disk of user 8 is full\n";

    fn passing(text: &str) -> Passing {
        let sources = vec![Source::text("a.log", text)];
        Passing { sources, source: Some("bucket".to_owned()), limits: Limits::default(), now: NOW }
    }

    fn wanted(text: &str) -> Wanted {
        let query = query::parse(text, NOW).unwrap();
        let range = query.from.unwrap_or(i64::MIN)..query.until.unwrap_or(i64::MAX);
        Wanted { teams: Vec::new(), test: query.test, range }
    }

    fn search(query: &str, limit: usize, context: usize) -> FoundLogs {
        passing(LOG).search(&wanted(query), limit, context, 10, &Watch::silent()).unwrap()
    }

    fn texts(found: &FoundLogs) -> Vec<&str> {
        found.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_found_by_level_label_and_word_the_newest_first() {
        let found = search("level:error", 10, 0);
        assert_eq!((found.count, found.lines.len()), (Some(4), 4), "{found:?}");
        assert_eq!(texts(&found)[1], "refused");
        let found = search("disk user", 1, 0);
        assert_eq!((found.count, found.more), (Some(2), true));
        assert_eq!(texts(&found), ["2025-11-21 10:00:03 ERROR disk of user 8 is full"]);
        assert_eq!(
            (found.templates[0].template.as_str(), found.templates[0].count),
            ("disk of user <*> is full", 2)
        );
        assert_eq!(found.lines[0].labels["object"], "a.log");
        let found = search("service:api n:7", 10, 0);
        assert_eq!((texts(&found), found.lines[0].time.as_str()), (vec!["refused"], "2025-11-21T10:00:02Z"));
        assert_eq!(search("until:2025-11-21T10:00:01Z", 10, 0).count, Some(1));
    }

    #[test]
    fn context_is_of_the_same_log() {
        let found = search("\"user 7\"", 10, 1);
        assert_eq!(found.lines[0].before, ["2025-11-21 10:00:00 INFO one began"]);
        assert_eq!(found.lines[0].after, ["\tat a.B"]);
    }

    #[test]
    fn a_scan_ends_when_it_is_enough() {
        let mut seen = 0;
        let mut take = |_: Line| {
            seen += 1;
            Ok(seen < 2)
        };
        passing(LOG).scan(&wanted(""), &Watch::silent(), &mut take).unwrap();
        assert_eq!(seen, 2);
    }

    #[test]
    fn the_lines_of_a_template_are_found_by_it() {
        for template in search("", 10, 0).templates {
            let found = search(&format!("template:\"{}\"", template.template), 10, 0);
            assert_eq!(found.count, Some(template.count), "{template:?}");
        }
        assert_eq!(search("NOT template:\"disk of user <*> is full\"", 10, 0).count, Some(3));
    }

    #[test]
    fn lines_are_counted_over_time_and_by_what_they_share() {
        let count = |by: By, buckets: usize, query: &str| {
            let counting = Counting { by, limit: 10, buckets };
            passing(LOG).count(&wanted(query), &counting, &Watch::silent())
        };
        let groups = |by: By, query: &str| -> Vec<(String, u64, u64)> {
            let counted = count(by, 0, query).unwrap();
            counted.groups.into_iter().map(|group| (group.value, group.count, group.errors)).collect()
        };
        let of = |value: &str, count: u64, errors: u64| (value.to_owned(), count, errors);
        assert_eq!(groups(By::Nothing, ""), [of("", 5, 4)]);
        assert_eq!(groups(By::Level, ""), [of("error", 4, 4), of("info", 1, 0)]);
        assert_eq!(groups(By::Label("service".to_owned()), "level:error"), [of("", 3, 3), of("api", 1, 1)]);
        assert_eq!(groups(By::Matched("user (\\d)".to_owned()), ""), [of("7", 1, 1), of("8", 1, 1)]);
        assert!(groups(By::Template, "").contains(&of("disk of user <*> is full", 2, 2)));
        let range = "from:2025-11-21T10:00:00Z until:2025-11-21T10:00:04Z";
        let counted = count(By::Nothing, 4, range).unwrap();
        assert_eq!(counted.groups[0].buckets, [1, 2, 1, 1]);
        assert!(count(By::Nothing, 4, "").unwrap_err().message.starts_with("buckets"));
        assert!(count(By::Matched("(".to_owned()), 0, "").is_err());
    }

    #[test]
    fn a_query_for_everything_holds_no_more_lines_than_it_shows() {
        let log: String = (0..50_000).map(|n| format!("2025-11-21 10:00:00 INFO line {n}\n")).collect();
        let mut finding = Finding::new(3, 0);
        let mut most = 0;
        passing(&log)
            .each(&wanted(""), &Watch::silent(), &mut |line| {
                finding.add(&line);
                most = most.max(finding.lines.len());
                Ok(())
            })
            .unwrap();
        let found = finding.found(5, Vec::new());
        assert_eq!((found.count, found.lines.len(), found.more), (Some(50_000), 3, true));
        assert!(most <= 300, "{most}");
        assert!(found.lines[0].text.ends_with("line 49999"), "{:?}", texts(&found));
    }
}
