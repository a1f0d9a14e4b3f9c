//! Labelled sequences of events: what detectors learn from and are judged on.
//!
//! An *event* is a kind of log line, with the id that the data gives it and, where known, its template
//! text or a vector. A *row* is one sequence of events with its label (is it an anomaly?) and its weight:
//! how many sequences of the real world it stands for. Rows name events by their place in
//! [`Dataset::events`].

use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::{ClassifyError, data};
use super::text;

/// Rows of one dataset, at most.
pub const MAX_ROWS: usize = 20_000_000;
/// Events of one row, at most; longer rows are refused when read.
pub const MAX_LENGTH: usize = 1_000_000;
/// Distinct events of one dataset, at most.
pub const MAX_EVENTS: usize = 200_000;
/// Bytes of memory that one dataset takes, at most.
pub const MAX_MEMORY: usize = 1 << 30;

/// A kind of log line.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// The id in the data.
    pub id: String,
    /// The text, with `<*>` where it varies.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub template: Option<String>,
    /// A vector that came with the data.
    #[serde(skip)]
    pub vector: Option<Vec<f32>>,
}

/// One sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Places in [`Dataset::events`], in order.
    pub events: Vec<u32>,
    /// Whether it is an anomaly, where that is known.
    pub anomalous: Option<bool>,
    /// How many sequences it stands for; 1 where nothing else was said.
    pub weight: f64,
}

/// Sequences and the events they are made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The events, each once.
    pub events: Vec<Event>,
    /// The sequences.
    pub rows: Vec<Row>,
    /// When each row was, on a clock of the data's own; empty where that is not known.
    pub times: Vec<i64>,
}

/// What a dataset holds, for a person to judge it by.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct Description {
    /// Rows.
    pub rows: usize,
    /// Rows labelled as anomalies.
    pub anomalies: usize,
    /// Rows labelled as normal.
    pub normals: usize,
    /// Rows without a label.
    pub unlabelled: usize,
    /// The share of anomalies by weight, among labelled rows.
    pub anomaly_share: Option<f64>,
    /// Distinct events.
    pub events: usize,
    /// Events with a template text.
    pub events_with_template: usize,
    /// Events with a vector.
    pub events_with_vector: usize,
    /// Distinct sequences.
    pub distinct_sequences: usize,
    /// Rows that repeat an earlier sequence.
    pub duplicates: usize,
    /// Distinct sequences that are labelled both ways.
    pub contradictions: usize,
    /// Whether it is known when rows were: then training cuts by time.
    pub timed: bool,
    /// Events in the longest row.
    pub longest: usize,
    /// The median of events in a row.
    pub median_length: usize,
    /// What a person should know before trusting figures from these data.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// Gives events their templates by id; texts of other ids become events too, so that a later row can
    /// use them.
    pub fn add_templates(&mut self, templates: &BTreeMap<String, String>) {
        let mut builder = Builder::over(std::mem::take(self));
        for (id, template) in templates {
            let event = builder.event(id);
            builder.dataset.events[event as usize].template = Some(template.clone());
        }
        *self = builder.dataset;
    }

    /// About how many bytes of memory it takes.
    pub fn memory(&self) -> usize {
        let rows: usize = self.rows.iter().map(Row::memory).sum();
        self.events.iter().map(Event::memory).sum::<usize>() + rows + size_of_val(&self.times[..])
    }

    /// The labelled rows alone.
    pub fn labelled(&self) -> impl Iterator<Item = (&Row, bool)> {
        self.rows.iter().filter_map(|row| row.anomalous.map(|label| (row, label)))
    }

    /// The share of anomalies by weight, among labelled rows.
    pub fn anomaly_share(&self) -> Option<f64> {
        let (mut anomalies, mut all) = (0.0, 0.0);
        for (row, anomalous) in self.labelled() {
            all += row.weight;
            anomalies += if anomalous { row.weight } else { 0.0 };
        }
        (all > 0.0).then(|| anomalies / all)
    }

    /// The rows at `places`, over the same events.
    pub fn select(&self, places: &[usize]) -> Self {
        let rows = places.iter().map(|&place| self.rows[place].clone()).collect();
        let times = places.iter().filter_map(|&place| self.times.get(place).copied()).collect();
        Self { events: self.events.clone(), rows, times }
    }

    /// Rows of several datasets as one; events are matched by id, and keep the first text and vector.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut builder = Builder::default();
        for part in parts {
            let places: Vec<u32> = part.events.iter().map(|event| builder.adopt(event)).collect();
            let moved = part.rows.iter().map(|row| Row {
                events: row.events.iter().map(|&event| places[event as usize]).collect(),
                ..row.clone()
            });
            builder.dataset.rows.extend(moved);
            builder.dataset.times.extend(&part.times);
        }
        let mut joined = builder.dataset;
        if joined.times.len() != joined.rows.len() {
            joined.times.clear();
        }
        joined
    }

    /// What the dataset holds.
    pub fn describe(&self) -> Description {
        let mut labels: HashMap<&[u32], (bool, bool)> = HashMap::new();
        for row in &self.rows {
            let seen = labels.entry(&row.events).or_default();
            seen.0 |= row.anomalous == Some(false);
            seen.1 |= row.anomalous == Some(true);
        }
        let mut lengths: Vec<usize> = self.rows.iter().map(|row| row.events.len()).collect();
        lengths.sort_unstable();
        let count = |label| self.rows.iter().filter(|row| row.anomalous == label).count();
        let mut description = Description {
            rows: self.rows.len(),
            anomalies: count(Some(true)),
            normals: count(Some(false)),
            unlabelled: count(None),
            anomaly_share: self.anomaly_share(),
            events: self.events.len(),
            events_with_template: self.events.iter().filter(|event| event.template.is_some()).count(),
            events_with_vector: self.events.iter().filter(|event| event.vector.is_some()).count(),
            distinct_sequences: labels.len(),
            duplicates: self.rows.len() - labels.len(),
            contradictions: labels.values().filter(|seen| seen.0 && seen.1).count(),
            timed: !self.times.is_empty(),
            longest: lengths.last().copied().unwrap_or(0),
            median_length: lengths.get(lengths.len() / 2).copied().unwrap_or(0),
            warnings: Vec::new(),
        };
        description.warnings = description.warn();
        description
    }

    /// A row by event ids.
    pub fn ids(&self, row: &Row) -> Vec<&str> {
        row.events.iter().map(|&event| self.events[event as usize].id.as_str()).collect()
    }

    /// For each row, whether `other` has the same sequence: such rows say little about new data.
    pub fn overlap(&self, other: &Self) -> Vec<bool> {
        // By hashes: lists of ids would take several times the memory of the rows.
        let known: HashSet<u64> = other.rows.iter().map(|row| sequence_hash(other, row)).collect();
        self.rows.iter().map(|row| known.contains(&sequence_hash(self, row))).collect()
    }

    /// Checks that the dataset can be learnt from: rows of both labels, and no empty sequence.
    pub fn check_trainable(&self) -> Result<(), ClassifyError> {
        let (mut normals, mut anomalies) = (0, 0);
        for (row, anomalous) in self.labelled() {
            if row.weight > 0.0 && !row.events.is_empty() {
                *(if anomalous { &mut anomalies } else { &mut normals }) += 1;
            }
        }
        if normals == 0 || anomalies == 0 {
            return Err(data(format!(
                "training needs rows of both labels, but {normals} are normal and {anomalies} anomalous"
            )));
        }
        Ok(())
    }
}

