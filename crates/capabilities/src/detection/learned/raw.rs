//! Raw logs: their templates are events, and their sessions or windows are rows.
//!
//! An event's id is its template's text, so that it is the same event in every log, and a model that knows it
//! by another id still understands it by its text.

use std::collections::HashMap;
use std::io::BufReader;

use opsroom_analytics::classify::csv::{Labels, read_labels};
use opsroom_analytics::classify::dataset::{Builder, Dataset, MAX_MEMORY, Row};
use opsroom_analytics::classify::detector::Stop;
use opsroom_analytics::features::Grouping;
use opsroom_analytics::parse::{Kind, LogParser, ParserConfig, TemplateId};
use opsroom_core::files::Roots;
use opsroom_core::{Error, Result};

use super::layout::stopped;
use super::{refused, refused_of};
use crate::detection::grouping::{Choice, SAMPLE_LINES, choose};
use crate::detection::model::Options;
use crate::logs::input::{Batch, Limits, LogReader, Watch, read_batches};
use crate::logs::operations::{named, sources};
use crate::logs::shown::shown;

/// Bytes that a session takes beside its events and its id, with the room that tables keep free.
const SESSION: usize = 160;

/// The labelled rows of a log.
///
/// # Errors
/// `NotFound`, `Forbidden` or `Invalid` for what cannot be read, naming it; `Invalid` when the labels name
/// nothing that the log has.
pub fn dataset(
    files: &Roots,
    path: &str,
    labels: &str,
    session: Option<&str>,
    stop: Stop<'_>,
) -> Result<Dataset> {
    let known = read_labels(BufReader::new(files.open_read(labels)?.file))
        .map_err(|error| refused_of(labels, error))?;
    let limits = Limits::served();
    let sources = sources(named(Some(path.to_owned()), Vec::new(), None), files, &limits)?;
    let mut reader = LogReader::new(sources, limits, Watch::silent());
    let options =
        Options { session: session.map(str::to_owned), parser: reader.parser_config(), ..Options::default() };
    let choice = choose(&options, &reader.peek(SAMPLE_LINES)?, 1.0)?;
    if matches!(known, Labels::Sessions(_)) && choice.key.is_none() {
        return Err(Error::invalid(format!(
            "{labels} labels sessions, and no id in {path} makes lines one session: give `session`, a pattern of it"
        )));
    }
    let mut rows = Rows { known, ..Rows::new(options.parser, choice.grouping) };
    rows.read(reader, choice, stop)?;
    rows.finish(path, labels)
}

struct Rows {
    parser: LogParser,
    grouping: Grouping,
    known: Labels,
    places: HashMap<Vec<u8>, usize>,
    rows: Vec<Session>,
    memory: usize,
    time: i64,
}

struct Session {
    events: Vec<u32>,
    anomalous: Option<bool>,
    time: Option<i64>,
}

impl Rows {
    fn new(parser: ParserConfig, grouping: Grouping) -> Self {
        let (places, rows, known) = (HashMap::new(), Vec::new(), Labels::Lines(HashMap::new()));
        Self { parser: LogParser::new(parser), grouping, known, places, rows, memory: 0, time: 0 }
    }

