//! Datasets in LogRobust's layout: an array of event ids, an array of labels, vectors by id.

use std::collections::BTreeMap;

use super::dataset::{Builder, Dataset, Row};
use super::error::{ClassifyError, data};
use super::foreign::npy::{NpyArray, Numbers};

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
    sequences: &NpyArray,
    labels: Option<&NpyArray>,
    vectors: Option<&BTreeMap<String, Vec<f32>>>,
    padding: Padding,
) -> Result<Dataset, ClassifyError> {
    let [rows, length] = sequences.shape[..] else {
        return Err(data(format!("the sequences have the shape {:?}, expected two sizes", sequences.shape)));
    };
    let labels = labels.map(|labels| read_labels(labels, rows)).transpose()?;
    let ids = ids(sequences)?;
    let mut builder = Builder::default();
    for row in 0..rows {
        let row_ids = &ids[row * length..][..length];
        let kept = row_ids.iter().filter(|id| padding == Padding::Kept || id.as_str() != FILLER);
        let events: Vec<u32> = kept.map(|id| builder.event(id)).collect();
        if events.is_empty() {
            return Err(data(format!("row {row} holds nothing but the filler id {FILLER}")));
        }
        let anomalous = labels.as_ref().map(|labels| labels[row]);
        builder.row(Row { events, anomalous, weight: 1.0 })?;
    }
    let mut dataset = builder.dataset;
    if dataset.rows.is_empty() {
        return Err(data("the sequences have no rows"));
    }
    if let Some(vectors) = vectors {
        add_vectors(&mut dataset, vectors)?;
    }
    Ok(dataset)
}

fn ids(sequences: &NpyArray) -> Result<Vec<String>, ClassifyError> {
    match &sequences.items {
        Numbers::Whole(items) => Ok(items.iter().map(i64::to_string).collect()),
        Numbers::Text(items) => Ok(items.clone()),
        Numbers::Real(items) => {
            let whole = |&value: &f64| {
                let id = (value.fract() == 0.0 && value.abs() < 9e15).then(|| (value as i64).to_string());
                id.ok_or_else(|| data(format!("the sequences hold {value}, expected ids of events")))
            };
            items.iter().map(whole).collect()
        }
    }
}

fn read_labels(labels: &NpyArray, rows: usize) -> Result<Vec<bool>, ClassifyError> {
    let count: usize = labels.shape.iter().product();
    if count != rows {
        return Err(data(format!("there are {count} labels for {rows} sequences")));
    }
    match &labels.items {
        Numbers::Whole(items) => Ok(items.iter().map(|&label| label != 0).collect()),
        Numbers::Real(items) if items.iter().all(|label| label.is_finite()) => {
            Ok(items.iter().map(|&label| label != 0.0).collect())
        }
        _ => Err(data("the labels are no numbers, expected 0 for normal and another for an anomaly")),
    }
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
    use crate::classify::foreign::npy::{NpyArray, Numbers};

    fn array(shape: &[usize], items: &[i64]) -> NpyArray {
        NpyArray { shape: shape.to_vec(), items: Numbers::Whole(items.to_vec()) }
    }

    #[test]
    fn fillers_are_dropped_or_kept_and_labels_above_zero_are_anomalies() {
        let sequences = array(&[2, 3], &[5, 7, 0, 5, 0, 0]);
        let labels = array(&[2], &[0, 3]);
        let vectors = [("5".to_owned(), vec![1.0]), ("7".to_owned(), vec![2.0])].into();
        let data = dataset(&sequences, Some(&labels), Some(&vectors), Padding::Dropped).unwrap();
        assert_eq!(data.rows.iter().map(|r| r.events.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(data.rows[1].anomalous, Some(true));
        let data = dataset(&sequences, Some(&labels), Some(&vectors), Padding::Kept).unwrap();
        assert_eq!(data.rows[1].events.len(), 3);
        assert_eq!(data.events[2].vector, Some(vec![0.0]));
    }

    #[test]
    fn misshapen_arrays_are_refused_by_what_is_wrong() {
        let good = array(&[2, 1], &[5, 7]);
        let vectors = [("5".to_owned(), vec![1.0])].into();
        let drop = Padding::Dropped;
        let real = NpyArray { shape: vec![1, 1], items: Numbers::Real(vec![f64::NAN]) };
        for (result, part) in [
            (dataset(&array(&[2], &[1, 2]), None, None, drop), "expected two sizes"),
            (dataset(&good, Some(&array(&[3], &[0; 3])), None, drop), "3 labels for 2 sequences"),
            (dataset(&good, None, Some(&vectors), drop), "no vector for the event ids 7"),
            (dataset(&array(&[1, 2], &[0, 0]), None, None, drop), "nothing but the filler"),
            (dataset(&array(&[0, 2], &[]), None, None, drop), "no rows"),
            (dataset(&real, None, None, drop), "expected ids"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
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
