//! Sessions compared as a whole: what shapes are usual, and how far is a session from the nearest of them?
//!
//! Learning takes the distinct count vectors (the heaviest and a seeded sample of the others when they are
//! too many), leaves out the odd ones ([`super::mass`]), and keeps the rest as the *reference*. A session's
//! score is its distance to the nearest reference vector, divided by what is allowed there.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::DetectorConfig;
use super::distance::{Entries, HARDLY_ANY, Scales, Weighted, differences, distance, quantile};
use super::kinds::Kinds;
use super::mass::{Cloud, NOISE_ALLOWED};
use super::order::Transitions;
use super::rarity::{ERROR_NEW, Rarity};
use super::reason::Reason;
use super::sample::sample;
use crate::features::{Groups, Orders};

/// A distance that is allowed everywhere: half of one more line where there are always three.
const ALLOWED: f32 = 1.2;
/// A log to learn from in which less than this share of the sessions is odd is believed as it is.
const BELIEVED: f64 = 0.005;
/// A template that less than this share of the sessions would bring anew is anomalous by itself.
const NEW_TEMPLATE: f64 = 0.005;
/// Distances that one call may measure; with more distinct vectors, fewer reference vectors are used.
const WORK: usize = 50_000_000;
const FEWEST_REFERENCES: usize = 64;

/// What is usual in the sessions of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shapes {
    /// Template ids by the numbers used below.
    templates: Vec<u32>,
    /// Sessions with each template.
    support: Vec<u32>,
    /// By kind.
    scales: Vec<Scales>,
    /// Usual lines of each template in sessions that have it.
    usual: Vec<(u32, u32)>,
    /// Usual lines in a session.
    length: (u32, u32),
    sessions: u64,
    references: Vec<Reference>,
    rarity: Rarity,
    transitions: Transitions,
}

/// What is known of the templates and transitions of the groups that are judged.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The number here of each of their templates.
    numbers: Vec<u16>,
    /// In how many sessions learnt from each of their transitions occurs.
    transitions: Vec<u32>,
    /// How many references they are compared with.
    used: usize,
    /// By number: whether most lines of the template are of an error level.
    severe: HashSet<u16>,
}

/// A usual count vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reference {
    vector: Vec<(u16, u32)>,
    mass: f64,
    kind: u16,
    /// The distance at which a session is no longer like this one.
    allowed: f32,
}

impl Shapes {
    pub(super) fn fit(groups: &Groups, config: &DetectorConfig, own: bool) -> Self {
        let vectors = groups.vectors();
        let (chosen, masses) = sample(vectors, config.seed);
        let mut set = Weighted {
            vectors: chosen.iter().map(|&i| vectors.get(i)).collect(),
            masses,
            repeats: chosen.iter().map(|&i| vectors.multiplicity(i) > 1).collect(),
        };
        let support = support(groups);
        let rarity = Rarity::new(rarest(groups, &support), NEW_TEMPLATE);
        // The cube leaves one in two hundred its full weight and next to nothing to one in ten.
        let novelty = rarity.surprise(HARDLY_ANY).min(1.0).powi(3);
        let mut kinds = Kinds::new(&set, support.len());
        let mut weights = kinds.scales(&set, &support, novelty);
        let mut cloud = Cloud::new(&set, &kinds, &weights);
        let kept = kept(&cloud, &set, config.expected_anomalies, own);
        if kept.len() < set.masses.len() {
            set = set.only(&kept);
            kinds = kinds.only(&kept);
            weights = kinds.scales(&set, &support, novelty);
            cloud = Cloud::new(&set, &kinds, &weights);
        }
        let noise = cloud.noise();
        let mut references: Vec<Reference> = (0..set.masses.len())
            .map(|i| Reference {
                vector: set.vectors[i].to_vec(),
                mass: set.masses[i],
                kind: kinds.of[i],
                allowed: ALLOWED + NOISE_ALLOWED * noise[i],
            })
            .collect();
        // The most usual first: it is the most likely to be near, and which come first must not depend on
        // the order of the log.
        references.sort_by(|a, b| b.mass.total_cmp(&a.mass).then_with(|| a.vector.cmp(&b.vector)));
        Self {
            templates: groups.templates().iter().map(|used| used.id).collect(),
            usual: usual(&set, support.len()),
            length: usual_length(&set),
            sessions: groups.len() as u64,
            rarity,
            transitions: Transitions::fit(groups),
            scales: weights,
            support,
            references,
        }
    }

