//! Takes lines one by one and puts them into their groups.

use std::collections::HashMap;

use super::Grouping;
use super::fold::fold;
use super::groups::{Groups, Keys, Row, TemplateUse};
use super::key::shorten;
use super::store::{Chunked, EventList, EventStore, KeyTable};
use super::vectors::{Orders, Vectors};

/// Template numbers are 16 bits wide; what comes after the last one shares it.
const MAX_TEMPLATES: usize = 65_000;
/// How many sightings of a template are remembered with their lines.
const SIGHTINGS: usize = 16;
const MAX_ERROR_LINES: usize = 1 << 17;

/// Ceilings of what a [`GroupBuilder`] keeps. What lies beyond is counted, not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups; lines of further groups count as left out.
    pub groups: usize,
    /// Lines of sessions whose order is kept; further ones are only counted by template.
    pub events: usize,
    /// Counts by group and template kept beside the ordered lines.
    pub counts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups: 2_000_000, events: 24_000_000, counts: 4_000_000 }
    }
}

/// What is known of one group while lines still come.
#[derive(Debug, Clone)]
struct Open {
    first_line: u64,
    last_line: u64,
    first_time: i64,
    last_time: i64,
    lines: u32,
    errors: u32,
    events: EventList,
}

/// So many lines of a template in a group.
#[derive(Debug, Clone, Copy)]
struct Count {
    group: u32,
    count: u32,
    template: u16,
}

/// Puts lines into groups, one by one, in the order of the log.
///
/// ```
/// use opsroom_analytics::features::{GroupBuilder, Grouping};
///
/// let mut builder = GroupBuilder::new(Grouping::Session);
/// builder.push(1, 7, None, false, Some(b"request-1"));
/// builder.push(2, 9, None, true, Some(b"request-1"));
/// let groups = builder.finish();
/// assert_eq!((groups.len(), groups.group(0).lines), (1, 2));
/// ```
#[derive(Debug, Clone)]
pub struct GroupBuilder {
    grouping: Grouping,
    limits: Limits,
    keys: KeyTable,
    open: Chunked<Open>,
    events: EventStore,
    counts: Vec<Count>,
    window: Window,
    time: Option<i64>,
    templates: Vec<TemplateUse>,
    numbers: HashMap<u32, u16>,
    error_lines: HashMap<u32, u64>,
    outside: u64,
    left_out: u64,
}

/// The window that lines are counted into now.
#[derive(Debug, Clone, Default)]
struct Window {
    group: Option<u32>,
    counts: Vec<u32>,
    touched: Vec<u16>,
}

impl GroupBuilder {
    /// A builder with the usual ceilings.
    pub fn new(grouping: Grouping) -> Self {
        Self::with_limits(grouping, Limits::default())
    }

    /// A builder with ceilings of one's own.
    pub fn with_limits(grouping: Grouping, limits: Limits) -> Self {
        Self {
            grouping,
            limits,
            keys: KeyTable::new(),
            open: Chunked::new(),
            events: EventStore::new(limits.events),
            counts: Vec::new(),
            window: Window::default(),
            time: None,
            templates: Vec::new(),
            numbers: HashMap::new(),
            error_lines: HashMap::new(),
            outside: 0,
            left_out: 0,
        }
    }

    /// Adds a line: its number in the log, its template, its time in microseconds since 1970, whether its
    /// level is an error, and (for sessions) the id that it carries.
    pub fn push(&mut self, line: u64, template: u32, time: Option<i64>, error: bool, key: Option<&[u8]>) {
        self.time = time.or(self.time);
        let Some(group) = self.group_of(line, key) else { return };
        let template = self.number(line, template, group, error);
        self.note(group, line, time, error);
        if self.grouping == Grouping::Session {
            let open = self.open.get_mut(group as usize);
            if !self.events.push(&mut open.events, template) {
                self.count(Count { group, count: 1, template });
            }
        } else {
            self.count_in_window(group, template);
        }
    }

