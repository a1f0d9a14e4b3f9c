//! The HDFS sessions: what is trained on, what may choose, and what judges.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::path::Path;

use opsroom_analytics::classify::csv::{read_sequences, read_templates};
use opsroom_analytics::classify::dataset::Dataset;

/// The share of anomalies that the weights of `test.csv` bring back.
pub const EXPECTED: f64 = 0.0175;

/// The parts, with the texts of all events.
pub struct Sessions {
    /// 6,000 normal and 6,000 anomalous sessions.
    pub train: Dataset,
    /// As balanced; it may choose.
    pub valid: Dataset,
    /// It judges.
    pub test: Dataset,
    /// The rows of `test` whose counts of events training did not have.
    pub unseen_counts: Vec<usize>,
    /// Texts by event id.
    pub templates: BTreeMap<String, String>,
    /// Vectors by event id, from word embeddings.
    pub vectors: BTreeMap<String, Vec<f32>>,
}

impl Sessions {
    /// Reads the folder.
    pub fn load(folder: &Path) -> Result<Self, String> {
        let open = |name: &str| {
            let path = folder.join(name);
            let file = std::fs::File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(BufReader::new(file))
        };
        let read =
            |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|e| format!("{name}: {e}"));
        let templates = read_templates(open("templates.csv")?).map_err(|e| e.to_string())?;
        let sessions = |name: &str| {
            let mut data = read_sequences(open(name)?).map_err(|e| format!("{name}: {e}"))?;
            data.add_templates(&templates);
            Ok::<_, String>(data)
        };
        let text = read("test.csv")?;
        let column =
            text.lines().next().unwrap_or_default().split(',').position(|c| c == "unseen_count_vector");
        let column = column.ok_or("test.csv has no column unseen_count_vector")?;
        let is_unseen = |line: &str| line.split(',').nth(column) == Some("1");
        let marked = text.lines().skip(1).enumerate().filter(|(_, line)| is_unseen(line));
        let unseen_counts = marked.map(|(row, _)| row).collect();
        let raw: HashMap<usize, Vec<f32>> = serde_json::from_str(&read("event_vectors.json")?)
            .map_err(|e| format!("event_vectors.json: {e}"))?;
        // Key k of the file is event k + 1.
        let vectors = raw.into_iter().map(|(key, vector)| ((key + 1).to_string(), vector)).collect();
        let (train, valid, test) = (sessions("train.csv")?, sessions("valid.csv")?, sessions("test.csv")?);
        Ok(Self { train, valid, test, unseen_counts, templates, vectors })
    }

    /// A part with the embeddings as its events' vectors.
    pub fn embedded(&self, part: &Dataset) -> Dataset {
        let mut part = part.clone();
        for event in &mut part.events {
            event.vector = self.vectors.get(&event.id).cloned();
        }
        part
    }
}
