//! A network trained by parties that keep their rows: federated averaging (McMahan et al. 2017).
//!
//! Every round, some parties start from the common parameters, train on their own rows, and send back
//! parameters; the mean of these, by rows, is where the next round starts. What crosses the
//! [`FederatedTransport`] is the names of events with their texts or vectors, counts of rows, and
//! parameters: never a row. So a federated model has no normal sequences to show and does not know which
//! sequences it has seen.
//!
//! With [`Privacy`], each party's change is cut to a length and noise is added to their mean, which
//! bounds what the parameters can tell about any one party (client-level differential privacy: McMahan et
//! al. 2018). The stated epsilon is that of the Gaussian mechanism composed over the rounds as if every
//! party took part in each (zero-concentrated privacy: Bun and Steinke 2016): an upper bound.

use std::ops::ControlFlow;

use super::dataset::{Dataset, Event};
use super::detector::{Detector, Network, NetworkConfig, Places, Progress};
use super::error::{ClassifyError, data};
use super::fit::places_of;
use super::model::{Model, Provenance};
use super::nearest::Normals;
use super::space::EventSpace;
use crate::recurrent::layout::Layout;
use crate::recurrent::random::Random;
use crate::recurrent::train::{Ending, Epoch, Moment, Schedule, Training, train};

/// How a federation trains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FederatedConfig {
    /// Rounds of training and averaging.
    pub rounds: usize,
    /// The share of parties that take part in a round, in `(0, 1]`.
    pub participation: f64,
    /// Whether parties count by their rows; else all the same.
    pub by_rows: bool,
    /// Bounds what parameters tell about a party.
    pub privacy: Option<Privacy>,
    /// The share of anomalies expected in use; `None` takes that of all rows.
    pub expected_share: Option<f64>,
    /// The network; its `training.epochs` are those of a party in one round.
    pub network: NetworkConfig,
}

/// Client-level differential privacy.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Privacy {
    /// The length that a party's change is cut to.
    pub clip: f64,
    /// The standard deviation of the noise, as a multiple of `clip` over the number of parties.
    pub noise: f64,
    /// The probability with which the bound may fail.
    pub delta: f64,
}

impl Privacy {
    /// The epsilon after `rounds`: `T / 2z² + sqrt(2 T ln(1/delta)) / z` for a noise multiple of `z`.
    pub fn epsilon(&self, rounds: usize) -> f64 {
        let rho = rounds as f64 / (2.0 * self.noise * self.noise);
        rho + 2.0 * (rho * (1.0 / self.delta).ln()).sqrt()
    }

    fn check(&self) -> Result<(), ClassifyError> {
        let usable = |value: f64| value > 0.0 && value.is_finite();
        if !(usable(self.clip) && usable(self.noise) && self.delta > 0.0 && self.delta < 1.0) {
            return Err(data(format!(
                "privacy needs a clip and a noise above 0 and a delta in (0, 1), not {}, {} and {}",
                self.clip, self.noise, self.delta
            )));
        }
        Ok(())
    }
}

/// What a party says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Labelled rows.
    pub rows: usize,
    /// Their weight.
    pub weight: f64,
    /// The weight of the anomalies among them.
    pub anomalies: f64,
    /// The events that its rows have.
    pub events: Vec<Event>,
}

/// What a party is asked to do in a round.
pub struct Task<'a> {
    /// The events that all parties use.
    pub space: &'a EventSpace,
    /// The parameters to start from.
    pub parameters: &'a [f32],
    /// The network's sizes, and the training of this round.
    pub config: &'a NetworkConfig,
}

/// What a party sends back.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The parameters after its training.
    pub parameters: Vec<f32>,
    /// Its labelled rows.
    pub rows: usize,
    /// The mean loss of its last epoch.
    pub loss: f64,
}

/// The way to the parties.
pub trait FederatedTransport {
    /// The number of parties.
    fn parties(&self) -> usize;
    /// What a party says about itself.
    fn facts(&self, party: usize) -> Result<Facts, ClassifyError>;
    /// Has a party train; `watch` sees the share of its work that is done.
    fn train(
        &self,
        party: usize,
        task: &Task<'_>,
        watch: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Update, ClassifyError>;
}

/// Parties in this process, each with its own rows.
pub struct InProcess<'a> {
    /// The rows of each party.
    pub parties: &'a [Dataset],
}

impl FederatedTransport for InProcess<'_> {
    fn parties(&self) -> usize {
        self.parties.len()
    }

    fn facts(&self, party: usize) -> Result<Facts, ClassifyError> {
        Ok(facts(&self.parties[party]))
    }

    fn train(
        &self,
        party: usize,
        task: &Task<'_>,
        watch: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Update, ClassifyError> {
        local_update(task, &self.parties[party], watch)
    }
}