    /// Opens the group with this id although it may never get a line: an empty session is judged too.
    pub fn open(&mut self, line: u64, key: &[u8]) {
        if self.grouping == Grouping::Session {
            self.group_of(line, Some(key));
        }
    }

    /// Whether no line has found a group.
    pub const fn is_empty(&self) -> bool {
        self.open.len() == 0
    }

    /// All lines are in: reduces every group to its count vector and transitions.
    pub fn finish(self) -> Groups {
        self.finish_folded(|id| id)
    }

    /// The same for a log whose templates turned out to be fewer: `resolve` says for every id that was
    /// pushed which it is in the end.
    pub fn finish_folded(mut self, resolve: impl Fn(u32) -> u32) -> Groups {
        self.flush_window();
        let (templates, places) = fold(&self.templates, SIGHTINGS, resolve);
        self.templates = templates;
        self.counts.iter_mut().for_each(|count| count.template = places[usize::from(count.template)]);
        self.compact();
        let mut rows = Chunked::new();
        let mut vectors = Vectors::new();
        let mut orders = Orders::new();
        let mut counts = self.counts.as_slice();
        let mut events = Vec::new();
        let mut vector = Vec::new();
        for group in 0..self.open.len() {
            // What is known of a million open groups is large, and so are their rows: never both at once.
            self.open.release_before(group);
            let open = self.open.get(group);
            self.events.read(&open.events, &mut events);
            events.iter_mut().for_each(|event| *event = places[usize::from(*event)]);
            let counted = counts.partition_point(|c| c.group as usize <= group);
            let complete =
                self.grouping == Grouping::Session && counted == 0 && open.lines == open.events.len();
            let order = if complete { orders.add(&events) } else { Orders::UNKNOWN };
            gather(&mut events, &counts[..counted], &mut vector);
            counts = &counts[counted..];
            rows.push(Row {
                first_line: open.first_line,
                last_line: open.last_line,
                first_time: open.first_time,
                last_time: open.last_time,
                lines: open.lines,
                errors: open.errors,
                vector: vectors.add(&vector),
                order,
            });
        }
        self.assemble(rows, vectors, orders)
    }

    fn assemble(self, rows: Chunked<Row>, vectors: Vectors, orders: Orders) -> Groups {
        let mut starts = Vec::new();
        let keys = match self.grouping {
            Grouping::Session => Keys::Ids(self.keys),
            Grouping::TimeWindow { .. } => {
                starts = (0..self.keys.len()).map(|i| start_of(self.keys.get(i))).collect();
                Keys::Starts(Vec::new())
            }
            Grouping::LineWindow { .. } => Keys::Lines,
        };
        let groups = Groups {
            grouping: self.grouping,
            keys,
            rows,
            vectors,
            orders,
            templates: self.templates,
            error_lines: self.error_lines,
            outside: self.outside,
            left_out: self.left_out,
        };
        match self.grouping {
            Grouping::TimeWindow { micros } => {
                groups.sorted_by_time(micros.max(1), &starts, self.limits.groups).sealed()
            }
            _ => groups.sealed(),
        }
    }

    /// The group that a line belongs to, made if new; `None` when it has none or there are too many.
    fn group_of(&mut self, line: u64, key: Option<&[u8]>) -> Option<u32> {
        let start;
        let shortened;
        let key: &[u8] = match self.grouping {
            Grouping::Session => {
                let Some(key) = key else {
                    self.outside += 1;
                    return None;
                };
                shortened = shorten(key);
                &shortened
            }
            Grouping::TimeWindow { micros } => {
                let Some(time) = self.time else {
                    self.outside += 1;
                    return None;
                };
                let micros = micros.max(1);
                start = time.div_euclid(micros).saturating_mul(micros).to_be_bytes();
                &start
            }
            Grouping::LineWindow { lines } => {
                start = (line.saturating_sub(1) / lines.max(1)).cast_signed().to_be_bytes();
                &start
            }
        };
        let Some((group, new)) = self.keys.intern(key, self.limits.groups.min(u32::MAX as usize - 1)) else {
            self.left_out += 1;
            return None;
        };
        if new {
            self.open.push(Open {
                first_line: line,
                last_line: line,
                first_time: i64::MIN,
                last_time: i64::MIN,
                lines: 0,
                errors: 0,
                events: EventList::NEW,
            });
        }
        Some(group)
    }

