//! Matchers of labels, in Alertmanager's words: `severity="critical"`, `team=~"a|b"`, `env!="dev"`.

use std::collections::BTreeMap;
use std::fmt;

use opsroom_core::{Error, Result};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most matchers of one route, silence or rule.
pub const MOST: usize = 64;
/// The largest compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 18;

/// The labels of an alert.
pub type Labels = BTreeMap<String, String>;

/// One condition on one label. A label that is absent counts as empty, as in Alertmanager.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Matcher {
    name: String,
    value: String,
    negated: bool,
    /// For `=~` and `!~`: the pattern, which must match the whole value.
    pattern: Option<Regex>,
}

impl Matcher {
    /// Whether these labels fulfil the condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).map_or("", String::as_str);
        let equal = match &self.pattern {
            Some(pattern) => pattern.is_match(value),
            None => value == self.value,
        };
        equal != self.negated
    }
}

/// Whether these conditions hold for an alert without any label, and so for nearly every one.
///
/// # Errors
/// `Invalid` when they do, as in Alertmanager.
pub fn must_select(matchers: &[Matcher]) -> Result<()> {
    if !matchers.is_empty() && all_match(matchers, &Labels::new()) {
        return Err(Error::invalid(
            "matchers: these would match nearly every alert; at least one must ask for a value, such as \
             `alertname=~\".+\"` if you mean all",
        ));
    }
    Ok(())
}

/// Whether labels fulfil every one of these conditions.
pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (self.negated, &self.pattern) {
            (false, None) => "=",
            (true, None) => "!=",
            (false, Some(_)) => "=~",
            (true, Some(_)) => "!~",
        };
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}{sign}\"{value}\"", self.name)
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

impl TryFrom<String> for Matcher {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "matcher {:?} is not `label=\"value\"`, with `=`, `!=`, `=~` or `!~` between",
                text.chars().take(120).collect::<String>()
            ))
        };
        let at = text.find(['=', '!']).ok_or_else(wrong)?;
        let name = text[..at].trim();
        let (sign, value) = ["=~", "!~", "!=", "="]
            .iter()
            .find_map(|sign| text[at..].strip_prefix(sign).map(|value| (*sign, value.trim())))
            .ok_or_else(wrong)?;
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            return Err(wrong());
        }
        let value = unquoted(value).ok_or_else(wrong)?;
        let pattern = sign
            .ends_with('~')
            .then(|| regex::RegexBuilder::new(&format!("^(?:{value})$")).size_limit(LARGEST_PATTERN).build());
        let pattern = pattern.transpose().map_err(|error| {
            Error::invalid(format!("the pattern of the matcher on {name:?} cannot be used: {error}"))
        })?;
        Ok(Self { name: name.to_owned(), value, negated: sign.starts_with('!'), pattern })
    }
}

/// The text between quotes, or as it stands when there are none.
fn unquoted(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return (!text.contains('"')).then(|| text.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' => return None,
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                other @ ('"' | '\\') => out.push(other),
                // A pattern's own escape, such as `\d`, stays what it is.
                other => out.extend(['\\', other]),
            },
            plain => out.push(plain),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn matcher(text: &str) -> Matcher {
        Matcher::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn the_four_signs_match_as_in_alertmanager() {
        let alert = labels(&[("severity", "critical"), ("path", "/a\nb")]);
        for (text, expected) in [
            ("severity=\"critical\"", true),
            ("severity = critical", true),
            ("severity!=\"critical\"", false),
            ("severity=~\"crit.*\"", true),
            ("severity=~\"crit\"", false),
            ("severity!~\"warn|info\"", true),
            ("absent=\"\"", true),
            ("absent!=\"\"", false),
            ("absent=~\".+\"", false),
            ("path=\"/a\\nb\"", true),
            ("path=~\"/a.b\"", false),
        ] {
            assert_eq!(matcher(text).matches(&alert), expected, "{text}");
        }
    }

    #[test]
    fn a_matcher_is_written_as_it_is_read() {
        for text in ["a=\"b\"", "a!=\"b\"", "a=~\"b|c\"", "a!~\"x\\\"y\""] {
            assert_eq!(matcher(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_matcher_is_refused_with_the_form() {
        for text in ["", "severity", "=x", "a=\"b", "a=\"b\"c\"", "a\u{7}=b"] {
            let error = Matcher::try_from(text.to_owned()).unwrap_err();
            assert!(error.message.contains("label=\"value\""), "{text}: {}", error.message);
        }
        assert!(Matcher::try_from("a=~\"(\"".to_owned()).unwrap_err().message.contains("cannot be used"));
        assert!(Matcher::try_from("a=~\"(x{1000}){1000}\"".to_owned()).is_err());
    }
}
