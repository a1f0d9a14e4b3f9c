//! Scoring many sequences: equal ones once, those of like length together, on all threads.
//!
//! Sequences are worked on in portions that fit a bound on memory; only one sequence that is longer than
//! that by itself goes beyond it.

use std::collections::HashMap;

use super::classifier::{Classifier, SHARD, Scratch};
use super::real::Real;
use super::shards;
use super::stack::Weights;

/// Bytes that a portion of sequences takes while it is worked on, about.
const PORTION: usize = 256 << 20;

/// A network ready to score: its weights in the forms that products want and its events projected.
pub struct Scorer<'a, F> {
    net: &'a Classifier,
    parameters: &'a [F],
    weights: Weights<'a, F>,
}

/// What the network says of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored<F> {
    /// One logit a class.
    pub logits: Vec<F>,
    /// How much each step counted; they sum to one. Empty unless asked for.
    pub shares: Vec<F>,
}

impl<'a, F: Real> Scorer<'a, F> {
    /// Readies `parameters` for sequences over the rows of `table`, the vectors of the events.
    pub fn new(net: &'a Classifier, parameters: &'a [F], table: &[F]) -> Self {
        Self { net, parameters, weights: net.weights(parameters, table, false) }
    }

    /// Scores sequences of rows of the table, in their order; with the shares of their steps if
    /// `explain`.
    pub fn score(&self, sequences: &[&[u32]], explain: bool) -> Vec<Scored<F>> {
        self.score_until(sequences, explain, &|| false).expect("nobody asks it to stop")
    }

    /// As [`Scorer::score`], until `stop` says so: then `None`. It is asked often, from any thread.
    pub fn score_until(
        &self,
        sequences: &[&[u32]],
        explain: bool,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Option<Vec<Scored<F>>> {
        let mut numbers: HashMap<&[u32], usize> = HashMap::with_capacity(sequences.len());
        let mut distinct: Vec<&[u32]> = Vec::new();
        let mut number_of = Vec::with_capacity(sequences.len());
        for &sequence in sequences {
            let number = *numbers.entry(sequence).or_insert(distinct.len());
            if number == distinct.len() {
                distinct.push(sequence);
            }
            number_of.push(number);
        }
        let scored = self.score_distinct(&distinct, explain, stop)?;
        Some(number_of.into_iter().map(|number| scored[number].clone()).collect())
    }

    fn score_distinct(
        &self,
        sequences: &[&[u32]],
        explain: bool,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Option<Vec<Scored<F>>> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(sequences[at].len()));
        let mut scored = vec![Scored { logits: Vec::new(), shares: Vec::new() }; sequences.len()];
        let mut scratches: Vec<(Scratch<F>, Vec<Scored<F>>)> = Vec::new();
        let most = (PORTION / self.net.step_memory::<F>()).max(1);
        let mut rest = &order[..];
        while !rest.is_empty() {
            // The longest come first, so scratches never grow after the first portion.
            let mut steps = 0;
            let fits = |&&at: &&usize| {
                steps += sequences[at].len();
                steps <= most
            };
            let (portion, after) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            let work = |_, range: std::ops::Range<usize>, (scratch, out): &mut (Scratch<F>, Vec<_>)| {
                if stop() {
                    return;
                }
                let shard: Vec<&[u32]> = portion[range].iter().map(|&at| sequences[at]).collect();
                *out = self.shard(&shard, explain, scratch);
            };
            shards::run(portion.len(), SHARD, &mut scratches, work, |range, (_, out)| {
                for (&at, result) in portion[range].iter().zip(out.drain(..)) {
                    scored[at] = result;
                }
            });
            if stop() {
                return None;
            }
            rest = after;
        }
        Some(scored)
    }

    fn shard(&self, sequences: &[&[u32]], explain: bool, scratch: &mut Scratch<F>) -> Vec<Scored<F>> {
        let classes = self.net.shape().classes;
        let (packed, logits) = self.net.forward(self.parameters, &self.weights, sequences, None, scratch);
        let logits: Vec<Vec<F>> = logits.chunks_exact(classes).map(<[F]>::to_vec).collect();
        let shares = self.net.shares(scratch);
        let scored = |(at, logits)| {
            let shares = if explain { packed.sequence(at).map(|row| shares[row]).collect() } else { vec![] };
            Scored { logits, shares }
        };
        logits.into_iter().enumerate().map(scored).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Scorer;
    use crate::recurrent::classifier::{Classifier, ClassifierShape};
    use crate::recurrent::random::Random;

    #[test]
    fn many_sequences_score_as_each_alone() {
        let shape =
            ClassifierShape { input: 4, hidden: 5, layers: 2, classes: 2, attention: true, slope: 0.0 };
        let net = Classifier::new(shape);
        let parameters: Vec<f64> = net.initialise(1);
        let mut random = Random::new(2);
        let table: Vec<f64> = (0..24).map(|_| random.normal()).collect();
        let mut draw = || (0..random.below(9)).map(|_| random.below(6) as u32).collect();
        let sequences: Vec<Vec<u32>> = (0..100).map(|_| draw()).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(|s| &s[..]).collect();
        let scorer = Scorer::new(&net, &parameters, &table);
        let together = scorer.score(&sequences, true);
        for (sequence, scored) in sequences.iter().zip(&together) {
            let alone = &scorer.score(&[sequence], true)[0];
            let near = |a: &[f64], b: &[f64]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
            };
            assert!(near(&alone.logits, &scored.logits) && near(&alone.shares, &scored.shares));
            assert_eq!(scored.shares.len(), sequence.len());
            let sum: f64 = scored.shares.iter().sum();
            assert!(sequence.is_empty() || (sum - 1.0).abs() < 1e-12);
        }
        assert!(scorer.score(&[], true).is_empty());
    }
}