impl Description {
    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.duplicates * 2 > self.rows {
            warnings.push(format!(
                "{} of {} rows repeat a sequence: a random cut would put the same sequences on both sides, \
                 so ours keeps equal sequences together",
                self.duplicates, self.rows
            ));
        }
        if self.contradictions > 0 {
            warnings.push(format!("{} sequences are labelled both ways", self.contradictions));
        }
        if self.anomalies + self.normals > 0 && (self.anomalies == 0 || self.normals == 0) {
            warnings.push("all labelled rows have the same label".to_owned());
        }
        if self.anomaly_share.is_some_and(|share| share > 0.2) {
            warnings.push(
                "anomalies are far more common here than in most systems: state the share expected in \
                 production when training"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The hash of a row's events by their ids, so that it is the same over any events.
pub(super) fn sequence_hash(dataset: &Dataset, row: &Row) -> u64 {
    text::hash(b'q', &dataset.ids(row).join("\0"))
}

impl Event {
    /// About how many bytes of memory it takes, with the index that finds it.
    fn memory(&self) -> usize {
        let vector = self.vector.as_ref().map_or(0, |vector| size_of_val(&vector[..]));
        2 * self.id.len() + self.template.as_ref().map_or(0, String::len) + vector + 128
    }
}

impl Row {
    /// About how many bytes of memory it takes.
    fn memory(&self) -> usize {
        size_of::<Self>() + 16 + self.events.capacity() * size_of::<u32>()
    }
}

/// Builds a dataset row by row, numbering events as they come.
#[derive(Default)]
pub struct Builder {
    places: HashMap<String, u32>,
    /// Bytes of memory that were taken so far.
    taken: usize,
    /// What was built so far.
    pub dataset: Dataset,
}

impl Builder {
    /// A builder that goes on with a dataset.
    pub fn over(dataset: Dataset) -> Self {
        let ids = dataset.events.iter().enumerate();
        let places = ids.map(|(place, event)| (event.id.clone(), place as u32)).collect();
        Self { places, taken: dataset.memory(), dataset }
    }

    /// The place of the event of an id, added if new.
    pub fn event(&mut self, id: &str) -> u32 {
        if let Some(&place) = self.places.get(id) {
            return place;
        }
        let place = self.dataset.events.len() as u32;
        self.places.insert(id.to_owned(), place);
        let event = Event { id: id.to_owned(), ..Event::default() };
        self.taken += event.memory();
        self.dataset.events.push(event);
        place
    }

    /// The places of the events of these ids, within the limits of a row.
    pub fn events<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> Result<Vec<u32>, ClassifyError> {
        let mut events = Vec::new();
        for id in ids {
            if events.len() == MAX_LENGTH {
                let number = self.dataset.rows.len();
                return Err(data(format!("row {number} has more than {MAX_LENGTH} events, the most of one")));
            }
            events.push(self.event(id));
            self.check_events()?;
        }
        events.shrink_to_fit();
        Ok(events)
    }

    fn check_events(&self) -> Result<(), ClassifyError> {
        if self.dataset.events.len() > MAX_EVENTS {
            return Err(data(format!("the data have more than {MAX_EVENTS} distinct events")));
        }
        Ok(())
    }

    /// The place of an event of another dataset, whose text and vector are taken where ours has none.
    pub fn adopt(&mut self, event: &Event) -> u32 {
        let place = self.event(&event.id);
        let ours = &mut self.dataset.events[place as usize];
        ours.template = ours.template.take().or_else(|| event.template.clone());
        ours.vector = ours.vector.take().or_else(|| event.vector.clone());
        place
    }

    /// Adds a row, within the limits of a dataset.
    pub fn row(&mut self, row: Row) -> Result<(), ClassifyError> {
        if row.events.len() > MAX_LENGTH {
            let (number, length) = (self.dataset.rows.len(), row.events.len());
            return Err(data(format!("row {number} has {length} events, at most {MAX_LENGTH} are read")));
        }
        if self.dataset.rows.len() == MAX_ROWS {
            return Err(data(format!("the data have more than {MAX_ROWS} rows")));
        }
        self.check_events()?;
        self.taken += row.memory();
        if self.taken > MAX_MEMORY {
            return Err(data(format!(
                "the first {} rows take all the {MAX_MEMORY} bytes of memory that data may: give a part of them",
                self.dataset.rows.len()
            )));
        }
        self.dataset.rows.push(row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Builder, Dataset, MAX_EVENTS, MAX_MEMORY, Row};

    fn dataset(rows: &[(&str, Option<bool>)]) -> Dataset {
        let mut builder = Builder::default();
        for (ids, anomalous) in rows {
            let events = ids.split(' ').map(|id| builder.event(id)).collect();
            builder.row(Row { events, anomalous: *anomalous, weight: 1.0 }).unwrap();
        }
        builder.dataset
    }

    #[test]
    fn a_description_counts_labels_duplicates_and_contradictions() {
        let data = dataset(&[
            ("a b", Some(false)),
            ("a b", Some(true)),
            ("a b", Some(false)),
            ("a b", Some(false)),
            ("c", Some(true)),
            ("d", None),
        ]);
        let described = data.describe();
        assert_eq!(
            (described.rows, described.anomalies, described.normals, described.unlabelled),
            (6, 2, 3, 1)
        );
        assert_eq!((described.duplicates, described.contradictions, described.events), (3, 1, 4));
        assert_eq!((described.longest, described.anomaly_share), (2, Some(0.4)));
        assert!(described.warnings.iter().any(|w| w.contains("labelled both ways")));
    }

    #[test]
    fn rows_that_take_all_the_memory_of_a_dataset_are_refused() {
        // Room that is set aside and never touched.
        let row = || Row { events: Vec::with_capacity(MAX_MEMORY / 8), anomalous: None, weight: 1.0 };
        let mut builder = Builder::default();
        builder.row(row()).unwrap();
        let error = builder.row(row()).unwrap_err().to_string();
        assert!(error.contains("the first 1 rows take all"), "{error}");
        let ids: Vec<String> = (0..=MAX_EVENTS).map(|id| id.to_string()).collect();
        let error = Builder::default().events(ids.iter().map(String::as_str)).unwrap_err().to_string();
        assert!(error.contains("distinct events"), "{error}");
    }

    #[test]
    fn joined_datasets_match_events_by_id() {
        let joined = Dataset::join([&dataset(&[("a b", None)]), &dataset(&[("b c", None)])]);
        assert_eq!(joined.events.len(), 3);
        assert_eq!(joined.rows[1].events, [1, 2]);
        assert_eq!(joined.overlap(&dataset(&[("b c", None), ("x", None)])), [false, true]);
    }

    #[test]
    fn one_label_alone_cannot_be_trained_on() {
        let error = dataset(&[("a", Some(true)), ("b", None)]).check_trainable().unwrap_err();
        assert!(error.to_string().contains("0 are normal and 1 anomalous"), "{error}");
        assert!(dataset(&[("a", Some(true)), ("b", Some(false))]).check_trainable().is_ok());
    }

    #[test]
    fn templates_of_ids_that_no_row_has_become_events_too() {
        let mut data = dataset(&[("a", None)]);
        data.add_templates(&[("a".into(), "x".into()), ("z".into(), "y".into())].into());
        assert_eq!(data.events.len(), 2);
        assert_eq!(data.events[1].template.as_deref(), Some("y"));
    }
}