    fn note(&mut self, group: u32, line: u64, time: Option<i64>, error: bool) {
        let open = self.open.get_mut(group as usize);
        open.last_line = line;
        open.lines = open.lines.saturating_add(1);
        if let Some(time) = time {
            if open.first_time == i64::MIN {
                open.first_time = time;
            }
            open.last_time = time;
        }
        if error {
            open.errors = open.errors.saturating_add(1);
            if open.errors == 1 && self.error_lines.len() < MAX_ERROR_LINES {
                self.error_lines.insert(group, line);
            }
        }
    }

    /// The dense number of a template, with its use counted.
    fn number(&mut self, line: u64, template: u32, group: u32, error: bool) -> u16 {
        let next = self.templates.len();
        let number = *self.numbers.entry(template).or_insert_with(|| next.min(MAX_TEMPLATES - 1) as u16);
        if usize::from(number) == next {
            self.templates.push(TemplateUse::new(template));
        }
        let used = &mut self.templates[usize::from(number)];
        used.lines += 1;
        used.errors += u64::from(error);
        if used.sightings.len() < SIGHTINGS && used.sightings.last().is_none_or(|&(last, _)| last != group) {
            used.sightings.push((group, line));
        }
        number
    }

    fn count_in_window(&mut self, group: u32, template: u16) {
        if self.window.group != Some(group) {
            self.flush_window();
            self.window.group = Some(group);
        }
        let at = usize::from(template);
        if self.window.counts.len() <= at {
            self.window.counts.resize(at + 1, 0);
        }
        if self.window.counts[at] == 0 {
            self.window.touched.push(template);
        }
        self.window.counts[at] = self.window.counts[at].saturating_add(1);
    }

    fn flush_window(&mut self) {
        let Some(group) = self.window.group.take() else { return };
        for template in std::mem::take(&mut self.window.touched) {
            let count = std::mem::take(&mut self.window.counts[usize::from(template)]);
            self.count(Count { group, count, template });
        }
    }

    fn count(&mut self, count: Count) {
        if self.counts.len() >= self.limits.counts {
            self.compact();
            // Little gained: the ceiling is reached by what is truly there.
            if self.counts.len() > self.limits.counts / 4 * 3 {
                self.left_out += u64::from(count.count);
                return;
            }
        }
        self.counts.push(count);
    }

    /// Sorts the counts by group and template and adds up what belongs together.
    fn compact(&mut self) {
        self.counts.sort_unstable_by_key(|c| (c.group, c.template));
        self.counts.dedup_by(|later, kept| {
            let same = (later.group, later.template) == (kept.group, kept.template);
            if same {
                kept.count = kept.count.saturating_add(later.count);
            }
            same
        });
    }
}

fn start_of(key: &[u8]) -> i64 {
    key.try_into().map_or(0, i64::from_be_bytes)
}

/// The count vector of a group from its ordered events (which it sorts) and its counts.
fn gather(events: &mut [u16], counts: &[Count], vector: &mut Vec<(u16, u32)>) {
    vector.clear();
    events.sort_unstable();
    for run in events.chunk_by(|a, b| a == b) {
        vector.push((run[0], run.len() as u32));
    }
    for count in counts {
        match vector.binary_search_by_key(&count.template, |&(template, _)| template) {
            Ok(at) => vector[at].1 = vector[at].1.saturating_add(count.count),
            Err(at) => vector.insert(at, (count.template, count.count)),
        }
    }
}
