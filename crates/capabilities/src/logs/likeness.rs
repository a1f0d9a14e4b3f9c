//! Whether a line is of a template, where only the template's text is known: its message is then that text,
//! with anything in the place of `<*>`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use opsroom_analytics::parse::{LogParser, MinerConfig, ParserConfig};
use opsroom_analytics::segments::Test;
use opsroom_core::{Error, Result};

use super::entry::parts;

/// The templates that a condition asks for.
pub struct Likeness {
    patterns: HashMap<String, regex::bytes::Regex>,
    /// Takes a line's message out of it.
    parser: Mutex<LogParser>,
}

impl Likeness {
    /// What this condition asks for.
    ///
    /// # Errors
    /// `Invalid` for a template that is too long.
    pub fn of(test: &Test) -> Result<Self> {
        let mut patterns = HashMap::new();
        gather(test, &mut patterns)?;
        let small =
            MinerConfig { max_templates: 64, max_examples: 0, max_bytes: 1 << 16, ..MinerConfig::default() };
        let parser = LogParser::new(ParserConfig { miner: small, ..ParserConfig::default() });
        Ok(Self { patterns, parser: Mutex::new(parser) })
    }

    /// Whether a line is of a template that the condition asks for.
    pub fn is(&self, line: &[u8], template: &str) -> bool {
        let Some(pattern) = self.patterns.get(template) else { return false };
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        pattern.is_match(&parser.push(parts(line).0).message)
    }
}

fn gather(test: &Test, patterns: &mut HashMap<String, regex::bytes::Regex>) -> Result<()> {
    match test {
        Test::Template(template) => {
            patterns.insert(template.clone(), pattern(template)?);
            Ok(())
        }
        Test::All(tests) | Test::Any(tests) => tests.iter().try_for_each(|test| gather(test, patterns)),
        Test::Not(test) => gather(test, patterns),
        _ => Ok(()),
    }
}

/// Blanks of a template are blanks of any length, as its words were taken apart.
fn pattern(template: &str) -> Result<regex::bytes::Regex> {
    let word = |word: &str| {
        let constant: Vec<String> = word.split("<*>").map(regex::escape).collect();
        constant.join(".*?")
    };
    let words: Vec<String> = template.split_whitespace().map(word).collect();
    let text = format!(r"(?s-u)^\s*{}\s*$", words.join(r"\s+"));
    let built = regex::bytes::RegexBuilder::new(&text).size_limit(1 << 20).build();
    built.map_err(|_| Error::invalid("query: the template is too long to be looked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_of_a_template_when_only_its_variables_differ() {
        let template = "disk of user <*> is <*>% full";
        let likeness = Likeness::of(&Test::Not(Box::new(Test::Template(template.to_owned())))).unwrap();
        for (line, like) in [
            ("2025-11-21 10:00:01 ERROR disk of user 7 is 95% full", true),
            ("disk of user Ann Lee  is  9% full", true),
            ("disk of user 7 is 95% full\u{1f}{\"n\":7}", true),
            ("2025-11-21 10:00:01 ERROR the disk of user 7 is 95% full", false),
            ("2025-11-21 10:00:01 ERROR disk of user 7 is 95% full again", false),
        ] {
            assert_eq!(likeness.is(line.as_bytes(), template), like, "{line}");
        }
        assert!(!likeness.is(b"another", "another"), "only what the condition asks for is known");
        assert!(Likeness::of(&Test::Template("x".repeat(8_192))).is_ok());
    }
}
