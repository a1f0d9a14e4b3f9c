//! Datasets in LogRobust's layout: an array of event ids, an array of labels, vectors by id.

use std::collections::{BTreeMap, HashMap};

use super::dataset::{Builder, Dataset, MAX_LENGTH, MAX_ROWS, Row};
use super::error::{ClassifyError, data};
use super::foreign::npy::{Cell, NpyArray};

/// What the id 0, which fills sequences up to one length, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Nothing: it is left out. So we train.
    Dropped,
    /// An event like any other. So the first LogRobust server averaged it in, and a model that was
    /// imported from it needs it.
    Kept,
}

/// The id that fills up.
const FILLER: &str = "0";

/// The dataset of arrays. `vectors`, when given, must have every id; the filler may be absent, and is
/// then all zeros.
pub fn dataset(
    sequences: &NpyArray<'_>,
    labels: Option<&NpyArray<'_>>,
    vectors: Option<&BTreeMap<String, Vec<f32>>>,
    padding: Padding,
) -> Result<Dataset, ClassifyError> {
    let [rows, length] = sequences.shape[..] else {
        return Err(data(format!("the sequences have the shape {:?}, expected two sizes", sequences.shape)));
    };
    if rows > MAX_ROWS {
        return Err(data(format!("there are {rows} sequences, at most {MAX_ROWS} are read")));
    }
    let labels = labels.map(|labels| read_labels(labels, rows)).transpose()?;
    if length > MAX_LENGTH {
        return Err(data(format!("the sequences have {length} events each, at most {MAX_LENGTH} are read")));
    }
    let mut ids = Ids { builder: Builder::default(), known: HashMap::new() };
    for row in 0..rows {
        let mut events = Vec::new();
        for step in 0..length {
            events.extend(ids.event(sequences.cell(row * length + step)?, padding)?);
        }
        if events.is_empty() {
            return Err(data(format!("row {row} holds nothing but the filler id {FILLER}")));
        }
        events.shrink_to_fit();
        let anomalous = labels.as_ref().map(|labels| labels[row]);
        ids.builder.row(Row { events, anomalous, weight: 1.0 })?;
    }
    let mut dataset = ids.builder.dataset;
    if dataset.rows.is_empty() {
        return Err(data("the sequences have no rows"));
    }
    if let Some(vectors) = vectors {
        add_vectors(&mut dataset, vectors)?;
    }
    Ok(dataset)
}

/// Events by the ids that an array has, one cell at a time.
struct Ids {
    builder: Builder,
    known: HashMap<i64, u32>,
}

impl Ids {
    /// The event of a cell; none for a filler that is left out.
    fn event(&mut self, cell: Cell<'_>, padding: Padding) -> Result<Option<u32>, ClassifyError> {
        let dropped = padding == Padding::Dropped;
        let number = match cell {
            Cell::Text(id) => {
                return Ok((!dropped || id != FILLER).then(|| self.builder.event(&id)));
            }
            Cell::Whole(number) => number,
            Cell::Real(value) if value.fract() == 0.0 && value.abs() < 9e15 => value as i64,
            Cell::Real(value) => {
                return Err(data(format!("the sequences hold {value}, expected ids of events")));
            }
        };
        if dropped && number == 0 {
            return Ok(None);
        }
        let Self { builder, known } = self;
        Ok(Some(*known.entry(number).or_insert_with(|| builder.event(&number.to_string()))))
    }
}

fn read_labels(labels: &NpyArray<'_>, rows: usize) -> Result<Vec<bool>, ClassifyError> {
    if labels.len() != rows {
        return Err(data(format!("there are {} labels for {rows} sequences", labels.len())));
    }
    let label = |row| match labels.cell(row)? {
        Cell::Whole(label) => Ok(label != 0),
        Cell::Real(label) if label.is_finite() => Ok(label != 0.0),
        _ => Err(data("the labels are no numbers, expected 0 for normal and another for an anomaly")),
    };
    (0..rows).map(label).collect()
}

/// Gives every event its vector; one that has none is named.
pub fn add_vectors(dataset: &mut Dataset, vectors: &BTreeMap<String, Vec<f32>>) -> Result<(), ClassifyError> {
    let width = vectors.values().next().map_or(0, Vec::len);
    let missing = |id: &str| vectors.get(id).is_none() && id != FILLER;
    let lost: Vec<&str> =
        dataset.events.iter().map(|event| event.id.as_str()).filter(|id| missing(id)).take(5).collect();
    if !lost.is_empty() {
        return Err(data(format!("there is no vector for the event ids {}", lost.join(", "))));
    }
    for event in &mut dataset.events {
        event.vector = Some(vectors.get(&event.id).cloned().unwrap_or_else(|| vec![0.0; width]));
    }
    Ok(())
}

