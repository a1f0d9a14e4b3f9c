//! The template miner: online, one configuration for every log.
//!
//! A message is masked to its shape; a shape that was seen before is looked up and done. A new one joins
//! the open group that it fits, or starts a group of its own. Which positions vary is not guessed at first
//! sight but decided over all groups together ([`super::settle`]), each time their number has grown by half
//! and once more for whoever asks for the templates. Groups that turn out to be one are folded, the id of
//! the oldest stays, and [`Miner::resolve`] follows.
//!
//! Invariant: at most `max_templates` groups are alive at once and at most four times as many were ever
//! named; what finds no group then joins the catch-all, template `<*>`.

use std::sync::OnceLock;

use super::group::{self, Group};
use super::mask::{Masker, WILD};
use super::settle::{self, Plan};
use super::shapes::{self, HashedMap, ShapeCache};
use super::template::{Template, TemplateId};

/// How templates are mined. The default serves every log; none of it depends on where a log comes from.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// Templates alive at once; messages that fit none of them then share one catch-all. Default 10,000.
    pub max_templates: usize,
    /// Bytes of a message that are looked at. Default 16 KiB.
    pub max_message_bytes: usize,
    /// Fields (words between spaces) of a message that are looked at. Default 192.
    pub max_fields: usize,
    /// Distinct messages kept of each template. Default 5.
    pub max_examples: usize,
    /// Bytes kept of each of them. Default 1,024.
    pub max_example_bytes: usize,
    /// Bytes of patterns and examples kept of all templates together; beyond them, too, messages share the
    /// catch-all. Default 64 MiB.
    pub max_bytes: usize,
    /// Whether numbers, addresses, paths and ids inside a field are recognised by their spelling. Without,
    /// every field with a digit is a variable: faster and coarser. Default true.
    pub masks: bool,
}

impl Default for MinerConfig {
    fn default() -> Self {
        Self {
            max_templates: 10_000,
            max_message_bytes: 16 << 10,
            max_fields: 192,
            max_examples: 5,
            max_example_bytes: 1 << 10,
            max_bytes: 64 << 20,
            masks: true,
        }
    }
}

/// What the miner says of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mined {
    /// Its template.
    pub template: TemplateId,
    /// Whether it is the first message of it.
    pub new: bool,
}

/// Mines templates from messages as they come.
pub struct Miner {
    config: MinerConfig,
    masker: Masker,
    shape: Vec<u8>,
    cache: ShapeCache,
    /// By id less one; a folded group is hollow.
    groups: Vec<Group>,
    /// By id less one: the group it was folded into, or itself.
    forward: Vec<u32>,
    /// Open groups by what their first field and their length allow to look up.
    open: HashedMap<Vec<u32>>,
    catch_all: Option<u32>,
    alive: usize,
    /// What the groups alive hold, in bytes.
    held: usize,
    /// How many groups alive make it time to settle.
    settle_at: usize,
    messages: u64,
    /// What settling would give now, for those who ask; forgotten with the next message.
    settled: OnceLock<Plan>,
}

const CACHED_SHAPES: usize = 1 << 16;
const CACHED_SHAPE_BYTES: usize = 16 << 20;
const FIRST_SETTLE: usize = 256;

impl Miner {
    /// A miner that has seen nothing.
    pub fn new(config: MinerConfig) -> Self {
        let masker = Masker {
            inside: config.masks,
            max_bytes: config.max_message_bytes,
            max_fields: config.max_fields.max(1),
        };
        Self {
            masker,
            shape: Vec::new(),
            cache: ShapeCache::new(CACHED_SHAPES, CACHED_SHAPE_BYTES),
            groups: Vec::new(),
            forward: Vec::new(),
            open: HashedMap::default(),
            catch_all: None,
            alive: 0,
            held: 0,
            settle_at: FIRST_SETTLE.min(config.max_templates.max(1)),
            messages: 0,
            settled: OnceLock::new(),
            config,
        }
    }

    /// The template of the next message, which is taken for the next line.
    pub fn mine(&mut self, message: &[u8]) -> Mined {
        self.mine_line(message, self.messages + 1)
    }

