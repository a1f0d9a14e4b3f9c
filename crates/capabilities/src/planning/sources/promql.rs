//! PromQL templates: a query with `{service}` where a service's name goes, which whoever asks for a plan
//! chooses. The name must stay a name, so a template is taken apart when the configuration is read: every
//! place lies in the quoted value of a label matcher, and the name is written there as that place needs.

use std::iter::Peekable;
use std::str::CharIndices;

use opsroom_core::{Error, Result};
use regex_syntax::ast::{self, Ast};

/// Where a service's name goes.
const PLACE: &str = "{service}";
/// Stands for the name where a pattern is looked at; of a private-use area, so that none has it.
const MARK: char = '\u{f8ff}';

/// A query that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// What is before each place, and how the name is written there.
    before: Vec<(String, Place)>,
    after: String,
}

/// A place for a name.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    quote: char,
    pattern: bool,
}

impl Template {
    /// Takes a query apart.
    ///
    /// # Errors
    /// `Invalid` for a query without a place, or with one in which a name could be more than a name.
    pub fn parse(query: &str) -> Result<Self> {
        let mut template = Self { before: Vec::new(), after: String::new() };
        let mut from = 0;
        for literal in literals(query)? {
            if query[from..literal.start].contains(PLACE) {
                return Err(outside());
            }
            template.after.push_str(&query[from..literal.start]);
            from = literal.start + literal.text.len();
            template.literal(&literal)?;
        }
        if query[from..].contains(PLACE) {
            return Err(outside());
        }
        template.after.push_str(&query[from..]);
        if template.before.is_empty() {
            return Err(Error::invalid("it has no `{service}`"));
        }
        Ok(template)
    }

    fn literal(&mut self, literal: &Literal<'_>) -> Result<()> {
        let pieces: Vec<&str> = literal.text.split(PLACE).collect();
        let (last, befores) = pieces.split_last().ok_or_else(outside)?;
        if !befores.is_empty() {
            let matcher = literal.matcher.ok_or_else(outside)?;
            if literal.quote == '`' {
                let text = "nothing can be escaped between backticks: put `{service}` between double quotes";
                return Err(Error::invalid(text));
            }
            let pattern = matcher == Matcher::Pattern;
            if befores.iter().any(|piece| piece.ends_with('\\')) {
                return Err(Error::invalid(
                    "a backslash before `{service}` would change what the name means",
                ));
            }
            if pattern && !is_literal_in(literal.text) {
                let text = "within a regular expression `{service}` stands outside of [...], {...} and \\Q...\\E, as in `pod=~\"{service}-.*\"`";
                return Err(Error::invalid(text));
            }
            for piece in befores {
                let before = std::mem::take(&mut self.after) + piece;
                self.before.push((before, Place { quote: literal.quote, pattern }));
            }
        }
        self.after.push_str(last);
        Ok(())
    }

    /// The query for a service.
    #[must_use]
    pub fn of(&self, service: &str) -> String {
        let mut query = String::new();
        for (before, place) in &self.before {
            query.push_str(before);
            place.write(service, &mut query);
        }
        query + &self.after
    }
}

impl Place {
    /// Only the quote in use may be escaped: any other escaped quote is a syntax error.
    fn write(self, service: &str, query: &mut String) {
        for character in service.chars() {
            if self.pattern && character.is_ascii_punctuation() && character != '_' {
                // Of the pattern; the backslash is itself escaped in the string.
                query.push_str("\\\\");
            }
            match character {
                '\\' => query.push_str("\\\\"),
                '\n' => query.push_str("\\n"),
                it if it == self.quote => query.extend(['\\', it]),
                it => query.push(it),
            }
        }
    }
}

fn outside() -> Error {
    Error::invalid(
        "`{service}` is taken only in the quoted value of a label matcher, as in `{job=\"{service}\"}`",
    )
}

/// Whether every place of this string's text is a literal of the regular expression that it is.
fn is_literal_in(text: &str) -> bool {
    let inner = &text[1..text.len() - 1];
    let places = inner.matches(PLACE).count();
    // What the string escapes, the expression does not see; an escape that is none of these stays one.
    let pattern = inner.replace(PLACE, &MARK.to_string()).replace("\\\\", "\\").replace("\\\"", "\"");
    ast::parse::Parser::new().parse(&pattern).is_ok_and(|parsed| literals_of(&parsed) == places)
}

