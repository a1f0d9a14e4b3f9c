//! The cache from exact shapes to groups, so that most lines cost one lookup.
//!
//! Invariant: it holds at most `max` shapes and `max_bytes` of their text; when full it starts anew, which
//! costs time and changes no answer, because groups remember what they have learnt.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Passes a `u64` through: the keys are hashes already.
#[derive(Default)]
pub(super) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A map whose keys are hashes.
pub(super) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<PassThrough>>;

/// A 64-bit hash by folded 128-bit products, sixteen bytes at a time. It is not keyed: whoever holds the
/// text compares it too.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xd1b5_4a32_d192_ed03;
    let fold = |x: u64, y: u64| {
        let product = u128::from(x) * u128::from(y);
        (product as u64) ^ (product >> 64) as u64
    };
    let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
    let mut state = A ^ (bytes.len() as u64).wrapping_mul(B);
    let mut chunks = bytes.chunks_exact(16);
    for chunk in &mut chunks {
        state = fold(word(&chunk[..8]) ^ A, word(&chunk[8..]) ^ state ^ B);
    }
    let mut tail = [0u8; 16];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    state = fold(word(&tail[..8]) ^ A, word(&tail[8..]) ^ state ^ B);
    fold(state, A)
}

struct Shape {
    text: Box<[u8]>,
    group: u32,
}

/// Exact shapes and the groups they belong to.
pub(super) struct ShapeCache {
    index: HashedMap<u32>,
    shapes: Vec<Shape>,
    bytes: usize,
    max: usize,
    max_bytes: usize,
}

impl ShapeCache {
    pub fn new(max: usize, max_bytes: usize) -> Self {
        Self { index: HashedMap::default(), shapes: Vec::new(), bytes: 0, max, max_bytes }
    }

    /// The group of a shape that was seen before.
    pub fn get(&self, hash: u64, text: &[u8]) -> Option<u32> {
        let shape = &self.shapes[*self.index.get(&hash)? as usize];
        (*shape.text == *text).then_some(shape.group)
    }

    pub fn insert(&mut self, hash: u64, text: &[u8], group: u32) {
        if self.shapes.len() >= self.max || self.bytes + text.len() > self.max_bytes {
            self.index.clear();
            self.shapes.clear();
            self.bytes = 0;
        }
        self.bytes += text.len();
        self.index.insert(hash, self.shapes.len() as u32);
        self.shapes.push(Shape { text: text.into(), group });
    }

    /// Renames the groups of all shapes.
    pub fn rename(&mut self, new: impl Fn(u32) -> u32) {
        for shape in &mut self.shapes {
            shape.group = new(shape.group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shapes_with_one_hash_are_not_confused() {
        let mut cache = ShapeCache::new(8, 1 << 10);
        cache.insert(7, b"a", 1);
        assert_eq!(cache.get(7, b"a"), Some(1));
        assert_eq!(cache.get(7, b"b"), None);
    }

    #[test]
    fn a_full_cache_starts_anew() {
        let mut cache = ShapeCache::new(2, 1 << 10);
        for (key, text) in [b"a", b"b", b"c"].iter().enumerate() {
            cache.insert(key as u64, *text, 1);
        }
        assert_eq!(cache.get(0, b"a"), None);
        assert_eq!(cache.get(2, b"c"), Some(1));
    }

    #[test]
    fn hashes_of_similar_texts_differ() {
        let mut seen = std::collections::HashSet::new();
        for length in 0..40usize {
            for byte in [0u8, 1, b'a', 255] {
                seen.insert(hash(&vec![byte; length]));
            }
        }
        assert_eq!(seen.len(), 39 * 4 + 1);
    }
}