    /// Looks up what is known of the templates and transitions of some groups.
    pub(super) fn see(&self, groups: &Groups) -> Seen {
        let affordable = (WORK / groups.vectors().len().max(1)).max(FEWEST_REFERENCES);
        let numbers = self.numbers(groups);
        let templates = groups.templates().iter().zip(&numbers);
        Seen {
            severe: templates.filter(|(used, _)| used.errors * 2 > used.lines).map(|(_, &at)| at).collect(),
            numbers,
            transitions: self.transitions.known(groups),
            used: affordable.min(self.references.len()),
        }
    }

    /// The score of every group; from 1 on it is anomalous.
    pub(super) fn score(&self, groups: &Groups, seen: &Seen, own: bool) -> Vec<f32> {
        let vectors = groups.vectors();
        let by_vector: Vec<f32> = (0..vectors.len())
            .into_par_iter()
            .map(|i| {
                let vector = translated(vectors.get(i), &seen.numbers);
                let (_, far) = self.nearest(&vector, seen.used);
                far.max(self.strangeness(&vector, &seen.severe, own))
            })
            .collect();
        let by_order = self.transitions.score(groups, &seen.transitions, own);
        groups
            .iter()
            .map(|group| {
                let order = by_order.get(group.order as usize).copied().unwrap_or(0.0);
                by_vector[group.vector as usize].max(order)
            })
            .collect()
    }

    /// The nearest of the first `used` references and the score that it gives.
    fn nearest(&self, vector: &Entries, used: usize) -> (Option<&Reference>, f32) {
        let mut best = (None, f32::INFINITY);
        for reference in &self.references[..used] {
            let enough = best.1 * reference.allowed;
            let scales = &self.scales[usize::from(reference.kind)];
            let score = distance(vector, &reference.vector, scales, enough) / reference.allowed;
            if score < best.1 {
                best = (Some(reference), score);
            }
            if best.1 == 0.0 {
                break;
            }
        }
        // Having learnt nothing, nothing is known to be abnormal.
        if best.0.is_none() { (None, 0.0) } else { best }
    }

    /// How surprising the rarest template of a session is in itself; more, if it tells of an error.
    fn strangeness(&self, vector: &Entries, severe: &HashSet<u16>, own: bool) -> f32 {
        let known = |t: u16| self.support.get(usize::from(t)).copied().unwrap_or(0);
        let surprise = |rarest: Option<u32>| match rarest {
            Some(0) if self.sessions > 0 => self.rarity.surprise(1),
            Some(rarest) if own => self.rarity.surprise(rarest),
            _ => 0.0,
        };
        let rarest = vector.iter().map(|&(template, _)| known(template)).min();
        let errors = vector.iter().filter(|(template, _)| severe.contains(template));
        surprise(rarest).max(ERROR_NEW * surprise(errors.map(|&(template, _)| known(template)).min()))
    }

