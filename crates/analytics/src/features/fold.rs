//! Templates that turn out to be one: their uses are put together and their numbers closed up.

use std::collections::HashMap;

use super::groups::TemplateUse;

/// The uses of the templates that remain, and for every number before the number after.
pub(super) fn fold(
    templates: &[TemplateUse],
    sightings: usize,
    resolve: impl Fn(u32) -> u32,
) -> (Vec<TemplateUse>, Vec<u16>) {
    let mut numbers: HashMap<u32, u16> = HashMap::new();
    let mut kept: Vec<TemplateUse> = Vec::new();
    let mut places = Vec::with_capacity(templates.len());
    for used in templates {
        let home = resolve(used.id);
        let next = kept.len() as u16;
        let number = *numbers.entry(home).or_insert(next);
        places.push(number);
        if number == next {
            kept.push(TemplateUse { id: home, ..used.clone() });
            continue;
        }
        let home = &mut kept[usize::from(number)];
        home.lines += used.lines;
        home.errors += used.errors;
        home.sightings.extend(&used.sightings);
        home.sightings.sort_unstable_by_key(|&(group, line)| (line, group));
        home.sightings.dedup_by_key(|&mut (group, _)| group);
        home.sightings.truncate(sightings);
    }
    (kept, places)
}

#[cfg(test)]
mod tests {
    use super::super::{GroupBuilder, Grouping};

    #[test]
    fn folded_templates_count_as_one_in_vectors_order_and_sightings() {
        let mut builder = GroupBuilder::new(Grouping::Session);
        for (line, (template, key)) in (1..).zip([(5, "a"), (9, "a"), (7, "a"), (9, "b"), (5, "b")]) {
            builder.push(line, template, None, false, Some(key.as_bytes()));
        }
        let groups = builder.finish_folded(|id| if id == 7 { 5 } else { id });
        let uses: Vec<_> = groups.templates().iter().map(|used| (used.id, used.lines)).collect();
        assert_eq!(uses, [(5, 3), (9, 2)]);
        assert_eq!(groups.templates()[0].sightings, [(0, 1), (1, 5)]);
        assert_eq!(groups.vectors().get(groups.group(0).vector as usize), [(0, 2), (1, 1)]);
        assert_eq!(groups.orders().get(groups.group(0).order as usize).len(), 4);
    }

    #[test]
    fn folding_nothing_changes_nothing() {
        let lines = |builder: &mut GroupBuilder| {
            for line in 1..500 {
                builder.push(line, (line % 7) as u32, None, line % 5 == 0, None);
            }
        };
        let (mut one, mut other) = (
            GroupBuilder::new(Grouping::LineWindow { lines: 20 }),
            GroupBuilder::new(Grouping::LineWindow { lines: 20 }),
        );
        lines(&mut one);
        lines(&mut other);
        let (one, other) = (one.finish(), other.finish_folded(|id| id));
        assert_eq!(one.templates(), other.templates());
        let vectors = |groups: &super::super::Groups| {
            groups.iter().map(|g| groups.vectors().get(g.vector as usize).to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(vectors(&one), vectors(&other));
    }
}
