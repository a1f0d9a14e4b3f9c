//! Deciding which groups are one, over all groups together.
//!
//! Groups that agree in all places but one are a *family*; whether its place is a variable is
//! [`super::evidence`]'s to say. Folding one family may make another visible, so this goes on until nothing
//! changes. Then come groups that differ in several places at once.

use super::evidence;
use super::group::{self, Field, Group};
use super::mask::WILD;
use super::shapes::HashedMap;

/// Which group each one would be folded into, and the patterns of those that took others in.
pub(super) struct Plan {
    parents: Vec<u32>,
    patterns: Vec<Option<Vec<Field>>>,
    counts: Vec<u64>,
}

/// Places of a pattern that are tried as variables.
const LOOKED_AT: usize = 64;
/// Rounds of folding; each but the last makes at least one group fewer.
const ROUNDS: usize = 12;
/// Groups of one length and begin that are compared in pairs.
const COMPARED: usize = 160;

/// Decides over all groups that are alive.
pub(super) fn plan(groups: &[Group]) -> Plan {
    let mut plan = Plan {
        parents: (0..groups.len() as u32).collect(),
        patterns: groups.iter().map(|_| None).collect(),
        counts: groups.iter().map(|g| g.count).collect(),
    };
    for _ in 0..ROUNDS {
        let changed = plan.fold_families(groups);
        if !changed && !plan.fold_similar(groups) {
            break;
        }
    }
    // A parent is older than its children, so one pass makes every path one step long.
    for at in 0..plan.parents.len() {
        plan.parents[at] = plan.parents[plan.parents[at] as usize];
    }
    plan
}

impl Plan {
    /// The group that `at` is folded into, or itself.
    pub fn root(&self, mut at: u32) -> u32 {
        while self.parents[at as usize] != at {
            at = self.parents[at as usize];
        }
        at
    }

    /// The pattern of a group once others were folded into it.
    pub fn fields<'a>(&'a self, at: u32, groups: &'a [Group]) -> &'a [Field] {
        self.patterns[at as usize].as_deref().unwrap_or(&groups[at as usize].fields)
    }

    fn alive(&self, groups: &[Group]) -> Vec<u32> {
        let alive = |&at: &u32| self.parents[at as usize] == at && !groups[at as usize].fields.is_empty();
        (0..groups.len() as u32).filter(alive).collect()
    }

    fn fold(&mut self, a: u32, b: u32, groups: &[Group]) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return false;
        }
        let (to, from) = (a.min(b), a.max(b));
        let pairs = self.fields(to, groups).iter().zip(self.fields(from, groups));
        let pattern = pairs.map(|(x, y)| group::generalise(x, y)).collect();
        self.patterns[to as usize] = Some(pattern);
        self.counts[to as usize] += self.counts[from as usize];
        self.parents[from as usize] = to;
        true
    }

    /// Folds the families whose one place is a variable.
    fn fold_families(&mut self, groups: &[Group]) -> bool {
        let mut families = Families::default();
        for at in self.alive(groups) {
            let fields = self.fields(at, groups);
            let hashes = place_hashes(fields);
            let all = hashes.iter().fold(0u64, |sum, h| sum.wrapping_add(*h));
            for (place, hash) in hashes.iter().enumerate().take(LOOKED_AT) {
                families.add(mix(all.wrapping_sub(*hash), (fields.len() << 16 | place) as u64), place, at);
            }
        }
        let mut changed = false;
        for (place, members) in families.of_two_or_more() {
            let members = self.still_alike(members, groups);
            let values: Vec<(&[u8], u64)> = members
                .iter()
                .map(|&at| (&*self.fields(at, groups)[place], self.counts[at as usize]))
                .collect();
            if members.len() > 1 && evidence::varies(self.fields(members[0], groups), place, &values) {
                for &at in &members[1..] {
                    changed |= self.fold(members[0], at, groups);
                }
            }
        }
        changed
    }

    /// Folds long groups that differ in the same few places, each time in all of them.
    fn fold_similar(&mut self, groups: &[Group]) -> bool {
        let mut buckets = Families::default();
        for at in self.alive(groups) {
            let fields = self.fields(at, groups);
            if fields.len() >= evidence::LONG && !fields[0].contains(&WILD) {
                buckets.add(mix(super::shapes::hash(&fields[0]), fields.len() as u64), 0, at);
            }
        }
        let mut families = Families::default();
        for (_, members) in buckets.of_two_or_more() {
            let members = &members[..members.len().min(COMPARED)];
            for (n, &a) in members.iter().enumerate() {
                for &b in &members[n + 1..] {
                    self.add_pair(a, b, groups, &mut families);
                }
            }
        }
        let mut changed = false;
        for (_, mut members) in families.of_two_or_more() {
            members.sort_unstable();
            members.dedup();
            let members = self.still_alike(members, groups);
            let patterns: Vec<&[Field]> = members.iter().map(|&at| self.fields(at, groups)).collect();
            if evidence::vary_together(&patterns) {
                for &at in &members[1..] {
                    changed |= self.fold(members[0], at, groups);
                }
            }
        }
        changed
    }

    /// The members of a family that no earlier one took, all of one length: two keys may meet by malice.
    fn still_alike(&self, mut members: Vec<u32>, groups: &[Group]) -> Vec<u32> {
        let length = self.fields(members[0], groups).len();
        members.retain(|&at| self.root(at) == at && self.fields(at, groups).len() == length);
        members
    }

    fn add_pair(&self, a: u32, b: u32, groups: &[Group], families: &mut Families) {
        let (left, right) = (self.fields(a, groups), self.fields(b, groups));
        let most = evidence::places_that_may_differ(left.len());
        let mut places = Vec::new();
        for place in 0..left.len() {
            if left[place] != right[place] {
                if places.len() == most {
                    return;
                }
                places.push(place);
            }
        }
        let mut hashes = place_hashes(left);
        for &place in &places {
            hashes[place] = place as u64;
        }
        let key = hashes.iter().fold(left.len() as u64, |key, &h| mix(key, h));
        families.add(key, places.len(), a);
        families.add(key, places.len(), b);
    }
}

/// Groups by key, in the order in which the keys first came, so that the same groups give the same plan.
#[derive(Default)]
struct Families {
    index: HashedMap<usize>,
    list: Vec<(usize, Vec<u32>)>,
}

impl Families {
    fn add(&mut self, key: u64, place: usize, member: u32) {
        let at = *self.index.entry(key).or_insert(self.list.len());
        if at == self.list.len() {
            self.list.push((place, Vec::new()));
        }
        self.list[at].1.push(member);
    }

    fn of_two_or_more(self) -> impl Iterator<Item = (usize, Vec<u32>)> {
        self.list.into_iter().filter(|(_, members)| members.len() > 1)
    }
}

/// A hash for each field at its place.
fn place_hashes(fields: &[Field]) -> Vec<u64> {
    fields.iter().enumerate().map(|(place, field)| mix(super::shapes::hash(field), place as u64)).collect()
}

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    (product as u64) ^ (product >> 64) as u64
}
