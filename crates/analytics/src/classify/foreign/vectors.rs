//! Vectors of events: the pickles of LogRobust.

use std::collections::BTreeMap;

use super::npy::{Cell, assemble};
use super::pickle::{Pickle, Value, kind, refuse};
use crate::classify::error::ClassifyError;

/// Numbers of one vector, at most.
const MAX_WIDTH: usize = 1 << 16;
/// Numbers of all vectors of a file, at most.
const MAX_NUMBERS: usize = 100_000_000;
/// Numbers for each byte of the file, at most: two events may have one vector, a million events may not.
const GROWTH: usize = 4;

/// Reads a pickled dictionary from event id to vector (a list or a numpy array of numbers).
pub fn read_event_vectors(bytes: &[u8]) -> Result<BTreeMap<String, Vec<f32>>, ClassifyError> {
    let (pickle, _) = Pickle::read(bytes)?;
    let Value::Dict(pairs) = pickle.root() else {
        return Err(refuse(format!("it holds {}, expected a dictionary of vectors", kind(pickle.root()))));
    };
    let most = (GROWTH * bytes.len() + MAX_WIDTH).min(MAX_NUMBERS);
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
        if numbers > most {
            return Err(refuse(format!(
                "its vectors have more than {most} numbers, the most of a file of its size"
            )));
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
        Value::List(items) if items.len() > MAX_WIDTH => Err(too_wide(items.len())),
        Value::List(items) => items.iter().map(|&at| number(pickle.get(at))).collect(),
        Value::Array(array) => {
            let Some(Value::Bytes(bytes)) = array.data.map(|at| pickle.get(at)) else {
                return Err("the array was never filled".to_owned());
            };
            let array = assemble(&array.dtype, array.shape.clone(), array.fortran, bytes)?;
            if array.len() > MAX_WIDTH {
                return Err(too_wide(array.len()));
            }
            let number = |at| match array.cell(at).map_err(|error| error.to_string())? {
                Cell::Real(value) => Ok(value as f32),
                Cell::Whole(value) => Ok(value as f32),
                Cell::Text(_) => Err("the array holds text".to_owned()),
            };
            (0..array.len()).map(number).collect()
        }
        other => Err(format!("it is {}, expected a list or an array", kind(other))),
    }
}

fn too_wide(numbers: usize) -> String {
    format!("it has {numbers} numbers, at most {MAX_WIDTH} are read")
}

fn number(value: &Value) -> Result<f32, String> {
    match value {
        Value::Float(value) => Ok(*value as f32),
        Value::Int(value) => Ok(*value as f32),
        other => Err(format!("it holds {}, expected numbers", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::read_event_vectors;

    #[test]
    fn an_attack_that_gives_one_vector_to_every_event_is_refused() {
        // A vector of ten thousand ones, and a hundred thousand events of six bytes that share it.
        let mut pickle = b"\x80\x02}q\x00(K\x00(".to_vec();
        pickle.extend(b"K\x01".repeat(10_000));
        pickle.extend(b"lq\x01");
        for event in 1..100_000u32 {
            pickle.push(b'J');
            pickle.extend(event.to_le_bytes());
            pickle.extend(b"h\x01");
        }
        pickle.extend(b"u.");
        let error = read_event_vectors(&pickle).unwrap_err().to_string();
        assert!(error.contains("the most of a file of its size"), "{error}");
    }

    #[test]
    fn a_vector_of_millions_of_numbers_is_refused_before_it_is_read() {
        let mut pickle = b"\x80\x02}K\x01(".to_vec();
        pickle.extend(b"K\x01".repeat(70_000));
        pickle.extend(b"ls.");
        let error = read_event_vectors(&pickle).unwrap_err().to_string();
        assert!(error.contains("event 1: it has 70000 numbers"), "{error}");
    }
}
