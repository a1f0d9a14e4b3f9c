//! The query language: `level:error service:api "connection refused" NOT timeout since:1h`.
//!
//! Words and quoted phrases are looked for anywhere in a line, whatever their case. `/.../` is a regular
//! expression. `name:value` asks for a level, a label, a template, a trace or a field. `NOT` or `-` before,
//! `OR` between, parentheses around; words one after the other must all be there.

use opsroom_analytics::segments::{LabelTest, Test};
use opsroom_core::{Error, Result};

use super::entry::{LEVELS, time_of_text};
use super::store::{TEAM, pattern};

/// The most bytes of a query.
const MOST_BYTES: usize = 8_192;
/// How deep parentheses go.
const DEEPEST: usize = 32;
/// The most conditions of a query.
const MOST_TERMS: usize = 256;

/// A query, understood.
#[derive(Clone, Debug)]
pub struct Query {
    /// What lines are like.
    pub test: Test,
    /// From when, microseconds since 1970.
    pub from: Option<i64>,
    /// Until when.
    pub until: Option<i64>,
}

/// Understands a query. `now` in microseconds since 1970.
///
/// # Errors
/// `Invalid`, with what is wrong and what would be right.
pub fn parse(text: &str, now: i64) -> Result<Query> {
    if text.len() > MOST_BYTES {
        return Err(Error::invalid(format!("the query has {} bytes, at most {MOST_BYTES}", text.len())));
    }
    let tokens = tokens(text)?;
    if tokens.len() > MOST_TERMS {
        return Err(Error::invalid(format!("the query has more than {MOST_TERMS} terms")));
    }
    let mut parser = Parser { tokens: &tokens, at: 0, now, from: None, until: None };
    let test = parser.any(0)?;
    if parser.at < tokens.len() {
        return Err(Error::invalid("the query has a `)` without its `(`"));
    }
    Ok(Query { test, from: parser.from, until: parser.until })
}

/// Microseconds of `90s`, `15m`, `1h`, `2d` or `1w`.
///
/// # Errors
/// `Invalid` for anything else.
pub fn duration(text: &str) -> Result<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match &text[digits..] {
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "w" => 604_800_000_000i64,
        _ => 0,
    };
    let number = text[..digits].parse::<i64>().ok().filter(|_| unit > 0);
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        Error::invalid(format!("`{text}` is no length of time; such are 90s, 15m, 1h, 2d, 1w"))
    })
}

/// A moment: RFC 3339, a date, a number since 1970, `now`, or `-1h`.
///
/// # Errors
/// `Invalid` for anything else.
pub fn moment(text: &str, now: i64) -> Result<i64> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(back) = text.strip_prefix('-') {
        return Ok(now.saturating_sub(duration(back)?));
    }
    let date = text.parse::<jiff::civil::Date>().ok();
    let of_date = |date: jiff::civil::Date| date.to_zoned(jiff::tz::TimeZone::UTC).ok();
    if let Some(at) = date.filter(|_| text.contains('-')).and_then(of_date) {
        return Ok(at.timestamp().as_microsecond());
    }
    time_of_text(text).ok_or_else(|| {
        Error::invalid(format!("`{text}` is no time; such are 2026-11-21T10:00:00Z, 2026-11-21 or -1h"))
    })
}

#[derive(Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Not,
    Or,
    And,
    Phrase(String),
    Word(String),
    Field(String, String),
    Regex(String),
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, used) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '-' | '!' if rest.len() > 1 && !rest[1..].starts_with(char::is_whitespace) => (Token::Not, 1),
            '"' => {
                let (phrase, used) = quoted(rest)?;
                (Token::Phrase(phrase), used)
            }
            '/' if rest[1..].contains('/') => {
                let (pattern, used) = delimited(rest, '/')?;
                (Token::Regex(pattern), used)
            }
            _ => word(rest)?,
        };
        found.push(token);
        rest = rest[used..].trim_start();
    }
    Ok(found)
}

