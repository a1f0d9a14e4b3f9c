//! A value of a configuration file as it was written, with the line of every part.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned, budget, options};

/// A value and the line where it stands, from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub line: u64,
    pub value: Written,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    /// Keys with their lines, in the order in which they were written.
    Map(Vec<(String, u64, Node)>),
}

impl Written {
    /// What it is, for an error.
    pub fn noun(&self) -> &'static str {
        match self {
            Written::Null => "empty",
            Written::Bool(_) => "true or false",
            Written::Number(_) => "a number",
            Written::Text(_) => "text",
            Written::List(_) => "a list",
            Written::Map(_) => "a group of keys",
        }
    }
}

/// Why a text is not YAML, and in which line, where that is known.
pub(super) struct Trouble {
    pub line: Option<u64>,
    pub message: String,
}

/// Reads one YAML document, of bounded depth, size and repetition. The text is cut short by whoever
/// reads it; an alias can make at most a hundred thousand values of it.
pub(super) fn parse(text: &str) -> Result<Node, Trouble> {
    let options = options! {
        budget: budget! {
            max_depth: 32,
            max_nodes: 100_000,
            max_events: 200_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            max_total_scalar_bytes: 4 << 20,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    // A file of nothing but comments sets nothing.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Node { line: 1, value: Written::Null });
    }
    serde_saphyr::from_str_with_options::<Spanned<Written>>(text, options).map(Node::from).map_err(|error| {
        let line = error.location().map(|place| place.line()).filter(|line| *line > 0);
        let message = error.to_string();
        // The line is said by us, in one form for every error.
        let message = message.split(" at line ").next().unwrap_or_default();
        Trouble { line, message: message.lines().next().unwrap_or_default().to_owned() }
    })
}

impl From<Spanned<Written>> for Node {
    fn from(spanned: Spanned<Written>) -> Self {
        Node { line: spanned.referenced.line(), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written::Null)
    }

    fn visit_none<E>(self) -> Result<Written, E> {
        Ok(Written::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Written, D::Error> {
        Written::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Written, E> {
        Ok(Written::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Written, E> {
        Ok(Written::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Written, E> {
        Ok(Written::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Written, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Written::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Written, E> {
        Ok(Written::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Written>>()? {
            list.push(item.into());
        }
        Ok(Written::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
        let mut map: Vec<(String, u64, Node)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Written>>()? {
            if map.iter().any(|(name, ..)| *name == key.value) {
                return Err(A::Error::custom(format_args!("the key `{}` is there twice", key.value)));
            }
            map.push((key.value, key.referenced.line(), value.into()));
        }
        Ok(Written::Map(map))
    }
}
