//! What is learnt from all series together, as one artifact with a version and a hash.
//!
//! A [`Model`] is trained by [`Model::train`], written as safetensors with its metadata in the
//! header, and read back with the same numbers. The same series in the same order give the same
//! bytes. What is read is checked: sizes, finite numbers, version.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::DAY;
use super::engine::Engine;
use super::error::ForecastError;
use super::linear::Fit;
use super::lstm::{Lstm, Schooling};
use super::pooled::{Example, FEATURES, LENGTHS, Pooled, Window};
use super::series::Series;

/// Version of the artifact's layout and of the features it was trained on.
pub const VERSION: u32 = 2;

/// The largest artifact that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

const METADATA: &str = "opsroom";
const POOLED: &str = "pooled.coefficients";

/// How a model is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// Windows taken of each series, evenly over it.
    pub windows: usize,
    /// Windows cut to one, two, and three to six days of history, of each.
    pub short_windows: usize,
    /// Passes of reweighting the series.
    pub passes: usize,
    /// The regression.
    pub fit: Fit,
    /// The network.
    pub lstm: Schooling,
}

impl Default for Training {
    fn default() -> Self {
        let fit = Fit { quantile: 0.5, ridge: 1e-3, floor: 0.05, rounds: 8 };
        Self { windows: 60, short_windows: 5, passes: 1, fit, lstm: Schooling::default() }
    }
}

/// What the model was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// Version of the layout.
    pub version: u32,
    /// Name given to the model.
    pub name: String,
    /// Series that it learnt from.
    pub series: usize,
    /// Windows that it learnt from.
    pub windows: usize,
}

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it was trained on.
    pub trained: Trained,
    /// The pooled linear model.
    pub pooled: Arc<Pooled>,
    /// The recurrent network; `None` when it was left out.
    pub lstm: Option<Arc<Lstm>>,
}

impl Model {
    /// Trains on series. Series shorter than nine days teach nothing and are left out.
    ///
    /// # Errors
    /// [`ForecastError::TooShort`] when no series is long enough.
    pub fn train(name: &str, series: &[Series], how: &Training) -> Result<Self, ForecastError> {
        // Of very many series each teaches less, so that training ends in time.
        let each = (MOST_WINDOWS / series.len().max(1)).clamp(4, how.windows.max(4));
        let how =
            &Training { windows: how.windows.min(each), short_windows: how.short_windows.min(each), ..*how };
        let per_series: Vec<Vec<Example>> =
            series.par_iter().enumerate().map(|(at, s)| examples(at, s, how)).collect();
        let learnt_from = per_series.iter().filter(|e| !e.is_empty()).count();
        let examples: Vec<Example> = per_series.into_iter().flatten().collect();
        if examples.is_empty() {
            let have = series.iter().map(Series::len).max().unwrap_or(0);
            return Err(ForecastError::TooShort { engine: "pooled", have, need: SHORTEST_SERIES });
        }
        let pooled = Arc::new(Pooled::learn(&examples, how.fit, how.passes));
        let trained =
            Trained { version: VERSION, name: name.to_owned(), series: learnt_from, windows: examples.len() };
        let lstm =
            (how.lstm.epochs > 0).then(|| Arc::new(Lstm::learn(Arc::clone(&pooled), &examples, &how.lstm)));
        Ok(Self { trained, pooled, lstm })
    }

    /// The engines of this model and all that need none, the floor first.
    #[must_use]
    pub fn engines(&self) -> Vec<Engine> {
        let mut engines = Engine::local();
        engines.push(Engine::Pooled(Arc::clone(&self.pooled)));
        engines.extend(self.lstm.iter().map(|lstm| Engine::Lstm(Arc::clone(lstm))));
        engines
    }

