//! Writing a configuration as YAML: the documented example, and the values in force.
//!
//! The order is that of the structs; the comments are their doc comments.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::node::{Node, Written, parse};
use super::overlay::source_of;
use super::{Source, schema};
use crate::error::{Error, Result};

/// How wide a comment may be, in characters.
const WIDTH: usize = 100;

/// The documented file: every key with its default, and above it what it is for. Loading it gives the
/// default configuration.
pub fn example<T: Serialize + Default + JsonSchema>() -> String {
    let head = "Every key with its default. A key that is left out has it. Each can be set by a variable too: \
                `OPSROOM__SERVER__PORT=8080` sets `port` of `server`, and the same name with `_FILE` added names \
                a file that holds the value. A flag of the command line wins over a variable, and a variable \
                over this file.";
    let mut out = String::new();
    comment(&mut out, head, 0);
    let node = written(&T::default()).expect("a default configuration can be written as JSON");
    let schema = schema::of::<T>();
    Writer { out: &mut out, documented: true, sources: &BTreeMap::new() }.group(&schema, &node, "", 0);
    out
}

/// The values of a configuration and who set them, without the secrets.
pub(super) fn show<T: Serialize + JsonSchema>(
    config: &T,
    sources: &BTreeMap<String, Source>,
) -> Result<String> {
    let mut out = String::new();
    let schema = schema::of::<T>();
    Writer { out: &mut out, documented: false, sources }.group(&schema, &written(config)?, "", 0);
    Ok(out)
}

/// A configuration as a tree whose keys are in the order of its structs, which JSON text keeps.
fn written<T: Serialize>(config: &T) -> Result<Node> {
    let text = serde_json::to_string(config).map_err(Error::internal)?;
    parse(&text).map_err(|trouble| Error::internal(trouble.message))
}

struct Writer<'a> {
    out: &'a mut String,
    documented: bool,
    sources: &'a BTreeMap<String, Source>,
}

impl Writer<'_> {
    fn group(&mut self, schema: &Value, node: &Node, key: &str, depth: usize) {
        let Written::Map(entries) = &node.value else { return };
        for (name, _, node) in entries {
            let key = schema::join(key, name);
            let nothing = Value::Bool(true);
            let field = schema::field(schema, name).unwrap_or(&nothing);
            if self.documented {
                self.document(field, depth);
            }
            let indent = "  ".repeat(depth);
            self.out.push_str(&format!("{indent}{}:", plain_or_quoted(name)));
            let inner = !matches!(&node.value, Written::Map(entries) if entries.is_empty());
            if matches!(node.value, Written::Map(_)) && inner && !schema::is_secret(field) {
                self.out.push('\n');
                self.group(field, node, &key, depth + 1);
                continue;
            }
            self.out.push(' ');
            self.out.push_str(&value_of(field, node));
            if let source @ (Source::File(..) | Source::Variable(_) | Source::Flag(_)) =
                source_of(self.sources, &key)
            {
                self.out.push_str(&format!("  # {}", source.to_string().escape_debug()));
            }
            self.out.push('\n');
        }
    }

    fn document(&mut self, field: &Value, depth: usize) {
        if depth == 0 {
            self.out.push('\n');
        }
        let description = schema::description(field);
        comment(self.out, description, depth);
        let unsaid: Vec<&str> = schema::choices(field)
            .into_iter()
            .filter(|word| !description.contains(&format!("`{word}`")))
            .collect();
        if !unsaid.is_empty() {
            comment(self.out, &format!("It is {}.", schema::expectation(field)), depth);
        }
        if schema::is_secret(field) {
            comment(self.out, "A secret: better set by a variable that ends in `_FILE`.", depth);
        }
    }
}

fn value_of(schema: &Value, node: &Node) -> String {
    let empty = match &node.value {
        Written::Null => true,
        Written::Text(text) => text.is_empty(),
        _ => false,
    };
    if schema::is_secret(schema) && !empty {
        return plain_or_quoted("[hidden]");
    }
    inline(schema, node)
}

/// On one line, as YAML reads it.
fn inline(schema: &Value, node: &Node) -> String {
    match &node.value {
        Written::Null => "null".to_owned(),
        Written::Bool(value) => value.to_string(),
        Written::Number(number) => number.to_string(),
        Written::Text(text) => plain_or_quoted(text),
        Written::List(nodes) => {
            let items = schema::items(schema).unwrap_or(&Value::Bool(true));
            let items: Vec<String> = nodes.iter().map(|node| value_of(items, node)).collect();
            format!("[{}]", items.join(", "))
        }
        Written::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, _, node)| {
                    let field = schema::field(schema, name).unwrap_or(&Value::Bool(true));
                    format!("{}: {}", plain_or_quoted(name), value_of(field, node))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// Text as a YAML scalar: as it is when nothing in it has a meaning, else in double quotes.
fn plain_or_quoted(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control()
                || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{2028}' | '\u{2029}') =>
            {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A comment of whole words, wrapped; an empty line parts paragraphs.
fn comment(out: &mut String, text: &str, depth: usize) {
    let indent = "  ".repeat(depth);
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut line = format!("{indent}#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > indent.len() + 1 {
                out.push_str(&line);
                out.push('\n');
                line = format!("{indent}#");
            }
            line.push(' ');
            line.push_str(word);
        }
        out.push_str(&line);
        out.push('\n');
    }
}
