//! Cuts of a dataset that do not flatter a detector: equal sequences never lie on both sides.
//!
//! Logs repeat themselves, so a random cut of rows tests on what was trained on. Here the rows of one
//! sequence stay together, and the sequences of each label are dealt out so that every part gets its
//! share of rows of either.

use std::collections::HashMap;

use super::dataset::Dataset;
use crate::recurrent::random::Random;

/// How rows are dealt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// At random by this seed, by label.
    Stratified(u64),
    /// Earlier rows to earlier parts, by [`Dataset::times`], else as they come. A sequence goes where it
    /// first occurs.
    Time,
}

/// Deals the rows out into parts of about these shares; returns the places of each part's rows, rising.
pub fn split(dataset: &Dataset, shares: &[f64], order: Order) -> Vec<Vec<usize>> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut known: HashMap<&[u32], usize> = HashMap::new();
    let mut order_of_rows: Vec<usize> = (0..dataset.rows.len()).collect();
    if order == Order::Time && !dataset.times.is_empty() {
        order_of_rows.sort_by_key(|&place| dataset.times[place]);
    }
    for place in order_of_rows {
        let row = &dataset.rows[place];
        let group = *known.entry(&row.events).or_insert(groups.len());
        if group == groups.len() {
            groups.push((0, Vec::new()));
        }
        groups[group].1.push(place);
    }
    for (label, rows) in &mut groups {
        let anomalies = rows.iter().filter(|&&row| dataset.rows[row].anomalous == Some(true)).count();
        *label = usize::from(2 * anomalies > rows.len());
    }
    let strata: Vec<Vec<Vec<usize>>> = match order {
        Order::Time => vec![groups.into_iter().map(|(_, rows)| rows).collect()],
        Order::Stratified(seed) => {
            let mut strata = vec![Vec::new(), Vec::new()];
            groups.into_iter().for_each(|(label, rows)| strata[label].push(rows));
            for (label, stratum) in strata.iter_mut().enumerate() {
                Random::stream(seed, &[label as u64]).shuffle(stratum);
                // The largest groups first, while there is room to balance them.
                stratum.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
            }
            strata
        }
    };
    let mut parts = vec![Vec::new(); shares.len()];
    for stratum in strata {
        deal(stratum, shares, order == Order::Time, &mut parts);
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts
}

fn deal(groups: Vec<Vec<usize>>, shares: &[f64], in_turn: bool, parts: &mut [Vec<usize>]) {
    let total: f64 = groups.iter().map(|rows| rows.len() as f64).sum();
    let sum: f64 = shares.iter().sum();
    let wanted: Vec<f64> = shares.iter().map(|share| share / sum * total).collect();
    let mut have = vec![0.0; shares.len()];
    for rows in groups {
        let lacks = |part: usize| wanted[part] - have[part];
        let part = if in_turn {
            (0..shares.len()).find(|&part| lacks(part) > 0.5).unwrap_or(shares.len() - 1)
        } else {
            let need = |part: &usize| lacks(*part) / wanted[*part].max(1e-9);
            let parts = (0..shares.len()).filter(|&part| shares[part] > 0.0);
            parts.max_by(|a, b| need(a).total_cmp(&need(b)).then(b.cmp(a))).unwrap_or(0)
        };
        have[part] += rows.len() as f64;
        parts[part].extend(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::{Order, split};
    use crate::classify::dataset::{Dataset, Event, Row};
    use crate::recurrent::random::Random;

    fn dataset() -> Dataset {
        let mut random = Random::new(1);
        let mut row = || {
            let kind = random.below(200) as u32;
            Row { events: vec![kind % 7, kind], anomalous: Some(kind.is_multiple_of(5)), weight: 1.0 }
        };
        let rows = (0..2000).map(|_| row()).collect();
        let event = |id: usize| Event { id: id.to_string(), ..Event::default() };
        Dataset { events: (0..200).map(event).collect(), rows, times: Vec::new() }
    }

    #[test]
    fn equal_sequences_stay_on_one_side_and_labels_are_shared_out() {
        let data = dataset();
        for order in [Order::Stratified(3), Order::Time] {
            let parts = split(&data, &[0.7, 0.1, 0.2], order);
            assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 2000);
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                assert!(!data.select(&parts[a]).overlap(&data.select(&parts[b])).contains(&true));
            }
        }
        let parts = split(&data, &[0.7, 0.1, 0.2], Order::Stratified(3));
        for (part, share) in parts.iter().zip([0.7, 0.1, 0.2]) {
            let anomalies = part.iter().filter(|&&row| data.rows[row].anomalous == Some(true)).count();
            assert!((part.len() as f64 / 2000.0 - share).abs() < 0.02);
            assert!((anomalies as f64 / part.len() as f64 - 0.2).abs() < 0.04);
        }
        assert_eq!(parts, split(&data, &[0.7, 0.1, 0.2], Order::Stratified(3)));
        assert_ne!(parts, split(&data, &[0.7, 0.1, 0.2], Order::Stratified(4)));
    }

    #[test]
    fn a_cut_in_time_puts_earlier_sequences_first() {
        let row = |event: u32| Row { events: vec![event], anomalous: None, weight: 1.0 };
        let rows = [1, 2, 1, 3, 4, 2, 5, 6].map(row).to_vec();
        let mut data = Dataset { events: Vec::new(), rows, times: Vec::new() };
        let parts = split(&data, &[0.5, 0.5], Order::Time);
        assert_eq!(parts, [vec![0, 1, 2, 5], vec![3, 4, 6, 7]]);
        data.times = vec![80, 70, 60, 50, 40, 30, 20, 10];
        let parts = split(&data, &[0.5, 0.5], Order::Time);
        // The latest of these has the same events as row 5, and goes where it goes.
        assert_eq!(parts, [vec![1, 5, 6, 7], vec![0, 2, 3, 4]]);
    }
}