    /// Why a group is anomalous, weightiest first.
    pub(super) fn explain(&self, groups: &Groups, seen: &Seen, index: usize, own: bool) -> Vec<Reason> {
        let group = groups.group(index);
        let vector = translated(groups.vectors().get(group.vector as usize), &seen.numbers);
        let mut reasons = Vec::new();
        if let (Some(reference), score) = self.nearest(&vector, seen.used)
            && score > 0.0
        {
            self.explain_difference(groups, &seen.numbers, &vector, reference, own, &mut reasons);
        }
        if self.strangeness(&vector, &seen.severe, own) >= 1.0 {
            self.explain_strangeness(groups, seen, &vector, &mut reasons);
        }
        self.explain_length(group.lines, &mut reasons);
        if group.order != Orders::UNKNOWN
            && self.transitions.score_of(groups, &seen.transitions, group.order, own) >= 1.0
        {
            reasons.extend(self.transitions.explain(groups, &seen.transitions, group.order));
        }
        reasons
    }

    fn explain_difference(
        &self,
        groups: &Groups,
        numbers: &[u16],
        vector: &Entries,
        reference: &Reference,
        own: bool,
        reasons: &mut Vec<Reason>,
    ) {
        let mut parts: Vec<(u16, f32)> = Vec::new();
        differences(
            vector,
            &reference.vector,
            &self.scales[usize::from(reference.kind)],
            |template, weight| {
                parts.push((template, weight));
                true
            },
        );
        parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f32 = parts.iter().map(|part| part.1).sum();
        let telling = parts.iter().take_while(|part| part.1 >= 0.15 * total).count();
        parts.truncate(telling.clamp(2, 4));
        for (template, _) in parts {
            let count = |v: &Entries| v.binary_search_by_key(&template, |e| e.0).map_or(0, |at| v[at].1);
            let (here, there) = (count(vector), count(&reference.vector));
            let known = self.support.get(usize::from(template)).copied().unwrap_or(0);
            let id = self.templates.get(usize::from(template)).copied();
            let id = id.unwrap_or_else(|| strange_id(groups, numbers, template));
            let (low, high) = self.usual.get(usize::from(template)).copied().unwrap_or((there, there));
            reasons.push(match (here, there, known) {
                (1.., 0, 0) => Reason::NewTemplate { template: id, groups: self.sessions },
                (1.., 0, 1..) if own && u64::from(known) * 200 <= self.sessions => {
                    Reason::RareTemplate { template: id, having: known.into(), groups: self.sessions }
                }
                (1.., 0, _) => Reason::Unexpected { template: id, count: here },
                (0, _, _) => Reason::Missing { template: id, low: low.min(there), high: high.max(there) },
                (_, _, _) if here >= low && here <= high => {
                    Reason::Count { template: id, count: here, low: there, high: there }
                }
                _ => Reason::Count { template: id, count: here, low, high },
            });
        }
    }

    /// Names the rarest template, unless it was named already.
    fn explain_strangeness(&self, groups: &Groups, seen: &Seen, vector: &Entries, reasons: &mut Vec<Reason>) {
        let known = |t: u16| self.support.get(usize::from(t)).copied().unwrap_or(0);
        let oddest = |&t: &u16| (known(t), !seen.severe.contains(&t), t);
        let Some(rarest) = vector.iter().map(|&(t, _)| t).min_by_key(oddest) else { return };
        let template = self.templates.get(usize::from(rarest)).copied();
        let template = template.unwrap_or_else(|| strange_id(groups, &seen.numbers, rarest));
        if reasons.iter().any(|reason| reason.template() == Some(template)) {
            return;
        }
        reasons.push(match known(rarest) {
            0 => Reason::NewTemplate { template, groups: self.sessions },
            having => Reason::RareTemplate { template, having: having.into(), groups: self.sessions },
        });
    }

    fn explain_length(&self, events: u32, reasons: &mut Vec<Reason>) {
        let (low, high) = self.length;
        let missing = reasons.iter().any(|reason| matches!(reason, Reason::Missing { .. }));
        if events < low && missing {
            reasons.insert(0, Reason::EndsEarly { events, low, high });
        } else if events > high {
            reasons.push(Reason::Long { events, low, high });
        }
    }

