//! Distinct count vectors and distinct sets of transitions, each kept once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

const EMPTY: u32 = u32::MAX;

/// The distinct count vectors of a set of groups, with how many groups have each.
///
/// A vector is a list of `(template, count)` pairs, templates ascending, counts from 1. Templates are the
/// dense numbers that [`super::Groups::template_id`] turns back into ids.
#[derive(Debug, Clone)]
pub struct Vectors {
    starts: Vec<u32>,
    entries: Vec<(u16, u32)>,
    multiplicity: Vec<u32>,
    slots: Vec<u32>,
    hasher: RandomState,
}

impl Vectors {
    pub(super) fn new() -> Self {
        Self {
            starts: vec![0],
            entries: Vec::new(),
            multiplicity: Vec::new(),
            slots: vec![EMPTY; 64],
            hasher: RandomState::new(),
        }
    }

    /// How many distinct vectors there are.
    pub const fn len(&self) -> usize {
        self.multiplicity.len()
    }

    /// Whether there is no vector at all.
    pub const fn is_empty(&self) -> bool {
        self.multiplicity.is_empty()
    }

    /// The `(template, count)` pairs of a vector.
    pub fn get(&self, index: usize) -> &[(u16, u32)] {
        &self.entries[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// How many groups have this vector.
    pub fn multiplicity(&self, index: usize) -> u32 {
        self.multiplicity[index]
    }

    /// Counts one more group with this vector and returns the vector's number.
    pub(super) fn add(&mut self, vector: &[(u16, u32)]) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = self.hash(vector) & mask;
        while self.slots[slot] != EMPTY {
            let index = self.slots[slot] as usize;
            if self.get(index) == vector {
                self.multiplicity[index] += 1;
                return index as u32;
            }
            slot = (slot + 1) & mask;
        }
        let index = self.len() as u32;
        self.slots[slot] = index;
        self.entries.extend_from_slice(vector);
        self.starts.push(self.entries.len() as u32);
        self.multiplicity.push(1);
        if self.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
        index
    }

    /// Gives back what only building needed.
    pub(super) fn seal(&mut self) {
        self.slots = Vec::new();
        self.entries.shrink_to_fit();
    }

    fn hash(&self, vector: &[(u16, u32)]) -> usize {
        self.hasher.hash_one(vector) as usize
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![EMPTY; mask + 1];
        for index in 0..self.len() {
            let mut slot = self.hash(self.get(index)) & mask;
            while slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            slots[slot] = index as u32;
        }
        self.slots = slots;
    }
}

/// The distinct sets of transitions of a set of sessions.
///
/// A transition is a pair of templates of which the second directly follows the first; the start and the
/// end of a session are written as [`Orders::EDGE`].
#[derive(Debug, Clone)]
pub struct Orders {
    pairs: Vec<(u16, u16)>,
    pair_numbers: HashMap<(u16, u16), u16>,
    sets: HashMap<Box<[u16]>, u32>,
    list: Vec<Box<[u16]>>,
    multiplicity: Vec<u32>,
    kept: usize,
}

impl Orders {
    /// Stands for the start or the end of a session in a transition.
    pub const EDGE: u16 = u16::MAX;
    /// Says of a session that its order was not kept.
    pub const UNKNOWN: u32 = u32::MAX;
    const MAX_PAIRS: usize = 60_000;
    const MAX_KEPT: usize = 1 << 20;

    pub(super) fn new() -> Self {
        Self {
            pairs: Vec::new(),
            pair_numbers: HashMap::new(),
            sets: HashMap::new(),
            list: Vec::new(),
            multiplicity: Vec::new(),
            kept: 0,
        }
    }

    /// How many distinct sets of transitions there are.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no session's order is known.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The transitions of a set, as numbers for [`Orders::pair`].
    pub fn get(&self, index: usize) -> &[u16] {
        &self.list[index]
    }

    /// How many sessions have this set.
    pub fn multiplicity(&self, index: usize) -> u32 {
        self.multiplicity[index]
    }

    /// How many distinct transitions there are.
    pub const fn pair_count(&self) -> usize {
        self.pairs.len()
    }

    /// The two templates of a transition.
    pub fn pair(&self, number: u16) -> (u16, u16) {
        self.pairs[usize::from(number)]
    }

    /// Counts one more session with these events; [`Orders::UNKNOWN`] once there is too much variety to
    /// keep, in which case order says little anyway.
    pub(super) fn add(&mut self, events: &[u16]) -> u32 {
        if self.kept >= Self::MAX_KEPT {
            return Self::UNKNOWN;
        }
        let mut set = Vec::with_capacity(events.len() + 1);
        let mut previous = Self::EDGE;
        for &event in events.iter().chain(std::iter::once(&Self::EDGE)) {
            match self.pair_number((previous, event)) {
                Some(number) => set.push(number),
                None => return Self::UNKNOWN,
            }
            previous = event;
        }
        set.sort_unstable();
        set.dedup();
        self.intern(set.into_boxed_slice())
    }

    pub(super) fn seal(&mut self) {
        self.sets = HashMap::new();
        self.pair_numbers = HashMap::new();
    }

    fn intern(&mut self, set: Box<[u16]>) -> u32 {
        if let Some(&index) = self.sets.get(&set) {
            self.multiplicity[index as usize] += 1;
            return index;
        }
        let index = self.list.len() as u32;
        self.kept += set.len() + 16;
        self.list.push(set.clone());
        self.sets.insert(set, index);
        self.multiplicity.push(1);
        index
    }

    fn pair_number(&mut self, pair: (u16, u16)) -> Option<u16> {
        if let Some(&number) = self.pair_numbers.get(&pair) {
            return Some(number);
        }
        if self.pairs.len() >= Self::MAX_PAIRS {
            return None;
        }
        let number = self.pairs.len() as u16;
        self.pairs.push(pair);
        self.pair_numbers.insert(pair, number);
        Some(number)
    }
}
