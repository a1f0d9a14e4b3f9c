//! `linear`: logistic regression on how often events occur, whether they do, and how many there are.
//!
//! Features of a sequence: `ln(1 + count)` and presence for every event, and `ln(1 + length)`. The loss
//! has a quadratic penalty; it is minimised by full-batch Adam with a falling rate, which for a few
//! hundred distinct count vectors takes milliseconds.

use super::counts::{CountRow, Counts};
use crate::recurrent::optimiser::{Optimiser, Rule};

/// Steps of the descent.
const STEPS: usize = 1500;
/// The rate at its start.
const RATE: f64 = 0.1;
/// Weight of the penalty, per row.
const PENALTY: f64 = 0.1;

/// The coefficients: presence and log-count of each place by turns, then length, then the constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// The numbers.
    pub coefficients: Vec<f64>,
}

fn features(counts: &Counts, events: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
    let known = counts.iter().filter(move |&&(place, _)| (place as usize) < events);
    let length: f64 = counts.iter().map(|&(_, count)| f64::from(count)).sum();
    let pairs = known.flat_map(|&(place, count)| {
        let at = 2 * place as usize;
        [(at, 1.0), (at + 1, f64::from(count).ln_1p())]
    });
    pairs.chain([(2 * events, length.ln_1p()), (2 * events + 1, 1.0)])
}

impl Linear {
    /// Fits counts of `events` places.
    pub fn fit(rows: &[CountRow], events: usize) -> Self {
        let mut coefficients = vec![0.0; 2 * events + 2];
        let total: f64 = rows.iter().map(|row| row.weight).sum();
        let mut optimiser = Optimiser::new(Rule::ADAM, coefficients.len());
        let mut gradient = vec![0.0; coefficients.len()];
        for step in 0..STEPS {
            let constant = coefficients.len() - 1;
            for (at, (slot, &value)) in gradient.iter_mut().zip(&coefficients).enumerate() {
                *slot = if at == constant { 0.0 } else { PENALTY * value / total };
            }
            for row in rows {
                let target = if row.anomalous { 1.0 } else { 0.0 };
                let error = row.weight / total * (logistic(sum(&coefficients, &row.counts)) - target);
                features(&row.counts, events).for_each(|(at, value)| gradient[at] += error * value);
            }
            let done = step as f64 / STEPS as f64;
            optimiser.step(&mut coefficients, &gradient, RATE * (1.0 - done));
        }
        Self { coefficients }
    }

    fn events(&self) -> usize {
        self.coefficients.len() / 2 - 1
    }

    /// The probability of an anomaly, as balanced as the training rows.
    pub fn probability(&self, counts: &Counts) -> f64 {
        logistic(sum(&self.coefficients, counts))
    }

    /// What each event adds to the log-odds, largest first.
    pub fn contributions(&self, counts: &Counts) -> Vec<(u32, f64)> {
        let added = |&(place, count): &(u32, u32)| {
            let at = 2 * place as usize;
            let [presence, amount] = [self.coefficients[at], self.coefficients[at + 1]];
            (place, presence + amount * f64::from(count).ln_1p())
        };
        let known = counts.iter().filter(|&&(place, _)| (place as usize) < self.events());
        let mut added: Vec<(u32, f64)> = known.map(added).collect();
        added.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        added
    }
}

fn sum(coefficients: &[f64], counts: &Counts) -> f64 {
    features(counts, coefficients.len() / 2 - 1).map(|(at, value)| coefficients[at] * value).sum()
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::Linear;
    use crate::classify::counts::{CountRow, count};

    #[test]
    fn the_event_of_anomalies_weighs_for_them_and_unknown_events_do_not_matter() {
        let row = |places: &[u32], anomalous| CountRow { counts: count(places), anomalous, weight: 1.0 };
        let rows =
            [row(&[0, 1], false), row(&[0, 0, 1], false), row(&[0, 1, 2], true), row(&[0, 2, 2], true)];
        let linear = Linear::fit(&rows, 3);
        for row in &rows {
            assert_eq!(linear.probability(&row.counts) > 0.5, row.anomalous);
        }
        let (event, added) = linear.contributions(&count(&[0, 2]))[0];
        assert!(event == 2 && added > 0.0);
        assert!(linear.probability(&count(&[0, 1, 3])).is_finite());
        assert_eq!(linear.contributions(&count(&[3])), []);
    }
}
