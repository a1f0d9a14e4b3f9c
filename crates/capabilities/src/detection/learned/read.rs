//! Datasets of sequences, read from open files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;

use opsroom_analytics::classify::dataset::Dataset;
use opsroom_analytics::classify::{csv, word_vectors};
use opsroom_core::Result;
use opsroom_core::files::Opened;

use super::refused_of;

/// Reads a table of sequences: `sequence,label` and perhaps `weight`.
///
/// # Errors
/// `Invalid`, naming the file and the line.
pub fn sequences(opened: Opened) -> Result<Dataset> {
    let name = opened.path.display().to_string();
    csv::read_sequences(BufReader::with_capacity(1 << 20, opened.file))
        .map_err(|error| refused_of(&name, error))
}

/// Reads the texts of events: `id,template`, or one template a line, numbered from 1.
///
/// # Errors
/// `Invalid`, naming the file and the line.
pub fn templates(opened: Opened) -> Result<BTreeMap<String, String>> {
    let name = opened.path.display().to_string();
    csv::read_templates(BufReader::new(opened.file)).map_err(|error| refused_of(&name, error))
}

/// Gives the events of a dataset their texts. Texts of events that no row has are left out: they would be
/// kept in a model and make it larger.
pub fn add_used(dataset: &mut Dataset, texts: &BTreeMap<String, String>) {
    let used: BTreeSet<&str> = dataset.events.iter().map(|event| event.id.as_str()).collect();
    let texts = texts.iter().filter(|(id, _)| used.contains(id.as_str()));
    let texts = texts.map(|(id, text)| (id.clone(), text.clone())).collect();
    dataset.add_templates(&texts);
}

/// Gives the events of a dataset vectors, from a text file of words' vectors (GloVe, fastText).
///
/// # Errors
/// `Invalid`, naming the file, and when none of the templates' words is in it.
pub fn add_word_vectors(dataset: &mut Dataset, opened: Opened) -> Result<()> {
    let name = opened.path.display().to_string();
    let reader = BufReader::with_capacity(1 << 20, opened.file);
    let vectors = word_vectors::read(reader, &word_vectors::wanted(dataset));
    vectors.and_then(|vectors| word_vectors::add(dataset, &vectors)).map_err(|error| refused_of(&name, error))
}
