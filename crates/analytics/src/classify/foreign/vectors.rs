//! Vectors of events and words: the pickles of LogRobust, and GloVe or fastText text files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;

use super::npy::{Numbers, assemble};
use super::pickle::{Pickle, Value, kind, refuse};
use crate::classify::error::{ClassifyError, file};

/// Numbers of all vectors of a file, at most.
const MAX_NUMBERS: usize = 100_000_000;

/// Reads a pickled dictionary from event id to vector (a list or a numpy array of numbers).
pub fn read_event_vectors(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>, ClassifyError> {
    let (pickle, _) = Pickle::read(bytes)?;
    let Value::Dict(pairs) = pickle.root() else {
        return Err(refuse(format!("it holds {}, expected a dictionary of vectors", kind(pickle.root()))));
    };
    let (mut vectors, mut numbers, mut width) = (BTreeMap::new(), 0, None);
    for &(key, value) in pairs {
        let id = match pickle.get(key) {
            Value::Int(id) => id.to_string(),
            Value::Text(id) => id.clone(),
            other => {
                return Err(refuse(format!("an event's id is {}, expected text or a number", kind(other))));
            }
        };
        let vector = vector(&pickle, pickle.get(value))
            .map_err(|problem| refuse(format!("the vector of event {id}: {problem}")))?;
        numbers += vector.len();
        if numbers > MAX_NUMBERS {
            return Err(refuse(format!("its vectors have more than {MAX_NUMBERS} numbers")));
        }
        let expected = *width.get_or_insert(vector.len());
        if vector.is_empty() || vector.len() != expected {
            let found = vector.len();
            return Err(refuse(format!(
                "the vector of event {id} has {found} numbers, others have {expected}"
            )));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(refuse(format!("the vector of event {id} holds a number that is not finite")));
        }
        vectors.insert(id, vector);
    }
    if vectors.is_empty() {
        return Err(refuse("it holds no vectors"));
    }
    Ok(vectors)
}

fn vector(pickle: &Pickle, value: &Value) -> Result<Vec<f32>, String> {
    match value {
        Value::List(items) => items.iter().map(|&at| number(pickle.get(at))).collect(),
        Value::Array(array) => {
            let Some(Value::Bytes(bytes)) = array.data.map(|at| pickle.get(at)) else {
                return Err("the array was never filled".to_owned());
            };
            let array = assemble(&array.dtype, array.shape.clone(), array.fortran, bytes)?;
            match array.items {
                Numbers::Real(items) => Ok(items.into_iter().map(|value| value as f32).collect()),
                Numbers::Whole(items) => Ok(items.into_iter().map(|value| value as f32).collect()),
                Numbers::Text(_) => Err("the array holds text".to_owned()),
            }
        }
        other => Err(format!("it is {}, expected a list or an array", kind(other))),
    }
}

fn number(value: &Value) -> Result<f32, String> {
    match value {
        Value::Float(value) => Ok(*value as f32),
        Value::Int(value) => Ok(*value as f32),
        other => Err(format!("it holds {}, expected numbers", kind(other))),
    }
}

/// Reads the vectors of the `wanted` words from a text file of GloVe or fastText: a word and its numbers
/// on each line, perhaps after a line of two counts.
pub fn read_word_vectors(
    reader: impl BufRead,
    wanted: &HashSet<String>,
) -> Result<HashMap<String, Vec<f32>>, ClassifyError> {
    let refuse = |line: usize, problem: String| file("word vectors", format!("line {}: {problem}", line + 1));
    let (mut vectors, mut width) = (HashMap::new(), None);
    for (at, line) in reader.lines().enumerate() {
        let line = line.map_err(|error| refuse(at, error.to_string()))?;
        let mut parts = line.trim_end().split(' ');
        let Some(word) = parts.next().filter(|word| wanted.contains(*word)) else { continue };
        let numbers: Result<Vec<f32>, _> = parts.map(str::parse).collect();
        let numbers = numbers.map_err(|_| refuse(at, format!("{word:?} has a part that is no number")))?;
        if at == 0 && numbers.len() == 1 {
            continue;
        }
        let expected = *width.get_or_insert(numbers.len());
        if numbers.is_empty() || numbers.len() != expected || numbers.iter().any(|n| !n.is_finite()) {
            let found = numbers.len();
            return Err(refuse(at, format!("{word:?} has {found} numbers, expected {expected} finite ones")));
        }
        vectors.insert(word.to_owned(), numbers);
    }
    Ok(vectors)
}