fn word(rest: &str) -> Result<(Token, usize)> {
    let end = rest.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(rest.len());
    let end = if end == 0 { rest.chars().next().map_or(0, char::len_utf8) } else { end };
    let word = &rest[..end];
    if let Some(at) = word.find(':') {
        let (name, value) = (&rest[..at], &rest[at + 1..]);
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_name = begins && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-@".contains(c));
        if is_name && value.starts_with('"') {
            let (phrase, used) = quoted(value)?;
            return Ok((Token::Field(name.to_owned(), phrase), at + 1 + used));
        }
        let value = &word[at + 1..];
        // `http://...` and `std::io` are words.
        if is_name && !value.is_empty() && !value.starts_with([':', '/']) {
            return Ok((Token::Field(name.to_owned(), value.to_owned()), end));
        }
    }
    let token = match word {
        "NOT" => Token::Not,
        "OR" | "||" => Token::Or,
        "AND" | "&&" => Token::And,
        word => Token::Word(word.to_owned()),
    };
    Ok((token, end))
}

fn quoted(rest: &str) -> Result<(String, usize)> {
    delimited(rest, '"')
}

/// The text between two marks; a mark after a backslash is text.
fn delimited(rest: &str, mark: char) -> Result<(String, usize)> {
    let mut text = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            if c != mark && !(c == '\\' && mark == '"') {
                text.push('\\');
            }
            text.push(c);
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == mark {
            return Ok((text, at + c.len_utf8()));
        } else {
            text.push(c);
        }
    }
    Err(Error::invalid(format!("the query has a `{mark}` that is not closed")))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    now: i64,
    from: Option<i64>,
    until: Option<i64>,
}

