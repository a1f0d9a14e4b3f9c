//! Lines of many logs, read one after the other.

use super::*;

fn parser() -> LogParser {
    LogParser::new(ParserConfig::default())
}

fn micros(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

#[test]
fn a_line_gives_time_level_message_and_template() {
    let mut parser = parser();
    let parsed = parser.push(b"2015-10-18 18:01:47,978 WARN [main] a.b.C: took 5 ms");
    assert_eq!(parsed.line, 1);
    assert_eq!(parsed.kind, Kind::Head);
    assert_eq!(parsed.template, Some(TemplateId(1)));
    assert!(parsed.new_template);
    assert_eq!(parsed.time, micros("2015-10-18T18:01:47.978Z"));
    assert_eq!(parsed.level, Some(Level::Warn));
    assert_eq!(&*parsed.message, b"took 5 ms");
    assert!(!parser.push(b"2015-10-18 18:01:48,978 WARN [main] a.b.C: took 6 ms").new_template);
    assert_eq!(parser.templates()[0].template, "took <*> ms");
}

#[test]
fn continuations_carry_their_heads_template_and_empty_lines_none() {
    let mut parser = parser();
    let head = parser.push(b"2020-01-01 00:00:00 ERROR failed").template;
    let frame = parser.push(b"\tat a.B.c(B.java:1)");
    assert_eq!(
        (frame.kind, frame.template, &*frame.message),
        (Kind::Continuation, head, &b"\tat a.B.c(B.java:1)"[..])
    );
    let empty = parser.push(b"  \t");
    assert_eq!((empty.kind, empty.template), (Kind::Empty, None));
    let untimed = parser.push(b"and the rest of it");
    assert_eq!((untimed.kind, untimed.template), (Kind::Continuation, head));
    assert_eq!(parser.push(b"2020-01-01 00:00:01 INFO on").kind, Kind::Head);
    assert_eq!(parser.lines(), 5);
}

#[test]
fn a_json_line_is_read_by_its_names_and_its_message_mined() {
    let mut parser = parser();
    let parsed = parser.push(br#"{"time":"2020-01-02T03:04:05Z","level":"warn","msg":"took 5 ms"}"#);
    assert_eq!(parsed.time, micros("2020-01-02T03:04:05Z"));
    assert_eq!(parsed.level, Some(Level::Warn));
    assert_eq!(&*parsed.message, b"took 5 ms");
    let wrapped = parser.push(br#"{"log":"2021-01-02 03:04:05 ERROR took 7 ms\n","stream":"stdout"}"#);
    assert_eq!(wrapped.template, Some(TemplateId(1)));
    assert_eq!((wrapped.time, wrapped.level), (micros("2021-01-02T03:04:05Z"), Some(Level::Error)));
    let after_header = parser.push(br#"2022-01-02T03:04:05Z stdout F {"level":"info","msg":"took 9 ms"}"#);
    assert_eq!((after_header.level, &*after_header.message), (Some(Level::Info), &b"took 9 ms"[..]));
    assert_eq!(after_header.time, micros("2022-01-02T03:04:05Z"));
}

#[test]
fn a_logfmt_line_is_read_by_its_names() {
    let mut parser = parser();
    let parsed = parser.push(br#"time=2020-01-02T03:04:05Z level=error msg="took 5 ms" n=1"#);
    assert_eq!((parsed.time, parsed.level), (micros("2020-01-02T03:04:05Z"), Some(Level::Error)));
    assert_eq!(&*parsed.message, b"took 5 ms");
}

#[test]
fn colours_do_not_hide_the_header() {
    let mut parser = parser();
    let parsed = parser.push(b"\x1b[32m2020-01-02 03:04:05\x1b[0m \x1b[31mERROR\x1b[0m disk full");
    assert_eq!((parsed.level, &*parsed.message), (Some(Level::Error), &b"disk full"[..]));
}

#[test]
fn years_roll_over_from_the_default_year() {
    let mut parser = LogParser::new(ParserConfig { default_year: 2023, ..ParserConfig::default() });
    assert_eq!(parser.push(b"Dec 31 23:59:59 h p[1]: a").time, micros("2023-12-31T23:59:59Z"));
    assert_eq!(parser.push(b"Jan  1 00:00:00 h p[1]: a").time, micros("2024-01-01T00:00:00Z"));
}

/// A generator of numbers, so that what is hostile today is hostile tomorrow (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A line of bytes and of pieces that mean something to the parser.
    fn line(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 24] = [
            b"2020-01-02 03:04:05 ",
            b"Dec 31 23:59:59 ",
            b"[",
            b"]",
            b"{\"msg\":\"",
            b"\"}",
            b"level=",
            b"=",
            b"\x1b[31m",
            b"\x1b]",
            b"INFO ",
            b"at a.b(",
            b"Caused by: ",
            b"/var/log/x",
            b"C:\\a\\b",
            b"::",
            b"0x",
            b"1117838570 ",
            b"\\u12",
            b"\xff\xfe",
            b"\x00\x01\x02",
            b"I0102 15:04:05 ",
            b"kernel[0]: ",
            b"  ",
        ];
        let mut line = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => line.push(self.next() as u8),
                1 => line.extend((0..self.below(9)).map(|_| b'a' + self.below(26) as u8)),
                2 => line.push(b' '),
                _ => line.extend_from_slice(PIECES[self.below(PIECES.len())]),
            }
        }
        line
    }
}

#[test]
fn hostile_lines_never_panic_and_stay_within_the_bounds() {
    let miner = MinerConfig { max_templates: 300, ..MinerConfig::default() };
    let mut parser = LogParser::new(ParserConfig { miner, ..ParserConfig::default() });
    let mut numbers = Numbers(1);
    let mut highest = 0;
    for n in 1..=60_000u64 {
        let line = numbers.line();
        let parsed = parser.push(&line);
        assert_eq!(parsed.line, n);
        match parsed.kind {
            Kind::Empty => assert_eq!(parsed.template, None),
            _ => highest = highest.max(parsed.template.unwrap().0),
        }
    }
    assert!(highest <= 1_201, "{highest}");
    let templates = parser.templates();
    assert!(templates.len() <= 301, "{}", templates.len());
    for template in &templates {
        assert!(template.examples.len() <= 5);
        assert_eq!(parser.resolve(template.id), template.id);
    }
    for id in 1..=highest {
        let home = parser.resolve(TemplateId(id));
        assert!(templates.binary_search_by_key(&home, |t| t.id).is_ok(), "{id}");
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_is_answered_from_its_begin() {
    let mut line = b"2020-01-02 03:04:05 ERROR too long ".to_vec();
    line.resize(100 << 20, b'x');
    let mut parser = parser();
    let parsed = parser.push(&line);
    assert_eq!(parsed.level, Some(Level::Error));
    assert!(parsed.message.len() <= line::MAX_LINE);
    assert!(parser.templates()[0].examples[0].len() <= 1 << 10);
}

#[test]
fn the_same_lines_give_the_same_answers() {
    let run = || {
        let mut parser = parser();
        let mut numbers = Numbers(2);
        let answers: Vec<_> = (0..20_000).map(|_| parser.push(&numbers.line()).template).collect();
        (answers, parser.templates())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_parser_may_be_handed_to_another_thread() {
    let parsed = std::thread::spawn(|| parser().push(b"text").template).join().unwrap();
    assert_eq!(parsed, Some(TemplateId(1)));
    let parser = parser();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(parser.templates().is_empty()));
    });
}
