//! Vectors of events from vectors of words: text files as GloVe and fastText publish them.
//!
//! A line is a word and its numbers, separated by spaces; a first line of two numbers (how many words, how
//! many numbers each) is fastText's. An event's vector is the mean of its template's words, each weighted by
//! how rare it is among the templates (TF-IDF), as LogRobust makes them (Zhang et al. 2019).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::BufRead;

use super::dataset::Dataset;
use super::error::{ClassifyError, data};
use super::text::{hash, words};
use crate::recurrent::random::Random;

/// Bytes of a line, at most.
const MAX_LINE: u64 = 1 << 20;
/// Numbers of a vector, at most.
const MAX_WIDTH: usize = 4096;

/// The vectors of the words that are wanted; other lines are only looked at for their word.
pub fn read(
    mut reader: impl BufRead,
    wanted: &BTreeSet<String>,
) -> Result<HashMap<String, Vec<f32>>, ClassifyError> {
    let mut found: HashMap<String, Vec<f32>> = HashMap::new();
    let mut width = None;
    let mut line = Vec::new();
    for number in 1.. {
        let error =
            |problem: String| ClassifyError::Table { what: "vectors of words", line: number, problem };
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE);
        let read = limited.read_until(b'\n', &mut line).map_err(|failure| error(failure.to_string()))?;
        if read == 0 {
            break;
        }
        if read as u64 == MAX_LINE {
            return Err(error(format!("the line is longer than {MAX_LINE} bytes")));
        }
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        let (word, numbers) = text.trim_end().split_once(' ').unwrap_or((text.trim_end(), ""));
        let is_head = number == 1 && word.parse::<u64>().is_ok() && numbers.parse::<u64>().is_ok();
        let word = word.to_lowercase();
        if is_head || found.contains_key(&word) || !wanted.contains(&word) {
            continue;
        }
        let vector: Result<Vec<f32>, _> = numbers.split_ascii_whitespace().map(str::parse::<f32>).collect();
        let vector = vector.map_err(|_| error(format!("what follows {word:?} are not all numbers")))?;
        let expected = *width.get_or_insert(vector.len());
        if vector.len() != expected || vector.is_empty() || vector.len() > MAX_WIDTH {
            let found = vector.len();
            return Err(error(format!(
                "{word:?} has {found} numbers, expected {expected} (1 to {MAX_WIDTH})"
            )));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(error(format!("{word:?} has a number that is not finite")));
        }
        found.insert(word, vector);
    }
    Ok(found)
}

/// The words of the templates of a dataset.
pub fn wanted(dataset: &Dataset) -> BTreeSet<String> {
    dataset.events.iter().filter_map(|event| event.template.as_deref()).flat_map(words).collect()
}

/// Gives every event its vector. An event without a known word gets a direction of its own.
pub fn add(dataset: &mut Dataset, vectors: &HashMap<String, Vec<f32>>) -> Result<(), ClassifyError> {
    let Some(width) = vectors.values().next().map(Vec::len) else {
        return Err(data("the vectors of words have none of the words of the templates"));
    };
    let texts: Vec<Vec<String>> =
        dataset.events.iter().map(|event| event.template.as_deref().map_or(Vec::new(), words)).collect();
    let mut seen: BTreeMap<&str, f64> = BTreeMap::new();
    for text in &texts {
        let distinct: BTreeSet<&str> = text.iter().map(String::as_str).collect();
        distinct.into_iter().for_each(|word| *seen.entry(word).or_default() += 1.0);
    }
    let count = texts.len() as f64;
    let mean = |text: &[String]| {
        let mut sum = vec![0.0f64; width];
        let mut total = 0.0;
        for word in text {
            let Some(vector) = vectors.get(word) else { continue };
            let weight = (1.0 + count / seen[word.as_str()]).ln();
            sum.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += weight * f64::from(value));
            total += weight;
        }
        (total > 0.0).then(|| sum.iter().map(|value| (value / total) as f32).collect::<Vec<f32>>())
    };
    let known: Vec<Option<Vec<f32>>> = texts.iter().map(|text| mean(text)).collect();
    let lengths = known.iter().flatten().map(|vector| vector.iter().map(|v| v * v).sum::<f32>());
    let length = (lengths.sum::<f32>() / known.iter().flatten().count().max(1) as f32).sqrt();
    for (event, vector) in dataset.events.iter_mut().zip(known) {
        let own = || {
            let mut random = Random::new(hash(b'i', &event.id));
            let lane = length / (width as f32).sqrt();
            (0..width).map(|_| lane * random.normal() as f32).collect()
        };
        event.vector = Some(vector.unwrap_or_else(own));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{add, read, wanted};
    use crate::classify::dataset::{Builder, Dataset};

    fn dataset() -> Dataset {
        let mut builder = Builder::default();
        for (id, text) in [("1", "Block received"), ("2", "block lost"), ("3", "<*>")] {
            let place = builder.event(id);
            builder.dataset.events[place as usize].template = Some(text.to_owned());
        }
        builder.dataset
    }

    #[test]
    fn an_event_is_the_mean_of_its_words_and_rare_words_weigh_more() {
        let mut data = dataset();
        let file = "4 2\nthe 9 9\nBlock 1 0\nreceived 0 1\nlost 0 -1\nblock 7 7\n";
        let vectors = read(file.as_bytes(), &wanted(&data)).unwrap();
        assert_eq!(vectors.len(), 3);
        add(&mut data, &vectors).unwrap();
        let vector = |at: usize| data.events[at].vector.clone().unwrap();
        let (received, lost) = (vector(0), vector(1));
        assert!(received[1] > received[0] && received[0] > 0.0, "{received:?}");
        assert_eq!((received[0], received[1]), (lost[0], -lost[1]));
        assert!(vector(2).iter().any(|value| *value != 0.0));
    }

    #[test]
    fn what_is_no_file_of_vectors_is_refused_by_its_line() {
        let wanted = wanted(&dataset());
        for (file, part) in [
            ("block 1 2\nlost 1\n", "line 2 of the vectors of words: \"lost\" has 1 numbers"),
            ("block 1 x\n", "not all numbers"),
            ("block 1 NaN\n", "not finite"),
            ("block\n", "has 0 numbers"),
        ] {
            let error = read(file.as_bytes(), &wanted).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let none = read("other 1 2\n".as_bytes(), &wanted).unwrap();
        assert!(add(&mut dataset(), &none).unwrap_err().to_string().contains("none of the words"));
    }
}
