//! The four ways to tell normal sequences from anomalies, behind one contract: fitted on places of known
//! events, each gives a probability that is as balanced as the rows it was fitted on.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rayon::prelude::*;

use super::counts::{self, Counts};
use super::error::ClassifyError;
use super::forest::Forest;
use super::linear::Linear;
use super::nearest::Nearest;
use super::space::EventSpace;
use crate::recurrent::classifier::{Classifier, ClassifierShape, Example, softmax};
use crate::recurrent::optimiser::Rule;
use crate::recurrent::score::Scorer;
use crate::recurrent::train::{Ending, Epoch, Moment, Schedule, Training, merge, spread, train};

/// A way to tell normal sequences from anomalies.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// LogRobust's network, which reads the events in their order.
    Network,
    /// Trees on the counts of events.
    Tree,
    /// Logistic regression on the counts of events.
    Linear,
    /// The training sequence whose counts are nearest.
    Nearest,
}

impl Method {
    /// All of them, the cheap ones first.
    pub const ALL: [Self; 4] = [Self::Tree, Self::Linear, Self::Nearest, Self::Network];
}

/// The sizes of a network and how it is trained.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NetworkConfig {
    /// Hidden units of one direction.
    pub hidden: usize,
    /// Bidirectional layers.
    pub layers: usize,
    /// Events of a sequence that are read; later ones are left out.
    pub max_length: usize,
    /// How it is trained.
    pub training: Training,
}

/// Hidden units, layers and lengths that are built, at most.
const MOST: [(&str, usize); 3] = [("hidden", 1024), ("layers", 8), ("max_length", 100_000)];

impl Default for NetworkConfig {
    fn default() -> Self {
        let training = Training {
            epochs: 10,
            batch_size: 64,
            learning_rate: 0.02,
            schedule: Schedule::Cosine,
            rule: Rule::ADAM,
            dropout: 0.0,
            clip: 1.0,
            patience: 0,
            seed: 2020,
        };
        Self { hidden: 10, layers: 2, max_length: 512, training }
    }
}

impl NetworkConfig {
    /// Checks every setting.
    pub fn check(&self) -> Result<(), ClassifyError> {
        for ((name, most), value) in MOST.into_iter().zip([self.hidden, self.layers, self.max_length]) {
            if value == 0 || value > most {
                return Err(ClassifyError::Data(format!("{name} is {value}, expected 1 to {most}")));
            }
        }
        Ok(self.training.check()?)
    }

    /// The network of these sizes for vectors of `width` numbers.
    pub fn net(&self, width: usize) -> Classifier {
        let Self { hidden, layers, .. } = *self;
        Classifier::new(ClassifierShape {
            input: width,
            hidden,
            layers,
            classes: 2,
            attention: true,
            slope: 0.1,
        })
    }
}

/// Rows over the places of known events.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Sequences of places.
    pub sequences: Vec<Vec<u32>>,
    /// Whether each is an anomaly.
    pub anomalous: Vec<bool>,
    /// Their weights.
    pub weights: Vec<f64>,
}

impl Places {
    /// The rows one by one.
    pub fn rows(&self) -> impl Iterator<Item = (&[u32], bool, f64)> {
        let labels = self.anomalous.iter().zip(&self.weights);
        self.sequences.iter().zip(labels).map(|(places, (&label, &weight))| (&places[..], label, weight))
    }

    /// Examples for a network: equal rows as one, the heaviest of them spread over copies.
    pub fn examples(&self, max_length: usize) -> Vec<Example<'_>> {
        let example = |(places, anomalous, weight): (_, bool, _)| {
            let events: &[u32] = places;
            Example { events: &events[..events.len().min(max_length)], class: u32::from(anomalous), weight }
        };
        let merged = merge(self.rows().filter(|row| row.2 > 0.0).map(example).collect());
        let total: f64 = merged.iter().map(|example| example.weight).sum();
        // A typical row has this weight. Up to sixteen copies of an average distinct row are made; beyond
        // that, copies grow heavier instead of more.
        let typical = total / self.sequences.len().max(1) as f64;
        let heaviest = typical.max(total / (16.0 * merged.len().max(1) as f64));
        spread(&merged, heaviest)
    }
}

/// What is seen of a fit as it goes on.
pub enum Progress<'a> {
    /// This share of the whole is done.
    Share(f64),
    /// A network's epoch is done.
    Epoch {
        /// The share of the whole that is done.
        share: f64,
        /// Its record.
        record: &'a Epoch,
        /// The network after it.
        network: &'a Network,
    },
}

/// A trained network.
#[derive(Clone, Debug)]
pub struct Network {
    /// The network.
    pub net: Classifier,
    /// Its parameters.
    pub parameters: Vec<f32>,
    /// Events of a sequence that it reads.
    pub max_length: usize,
}

/// A fitted detector.
#[expect(clippy::large_enum_variant, reason = "a program holds few of them")]
#[derive(Clone, Debug)]
pub enum Detector {
    /// LogRobust's network.
    Network(Network),
    /// Trees.
    Tree(Forest),
    /// Logistic regression.
    Linear(Linear),
    /// Neighbours.
    Nearest(Nearest),
}

impl Detector {
    /// Fits a cheap method.
    pub fn fit_counts(method: Method, rows: &Places, events: usize, seed: u64) -> Self {
        let merged = counts::merge(rows.rows());
        match method {
            Method::Linear => Self::Linear(Linear::fit(&merged, events)),
            Method::Nearest => Self::Nearest(Nearest::fit(&merged)),
            _ => Self::Tree(Forest::fit(&merged, events, seed)),
        }
    }

