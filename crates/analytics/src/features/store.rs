//! Storage that grows without copying: chunked lists, a table of keys, and event lists per group.
//!
//! A doubling vector holds its content twice while it grows; with a million sessions that peak would be
//! the largest thing in the process. Chunks are allocated once and stay.

use std::hash::{BuildHasher, RandomState};

const CHUNK: usize = 1 << 14;
const KEY_CHUNK: usize = 1 << 20;
const EMPTY: u32 = u32::MAX;

/// A list whose elements never move.
#[derive(Debug, Clone)]
pub(super) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Chunked<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk grows as needed, so that a small log stays small.
            self.chunks.push(if self.len == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        self.chunks.last_mut().expect("a chunk was just made").push(value);
        self.len += 1;
    }

    pub(super) fn get(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    /// Gives back the memory of the elements before this one, a chunk at a time; they are gone.
    pub(super) fn release_before(&mut self, index: usize) {
        if let Some(chunk) = (index / CHUNK).checked_sub(1) {
            self.chunks[chunk] = Vec::new();
        }
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

/// Distinct keys, numbered from 0 in the order of their arrival.
#[derive(Debug, Clone)]
pub(super) struct KeyTable {
    bytes: Vec<Vec<u8>>,
    places: Chunked<(u32, u8)>,
    slots: Vec<u32>,
    hasher: RandomState,
}

impl KeyTable {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), places: Chunked::new(), slots: vec![EMPTY; 64], hasher: RandomState::new() }
    }

    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let (at, len) = *self.places.get(index);
        let at = at as usize;
        &self.bytes[at / KEY_CHUNK][at % KEY_CHUNK..][..usize::from(len)]
    }

    /// The number of `key` (at most 255 bytes), adding it unless the table already holds `limit` keys.
    /// The flag tells whether the key is new.
    pub(super) fn intern(&mut self, key: &[u8], limit: usize) -> Option<(u32, bool)> {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(key) as usize & mask;
        while self.slots[slot] != EMPTY {
            let index = self.slots[slot];
            if self.get(index as usize) == key {
                return Some((index, false));
            }
            slot = (slot + 1) & mask;
        }
        if self.len() >= limit {
            return None;
        }
        let index = self.len() as u32;
        self.slots[slot] = index;
        self.append(key);
        if self.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
        Some((index, true))
    }

    /// Gives back what only adding needed.
    pub(super) fn seal(&mut self) {
        self.slots = Vec::new();
    }

    fn append(&mut self, key: &[u8]) {
        let len = u8::try_from(key.len()).expect("keys are shortened before they are stored");
        let fits = self.bytes.last().is_some_and(|chunk| chunk.len() + key.len() <= KEY_CHUNK);
        if !fits {
            self.bytes.push(if self.bytes.is_empty() { Vec::new() } else { Vec::with_capacity(KEY_CHUNK) });
        }
        let chunk_index = self.bytes.len() - 1;
        let chunk = &mut self.bytes[chunk_index];
        self.places.push(((chunk_index * KEY_CHUNK + chunk.len()) as u32, len));
        chunk.extend_from_slice(key);
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![EMPTY; mask + 1];
        for index in 0..self.len() {
            let mut slot = self.hasher.hash_one(self.get(index)) as usize & mask;
            while slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            slots[slot] = index as u32;
        }
        self.slots = slots;
    }
}

const PER_BLOCK: usize = 6;

#[derive(Debug, Clone, Copy)]
struct Block {
    events: [u16; PER_BLOCK],
    next: u32,
}

/// The start and end of one group's list of events.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventList {
    head: u32,
    tail: u32,
    len: u32,
}

impl EventList {
    pub(super) const NEW: Self = Self { head: EMPTY, tail: EMPTY, len: 0 };

    pub(super) const fn len(&self) -> u32 {
        self.len
    }
}

/// The events of all groups, in small linked blocks: about 2.7 bytes an event.
#[derive(Debug, Clone)]
pub(super) struct EventStore {
    blocks: Chunked<Block>,
    limit: usize,
}

impl EventStore {
    pub(super) const fn new(limit_events: usize) -> Self {
        Self { blocks: Chunked::new(), limit: limit_events / PER_BLOCK }
    }

    /// Appends an event to a list; `false` when the store is full.
    pub(super) fn push(&mut self, list: &mut EventList, event: u16) -> bool {
        let at = list.len as usize % PER_BLOCK;
        if at == 0 {
            if self.blocks.len() >= self.limit {
                return false;
            }
            let index = self.blocks.len() as u32;
            self.blocks.push(Block { events: [0; PER_BLOCK], next: EMPTY });
            if list.head == EMPTY {
                list.head = index;
            } else {
                self.blocks.get_mut(list.tail as usize).next = index;
            }
            list.tail = index;
        }
        self.blocks.get_mut(list.tail as usize).events[at] = event;
        list.len += 1;
        true
    }

    /// Writes the events of a list, in order, into `out`.
    pub(super) fn read(&self, list: &EventList, out: &mut Vec<u16>) {
        out.clear();
        let mut block = list.head;
        while out.len() < list.len as usize {
            let held = self.blocks.get(block as usize);
            let take = PER_BLOCK.min(list.len as usize - out.len());
            out.extend_from_slice(&held.events[..take]);
            block = held.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_number_however_many_follow() {
        let mut table = KeyTable::new();
        for i in 0..50_000u32 {
            assert_eq!(table.intern(format!("key-{i}").as_bytes(), usize::MAX), Some((i, true)));
        }
        assert_eq!(table.intern(b"key-41", usize::MAX), Some((41, false)));
        assert_eq!(table.get(49_999), b"key-49999");
    }

    #[test]
    fn a_full_table_knows_its_keys_and_takes_no_new_one() {
        let mut table = KeyTable::new();
        assert!(table.intern(b"a", 1).is_some());
        assert_eq!(table.intern(b"b", 1), None);
        assert_eq!(table.intern(b"a", 1), Some((0, false)));
    }

    #[test]
    fn interleaved_lists_are_read_back_in_order() {
        let mut store = EventStore::new(1 << 20);
        let mut lists = [EventList::NEW; 3];
        for i in 0..100u16 {
            assert!(store.push(&mut lists[usize::from(i % 3)], i));
        }
        let mut out = Vec::new();
        store.read(&lists[1], &mut out);
        assert_eq!(out, (0..100).filter(|i| i % 3 == 1).collect::<Vec<u16>>());
    }

    #[test]
    fn a_full_store_says_so() {
        let mut store = EventStore::new(PER_BLOCK);
        let mut list = EventList::NEW;
        let kept = (0..20).filter(|&i| store.push(&mut list, i)).count();
        assert_eq!(kept, PER_BLOCK);
    }
}
