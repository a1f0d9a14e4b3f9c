//! Lines into groups: ids, windows, order and ceilings.

use super::{GroupBuilder, Grouping, Groups, Limits, Orders};

fn vector(groups: &Groups, index: usize) -> Vec<(u32, u32)> {
    let vector = groups.vectors().get(groups.group(index).vector as usize);
    vector.iter().map(|&(template, count)| (groups.template_id(template), count)).collect()
}

#[test]
fn interleaved_sessions_are_told_apart_and_equal_ones_kept_once() {
    let mut builder = GroupBuilder::new(Grouping::Session);
    for (line, (template, key)) in (1..).zip([(7, "a"), (7, "b"), (9, "a"), (9, "b"), (7, "a"), (5, "c")]) {
        builder.push(line, template, Some(line as i64 * 10), template == 9, Some(key.as_bytes()));
    }
    builder.push(7, 7, None, false, None);
    let groups = builder.finish();
    assert_eq!((groups.len(), groups.outside_lines()), (3, 1));
    assert_eq!(vector(&groups, 0), [(7, 2), (9, 1)]);
    assert_eq!(vector(&groups, 1), [(7, 1), (9, 1)]);
    let a = groups.group(0);
    assert_eq!((a.first_line, a.last_line, a.lines, a.errors, a.times), (1, 5, 3, 1, Some((10, 50))));
    assert_eq!((groups.key(2).as_str(), groups.error_line(0), groups.error_line(2)), ("c", Some(3), None));
}

#[test]
fn transitions_tell_orders_apart_that_counts_do_not() {
    let mut builder = GroupBuilder::new(Grouping::Session);
    for (line, (template, key)) in (1..).zip([(1, "a"), (2, "a"), (2, "b"), (1, "b"), (1, "c"), (2, "c")]) {
        builder.push(line, template, None, false, Some(key.as_bytes()));
    }
    let groups = builder.finish();
    let (a, b, c) = (groups.group(0), groups.group(1), groups.group(2));
    assert_eq!(a.vector, b.vector);
    assert_ne!(a.order, b.order);
    assert_eq!(a.order, c.order);
    assert_eq!(groups.orders().get(a.order as usize).len(), 3);
}

#[test]
fn windows_of_time_are_sorted_filled_and_named() {
    let minute = 60_000_000;
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: minute });
    builder.push(1, 1, None, false, None);
    builder.push(2, 1, Some(minute * 10 + 5), false, None);
    builder.push(3, 2, None, false, None);
    builder.push(4, 3, Some(minute * 13), true, None);
    builder.push(5, 1, Some(minute * 11), false, None);
    builder.push(6, 1, Some(minute * 10 + 7), false, None);
    let groups = builder.finish();
    assert_eq!((groups.len(), groups.outside_lines()), (4, 1));
    assert_eq!(groups.key(0), "1970-01-01T00:10:00Z");
    assert_eq!(vector(&groups, 0), [(1, 2), (2, 1)]);
    assert_eq!((groups.group(2).lines, groups.group(2).first_line), (0, 4));
    assert_eq!((groups.group(3).errors, groups.error_line(3)), (1, Some(4)));
    assert_eq!(groups.templates()[2].sightings, [(3, 4)]);
}

#[test]
fn two_days_a_year_apart_are_not_a_year_of_silence() {
    let hour = 3_600_000_000;
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: hour });
    for line in 0..48 {
        let time = if line < 24 { line } else { 9000 + line };
        builder.push(line as u64 + 1, 1, Some(time * hour), false, None);
    }
    assert_eq!(builder.finish().len(), 48);
}

#[test]
fn times_at_the_ends_of_the_range_are_survived() {
    let mut builder = GroupBuilder::new(Grouping::TimeWindow { micros: 60_000_000 });
    for (line, time) in (1..).zip([i64::MIN, i64::MAX, 0, -1]) {
        builder.push(line, 1, Some(time), false, None);
    }
    let groups = builder.finish();
    assert_eq!(groups.len(), 4);
    assert!(groups.key(0).contains("microseconds"));
}

#[test]
fn windows_of_lines_name_their_lines() {
    let mut builder = GroupBuilder::new(Grouping::LineWindow { lines: 3 });
    for line in 1..=7 {
        builder.push(line, line as u32 % 2, None, false, None);
    }
    let groups = builder.finish();
    assert_eq!((0..3).map(|i| groups.key(i)).collect::<Vec<_>>(), ["lines 1-3", "lines 4-6", "lines 7-7"]);
    assert_eq!(vector(&groups, 1), [(1, 1), (0, 2)]);
}

#[test]
fn beyond_the_ceiling_of_ordered_lines_counts_still_hold() {
    let limits = Limits { groups: 10, events: 60, counts: 1000 };
    let mut builder = GroupBuilder::with_limits(Grouping::Session, limits);
    for line in 1..=300u64 {
        builder.push(line, (line % 3) as u32, None, false, Some(if line % 2 == 0 { b"a" } else { b"b" }));
    }
    let groups = builder.finish();
    assert_eq!((groups.left_out_lines(), groups.group(0).order), (0, Orders::UNKNOWN));
    for index in 0..2 {
        assert_eq!(vector(&groups, index).iter().map(|&(_, count)| count).sum::<u32>(), 150);
    }
}

#[test]
fn beyond_every_ceiling_lines_are_left_out_and_counted() {
    let limits = Limits { groups: 100, events: 0, counts: 40 };
    let mut builder = GroupBuilder::with_limits(Grouping::Session, limits);
    for line in 0..10_000u64 {
        builder.push(line, (line % 97) as u32, None, false, Some(&(line % 89).to_le_bytes()));
    }
    let groups = builder.finish();
    let kept: u64 =
        (0..groups.len()).flat_map(|i| vector(&groups, i)).map(|(_, count)| u64::from(count)).sum();
    assert_eq!(kept + groups.left_out_lines(), 10_000);
}

#[test]
fn hostile_ids_are_kept_short() {
    let mut builder = GroupBuilder::new(Grouping::Session);
    builder.push(1, 1, None, false, Some(&vec![0xff; 1 << 20]));
    builder.push(2, 1, None, false, Some(b"\xff\x00\n"));
    let groups = builder.finish();
    assert!(groups.key(0).len() < 500);
    assert_eq!(groups.key(1), "\u{fffd}\u{0}\n");
}