/// The dataset of sequences that are given as vectors: equal vectors become one event.
pub fn of_vectors(sequences: &[Vec<Vec<f32>>], width: usize) -> Result<Dataset, ClassifyError> {
    let mut builder = Builder::default();
    let mut known: std::collections::HashMap<Vec<u32>, u32> = Default::default();
    for (row, sequence) in sequences.iter().enumerate() {
        if sequence.len() > MAX_LENGTH {
            let found = sequence.len();
            return Err(data(format!("sequence {row} has {found} steps, at most {MAX_LENGTH} are read")));
        }
        let mut events = Vec::with_capacity(sequence.len());
        for (step, vector) in sequence.iter().enumerate() {
            if vector.len() != width {
                let found = vector.len();
                return Err(data(format!(
                    "sequence {row}, step {step} has {found} numbers, the model takes {width}"
                )));
            }
            if vector.iter().any(|value| !value.is_finite()) {
                return Err(data(format!("sequence {row}, step {step} holds a number that is not finite")));
            }
            let bits: Vec<u32> = vector.iter().map(|value| value.to_bits()).collect();
            let next = known.len();
            let event = *known.entry(bits).or_insert_with(|| {
                let event = builder.event(&format!("vector {next}"));
                builder.dataset.events[event as usize].vector = Some(vector.clone());
                event
            });
            events.push(event);
        }
        if events.is_empty() {
            return Err(data(format!("sequence {row} has no steps")));
        }
        builder.row(Row { events, anomalous: None, weight: 1.0 })?;
    }
    Ok(builder.dataset)
}

#[cfg(test)]
mod tests {
    use super::{Padding, dataset, of_vectors};
    use crate::classify::foreign::npy;

    /// A file of 64-bit numbers, or of floats for `<f8`.
    fn file(dtype: &str, shape: &str, items: &[[u8; 8]]) -> Vec<u8> {
        let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(items.iter().flatten());
        bytes
    }

    fn array(shape: &str, items: &[i64]) -> Vec<u8> {
        file("<i8", shape, &items.iter().map(|item| item.to_le_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn fillers_are_dropped_or_kept_and_labels_above_zero_are_anomalies() {
        let sequences = array("2, 3", &[5, 7, 0, 5, 0, 0]);
        let labels = array("2,", &[0, 3]);
        let vectors = [("5".to_owned(), vec![1.0]), ("7".to_owned(), vec![2.0])].into();
        let (sequences, labels) = (npy::read(&sequences).unwrap(), npy::read(&labels).unwrap());
        let data = dataset(&sequences, Some(&labels), Some(&vectors), Padding::Dropped).unwrap();
        assert_eq!(data.rows.iter().map(|r| r.events.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(data.rows[1].anomalous, Some(true));
        let data = dataset(&sequences, Some(&labels), Some(&vectors), Padding::Kept).unwrap();
        assert_eq!(data.rows[1].events.len(), 3);
        assert_eq!(data.events[2].vector, Some(vec![0.0]));
    }

    #[test]
    fn misshapen_arrays_are_refused_by_what_is_wrong() {
        let good = array("2, 1", &[5, 7]);
        let vectors = [("5".to_owned(), vec![1.0])].into();
        let real = file("<f8", "1, 1", &[f64::NAN.to_le_bytes()]);
        for (sequences, labels, vectors, part) in [
            (array("2,", &[1, 2]), None, None, "expected two sizes"),
            (good.clone(), Some(array("3,", &[0; 3])), None, "3 labels for 2 sequences"),
            (good.clone(), None, Some(&vectors), "no vector for the event ids 7"),
            (array("1, 2", &[0, 0]), None, None, "nothing but the filler"),
            (array("0, 2", &[]), None, None, "no rows"),
            (array("400000000, 0", &[]), None, None, "400000000 sequences"),
            (array("0, 400000000", &[]), None, None, "at most 1000000"),
            (real, None, None, "expected ids"),
        ] {
            let labels = labels.as_ref().map(|labels| npy::read(labels).unwrap());
            let sequences = npy::read(&sequences).unwrap();
            let error = dataset(&sequences, labels.as_ref(), vectors, Padding::Dropped).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn sequences_of_vectors_are_checked_step_by_step() {
        let data = of_vectors(&[vec![vec![1.0, 2.0], vec![1.0, 2.0], vec![0.0, 1.0]]], 2).unwrap();
        assert_eq!(data.rows[0].events, [0, 0, 1]);
        for (sequences, part) in [
            (vec![vec![vec![1.0]]], "sequence 0, step 0 has 1 numbers"),
            (vec![vec![vec![1.0, f32::NAN]]], "not finite"),
            (vec![vec![]], "no steps"),
        ] {
            let error = of_vectors(&sequences, 2).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