    fn read(&mut self, reader: LogReader, choice: Choice, stop: Stop<'_>) -> Result<()> {
        let key = choice.key;
        let prepare = move |batch: &mut Batch| {
            if let Some(key) = &key {
                batch.mark(|line| key.find(line));
            }
        };
        read_batches(reader, prepare, |batch| {
            stopped(stop)?;
            for (at, (number, line)) in batch.lines().enumerate() {
                self.line(number, line, batch.marked(at))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn line(&mut self, number: u64, line: &[u8], key: Option<&[u8]>) -> Result<()> {
        let parsed = self.parser.push(line);
        let (Kind::Head, Some(template)) = (parsed.kind, parsed.template) else { return Ok(()) };
        self.time = parsed.time.unwrap_or(self.time);
        // A record without an id belongs to no session, and one without a time to the window before it.
        let key = match (self.grouping, key) {
            (Grouping::Session, None) => return Ok(()),
            (Grouping::Session, Some(key)) => key.to_vec(),
            (Grouping::TimeWindow { micros }, _) => self.time.div_euclid(micros).to_be_bytes().to_vec(),
            (Grouping::LineWindow { lines }, _) => ((number - 1) / lines.max(1)).to_be_bytes().to_vec(),
        };
        let label = match &self.known {
            Labels::Lines(lines) => Some(lines.get(&number).copied().unwrap_or(false)),
            Labels::Sessions(sessions) => {
                std::str::from_utf8(&key).ok().and_then(|key| sessions.get(key.trim()).copied())
            }
        };
        self.memory += 2 * size_of::<u32>();
        if !self.places.contains_key(&key) {
            self.memory += SESSION + key.len();
        }
        if self.memory > MAX_MEMORY {
            return Err(Error::invalid(format!(
                "the log up to line {number} takes more than the {MAX_MEMORY} bytes of memory that data may; train \
                 on a part of it"
            )));
        }
        let place = *self.places.entry(key).or_insert(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(Session { events: Vec::new(), anomalous: label, time: parsed.time });
        }
        let row = &mut self.rows[place];
        row.events.push(template.0);
        if label == Some(true) {
            row.anomalous = label;
        }
        Ok(())
    }

    fn finish(self, path: &str, labels: &str) -> Result<Dataset> {
        if self.rows.iter().all(|row| row.anomalous.is_none()) {
            let found = self.places.keys().next().map_or("none".to_owned(), |key| shown(key, 80));
            return Err(Error::invalid(format!(
                "{labels} names none of the {} sessions of {path}, such as {found}: `session` is the pattern of their id",
                self.rows.len()
            )));
        }
        // A log is in the order of time, also where its lines do not tell it.
        let timed = self.rows.iter().all(|row| row.time.is_some());
        let times =
            self.rows.iter().enumerate().map(|(at, row)| row.time.filter(|_| timed).unwrap_or(at as i64));
        let times = times.collect();
        let labels = self.rows.iter().map(|row| row.anomalous).collect::<Vec<_>>();
        let sequences = self.rows.into_iter().map(|row| row.events);
        let mut dataset = of_templates(&self.parser, sequences.zip(labels))?;
        dataset.times = times;
        Ok(dataset)
    }
}

/// The dataset of sequences of templates, whose ids are their texts.
fn of_templates(parser: &LogParser, rows: impl Iterator<Item = (Vec<u32>, Option<bool>)>) -> Result<Dataset> {
    let templates = parser.templates();
    let texts: HashMap<u32, &str> =
        templates.iter().map(|template| (template.id.0, template.template.as_str())).collect();
    let mut builder = Builder::default();
    let mut places: HashMap<u32, u32> = HashMap::new();
    for (ids, anomalous) in rows {
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            let id = parser.resolve(TemplateId(id)).0;
            let place = *places.entry(id).or_insert_with(|| {
                let text = texts.get(&id).copied().unwrap_or_default();
                let place = builder.event(text);
                builder.dataset.events[place as usize].template = Some(text.to_owned());
                place
            });
            events.push(place);
        }
        builder.row(Row { events, anomalous, weight: 1.0 }).map_err(refused)?;
    }
    Ok(builder.dataset)
}

/// Sequences of raw lines, as a model reads them.
///
/// # Errors
/// `Invalid` for a sequence without lines that say something.
pub fn of_lines(sequences: &[Vec<String>]) -> Result<Dataset> {
    let mut parser = LogParser::new(ParserConfig::default());
    let mut rows = Vec::with_capacity(sequences.len());
    for (number, lines) in sequences.iter().enumerate() {
        let mut events = Vec::with_capacity(lines.len());
        // A record may come with its line breaks in one text.
        for line in lines.iter().flat_map(|line| line.lines()) {
            let parsed = parser.push(line.as_bytes());
            if let (Kind::Head, Some(template)) = (parsed.kind, parsed.template) {
                events.push(template.0);
            }
        }
        if events.is_empty() {
            return Err(Error::invalid(format!(
                "lines: sequence {number} (from 0) has no line that says something"
            )));
        }
        rows.push((events, None));
    }
    if rows.is_empty() {
        return Err(Error::invalid("lines is empty"));
    }
    of_templates(&parser, rows.into_iter())
}