    /// The template of the next message, which came from line `line`.
    pub fn mine_line(&mut self, message: &[u8], line: u64) -> Mined {
        self.messages += 1;
        self.settled.take();
        let mut shape = std::mem::take(&mut self.shape);
        self.masker.mask(message, &mut shape);
        let hash = shapes::hash(&shape);
        let (at, new) = match self.cache.get(hash, &shape) {
            Some(at) => (at, false),
            None => {
                let (at, new) = self.place(&shape, line);
                self.cache.insert(hash, &shape, at);
                (at, new)
            }
        };
        self.shape = shape;
        let group = &mut self.groups[at as usize];
        group.count += 1;
        // A template that is always the same text would otherwise be compared for ever.
        let room = group.examples.len() < self.config.max_examples && self.held < self.config.max_bytes;
        if room && group.count <= 256 {
            let kept = &message[..message.len().min(self.config.max_example_bytes)];
            if !group.examples.iter().any(|e| **e == *kept) {
                self.held += kept.len() + group::EXAMPLE_OVERHEAD;
                group.examples.push(kept.into());
            }
        }
        let mined = Mined { template: TemplateId(at + 1), new };
        if self.alive >= self.settle_at {
            self.settle();
        }
        mined
    }

    /// All templates in order of their ids, folded as they would be if the log ended now. The first question
    /// after a message weighs all templates anew; ask at the end, or now and then.
    pub fn templates(&self) -> Vec<Template> {
        let plan = self.plan();
        let mut merged: Vec<Option<Group>> = vec![None; self.groups.len()];
        for (at, group) in self.groups.iter().enumerate().filter(|(_, g)| !g.fields.is_empty()) {
            let root = plan.root(at as u32) as usize;
            match &mut merged[root] {
                Some(known) => known.absorb(group, self.config.max_examples),
                empty => {
                    *empty = Some(Group {
                        fields: plan.fields(root as u32, &self.groups).to_vec(),
                        ..group.clone()
                    })
                }
            }
        }
        let named = merged.into_iter().enumerate().filter_map(|(at, group)| Some((at, group?)));
        named.map(|(at, group)| group.describe(TemplateId(at as u32 + 1))).collect()
    }

    /// Where an id would be if the log ended now: itself, or the template that it was folded into. An id
    /// that was never given is returned as it is.
    pub fn resolve(&self, id: TemplateId) -> TemplateId {
        match (id.0 as usize).checked_sub(1) {
            Some(at) if at < self.forward.len() => TemplateId(self.plan().root(self.forward[at]) + 1),
            _ => id,
        }
    }

    /// How many ids were given so far; the highest of them, too.
    pub fn ids(&self) -> u32 {
        self.groups.len() as u32
    }

    fn plan(&self) -> &Plan {
        self.settled.get_or_init(|| settle::plan(&self.groups))
    }

    /// Finds or makes the group of a shape that is not in the cache.
    fn place(&mut self, shape: &[u8], line: u64) -> (u32, bool) {
        let fields = group::fields_of(shape);
        for key in open_keys(&fields) {
            let candidates = self.open.get(&key).map_or(&[][..], Vec::as_slice);
            if let Some(&at) =
                candidates.iter().find(|&&at| group::all_fit(&self.groups[at as usize].fields, &fields))
            {
                return (at, false);
            }
        }
        let full = self.alive >= self.config.max_templates
            || self.groups.len() >= 4 * self.config.max_templates
            || self.held >= self.config.max_bytes;
        if full {
            if let Some(at) = self.catch_all {
                return (at, false);
            }
            let at = self.add(vec![[WILD].into()], line);
            self.catch_all = Some(at);
            return (at, true);
        }
        (self.add(fields, line), true)
    }

    fn add(&mut self, fields: Vec<group::Field>, line: u64) -> u32 {
        let at = self.groups.len() as u32;
        self.held += group::bytes_of(&fields);
        self.groups.push(Group { fields, open: false, count: 0, first_line: line, examples: Vec::new() });
        self.forward.push(at);
        self.alive += 1;
        at
    }