    /// Which way it is.
    pub fn method(&self) -> Method {
        match self {
            Self::Network(_) => Method::Network,
            Self::Tree(_) => Method::Tree,
            Self::Linear(_) => Method::Linear,
            Self::Nearest(_) => Method::Nearest,
        }
    }

    /// The probability of an anomaly for each sequence. `table` holds the vectors of all places;
    /// `known` of them are known events, and the cheap methods count the others together.
    ///
    /// # Errors
    /// `Cancelled` when `stop` says so, and for what would take too much memory.
    pub fn probabilities(
        &self,
        sequences: &[Vec<u32>],
        table: &[f32],
        known: usize,
        stop: Stop<'_>,
    ) -> Result<Vec<f64>, ClassifyError> {
        match self {
            Self::Network(network) => network.probabilities(sequences, table, stop),
            Self::Tree(forest) => by_counts(sequences, known, stop, |counts| forest.probability(counts)),
            Self::Linear(linear) => by_counts(sequences, known, stop, |counts| linear.probability(counts)),
            Self::Nearest(nearest) => by_counts(sequences, known, stop, |counts| nearest.probability(counts)),
        }
    }
}

/// Counts of a sequence in which all places from `known` on are one.
pub fn known_counts(places: &[u32], known: usize) -> Counts {
    counts::count(&places.iter().map(|&place| place.min(known as u32)).collect::<Vec<_>>())
}

/// Answers for equal counts once, on all threads.
fn by_counts(
    sequences: &[Vec<u32>],
    known: usize,
    stop: Stop<'_>,
    answer: impl Fn(&Counts) -> f64 + Sync,
) -> Result<Vec<f64>, ClassifyError> {
    let mut numbers: HashMap<Counts, usize> = HashMap::new();
    let number_of: Vec<usize> = sequences
        .iter()
        .map(|sequence| {
            let next = numbers.len();
            *numbers.entry(known_counts(sequence, known)).or_insert(next)
        })
        .collect();
    let mut distinct: Vec<(Counts, usize)> = numbers.into_iter().collect();
    distinct.sort_by_key(|(_, number)| *number);
    let answer = |(counts, _): &(Counts, usize)| (!stop()).then(|| answer(counts));
    let answers: Option<Vec<f64>> = distinct.par_iter().map(answer).collect();
    let answers = answers.ok_or(ClassifyError::Cancelled)?;
    Ok(number_of.into_iter().map(|number| answers[number]).collect())
}

/// Says whether work that goes on for long is to end; asked often, from any thread.
pub type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

/// Bytes that the longest sequence takes in a network, and bytes that all events do, at most.
const MAX_MEMORY: usize = 1 << 30;

impl Network {
    /// Trains a network on `rows` over the events of `space`.
    pub fn fit(
        config: &NetworkConfig,
        space: &EventSpace,
        rows: &Places,
        validation: &Places,
        watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<(Self, Vec<Epoch>), ClassifyError> {
        config.check()?;
        let net = config.net(space.width);
        let parameters = net.initialise(config.training.seed);
        let (examples, held) = (rows.examples(config.max_length), validation.examples(config.max_length));
        let epochs = config.training.epochs as f64;
        let mut watch_moment = |moment: Moment<'_>| match moment {
            Moment::Batch { epoch, done } => watch(Progress::Share((epoch as f64 + done) / epochs)),
            Moment::Epoch { record, parameters } => {
                let network =
                    Self { net: net.clone(), parameters: parameters.to_vec(), max_length: config.max_length };
                let share = (record.epoch + 1) as f64 / epochs;
                watch(Progress::Epoch { share, record, network: &network })
            }
        };
        let settings = &config.training;
        let trained = train(&net, parameters, &space.table, &examples, &held, settings, &mut watch_moment)?;
        if trained.ending == Ending::Cancelled {
            return Err(ClassifyError::Cancelled);
        }
        let network = Self { net, parameters: trained.parameters, max_length: config.max_length };
        Ok((network, trained.history))
    }

    fn probabilities(
        &self,
        sequences: &[Vec<u32>],
        table: &[f32],
        stop: Stop<'_>,
    ) -> Result<Vec<f64>, ClassifyError> {
        let scored = self.scored(sequences, table, false, stop)?;
        Ok(scored.into_iter().map(|(logits, _)| softmax(&logits)[1]).collect())
    }

    /// The logits of each sequence, and the attention share of each step if `explain`.
    ///
    /// # Errors
    /// `Cancelled` when `stop` says so; for a sequence, or events, that would take too much memory.
    #[expect(clippy::type_complexity, reason = "a pair of lists needs no name of its own")]
    pub fn scored(
        &self,
        sequences: &[Vec<u32>],
        table: &[f32],
        explain: bool,
        stop: Stop<'_>,
    ) -> Result<Vec<(Vec<f32>, Vec<f32>)>, ClassifyError> {
        let read: Vec<&[u32]> = sequences.iter().map(|s| &s[..s.len().min(self.max_length)]).collect();
        let hidden = self.net.shape().hidden;
        let longest = read.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
        let events = table.len() / self.net.shape().input.max(1);
        for (many, each, what) in [
            (longest, self.net.step_memory::<f32>(), "events in one sequence"),
            (events, self.net.event_memory::<f32>(), "distinct events"),
        ] {
            let most = MAX_MEMORY / each;
            if many > most {
                return Err(ClassifyError::Model(format!(
                    "there are {many} {what}, and a network of {hidden} hidden units takes at most {most}"
                )));
            }
        }
        let scored = Scorer::new(&self.net, &self.parameters, table).score_until(&read, explain, stop);
        let scored = scored.ok_or(ClassifyError::Cancelled)?;
        Ok(scored.into_iter().map(|scored| (scored.logits, scored.shares)).collect())
    }
}
