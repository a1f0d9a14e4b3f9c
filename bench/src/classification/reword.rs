//! Events whose texts changed with a new release: a fifth of all occurrences under ids never seen.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use opsroom_analytics::classify::dataset::{Builder, Dataset};
use opsroom_analytics::classify::detector::Method;
use opsroom_analytics::classify::fit::{FitConfig, fit};
use opsroom_analytics::recurrent::random::Random;

use super::Options;
use super::figures::spread;
use super::quality::{evaluate, f1};
use super::sessions::Sessions;

/// The share of occurrences that are replaced.
const SHARE: f64 = 0.2;
/// New texts of each event.
const VARIANTS: usize = 5;
/// Words that new texts take in.
const WORDS: [&str; 16] = [
    "now",
    "request",
    "service",
    "node",
    "for",
    "the",
    "completed",
    "data",
    "status",
    "remote",
    "new",
    "with",
    "local",
    "was",
    "event",
    "on",
];

/// Prints the F1 of each method, each row counting once.
pub fn run(sessions: &Sessions, options: &Options) -> Result<(), String> {
    for method in Method::ALL.into_iter().map(Some).chain([None]) {
        let mut figures = Vec::new();
        for seed in 0..options.seeds {
            let config = FitConfig { method, expected_share: None, network: options.network(seed, 5) };
            let valid = method.is_none().then_some(&sessions.valid);
            let model = fit(&sessions.train, valid, &config, &mut |_| ControlFlow::Continue(()))
                .map_err(|e| e.to_string())?;
            let changed = reword(&sessions.test, &sessions.templates, seed);
            figures.push(f1(&evaluate(&model, &changed)?).0);
        }
        let name = method.map_or("auto".to_owned(), |method| format!("{method:?}").to_lowercase());
        println!("a fifth of the events reworded, {name:<8} F1 once   {}", spread(&figures, 4));
    }
    Ok(())
}

/// The rows with a share of their events replaced by ids whose texts were changed.
fn reword(rows: &Dataset, templates: &BTreeMap<String, String>, seed: u64) -> Dataset {
    let mut random = Random::stream(seed, &[5]);
    let mut builder = Builder::over(rows.clone());
    let mut variants: Vec<Vec<u32>> = Vec::new();
    for event in &rows.events {
        let text = templates.get(&event.id).map_or("", String::as_str);
        let mut places = Vec::new();
        for variant in 0..VARIANTS {
            let place = builder.event(&format!("{} reworded {variant}", event.id));
            builder.dataset.events[place as usize].template = Some(change(text, &mut random));
            places.push(place);
        }
        variants.push(places);
    }
    let mut changed = builder.dataset;
    for row in &mut changed.rows {
        for event in &mut row.events {
            if random.unit() < SHARE {
                *event = variants[*event as usize][random.below(VARIANTS)];
            }
        }
    }
    changed
}

/// A text with one to three words dropped, inserted or replaced.
fn change(text: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = text.replace("<*>", " <*> ").split_whitespace().map(str::to_owned).collect();
    for _ in 0..1 + random.below(3) {
        let is_word = |at: &usize| words[*at] != "<*>";
        let places: Vec<usize> = (0..words.len()).filter(is_word).collect();
        let new = WORDS[random.below(WORDS.len())].to_owned();
        match (random.below(3), places.len()) {
            // The last word stays: a text without words could not be understood by anyone.
            (0, 2..) => drop(words.remove(places[random.below(places.len())])),
            (1, 2..) => words[places[random.below(places.len())]] = new,
            _ => words.insert(random.below(words.len() + 1), new),
        }
    }
    words.join(" ")
}
