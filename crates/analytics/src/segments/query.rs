//! What is looked for in segments.

use std::collections::BTreeMap;

use regex_syntax::hir::{Class, Hir, HirKind};

/// A condition on a row.
#[derive(Clone, Debug)]
pub enum Test {
    /// Its text contains this, whatever the ASCII case.
    Text(Vec<u8>),
    /// A regular expression matches its text.
    Matches(Pattern),
    /// Its level is one of these: bit 0 for none, bit 1 for the quietest, bit 6 for the loudest.
    Level(u8),
    /// Its stream has such a label.
    Label(LabelTest),
    /// Its template's text is this.
    Template(String),
    /// All of these hold.
    All(Vec<Test>),
    /// One of these holds.
    Any(Vec<Test>),
    /// This does not hold.
    Not(Box<Test>),
}

impl Test {
    /// The condition that every row meets.
    pub fn everything() -> Self {
        Test::All(Vec::new())
    }

    /// Whether a row that is at hand as it is meets it. `is_of` says whether its template is this; it is asked
    /// only when it is needed.
    pub fn holds(
        &self,
        text: &[u8],
        level: u8,
        labels: &BTreeMap<String, String>,
        is_of: &dyn Fn(&str) -> bool,
    ) -> bool {
        match self {
            Test::Text(needle) => super::column::contains(text, needle),
            Test::Matches(pattern) => pattern.regex.is_match(text),
            Test::Level(mask) => mask >> level.min(6) & 1 == 1,
            Test::Label(test) => test.holds(labels),
            Test::Template(wanted) => is_of(wanted),
            Test::All(tests) => tests.iter().all(|test| test.holds(text, level, labels, is_of)),
            Test::Any(tests) => tests.iter().any(|test| test.holds(text, level, labels, is_of)),
            Test::Not(test) => !test.holds(text, level, labels, is_of),
        }
    }
}

/// A label that a stream must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTest {
    /// The label's name.
    pub name: String,
    /// Its value; `*` stands for any text in it.
    pub value: String,
}

impl LabelTest {
    /// Whether a stream with these labels is meant. ASCII case is not looked at.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.name).is_some_and(|value| glob(self.value.as_bytes(), value.as_bytes()))
    }
}

/// Whether a text is as a pattern with `*` says.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|b| b.eq_ignore_ascii_case(&text[t])) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// A regular expression, with the texts without which it cannot match.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) regex: regex::bytes::Regex,
    /// Of each list, a match contains one (whatever its ASCII case).
    pub(super) needed: Vec<Vec<Vec<u8>>>,
}

/// The most alternatives of a list of texts.
const MOST_ALTERNATIVES: usize = 16;

impl Pattern {
    /// Compiles an expression (Rust syntax), within bounds on what it may cost.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = regex::bytes::RegexBuilder::new(text)
            .size_limit(1 << 20)
            .dfa_size_limit(4 << 20)
            .build()
            .map_err(|error| error.to_string())?;
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(text);
        let mut needed = Vec::new();
        if let Ok(hir) = parsed {
            gather(&hir, &mut needed);
        }
        needed.sort_by_key(|list| std::cmp::Reverse(list.iter().map(Vec::len).min()));
        needed.truncate(4);
        Ok(Self { regex, needed })
    }
}

/// Adds the lists of texts of which every match contains one.
fn gather(hir: &Hir, lists: &mut Vec<Vec<Vec<u8>>>) {
    let mut run = Vec::new();
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    for part in parts {
        if let Some(text) = fixed(part) {
            run.extend(text);
            continue;
        }
        end_run(&mut run, lists);
        match part.kind() {
            HirKind::Capture(capture) => gather(&capture.sub, lists),
            HirKind::Repetition(repetition) if repetition.min > 0 => gather(&repetition.sub, lists),
            HirKind::Alternation(branches) if branches.len() <= MOST_ALTERNATIVES => {
                let longest = |branch: &Hir| {
                    let mut own = Vec::new();
                    gather(branch, &mut own);
                    let single = own.into_iter().filter(|list| list.len() == 1);
                    single.flatten().max_by_key(Vec::len)
                };
                if let Some(texts) = branches.iter().map(longest).collect::<Option<Vec<_>>>() {
                    lists.push(texts);
                }
            }
            _ => {}
        }
    }
    end_run(&mut run, lists);
}

fn end_run(run: &mut Vec<u8>, lists: &mut Vec<Vec<Vec<u8>>>) {
    if run.len() > 1 {
        lists.push(vec![std::mem::take(run)]);
    }
    run.clear();
}

/// The text that a part always matches, but for ASCII case.
fn fixed(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(literal.0.to_vec()),
        HirKind::Capture(capture) => fixed(&capture.sub),
        HirKind::Class(class) => {
            let bytes: Option<Vec<u8>> = match class {
                Class::Bytes(class) => {
                    class.iter().map(|range| (range.start() == range.end()).then(|| range.start())).collect()
                }
                Class::Unicode(class) => class
                    .iter()
                    .map(|range| (range.start() == range.end()).then(|| u8::try_from(range.start()).ok())?)
                    .collect(),
            };
            match bytes?.as_slice() {
                [one] if one.is_ascii() => Some(vec![*one]),
                [a, b] if a.is_ascii_alphabetic() && a.eq_ignore_ascii_case(b) => Some(vec![*b]),
                _ => None,
            }
        }
        HirKind::Concat(parts) => {
            parts.iter().map(fixed).collect::<Option<Vec<_>>>().map(|texts| texts.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(text: &str) -> Vec<Vec<String>> {
        let pattern = Pattern::new(text).unwrap();
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        pattern.needed.iter().map(|list| list.iter().map(text).collect()).collect()
    }

    #[test]
    fn what_a_match_must_contain_is_found() {
        assert_eq!(needed("failed after [0-9]+ ms"), [["failed after "], [" ms"]]);
        assert_eq!(
            needed("(timeout|refused) by"),
            vec![vec![" by"], vec!["timeout", "refused"]].into_iter().rev().collect::<Vec<_>>()
        );
        assert_eq!(needed("(?i)error.*limit"), [["error"], ["limit"]]);
        assert!(needed("a*|b").is_empty() && needed("[0-9]+").is_empty());
        assert!(Pattern::new("(").is_err() && Pattern::new("(a{1000}){1000}").is_err());
    }

    #[test]
    fn stars_stand_for_any_text() {
        let test = |value: &str| LabelTest { name: "service".to_owned(), value: value.to_owned() };
        let labels = BTreeMap::from([("service".to_owned(), "api-gateway".to_owned())]);
        for value in ["api-gateway", "API-*", "*gate*", "*"] {
            assert!(test(value).holds(&labels), "{value}");
        }
        for value in ["api", "*x", "api-gateway-2"] {
            assert!(!test(value).holds(&labels), "{value}");
        }
    }
}
