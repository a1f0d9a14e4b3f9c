//! Segments as a whole: what goes in comes out, and what is looked for is found, as by looking at each line.

use std::sync::Arc;

use super::*;

/// A small generator, so that the tests need no crate and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn line(dice: &mut Dice, time: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(time).unwrap().strftime("%Y-%m-%d %H:%M:%S,%3f");
    match dice.roll(8) {
        0 => format!(
            "{at} INFO block blk_-{} served to /10.0.{}.{}:50010",
            dice.roll(1 << 31),
            dice.roll(255),
            dice.roll(9)
        ),
        1 => {
            format!("{at} ERROR connection refused by 10.0.0.{} after {} ms", dice.roll(9), dice.roll(5_000))
        }
        2 => {
            format!("{at} WARN id={:08x}-1234-5678-9abc-{:012x} slow", dice.roll(1 << 31), dice.roll(1 << 31))
        }
        3 => format!("user u{} logged in", dice.roll(40)),
        4 => format!("\u{fffd} bytes \x1b[31m{:05} é", dice.roll(99_999)),
        5 => format!("odd \x01 byte {}", dice.roll(9)),
        6 => String::new(),
        _ => {
            format!("{{\"level\":\"info\",\"n\":{},\"hex\":\"{:016x}\"}}", dice.roll(100), dice.roll(1 << 31))
        }
    }
}

fn rows(number: usize) -> (Rows, Vec<Labels>) {
    let mut dice = Dice(7);
    let mut rows = Rows::default();
    for n in 0..number {
        let time = 1_763_719_200_000_000 + n as i64 * 1_000 - dice.roll(5_000) as i64;
        let time = time / 1_000 * 1_000;
        let text = line(&mut dice, time);
        let level = if text.contains("ERROR") { 5 } else { (dice.roll(2) * 3) as u8 };
        rows.push(time, level, dice.roll(2) as u32, text.as_bytes());
    }
    let label = |service: &str| Labels::from([("service".to_owned(), service.to_owned())]);
    (rows, vec![label("api"), label("web")])
}

fn names(examples: &[&[u8]]) -> Vec<String> {
    examples.iter().map(|line| if line.contains(&b'E') { "loud" } else { "quiet" }.to_owned()).collect()
}

fn sorted(rows: &Rows) -> Vec<Row> {
    let mut sorted = rows.rows.clone();
    sorted.sort_by_key(|row| row.time);
    sorted
}

#[test]
fn what_goes_in_comes_out() {
    let (rows, streams) = rows(3_000);
    let bytes = encode(&rows, &streams, &mut names).unwrap();
    assert!(bytes.len() * 3 < rows.text.len(), "{} of {}", bytes.len(), rows.text.len());
    let segment = Segment::open(Arc::new(bytes)).unwrap();
    let hits = segment.find(&Test::everything(), i64::MIN..i64::MAX).unwrap();
    assert_eq!((hits.count(), segment.rows()), (3_000, 3_000));
    let all: Vec<u32> = (0..3_000).collect();
    assert_eq!(hits.rows().unwrap(), all);
    let expected = sorted(&rows);
    let (times, of_stream) = (hits.times().unwrap().to_vec(), hits.streams().unwrap().to_vec());
    let mut seen = 0;
    hits.texts(&all, |row, level, _, text| {
        let expected = &expected[row as usize];
        assert_eq!(text.escape_ascii().to_string(), rows.text_of(expected).escape_ascii().to_string());
        assert_eq!((level, times[row as usize]), (expected.level, expected.time));
        assert_eq!(of_stream[row as usize], u64::from(expected.stream));
        seen += 1;
    })
    .unwrap();
    assert_eq!(seen, 3_000);
}

#[test]
fn searches_find_what_looking_at_every_line_finds() {
    let (rows, streams) = rows(2_000);
    let segment = Segment::open(Arc::new(encode(&rows, &streams, &mut names).unwrap())).unwrap();
    let text = |text: &str| Test::Text(text.as_bytes().to_vec());
    let pattern = |text: &str| Test::Matches(Pattern::new(text).unwrap());
    let label = |value: &str| Test::Label(LabelTest { name: "service".to_owned(), value: value.to_owned() });
    let tests = vec![
        text("REFUSED"),
        text("10.0.0.7"),
        text("blk_-1"),
        text("u17"),
        text("u17 logged"),
        text("2025-11-21 10:00:01"),
        text("00:01,5"),
        text("-9abc-0"),
        text("odd \x01 byte 3"),
        text("no such text"),
        text("\"n\":7,"),
        pattern("after [0-9]{4} ms"),
        pattern("(?i)LOGGED|slow$"),
        pattern("^$"),
        pattern("u1[0-9] "),
        Test::Level(1 << 5),
        label("api"),
        label("w*"),
        label("none"),
        Test::Template("loud".to_owned()),
        Test::All(vec![Test::Level(1 << 5), label("api"), Test::Not(Box::new(text("10.0.0.7")))]),
        Test::Any(vec![text("slow"), text("served to"), Test::Level(8)]),
    ];
    let expected = sorted(&rows);
    let (start, end) = (expected[300].time, expected[1_500].time);
    for test in tests {
        for range in [i64::MIN..i64::MAX, start..end] {
            let meant = |(_, row): &(usize, &Row)| {
                let line = rows.text_of(row);
                let is_of = |name: &str| name == if line.contains(&b'E') { "loud" } else { "quiet" };
                range.contains(&row.time)
                    && test.holds(line, row.level, &streams[row.stream as usize], &is_of)
            };
            let by_hand: Vec<u32> =
                expected.iter().enumerate().filter(meant).map(|(at, _)| at as u32).collect();
            let hits = segment.find(&test, range.clone()).unwrap();
            // A template is its shape's: what the lines of one shape share.
            if !matches!(test, Test::Template(_)) {
                assert_eq!(hits.rows().unwrap(), by_hand, "{test:?} in {range:?}");
                assert_eq!(hits.count(), by_hand.len());
            }
        }
    }
}

#[test]
fn a_damaged_segment_is_an_error_and_never_a_panic() {
    let (rows, streams) = rows(200);
    let bytes = encode(&rows, &streams, &mut names).unwrap();
    let look = |bytes: Vec<u8>| -> std::result::Result<(), SegmentError> {
        let segment = Segment::open(Arc::new(bytes))?;
        let hits = segment.find(&Test::Text(b"10.0.0.7".to_vec()), i64::MIN..i64::MAX)?;
        hits.texts(&(0..200).collect::<Vec<_>>(), |_, _, _, _| {})
    };
    assert!(look(bytes.clone()).is_ok());
    for length in 0..bytes.len() {
        assert!(look(bytes[..length].to_vec()).is_err(), "cut at {length}");
    }
    // Every byte is covered by a checksum or is part of the frame around it.
    for at in 8..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        assert!(look(damaged).is_err(), "changed at {at}");
    }
}

#[test]
fn no_rows_make_a_segment_too() {
    let bytes = encode(&Rows::default(), &[], &mut names).unwrap();
    let segment = Segment::open(Arc::new(bytes)).unwrap();
    assert_eq!(segment.find(&Test::everything(), i64::MIN..i64::MAX).unwrap().count(), 0);
}
