//! The finished groups of a log.

use std::collections::HashMap;

use super::store::{Chunked, KeyTable};
use super::{Grouping, Orders, Vectors};

/// How a template was used in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUse {
    /// The template's id as it was pushed.
    pub id: u32,
    /// Lines of this template.
    pub lines: u64,
    /// How many of them are of an error level.
    pub errors: u64,
    /// The first groups that it was seen in, each with the line; at most sixteen.
    pub sightings: Vec<(u32, u64)>,
}

impl TemplateUse {
    pub(super) const fn new(id: u32) -> Self {
        Self { id, lines: 0, errors: 0, sightings: Vec::new() }
    }
}

/// One session or window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The first line; for a window without lines, the line after it.
    pub first_line: u64,
    /// The last line.
    pub last_line: u64,
    /// How many lines it has.
    pub lines: u32,
    /// How many of them are of an error level.
    pub errors: u32,
    /// Time of its first and last line that has one, in microseconds since 1970.
    pub times: Option<(i64, i64)>,
    /// The number of its count vector in [`Groups::vectors`].
    pub vector: u32,
    /// The number of its transitions in [`Groups::orders`], or [`Orders::UNKNOWN`].
    pub order: u32,
}

/// A group as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) first_line: u64,
    pub(super) last_line: u64,
    pub(super) first_time: i64,
    pub(super) last_time: i64,
    pub(super) lines: u32,
    pub(super) errors: u32,
    pub(super) vector: u32,
    pub(super) order: u32,
}

impl Row {
    /// A window of time without a line, before the window that begins with `line`.
    const fn silent(line: u64, vector: u32) -> Self {
        Self {
            first_line: line,
            last_line: line,
            first_time: i64::MIN,
            last_time: i64::MIN,
            lines: 0,
            errors: 0,
            vector,
            order: Orders::UNKNOWN,
        }
    }
}

/// Where the names of groups come from.
#[derive(Debug, Clone)]
pub(super) enum Keys {
    /// The ids of sessions, numbered like the groups.
    Ids(KeyTable),
    /// The starts of time windows, ascending.
    Starts(Vec<i64>),
    /// Windows of lines name their lines.
    Lines,
}

/// The groups of a log, ready to be judged or learnt from.
///
/// Sessions are in the order of their first line, windows in the order of time or line.
#[derive(Debug, Clone)]
pub struct Groups {
    pub(super) grouping: Grouping,
    pub(super) keys: Keys,
    pub(super) rows: Chunked<Row>,
    pub(super) vectors: Vectors,
    pub(super) orders: Orders,
    pub(super) templates: Vec<TemplateUse>,
    pub(super) error_lines: HashMap<u32, u64>,
    pub(super) outside: u64,
    pub(super) left_out: u64,
}

impl Groups {
    /// Sorts time windows by their start and puts in the windows without a line that lie between them.
    pub(super) fn sorted_by_time(mut self, micros: i64, starts: &[i64], limit: usize) -> Self {
        let mut order: Vec<u32> = (0..starts.len() as u32).collect();
        order.sort_unstable_by_key(|&i| starts[i as usize]);
        let fill = worth_filling(&order, starts, micros, limit);
        let mut places = vec![0; starts.len()];
        let mut rows = Chunked::new();
        let mut sorted: Vec<i64> = Vec::with_capacity(starts.len());
        for &index in &order {
            let row = self.rows.get(index as usize).clone();
            let start = starts[index as usize];
            while let Some(&last) = sorted.last().filter(|&&last| fill && last + micros < start) {
                sorted.push(last + micros);
                rows.push(Row::silent(row.first_line, self.vectors.add(&[])));
            }
            places[index as usize] = rows.len() as u32;
            sorted.push(start);
            rows.push(row);
        }
        self.rows = rows;
        self.keys = Keys::Starts(sorted);
        for used in &mut self.templates {
            used.sightings.iter_mut().for_each(|(group, _)| *group = places[*group as usize]);
        }
        self.error_lines =
            self.error_lines.into_iter().map(|(group, line)| (places[group as usize], line)).collect();
        self
    }

    /// Gives back what only building needed.
    pub(super) fn sealed(mut self) -> Self {
        self.vectors.seal();
        self.orders.seal();
        if let Keys::Ids(table) = &mut self.keys {
            table.seal();
        }
        self
    }

    /// How the lines were grouped.
    pub const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// How many groups there are.
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no group at all.
    pub const fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// One group.
    pub fn group(&self, index: usize) -> Group {
        let row = self.rows.get(index);
        Group {
            first_line: row.first_line,
            last_line: row.last_line,
            lines: row.lines,
            errors: row.errors,
            times: (row.first_time != i64::MIN).then_some((row.first_time, row.last_time)),
            vector: row.vector,
            order: row.order,
        }
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = Group> {
        (0..self.len()).map(|index| self.group(index))
    }

    /// The name of a group: the session's id, the window's start (RFC 3339, UTC), or its lines.
    pub fn key(&self, index: usize) -> String {
        match &self.keys {
            Keys::Ids(table) => String::from_utf8_lossy(table.get(index)).into_owned(),
            Keys::Starts(starts) => match jiff::Timestamp::from_microsecond(starts[index]) {
                Ok(time) => time.to_string(),
                Err(_) => format!("{} microseconds since 1970", starts[index]),
            },
            Keys::Lines => {
                let row = self.rows.get(index);
                format!("lines {}-{}", row.first_line, row.last_line)
            }
        }
    }

    /// The distinct count vectors.
    pub const fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// The distinct sets of transitions.
    pub const fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Every template, by its dense number.
    pub fn templates(&self) -> &[TemplateUse] {
        &self.templates
    }

    /// The id of the template with this dense number.
    pub fn template_id(&self, number: u16) -> u32 {
        self.templates[usize::from(number)].id
    }

    /// The first line of an error level in a group, if it has one that was remembered.
    pub fn error_line(&self, index: usize) -> Option<u64> {
        self.error_lines.get(&(index as u32)).copied()
    }

    /// Lines that belong to no group: without an id, or before the first time.
    pub const fn outside_lines(&self) -> u64 {
        self.outside
    }

    /// Lines that were left out because a ceiling was reached.
    pub const fn left_out_lines(&self) -> u64 {
        self.left_out
    }
}

/// Silence means something in a log that is rarely silent: windows are filled in when at least one in five
/// has lines. A log of two days a year apart is not a year of silence.
fn worth_filling(order: &[u32], starts: &[i64], micros: i64, limit: usize) -> bool {
    let (Some(&first), Some(&last)) = (order.first(), order.last()) else { return false };
    let span = starts[last as usize].checked_sub(starts[first as usize]);
    let windows = span.map(|span| span / micros.max(1) + 1);
    windows
        .is_some_and(|w| usize::try_from(w).is_ok_and(|w| w <= limit && w <= starts.len().saturating_mul(5)))
}
