//! Vectors of template texts, so that an event that was never seen is understood by its words.
//!
//! A text is taken apart into words, pairs of neighbouring words, and runs of letters within words
//! (subwords), so that a changed ending still shares most of a word. Each part weighs by how rare it is
//! among the templates of training (TF-IDF), and points in a direction of its own that is drawn from its
//! hash (random indexing: Kanerva et al. 2000), so no vocabulary is stored beyond the weights. Parts that
//! training never saw have no weight: they cannot mean anything that was learnt.

use std::collections::BTreeMap;

use crate::recurrent::random::Random;

/// Numbers of a vector.
pub const WIDTH: usize = 300;
/// Bytes of a text that are looked at.
const MAX_TEXT: usize = 4096;
/// Share of a word's weight that its runs of letters have together.
const SUBWORDS: f64 = 0.5;

/// The weights of parts of texts, by their hashes.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TextModel {
    weights: BTreeMap<u64, f32>,
}

impl TextModel {
    /// Learns how rare each part is among `templates`.
    pub fn fit<'a>(templates: impl Iterator<Item = &'a str>) -> Self {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let mut count = 0;
        for template in templates {
            count += 1;
            let mut parts: Vec<u64> = parts(template).into_iter().map(|(part, _)| part).collect();
            parts.sort_unstable();
            parts.dedup();
            parts.into_iter().for_each(|part| *seen.entry(part).or_default() += 1);
        }
        let weight = |in_texts: u32| (1.0 + f64::from(count) / f64::from(in_texts)).ln() as f32;
        Self { weights: seen.into_iter().map(|(part, texts)| (part, weight(texts))).collect() }
    }

    /// The vector of a text, of length one; `None` when training saw none of its parts.
    pub fn vector(&self, text: &str) -> Option<Vec<f32>> {
        let mut sum = vec![0.0f64; WIDTH];
        for (part, frequency) in parts(text) {
            let Some(&weight) = self.weights.get(&part) else { continue };
            let weight = f64::from(weight) * frequency;
            let mut random = Random::new(part);
            for lanes in sum.chunks_mut(64) {
                let bits = random.bits();
                for (lane, value) in lanes.iter_mut().enumerate() {
                    *value += if bits >> lane & 1 == 1 { weight } else { -weight };
                }
            }
        }
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        (norm > 1e-9).then(|| sum.iter().map(|value| (value / norm) as f32).collect())
    }

    /// The weights by hash, for saving.
    pub fn weights(&self) -> &BTreeMap<u64, f32> {
        &self.weights
    }

    /// A model of saved weights.
    pub fn of_weights(weights: BTreeMap<u64, f32>) -> Self {
        Self { weights }
    }
}

/// A direction for an event that has neither a text nor a vector: that of its id.
pub fn id_vector(id: &str) -> Vec<f32> {
    let mut random = Random::new(hash(b'i', id));
    let length = (WIDTH as f32).sqrt();
    (0..WIDTH).map(|_| if random.bits() & 1 == 1 { 1.0 / length } else { -1.0 / length }).collect()
}

/// The words of a text, in small letters; `camelCase` is two.
pub fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    let end = text.char_indices().map(|(at, _)| at).find(|&at| at > MAX_TEXT).unwrap_or(text.len());
    for character in text[..end].chars() {
        let breaks = !character.is_alphanumeric() || (character.is_uppercase() && was_small);
        was_small = character.is_lowercase();
        if breaks && !words.last().is_some_and(String::is_empty) {
            words.push(String::new());
        }
        if character.is_alphanumeric() {
            let word = words.last_mut().expect("there is always a word");
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The parts of a text by hash, with their frequencies.
fn parts(text: &str) -> Vec<(u64, f64)> {
    let words = words(text);
    let mut parts = Vec::new();
    for word in &words {
        parts.push((hash(b'w', word), 1.0));
        let letters: Vec<char> = format!("<{word}>").chars().take(64).collect();
        let runs: Vec<String> = (3..=5)
            .flat_map(|length| {
                letters.windows(length).map(|run| run.iter().collect()).collect::<Vec<String>>()
            })
            .collect();
        let share = SUBWORDS / (runs.len().max(1) as f64).sqrt();
        parts.extend(runs.iter().map(|run| (hash(b's', run), share)));
    }
    parts.extend(words.windows(2).map(|pair| (hash(b'p', &pair.join(" ")), 0.5)));
    parts
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo), begun with the kind of part.
pub(super) fn hash(kind: u8, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(step(0xcbf2_9ce4_8422_2325, kind), step)
}

#[cfg(test)]
mod tests {
    use super::{TextModel, WIDTH, id_vector, words};

    const TEMPLATES: [&str; 4] = [
        "Receiving block <*> src: <*> dest: <*>",
        "Received block <*> of size <*> from <*>",
        "PacketResponder <*> for block <*> terminating",
        "Deleting block <*> file <*>",
    ];

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_reworded_text_is_nearest_to_the_one_it_came_from() {
        let model = TextModel::fit(TEMPLATES.into_iter());
        let known: Vec<Vec<f32>> = TEMPLATES.iter().map(|text| model.vector(text).unwrap()).collect();
        for (reworded, from) in [
            ("Now receiving a block <*> src <*>", 0),
            ("Block <*> of size <*> was received from host <*>", 1),
            ("packet responders for block <*> terminated", 2),
            ("Delete of block <*> in file <*> started", 3),
        ] {
            let vector = model.vector(reworded).unwrap();
            let near =
                (0..4).max_by(|&a, &b| cosine(&vector, &known[a]).total_cmp(&cosine(&vector, &known[b])));
            assert_eq!(near, Some(from), "{reworded}");
        }
    }

    #[test]
    fn a_text_without_known_parts_has_no_vector() {
        let model = TextModel::fit(TEMPLATES.into_iter());
        assert_eq!(model.vector("zzz qqq"), None);
        assert_eq!(model.vector("<*>"), None);
        assert_eq!(id_vector("E1").len(), WIDTH);
        assert!((cosine(&id_vector("E1"), &id_vector("E1")) - 1.0).abs() < 1e-5);
        assert!(cosine(&id_vector("E1"), &id_vector("E2")).abs() < 0.3);
    }

    #[test]
    fn words_are_cut_at_signs_and_capitals() {
        assert_eq!(
            words("blockMap updated:<*> NameSystem.addStoredBlock"),
            ["block", "map", "updated", "name", "system", "add", "stored", "block"]
        );
        assert!(words(&"ä".repeat(10_000)).len() == 1);
    }
}