    /// Folds the groups that are one, for good.
    fn settle(&mut self) {
        let plan = settle::plan(&self.groups);
        for at in 0..self.groups.len() as u32 {
            let root = plan.root(at);
            if root == at || self.groups[at as usize].fields.is_empty() {
                continue;
            }
            let folded = self.groups[at as usize].hollow();
            self.groups[root as usize].fields = plan.fields(root, &self.groups).to_vec();
            self.groups[root as usize].absorb(&folded, self.config.max_examples);
            self.forward[at as usize] = root;
            self.alive -= 1;
        }
        for at in 0..self.forward.len() {
            self.forward[at] = self.forward[self.forward[at] as usize];
        }
        self.held = self.groups.iter().map(Group::bytes).sum();
        self.cache.rename(|at| plan.root(at));
        self.open.clear();
        for (at, group) in self.groups.iter().enumerate().filter(|(_, g)| g.open && !g.fields.is_empty()) {
            self.open.entry(open_key(&group.fields)).or_default().push(at as u32);
        }
        self.catch_all = self.catch_all.map(|at| plan.root(at));
        // Before messages go to the catch-all, room is made once more.
        let grown = (self.alive + self.alive / 2).min(self.config.max_templates);
        self.settle_at = grown.max(self.alive + 1).max(FIRST_SETTLE.min(self.config.max_templates));
    }
}

/// Under which key an open group is found.
fn open_key(pattern: &[group::Field]) -> u64 {
    let first = pattern.first().filter(|f| !f.contains(&WILD));
    key(pattern.len(), first)
}

/// Under which keys the open groups are that a shape may fit.
fn open_keys(fields: &[group::Field]) -> [u64; 2] {
    [key(fields.len(), fields.first()), key(fields.len(), None)]
}

fn key(length: usize, first: Option<&group::Field>) -> u64 {
    first.map_or(1, |f| shapes::hash(f)).rotate_left(8) ^ (length as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_in_a_number_share_a_template() {
        let mut miner = Miner::new(MinerConfig::default());
        let first = miner.mine(b"Served block blk_1 to /10.0.0.1");
        let second = miner.mine(b"Served block blk_2 to /10.0.0.2");
        let other = miner.mine(b"Deleting block blk_2");
        assert_eq!(first, Mined { template: TemplateId(1), new: true });
        assert_eq!(second, Mined { template: TemplateId(1), new: false });
        assert_eq!(other, Mined { template: TemplateId(2), new: true });
        let templates = miner.templates();
        assert_eq!(templates.len(), 2);
        assert_eq!(templates[0].template, "Served block blk_<*> to /<*>");
        assert_eq!((templates[0].count, templates[0].first_line), (2, 1));
        assert_eq!(templates[0].params, vec![vec!["1", "2"], vec!["10.0.0.1", "10.0.0.2"]]);
    }

    #[test]
    fn a_word_with_many_values_is_found_to_vary_and_its_ids_are_folded() {
        let mut miner = Miner::new(MinerConfig::default());
        let names = ["ann", "bob", "carl", "dora", "eve", "fred", "gina", "hal", "ida", "jon"];
        let ids: Vec<_> = names
            .iter()
            .map(|n| miner.mine(format!("login of {n} was refused").as_bytes()).template)
            .collect();
        assert!(ids.iter().all(|&id| miner.resolve(id) == TemplateId(1)));
        let templates = miner.templates();
        assert_eq!(templates.len(), 1);
        assert_eq!(templates[0].template, "login of <*> was refused");
        assert_eq!(templates[0].count, 10);
    }

    #[test]
    fn beyond_the_bound_messages_share_the_catch_all() {
        let config = MinerConfig { max_templates: 8, ..MinerConfig::default() };
        let mut miner = Miner::new(config);
        for n in 0..1000u32 {
            let words: String = (0..=n % 50).map(|k| format!("{} ", letters(n * 31 + k))).collect();
            miner.mine(words.as_bytes());
        }
        assert!(miner.ids() <= 33, "{}", miner.ids());
        let templates = miner.templates();
        assert!(templates.len() <= 9);
        assert_eq!(templates.iter().map(|t| t.count).sum::<u64>(), 1000);
    }

    #[test]
    fn long_messages_do_not_fill_the_memory() {
        let mut miner = Miner::new(MinerConfig { max_bytes: 200_000, ..MinerConfig::default() });
        for n in 0..2_000u32 {
            let words: String = (0..100).map(|k| format!("{} ", letters(n * 977 + k * 31))).collect();
            miner.mine(words.as_bytes());
        }
        let templates = miner.templates();
        let text: usize = templates.iter().map(|t| t.template.len() + t.examples.concat().len()).sum();
        assert!(text < 210_000, "{text}");
        assert_eq!(templates.iter().map(|t| t.count).sum::<u64>(), 2_000);
    }

    fn letters(mut n: u32) -> String {
        let mut word = String::new();
        loop {
            word.push((b'a' + (n % 26) as u8) as char);
            n /= 26;
            if n == 0 {
                return word;
            }
        }
    }
}
