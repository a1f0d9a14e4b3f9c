//! Deciding which groups are one: where many messages agree in all but one place, that place varies.

use super::group::{self, Field, Group};
use super::shapes::{self, HashedMap};

/// Which group each one would be folded into, and the patterns of those that took others in.
pub(super) struct Plan {
    roots: Vec<u32>,
    patterns: Vec<Option<Vec<Field>>>,
}

impl Plan {
    /// The group that `at` is folded into, or itself.
    pub fn root(&self, at: u32) -> u32 {
        self.roots[at as usize]
    }

    /// The pattern of a group once others were folded into it.
    pub fn fields<'a>(&'a self, at: u32, groups: &'a [Group]) -> &'a [Field] {
        self.patterns[at as usize].as_deref().unwrap_or(&groups[at as usize].fields)
    }
}

const LOOKED_AT: usize = 48;
const MANY_VALUES: usize = 6;

/// Decides over all groups that are alive.
pub(super) fn plan(groups: &[Group]) -> Plan {
    let mut plan =
        Plan { roots: (0..groups.len() as u32).collect(), patterns: groups.iter().map(|_| None).collect() };
    loop {
        let mut families: HashedMap<Vec<u32>> = HashedMap::default();
        let mut order = Vec::new();
        for at in 0..groups.len() as u32 {
            let fields = plan.fields(at, groups);
            if plan.root(at) != at || fields.is_empty() {
                continue;
            }
            for place in 0..fields.len().min(LOOKED_AT) {
                let key = family_key(fields, place);
                let members = families.entry(key).or_insert_with(|| {
                    order.push(key);
                    Vec::new()
                });
                members.push(at);
            }
        }
        let mut changed = false;
        for key in order {
            let members = &families[&key];
            if members.len() >= MANY_VALUES {
                for &at in &members[1..] {
                    changed |= plan.fold(members[0], at, groups);
                }
            }
        }
        if !changed {
            return plan;
        }
    }
}

impl Plan {
    fn fold(&mut self, a: u32, b: u32, groups: &[Group]) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return false;
        }
        let (to, from) = (a.min(b), a.max(b));
        let pairs = self.fields(to, groups).iter().zip(self.fields(from, groups));
        let pattern = pairs.map(|(x, y)| group::generalise(x, y)).collect();
        self.patterns[to as usize] = Some(pattern);
        for root in &mut self.roots {
            if *root == from {
                *root = to;
            }
        }
        true
    }
}

fn family_key(fields: &[Field], place: usize) -> u64 {
    let mut key = (fields.len() as u64) << 32 | place as u64;
    for (at, field) in fields.iter().enumerate() {
        if at != place {
            key = shapes::hash(&[key.to_le_bytes(), shapes::hash(field).to_le_bytes()].concat());
        }
    }
    key
}