impl Parser<'_> {
    /// Terms with `OR` between them.
    fn any(&mut self, depth: usize) -> Result<Test> {
        if depth > DEEPEST {
            return Err(Error::invalid("the query's parentheses are too deep"));
        }
        let mut tests = vec![self.all(depth)?];
        while self.tokens.get(self.at) == Some(&Token::Or) {
            self.at += 1;
            tests.push(self.all(depth)?);
        }
        Ok(if tests.len() == 1 { tests.remove(0) } else { Test::Any(tests) })
    }

    /// Terms that must all hold.
    fn all(&mut self, depth: usize) -> Result<Test> {
        let mut tests = Vec::new();
        loop {
            match self.tokens.get(self.at) {
                None | Some(Token::Or | Token::Close) => return Ok(Test::All(tests)),
                Some(Token::And) => self.at += 1,
                Some(_) => tests.extend(self.term(depth)?),
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Option<Test>> {
        let Some(token) = self.tokens.get(self.at) else {
            return Err(Error::invalid("the query ends where a term is expected, after NOT"));
        };
        self.at += 1;
        Ok(Some(match token {
            Token::Open => {
                let test = self.any(depth + 1)?;
                if self.tokens.get(self.at) != Some(&Token::Close) {
                    return Err(Error::invalid("the query has a `(` that is not closed"));
                }
                self.at += 1;
                test
            }
            Token::Not => {
                if depth > DEEPEST {
                    return Err(Error::invalid("the query says NOT too often"));
                }
                match self.term(depth + 1)? {
                    Some(test) => Test::Not(Box::new(test)),
                    None => return Err(Error::invalid("a time cannot be negated")),
                }
            }
            Token::Phrase(text) | Token::Word(text) => Test::Text(text.clone().into_bytes()),
            Token::Regex(text) => Test::Matches(pattern(text)?),
            Token::Field(name, value) => return self.field(name, value),
            Token::Close | Token::Or | Token::And => {
                return Err(Error::invalid("the query has AND, OR or `)` where a term is expected"));
            }
        }))
    }

    fn field(&mut self, name: &str, value: &str) -> Result<Option<Test>> {
        Ok(Some(match name {
            "since" | "last" => {
                self.from = Some(match duration(value) {
                    Ok(back) => self.now.saturating_sub(back),
                    Err(_) => moment(value, self.now)?,
                });
                return Ok(None);
            }
            "from" | "after" => {
                self.from = Some(moment(value, self.now)?);
                return Ok(None);
            }
            "until" | "to" | "before" => {
                self.until = Some(moment(value, self.now)?);
                return Ok(None);
            }
            "level" | "severity" => Test::Level(levels(value)?),
            "template" => Test::Template(value.to_owned()),
            "text" | "message" => Test::Text(value.as_bytes().to_vec()),
            "trace" | "trace_id" | "traceid" => Test::Text(value.as_bytes().to_vec()),
            TEAM => {
                return Err(Error::invalid(
                    "`_team` cannot be asked for: you see the lines of your own teams",
                ));
            }
            "service" | "host" | "source" => label(name, value),
            _ => {
                let text = |text: String| Test::Text(text.into_bytes());
                Test::Any(vec![
                    label(name, value),
                    text(format!("\"{name}\":\"{value}\"")),
                    text(format!("\"{name}\":{value}")),
                    text(format!("{name}={value}")),
                ])
            }
        }))
    }
}

fn label(name: &str, value: &str) -> Test {
    Test::Label(LabelTest { name: name.to_owned(), value: value.to_owned() })
}

/// `error`, `warn,error`, `>=warn`, `<info`.
fn levels(text: &str) -> Result<u8> {
    let of = |word: &str| -> Result<u8> {
        let known = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(word)).map(|at| at as u8);
        let known = known.or_else(|| Some(super::entry::level_of(word)).filter(|level| *level > 0));
        known.ok_or_else(|| {
            Error::invalid(format!(
                "`{word}` is no level; they are trace, debug, info, warn, error, fatal, none"
            ))
        })
    };
    let above = |level: u8| (0x7fu8 << level) & 0x7f;
    if let Some(word) = text.strip_prefix(">=") {
        return of(word).map(above);
    }
    if let Some(word) = text.strip_prefix('>') {
        return of(word).map(|level| above(level) & !(1 << level));
    }
    if let Some(word) = text.strip_prefix("<=") {
        return of(word).map(|level| !above(level) & 0x7f | 1 << level);
    }
    if let Some(word) = text.strip_prefix('<') {
        return of(word).map(|level| !above(level) & 0x7f);
    }
    text.split(',').try_fold(0, |mask, word| Ok(mask | 1 << of(word)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: i64 = 1_763_719_200_000_000;

    /// Whether a line of service api is meant.
    fn meant(query: &str, level: &str, line: &str) -> bool {
        let labels =
            BTreeMap::from([("service".to_owned(), "api".to_owned()), ("env".to_owned(), "prod".to_owned())]);
        let level = LEVELS.iter().position(|known| *known == level).unwrap() as u8;
        parse(query, NOW).unwrap().test.holds(line.as_bytes(), level, &labels, &|name| name == "took <*> ms")
    }

    #[test]
    fn the_language_says_what_people_expect() {
        let line = "Connection refused by 10.0.0.1 after 17 ms trace=abc std::io http://x/y";
        let yes = [
            "",
            "refused",
            "\"connection REFUSED\"",
            "level:error service:api \"connection refused\" NOT timeout since:1h",
            "level:>=warn",
            "level:warn,error",
            "level:<fatal",
            "level:<=error",
            "/after [0-9]+ ms/",
            "timeout OR refused",
            "NOT (timeout OR slow)",
            "-timeout",
            "service:a*",
            "env:prod",
            "trace:abc",
            "template:\"took <*> ms\"",
            "std::io",
            "http://x/y",
            "refused AND after",
            "(refused)",
            "-level:info",
            "10.0.0.1",
        ];
        for query in yes {
            assert!(meant(query, "error", line), "{query}");
        }
        for query in [
            "timeout",
            "level:info",
            "level:>error",
            "NOT refused",
            "service:web",
            "env:test",
            "/^after/",
            "-refused",
        ] {
            assert!(!meant(query, "error", line), "{query}");
        }
        assert!(
            meant("took_ms:17", "info", "x \x1f{\"took_ms\":17}") && meant("user:ann", "info", "user=ann")
        );
    }

    #[test]
    fn times_are_taken_out_of_the_query() {
        let query = parse("since:1h x until:2025-11-21T09:30:00Z", NOW).unwrap();
        assert_eq!((query.from, query.until), (Some(NOW - 3_600_000_000), Some(NOW - 1_800_000_000)));
        assert_eq!(parse("from:-2d", NOW).unwrap().from, Some(NOW - 172_800_000_000));
        assert_eq!(parse("from:2025-11-21", NOW).unwrap().from, Some(NOW - 36_000_000_000));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let told = [
            ("\"open", "not closed"),
            ("(a", "not closed"),
            ("a)", "without its"),
            ("since:soon", "no time"),
            ("level:loud", "no level"),
            ("/(/", "regular expression"),
            ("NOT", "expected"),
            ("NOT since:1h", "negated"),
            ("_team:x", "your own"),
            ("OR )", "without"),
        ];
        for (query, word) in told {
            let error = parse(query, NOW).unwrap_err();
            assert!(error.message.contains(word), "{query}: {error}");
        }
        assert!(parse(&"(".repeat(200), NOW).is_err() && parse(&"-".repeat(200), NOW).is_err());
        assert!(parse(&"a ".repeat(300), NOW).is_err() && parse(&"a".repeat(9_000), NOW).is_err());
    }
}
