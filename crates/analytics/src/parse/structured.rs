//! Lines that are data: JSON objects and logfmt pairs. Their message, time and level are found by the
//! names that loggers give them.
//!
//! Nothing is built from the data; the text is walked once, to a bounded depth, and what is not well formed
//! is an ordinary line.

use std::borrow::Cow;

use super::level::Level;
use super::mask::is_space;
use super::signs;
use super::time::{self, Found, Years};

/// What a structured line says. A name that is missing or not understood leaves its field empty.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields<'a> {
    pub message: Option<Cow<'a, [u8]>>,
    pub time: Option<i64>,
    pub level: Option<Level>,
    /// Whether it is about a request that failed by the server's fault.
    pub failed: bool,
}

const MESSAGE: [&[u8]; 7] = [b"message", b"msg", b"@message", b"short_message", b"log", b"text", b"body"];
const TIME: [&[u8]; 8] =
    [b"time", b"ts", b"timestamp", b"@timestamp", b"datetime", b"@t", b"__realtime_timestamp", b"date"];
const LEVEL: [&[u8]; 8] =
    [b"level", b"lvl", b"severity", b"levelname", b"loglevel", b"log.level", b"priority", b"@l"];
/// Objects within objects that are searched.
const SEARCHED: usize = 4;
/// Brackets within brackets that are followed at all.
const MAX_DEPTH: usize = 128;

/// Where in the list of names a key is, in any case.
fn rank(names: &[&[u8]], key: &[u8]) -> Option<usize> {
    names.iter().position(|n| n.eq_ignore_ascii_case(key))
}

/// The fields found so far, each with how good its name was: depth first, then the order of names.
struct Best<'a> {
    fields: Fields<'a>,
    ranks: [usize; 3],
}

impl<'a> Best<'a> {
    fn new() -> Self {
        Self { fields: Fields::default(), ranks: [usize::MAX; 3] }
    }

    fn take(&mut self, depth: usize, key: &[u8], value: Value<'a>, years: &mut Years) {
        let ranked = |names: &[&[u8]]| rank(names, key).map(|r| depth * 16 + r);
        if let (Some(r), Value::Text(text)) = (ranked(&MESSAGE), &value)
            && r < self.ranks[0]
        {
            self.ranks[0] = r;
            self.fields.message = Some(text.clone());
        } else if let Some(r) = ranked(&TIME).filter(|&r| r < self.ranks[1]) {
            if let Some(time) = value.time(years) {
                self.ranks[1] = r;
                self.fields.time = Some(time);
            }
        } else if let Some(r) = ranked(&LEVEL).filter(|&r| r < self.ranks[2])
            && let Some(level) = value.level()
        {
            self.ranks[2] = r;
            self.fields.level = Some(level);
        } else {
            self.fields.failed |= signs::is_failed_request(key, value.bytes());
        }
    }
}

enum Value<'a> {
    Text(Cow<'a, [u8]>),
    Number(&'a [u8]),
}

impl Value<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Number(text) => text,
        }
    }

    fn time(&self, years: &mut Years) -> Option<i64> {
        match time::scan(self.bytes())? {
            (_, Found::Moment(civil)) => Some(years.place(&civil)),
            (_, Found::Epoch(micros)) => Some(micros),
            (_, Found::Part) => None,
        }
    }

    fn level(&self) -> Option<Level> {
        let text = self.bytes();
        Level::from_word(text).or_else(|| Level::from_number(std::str::from_utf8(text).ok()?.parse().ok()?))
    }
}

/// The fields of a line that is one JSON object (RFC 8259) and nothing else.
pub(super) fn json<'a>(line: &'a [u8], years: &mut Years) -> Option<Fields<'a>> {
    let mut reader = Reader { text: line, at: 0 };
    let mut best = Best::new();
    reader.space();
    reader.object(0, &mut best, years)?;
    reader.space();
    (reader.at == line.len()).then_some(best.fields)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn object(&mut self, depth: usize, best: &mut Best<'a>, years: &mut Years) -> Option<()> {
        self.byte(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.byte(b':')?;
            self.space();
            match self.peek()? {
                b'"' => {
                    let raw = self.string()?;
                    best.take(depth, key, Value::Text(unescape(raw)), years);
                }
                b'{' if depth < SEARCHED => self.object(depth + 1, best, years)?,
                b'{' | b'[' => self.skip_nested()?,
                _ => {
                    let number = self.bare()?;
                    best.take(depth, key, Value::Number(number), years);
                }
            }
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// The inside of a string, with its escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'"', b'\\', &self.text[at..])?;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Some(&self.text[start..at]);
            }
            at += 2;
            if at > self.text.len() {
                return None;
            }
        }
    }

    /// A number or one of `true`, `false` and `null`.
    fn bare(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+')) {
            self.at += 1;
        }
        (self.at > start).then(|| &self.text[start..self.at])
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
            if depth > MAX_DEPTH {
                return None;
            }
        }
    }
}