    /// The artifact.
    ///
    /// # Panics
    /// Never: the tensors are built with the shapes that they have.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors =
            vec![(POOLED.to_owned(), vec![LENGTHS, DAY, FEATURES], self.pooled.coefficients().to_vec())];
        tensors.extend(self.lstm.iter().flat_map(|lstm| lstm.tensors()));
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, v)| v.iter().flat_map(|c| c.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            (name, view.expect("the shape is that of the tensor"))
        });
        let about = serde_json::to_string(&self.trained).expect("numbers and text can be written");
        // One entry only: the order of several would differ from run to run.
        let metadata = HashMap::from([(METADATA.to_owned(), about)]);
        serialize(views, Some(metadata)).expect("tensors of known sizes can be written")
    }

    /// Reads an artifact.
    ///
    /// # Errors
    /// [`ForecastError::Artifact`] for bytes that are not a model of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ForecastError> {
        let bad = |why: &str| ForecastError::Artifact { why: why.to_owned() };
        if bytes.len() > MAX_BYTES {
            return Err(bad("it is larger than 16 MiB"));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| bad(&e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(&e.to_string()))?;
        let about = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(METADATA))
            .ok_or_else(|| bad("it has no description"))?;
        let trained: Trained = serde_json::from_str(about).map_err(|e| bad(&e.to_string()))?;
        if trained.version != VERSION {
            return Err(bad(&format!("it has version {}, not {VERSION}", trained.version)));
        }
        let numbers = |name: &str| {
            let tensor = file.tensor(name).ok().filter(|t| t.dtype() == Dtype::F32)?;
            let (chunks, _) = tensor.data().as_chunks::<4>();
            Some(chunks.iter().map(|c| f32::from_le_bytes(*c)).collect::<Vec<f32>>())
        };
        let pooled = numbers(POOLED)
            .and_then(Pooled::from_coefficients)
            .ok_or_else(|| bad("its coefficients are not finite or not of the right number"))?;
        let pooled = Arc::new(pooled);
        let lstm = if file.names().iter().any(|name| name.starts_with("lstm.")) {
            let lstm = Lstm::from_tensors(Arc::clone(&pooled), numbers);
            Some(lstm.ok_or_else(|| {
                bad("its network has tensors that are missing, not finite or of another size")
            })?)
        } else {
            None
        };
        Ok(Self { trained, pooled, lstm: lstm.map(Arc::new) })
    }

    /// SHA-256 of the artifact, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        Sha256::digest(self.to_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Windows with all their history that a model learns from, but for four of each series.
const MOST_WINDOWS: usize = 80_000;

/// The fewest hours of a series that teaches: a week, a day to forecast, and a day of play.
const SHORTEST_SERIES: usize = 9 * DAY;

/// Windows of one series, each with the day after it.
fn examples(at: usize, series: &Series, how: &Training) -> Vec<Example> {
    let mut out = Vec::new();
    let Some(room) = series.len().checked_sub(SHORTEST_SERIES) else { return out };
    let filled = series.filled();
    let mut take = |count: usize, history: &dyn Fn(usize) -> usize| {
        for k in 0..count.min(room + 1) {
            let origin = series.len() - DAY - k * room / count.max(1);
            let window = Window::new(&filled[origin - history(k).min(origin)..origin]);
            out.push(Example { series: at, window, day: series.values()[origin..origin + DAY].to_vec() });
        }
    };
    take(how.windows, &|_| usize::MAX);
    take(how.short_windows, &|_| DAY);
    take(how.short_windows, &|_| 2 * DAY);
    take(how.short_windows, &|k| (3 + k % 4) * DAY);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_series() -> Vec<Series> {
        let value = |s: usize, h: usize| ((h % 24) as f64) + ((h * 7919 + s * 31 + h * h) % 17) as f64;
        (0..6).map(|s| Series::new(0, (0..400).map(|h| value(s, h)).collect()).unwrap()).collect()
    }

    fn model() -> Model {
        let lstm = Schooling { epochs: 1, ..Schooling::default() };
        let how = Training { windows: 8, short_windows: 3, passes: 1, lstm, ..Training::default() };
        Model::train("test", &some_series(), &how).unwrap()
    }

    #[test]
    fn training_twice_gives_the_same_bytes_and_hash() {
        let (a, b) = (model(), model());
        assert_eq!(a.to_bytes(), b.to_bytes());
        assert_eq!(a.hash(), b.hash());
        assert_eq!(a.hash().len(), 64);
    }

    #[test]
    fn a_model_read_back_forecasts_the_same() {
        let model = model();
        let back = Model::from_bytes(&model.to_bytes()).unwrap();
        assert_eq!(back, model);
        assert_eq!(back.trained.series, 6);
    }

    #[test]
    fn damaged_and_foreign_artifacts_are_refused() {
        let bytes = model().to_bytes();
        for end in [0, 7, 8, 40, bytes.len() - 1] {
            assert!(Model::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        let other = bytes.clone();
        let text = String::from_utf8_lossy(&other).find("version").unwrap();
        let mut newer = bytes.clone();
        newer[text + 10] = b'7';
        assert!(Model::from_bytes(&newer).is_err());
        assert!(Model::from_bytes(&vec![0; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn series_of_a_week_teach_nothing() {
        let short = vec![Series::new(0, vec![1.0; 168]).unwrap()];
        assert!(matches!(
            Model::train("x", &short, &Training::default()),
            Err(ForecastError::TooShort { .. })
        ));
    }
}