    /// The number here of each template of some groups; templates that are not known get new numbers.
    fn numbers(&self, groups: &Groups) -> Vec<u16> {
        let known: HashMap<u32, u16> =
            self.templates.iter().enumerate().map(|(number, &id)| (id, number as u16)).collect();
        let mut next = self.templates.len();
        groups
            .templates()
            .iter()
            .map(|used| {
                known.get(&used.id).copied().unwrap_or_else(|| {
                    next += 1;
                    u16::try_from(next - 1).unwrap_or(u16::MAX)
                })
            })
            .collect()
    }
}

/// The id of a template that is not known here, from its number.
fn strange_id(groups: &Groups, numbers: &[u16], template: u16) -> u32 {
    let at = numbers.iter().position(|&number| number == template);
    groups.template_id(at.expect("a template of the vector is a template of its groups") as u16)
}

fn translated(vector: &Entries, numbers: &[u16]) -> Vec<(u16, u32)> {
    let mut out: Vec<(u16, u32)> =
        vector.iter().map(|&(t, count)| (numbers[usize::from(t)], count)).collect();
    out.sort_unstable();
    out
}

/// Which of the vectors are learnt from.
fn kept(cloud: &Cloud, set: &Weighted, expected: Option<f64>, own: bool) -> Vec<usize> {
    let oddness = cloud.oddness();
    let all = 0..set.masses.len();
    let Some(share) = expected else {
        let believed = !own && oddness.share < BELIEVED;
        return all.filter(|&i| believed || oddness.values[i] < 1.0).collect();
    };
    let mut order: Vec<usize> = all.collect();
    order.sort_by(|&a, &b| oddness.values[b].total_cmp(&oddness.values[a]).then(a.cmp(&b)));
    let mut left = share * set.masses.iter().sum::<f64>();
    order.retain(|&i| {
        let drop = left >= set.masses[i] * 0.5;
        left -= if drop { set.masses[i] } else { 0.0 };
        !drop
    });
    order.sort_unstable();
    order
}

/// How many groups have each template.
fn support(groups: &Groups) -> Vec<u32> {
    let mut support = vec![0; groups.templates().len()];
    let vectors = groups.vectors();
    for i in 0..vectors.len() {
        for &(template, _) in vectors.get(i) {
            support[usize::from(template)] += vectors.multiplicity(i);
        }
    }
    support
}

/// The support of the rarest template of each distinct vector, with the number of its groups.
fn rarest(groups: &Groups, support: &[u32]) -> impl Iterator<Item = (u32, f64)> {
    let vectors = groups.vectors();
    (0..vectors.len()).map(move |i| {
        let rarest = vectors.get(i).iter().map(|&(template, _)| support[usize::from(template)]).min();
        (rarest.unwrap_or(u32::MAX >> 1), f64::from(vectors.multiplicity(i)))
    })
}

/// The usual range: all but the outer hundredths.
fn range(counts: &mut [(u32, f64)]) -> (u32, u32) {
    counts.sort_unstable_by_key(|&(count, _)| count);
    let total: f64 = counts.iter().map(|&(_, mass)| mass).sum();
    (quantile(counts, 0.0, 0.01 * total), quantile(counts, 0.0, 0.99 * total))
}

fn usual(set: &Weighted, templates: usize) -> Vec<(u32, u32)> {
    let mut present: Vec<Vec<(u32, f64)>> = vec![Vec::new(); templates];
    for (vector, &mass) in set.vectors.iter().zip(&set.masses) {
        for &(template, count) in *vector {
            present[usize::from(template)].push((count, mass));
        }
    }
    present.iter_mut().map(|counts| range(counts)).collect()
}

fn usual_length(set: &Weighted) -> (u32, u32) {
    let length = |vector: &Entries| vector.iter().fold(0u32, |sum, &(_, count)| sum.saturating_add(count));
    let mut lengths: Vec<(u32, f64)> =
        set.vectors.iter().map(|vector| length(vector)).zip(set.masses.iter().copied()).collect();
    range(&mut lengths)
}