/// A JSON string's text. What is no valid escape stays as it is written.
fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', raw) else { return Cow::Borrowed(raw) };
    let mut text = raw[..first].to_vec();
    let mut at = first;
    while at < raw.len() {
        if raw[at] != b'\\' {
            text.push(raw[at]);
            at += 1;
            continue;
        }
        let plain = match raw.get(at + 1) {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'u') => {
                let (letter, length) = unicode(&raw[at..]);
                let mut buffer = [0; 4];
                text.extend_from_slice(letter.encode_utf8(&mut buffer).as_bytes());
                at += length;
                continue;
            }
            Some(&other) => other,
            None => b'\\',
        };
        text.push(plain);
        at += 2;
    }
    Cow::Owned(text)
}

/// The letter that `\u1234` or a pair of them (`\ud83d\ude00`) stands for, and the length of its escape.
fn unicode(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6).filter(|t| t.starts_with(b"\\u"))?;
        u32::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    let Some(high) = unit(0) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if let Some(letter) = char::from_u32(high) {
        return (letter, 6);
    }
    match unit(6) {
        Some(low @ 0xdc00..0xe000) if high < 0xdc00 => {
            let letter = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            (letter.unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// The fields of a line that is pairs all over (`time=... level=info msg="..."`), two at least, one of them
/// with a name that loggers use.
pub(super) fn logfmt<'a>(line: &'a [u8], years: &mut Years) -> Option<Fields<'a>> {
    let mut best = Best::new();
    let mut pairs = 0;
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&b| is_space(b)) {
            at += 1;
        }
        if at == line.len() {
            break;
        }
        let key = line[at..].iter().take(64).take_while(|b| is_key(**b)).count();
        if key == 0 || line.get(at + key) != Some(&b'=') {
            return None;
        }
        let name = &line[at..at + key];
        at += key + 1;
        let value = if line.get(at) == Some(&b'"') {
            let mut reader = Reader { text: line, at };
            let raw = reader.string()?;
            at = reader.at;
            raw
        } else {
            let length = line[at..].iter().take_while(|&&b| !is_space(b)).count();
            at += length;
            &line[at - length..at]
        };
        best.take(0, name, Value::Text(unescape(value)), years);
        pairs += 1;
    }
    let known = best.ranks.iter().any(|&r| r != usize::MAX);
    (pairs >= 2 && known).then_some(best.fields)
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(line: &str) -> Option<(Option<String>, Option<i64>, Option<Level>)> {
        shown(json(line.as_bytes(), &mut Years::starting(2024, None)))
    }

    fn shown(fields: Option<Fields<'_>>) -> Option<(Option<String>, Option<i64>, Option<Level>)> {
        let fields = fields?;
        Some((fields.message.map(|m| String::from_utf8_lossy(&m).into_owned()), fields.time, fields.level))
    }

    #[test]
    fn the_usual_names_are_found_in_an_object() {
        let line =
            r#"{"level":30,"time":1577934245678,"pid":1,"msg":"listening on \"x\"\u00e9\ud83d\ude00"}"#;
        let expected =
            (Some("listening on \"x\"é😀".to_owned()), Some(1_577_934_245_678_000), Some(Level::Info));
        assert_eq!(json_of(line), Some(expected));
        let line = r#"{"@timestamp":"2020-01-02T03:04:05Z","log":{"level":"ERROR"},"a":[{"x":["]"]}],"message":"no"}"#;
        assert_eq!(json_of(line), Some((Some("no".into()), Some(1_577_934_245_000_000), Some(Level::Error))));
    }

    #[test]
    fn an_outer_name_wins_over_an_inner_one() {
        let line = r#"{"data":{"message":"inner"},"msg":"outer"}"#;
        assert_eq!(json_of(line).unwrap().0.unwrap(), "outer");
    }

    #[test]
    fn what_is_not_one_object_is_no_json() {
        for line in ["{", "{}x", "[1]", r#"{"a" 1}"#, r#"{"a":1,}"#, r#"{"a":"b}"#, r#"{"a":"\"#, "{a=1}", ""]
        {
            assert_eq!(json_of(line), None, "{line}");
        }
        assert_eq!(json_of("{ }"), Some((None, None, None)));
    }

    #[test]
    fn deep_nesting_is_not_followed_without_bound() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json_of(&deep), None);
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(json_of(&objects), None);
    }

    #[test]
    fn pairs_are_logfmt_when_a_known_name_is_among_them() {
        let years = &mut Years::starting(2024, None);
        let line = br#"ts=2020-01-02T03:04:05Z lvl=warn msg="slow \"x\"" took=3ms"#;
        let expected = (Some("slow \"x\"".to_owned()), Some(1_577_934_245_000_000), Some(Level::Warn));
        assert_eq!(shown(logfmt(line, years)), Some(expected));
        assert_eq!(logfmt(b"r24=1 r25=2", years), None);
        assert_eq!(logfmt(b"level=info and text", years), None);
        assert_eq!(logfmt(b"msg=\"open", years), None);
    }
}