/// What a party says about rows of its own.
pub fn facts(rows: &Dataset) -> Facts {
    let mut facts = Facts::default();
    let mut used = vec![false; rows.events.len()];
    for (row, anomalous) in rows.labelled() {
        facts.rows += 1;
        facts.weight += row.weight;
        facts.anomalies += if anomalous { row.weight } else { 0.0 };
        row.events.iter().for_each(|&event| used[event as usize] = true);
    }
    let used = rows.events.iter().zip(used).filter(|(_, used)| *used);
    facts.events = used.map(|(event, _)| event.clone()).collect();
    facts
}

/// A party's part of a round, on its own rows.
pub fn local_update(
    task: &Task<'_>,
    rows: &Dataset,
    watch: &mut dyn FnMut(f64) -> ControlFlow<()>,
) -> Result<Update, ClassifyError> {
    let places: Places = places_of(task.space, rows)?;
    let net = task.config.net(task.space.width);
    let settings = &task.config.training;
    let examples = places.examples(task.config.max_length);
    let mut watch = |moment: Moment<'_>| match moment {
        Moment::Batch { epoch, done } => watch((epoch as f64 + done) / settings.epochs as f64),
        Moment::Epoch { .. } => ControlFlow::Continue(()),
    };
    let start = task.parameters.to_vec();
    let trained = train(&net, start, &task.space.table, &examples, &[], settings, &mut watch)?;
    if trained.ending == Ending::Cancelled {
        return Err(ClassifyError::Cancelled);
    }
    let loss = trained.history.last().map_or(0.0, |epoch| epoch.loss);
    Ok(Update { parameters: trained.parameters, rows: places.sequences.len(), loss })
}

/// The mean of what parties sent back.
///
/// With `privacy` the parties count the same, since the bound on one party's part rests on that.
pub fn aggregate(
    layout: &Layout,
    start: &[f32],
    updates: &[Update],
    by_rows: bool,
    privacy: Option<(&Privacy, &mut Random)>,
) -> Vec<f32> {
    let even = !by_rows || privacy.is_some();
    let weight = |update: &Update| if even { 1.0 } else { update.rows as f64 };
    let total: f64 = updates.iter().map(weight).sum();
    let mut change = vec![0.0f64; start.len()];
    for update in updates {
        let difference = |(new, old): (&f32, &f32)| f64::from(*new) - f64::from(*old);
        let moved: Vec<f64> = update.parameters.iter().zip(start).map(difference).collect();
        let length = moved.iter().map(|value| value * value).sum::<f64>().sqrt();
        let cut = privacy.as_ref().map_or(1.0, |(privacy, _)| (privacy.clip / length.max(1e-300)).min(1.0));
        let share = cut * weight(update) / total;
        change.iter_mut().zip(moved).for_each(|(sum, value)| *sum += share * value);
    }
    if let Some((privacy, random)) = privacy {
        let deviation = privacy.noise * privacy.clip / updates.len().max(1) as f64;
        layout.places().for_each(|place| change[place] += deviation * random.normal());
    }
    start.iter().zip(change).map(|(&old, change)| (f64::from(old) + change) as f32).collect()
}

/// What came of a federation.
#[derive(Debug)]
pub struct Federated {
    /// The common model.
    pub model: Model,
    /// The rounds; the loss is the mean of the parties' by rows.
    pub rounds: Vec<Epoch>,
    /// The parties that had rows, and so took part.
    pub parties: Vec<usize>,
    /// The epsilon of [`Privacy`] at its delta.
    pub epsilon: Option<f64>,
}