fn literals_of(parsed: &Ast) -> usize {
    match parsed {
        Ast::Literal(literal) => usize::from(literal.c == MARK),
        Ast::Repetition(it) => literals_of(&it.ast),
        Ast::Group(it) => literals_of(&it.ast),
        Ast::Alternation(it) => it.asts.iter().map(literals_of).sum(),
        Ast::Concat(it) => it.asts.iter().map(literals_of).sum(),
        _ => 0,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Matcher {
    Equal,
    Pattern,
}

/// A quoted string of a query, with its quotes.
struct Literal<'a> {
    start: usize,
    text: &'a str,
    quote: char,
    /// The matcher before it; `None` when it is an argument of a function.
    matcher: Option<Matcher>,
}

/// The quoted strings of a query. Comments have none.
fn literals(query: &str) -> Result<Vec<Literal<'_>>> {
    let mut found = Vec::new();
    let mut characters = query.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '#' => {
                if query[at..].lines().next().is_some_and(|line| line.contains(PLACE)) {
                    return Err(outside());
                }
                while characters.next_if(|(_, it)| *it != '\n').is_some() {}
            }
            '"' | '\'' | '`' => {
                let end = closing(&mut characters, character)
                    .ok_or_else(|| Error::invalid("it has a quote that does not end"))?;
                let matcher = matcher(query[..at].trim_end());
                found.push(Literal { start: at, text: &query[at..=end], quote: character, matcher });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Where the string that has begun ends.
fn closing(characters: &mut Peekable<CharIndices<'_>>, quote: char) -> Option<usize> {
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote != '`' => {
                characters.next();
            }
            '\n' if quote != '`' => return None,
            it if it == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn matcher(before: &str) -> Option<Matcher> {
    if before.ends_with("=~") || before.ends_with("!~") {
        Some(Matcher::Pattern)
    } else {
        before.ends_with('=').then_some(Matcher::Equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, service: &str) -> String {
        Template::parse(query).unwrap().of(service)
    }

    fn refused(query: &str) -> String {
        Template::parse(query).unwrap_err().message
    }

    #[test]
    fn a_service_name_that_closes_the_string_stays_a_name() {
        let attack = "a\"} or b{x=\"\\";
        assert_eq!(of("up{job=\"{service}\"}", attack), r#"up{job="a\"} or b{x=\"\\"}"#);
        assert_eq!(of("up{job='{service}'}", "a'} or b{x='\""), r#"up{job='a\'} or b{x=\'"'}"#);
        // Another quote than the one in use must not be escaped: PromQL refuses `\'` in double quotes.
        assert_eq!(of("up{job=\"{service}\"}", "it's `ours`\n"), r#"up{job="it's `ours`\n"}"#);
    }

    #[test]
    fn a_service_name_that_is_a_regular_expression_matches_only_itself() {
        let query = "sum(rate(http_total{pod=~\"{service}-[a-z0-9]{5}\", zone!~\"x|{service}\"}[1h]))";
        let asked = of(query, ".*|(x");
        assert!(asked.contains(r#"pod=~"\\.\\*\\|\\(x-[a-z0-9]{5}""#), "{asked}");
        assert!(asked.contains(r#"zone!~"x|\\.\\*\\|\\(x""#), "{asked}");
        // The string gives `\\"`, and the expression a backslash and a quote.
        assert_eq!(of("up{a=~\"{service}\"}", "\\\""), r#"up{a=~"\\\\\\\""}"#);
    }

    #[test]
    fn a_place_where_nothing_can_be_escaped_is_refused_when_the_configuration_is_read() {
        assert!(refused("up{job=`{service}`}").contains("backticks"));
        for query in [
            "up{job=\"x\"} or {service}",
            "label_replace(up, \"a\", \"{service}\", \"b\", \"(.*)\")",
            "up{job=\"x\"} # of {service}",
            "{service}",
        ] {
            assert!(refused(query).contains("label matcher"), "{query}");
        }
        for query in ["up{job=\"\\{service}\"}", "up{job=~\"\\\\{service}\"}"] {
            assert!(refused(query).contains("backslash"), "{query}");
        }
        for query in ["[{service}]", "[^{service}]", "a{{service}}", "\\\\Qx{service}\\\\E", "({service}"] {
            assert!(refused(&format!("up{{job=~\"{query}\"}}")).contains("regular expression"), "{query}");
        }
        assert!(refused("up{job=\"x\"}").contains("no `{service}`"));
        assert!(refused("up{job=\"{service}").contains("does not end"));
    }

    #[test]
    fn quotes_within_other_quotes_and_comments_do_not_mislead() {
        let query = "up{a='\"', b=\"{service}\"} # it's \"one\n + up{c=\"\\\"\", b=\"{service}\"}";
        assert_eq!(of(query, "x"), query.replace(PLACE, "x"));
    }
}
