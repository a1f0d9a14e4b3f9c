//! The names of templates, by the miner that reads logs: it gets one line of each shape.

use std::sync::{Mutex, PoisonError};

use opsroom_analytics::parse::{Kind, LogParser, Miner, MinerConfig, ParserConfig};

use super::FIELDS;

/// Shapes' lines that one miner sees before it begins anew, so that it does not grow for ever.
const MOST_SEEN: usize = 200_000;

/// Names templates. What it learnt of earlier lines helps with later ones.
pub(super) struct Names(Mutex<Inner>);

struct Inner {
    parser: LogParser,
    /// For lines that continue a record, which the parser gives the template of its first line.
    rest: Miner,
    seen: usize,
}

impl Names {
    pub fn new() -> Self {
        Self(Mutex::new(Inner::new()))
    }

    /// The template of each line.
    pub fn of(&self, lines: &[&[u8]]) -> Vec<String> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.seen > MOST_SEEN {
            *inner = Inner::new();
        }
        inner.seen += lines.len();
        let ids: Vec<_> = lines
            .iter()
            .map(|line| {
                let line = text(line);
                let parsed = inner.parser.push(line);
                match (parsed.kind, parsed.template) {
                    (Kind::Head, Some(id)) => Some((true, id)),
                    (Kind::Empty, _) => None,
                    _ => Some((false, inner.rest.mine(line).template)),
                }
            })
            .collect();
        let by_id = |templates: Vec<opsroom_analytics::parse::Template>| {
            templates.into_iter().map(|template| (template.id, template.template)).collect()
        };
        let heads: std::collections::HashMap<_, String> = by_id(inner.parser.templates());
        let rest: std::collections::HashMap<_, String> = by_id(inner.rest.templates());
        let name = |id: Option<(bool, _)>| match id {
            None => String::new(),
            Some((true, id)) => heads.get(&inner.parser.resolve(id)).cloned().unwrap_or_else(wild),
            Some((false, id)) => rest.get(&inner.rest.resolve(id)).cloned().unwrap_or_else(wild),
        };
        ids.into_iter().map(name).collect()
    }
}

fn wild() -> String {
    "<*>".to_owned()
}

impl Inner {
    fn new() -> Self {
        let miner = MinerConfig { max_examples: 1, max_example_bytes: 64, ..MinerConfig::default() };
        let parser = LogParser::new(ParserConfig { miner: miner.clone(), ..ParserConfig::default() });
        Self { parser, rest: Miner::new(miner), seen: 0 }
    }
}

/// A line without its fields.
pub(super) fn text(line: &[u8]) -> &[u8] {
    match memchr::memrchr(FIELDS, line) {
        Some(at) if line.get(at + 1) == Some(&b'{') => &line[..at],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_kind_have_a_name_together() {
        let names = Names::new();
        let lines: Vec<String> = ["ann", "bob", "carl", "dora", "eve", "fred", "gina", "hal", "ida", "jon"]
            .iter()
            .map(|name| format!("2026-11-21 10:00:00 INFO login of {name} was refused"))
            .collect();
        let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
        let given = names.of(&lines);
        assert!(given.iter().all(|name| name == "login of <*> was refused"), "{given:?}");
        assert_eq!(names.of(&[b"", b"disk full\x1f{\"a\":1}"]), ["", "disk full"]);
    }
}