/// Trains a common network over all parties.
pub fn run(
    transport: &dyn FederatedTransport,
    config: &FederatedConfig,
    watch: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Federated, ClassifyError> {
    check(config)?;
    let all: Vec<Facts> =
        (0..transport.parties()).map(|party| transport.facts(party)).collect::<Result<_, _>>()?;
    let parties: Vec<usize> = (0..all.len()).filter(|&party| all[party].rows > 0).collect();
    if parties.is_empty() {
        return Err(data("no party of the federation has labelled rows"));
    }
    let (weight, anomalies) =
        all.iter().fold((0.0, 0.0), |sum, facts| (sum.0 + facts.weight, sum.1 + facts.anomalies));
    if anomalies <= 0.0 || anomalies >= weight {
        return Err(data("training needs rows of both labels, but the parties together have one alone"));
    }
    let space = EventSpace::of_events(all.iter().flat_map(|facts| facts.events.clone()).collect())?;
    let net = config.network.net(space.width);
    let seed = config.network.training.seed;
    let mut parameters: Vec<f32> = net.initialise(seed);
    let mut rounds: Vec<Epoch> = Vec::new();
    for round in 0..config.rounds {
        let chosen = participants(&parties, config.participation, seed, round);
        let mut updates = Vec::with_capacity(chosen.len());
        for (turn, &party) in chosen.iter().enumerate() {
            let training = round_training(config, round, party);
            let task = Task {
                space: &space,
                parameters: &parameters,
                config: &NetworkConfig { training, ..config.network },
            };
            let part = |done: f64| {
                (round as f64 + (turn as f64 + done) / chosen.len() as f64) / config.rounds as f64
            };
            updates.push(transport.train(party, &task, &mut |done| watch(Progress::Share(part(done))))?);
        }
        check_updates(&updates, &chosen, parameters.len())?;
        let mut random = Random::stream(seed, &[3, round as u64]);
        let privacy = config.privacy.as_ref().map(|privacy| (privacy, &mut random));
        parameters = aggregate(net.layout(), &parameters, &updates, config.by_rows, privacy);
        let rows: f64 = updates.iter().map(|update| update.rows as f64).sum();
        let loss = updates.iter().map(|update| update.loss * update.rows as f64).sum::<f64>() / rows;
        rounds.push(Epoch { epoch: round, loss, validation_loss: None });
        let network = Network {
            net: net.clone(),
            parameters: parameters.clone(),
            max_length: config.network.max_length,
        };
        let share = (round + 1) as f64 / config.rounds as f64;
        if watch(Progress::Epoch { share, record: &rounds[round], network: &network }).is_break() {
            return Err(ClassifyError::Cancelled);
        }
    }
    let network = Network { net, parameters, max_length: config.network.max_length };
    let training_share = anomalies / weight;
    let model = Model {
        detector: Detector::Network(network),
        space: Some(space),
        training_share,
        expected_share: config.expected_share.unwrap_or(training_share),
        normals: Normals::default(),
        seen: Vec::new(),
        provenance: Provenance {
            training_rows: all.iter().map(|facts| facts.rows).sum(),
            reason: format!("trained by {} parties in {} rounds", parties.len(), config.rounds),
            seed,
            ..Provenance::default()
        },
        history: rounds.clone(),
    };
    let epsilon = config.privacy.map(|privacy| privacy.epsilon(config.rounds));
    Ok(Federated { model, rounds, parties, epsilon })
}

fn check(config: &FederatedConfig) -> Result<(), ClassifyError> {
    config.network.check()?;
    if config.rounds == 0 {
        return Err(data("the number of rounds is 0, expected at least 1"));
    }
    if !(config.participation > 0.0 && config.participation <= 1.0) {
        return Err(data(format!(
            "the participation is {}, expected a share in (0, 1]",
            config.participation
        )));
    }
    if let Some(share) = config.expected_share.filter(|share| !(*share > 0.0 && *share < 1.0)) {
        return Err(data(format!("the expected share of anomalies is {share}, expected one in (0, 1)")));
    }
    config.privacy.map_or(Ok(()), |privacy| privacy.check())
}

/// What came over the transport is not trusted to have the right size or finite numbers.
fn check_updates(updates: &[Update], chosen: &[usize], len: usize) -> Result<(), ClassifyError> {
    for (update, party) in updates.iter().zip(chosen) {
        if update.parameters.len() != len || update.parameters.iter().any(|value| !value.is_finite()) {
            return Err(data(format!("party {party} sent back parameters that do not fit the network")));
        }
    }
    Ok(())
}

/// The parties of a round, rising: at least one.
fn participants(parties: &[usize], share: f64, seed: u64, round: usize) -> Vec<usize> {
    let count = ((parties.len() as f64 * share).round() as usize).clamp(1, parties.len());
    let mut order = parties.to_vec();
    Random::stream(seed, &[2, round as u64]).shuffle(&mut order);
    order.truncate(count);
    order.sort_unstable();
    order
}

/// A party's training in a round: the rate falls over the rounds, not within one.
fn round_training(config: &FederatedConfig, round: usize, party: usize) -> Training {
    let training = config.network.training;
    let seed = Random::stream(training.seed, &[4, round as u64, party as u64]).bits();
    let learning_rate = training.rate(round as f64 / config.rounds as f64);
    Training { learning_rate, schedule: Schedule::Constant, seed, patience: 0, ..training }
}
