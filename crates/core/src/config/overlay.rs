//! Laying one source over the other, each value checked against the schema when it is laid.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::node::{Node, Written, parse};
use super::{Loaded, Source, schema};
use crate::error::{Error, Result};

/// The values that were set, and by whom.
pub(super) struct Layers<'a> {
    schema: &'a Value,
    values: Map<String, Value>,
    sources: BTreeMap<String, Source>,
}

impl<'a> Layers<'a> {
    pub fn new(schema: &'a Value) -> Self {
        Self { schema, values: Map::new(), sources: BTreeMap::new() }
    }

    /// Lays a YAML document.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<()> {
        let source = |line| Source::File(path.to_owned(), line);
        let node = parse(text).map_err(|trouble| {
            let place = trouble.line.map_or(path.display().to_string(), |line| source(line).to_string());
            // What the parser would have us set is no setting of ours.
            let what = trouble.message.split(", set ").next().unwrap_or_default();
            Error::invalid(format!("{place}: this is not YAML that can be used: {what}"))
        })?;
        let mut check = Check { root: self.schema, source: &source, sources: &mut self.sources };
        match check.value(self.schema, &node, "", false)? {
            Some(Value::Object(values)) => self.values = values,
            _ => self.values = Map::new(),
        }
        Ok(())
    }

    /// Lays one value that is given as text.
    pub fn add_text(&mut self, source: Source, key: &str, text: &str) -> Result<()> {
        let mut at = self.schema;
        let mut secret = false;
        for name in key.split('.') {
            at = schema::field(at, name).ok_or_else(|| unknown(self.schema, &source, key))?;
            secret |= schema::is_secret(at);
        }
        // What was below this key before is replaced with it.
        self.sources.retain(|known, _| !is_below(known, key));
        let node = from_text(at, text);
        let place = |_| source.clone();
        let mut check = Check { root: self.schema, source: &place, sources: &mut self.sources };
        let value = check.value(at, &node, key, secret)?.unwrap_or_else(|| Value::Object(Map::new()));
        set(&mut self.values, key, value);
        Ok(())
    }

    /// Makes the configuration of what was laid.
    pub fn finish<T: DeserializeOwned>(self) -> Result<Loaded<T>> {
        let config = serde_path_to_error::deserialize(Value::Object(self.values)).map_err(|error| {
            let key = error.path().to_string();
            let key = if key == "." { "the configuration".to_owned() } else { key };
            let place = match source_of(&self.sources, &key) {
                Source::Default => String::new(),
                source => format!("{source}: "),
            };
            // The error of a secret's type may repeat the secret.
            let reason = if secret_at(self.schema, &key) {
                "the value cannot be used".to_owned()
            } else {
                error.into_inner().to_string()
            };
            Error::invalid(format!("{place}{key}: {reason}"))
        })?;
        Ok(Loaded { config, sources: self.sources })
    }
}

/// Who set this key or the nearest one around it.
pub(super) fn source_of(sources: &BTreeMap<String, Source>, key: &str) -> Source {
    let mut key = key;
    loop {
        if let Some(source) = sources.get(key) {
            return source.clone();
        }
        match key.rfind(['.', '[']) {
            Some(end) => key = &key[..end],
            None => return Source::Default,
        }
    }
}

/// Checks what one source wrote, and notes the places.
struct Check<'a> {
    root: &'a Value,
    source: &'a dyn Fn(u64) -> Source,
    sources: &'a mut BTreeMap<String, Source>,
}

impl Check<'_> {
    /// The value as JSON; `None` for a group with nothing in it, which sets nothing.
    fn value(&mut self, schema: &Value, node: &Node, key: &str, secret: bool) -> Result<Option<Value>> {
        let secret = secret || schema::is_secret(schema);
        let kinds = schema::kinds(schema);
        let any = kinds.is_empty();
        let may = |kind: &str| any || kinds.contains(&kind);
        let value = match &node.value {
            Written::Null if may("null") => Value::Null,
            Written::Null if may("object") => return Ok(None),
            Written::Bool(value) if may("boolean") => Value::Bool(*value),
            Written::Number(number) if may("number") || (may("integer") && !number.is_f64()) => {
                if !within(schema, number) {
                    return Err(self.wrong(schema, node, key, secret));
                }
                Value::Number(number.clone())
            }
            Written::Text(text) if may("string") => {
                let choices = schema::choices(schema);
                if !choices.is_empty() && !choices.contains(&text.as_str()) {
                    return Err(self.wrong(schema, node, key, secret));
                }
                Value::String(text.clone())
            }
            Written::List(nodes) if may("array") => self.list(schema, nodes, key, secret)?,
            Written::Map(entries) if may("object") => self.map(schema, entries, key, secret)?,
            _ => return Err(self.wrong(schema, node, key, secret)),
        };
        // A group is set key by key: who sets one of them is not to blame for the others.
        if !key.is_empty() && (!value.is_object() || schema::fields(schema).is_empty()) {
            self.sources.insert(key.to_owned(), (self.source)(node.line));
        }
        Ok(Some(value))
    }

    fn list(&mut self, schema: &Value, nodes: &[Node], key: &str, secret: bool) -> Result<Value> {
        let items = schema::items(schema).unwrap_or(&Value::Bool(true));
        let mut values = Vec::with_capacity(nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            let value = self.value(items, node, &format!("{key}[{place}]"), secret)?;
            values.push(value.unwrap_or_else(|| Value::Object(Map::new())));
        }
        Ok(Value::Array(values))
    }

    fn map(
        &mut self,
        schema: &Value,
        entries: &[(String, u64, Node)],
        key: &str,
        secret: bool,
    ) -> Result<Value> {
        let any = schema::kinds(schema).is_empty();
        let mut values = Map::new();
        for (name, line, node) in entries {
            let key = schema::join(key, name);
            let field = schema::field(schema, name).or(any.then_some(&Value::Bool(true)));
            let field = field.ok_or_else(|| unknown(self.root, &(self.source)(*line), &key))?;
            if let Some(value) = self.value(field, node, &key, secret)? {
                values.insert(name.clone(), value);
            }
        }
        Ok(Value::Object(values))
    }

    fn wrong(&self, schema: &Value, node: &Node, key: &str, secret: bool) -> Error {
        let source = (self.source)(node.line);
        let key = if key.is_empty() { "the configuration".to_owned() } else { shown(key) };
        let found = match &node.value {
            _ if secret => String::new(),
            Written::Number(number) => format!(", not {number}"),
            Written::Bool(value) => format!(", not {value}"),
            Written::Text(text) => format!(", not `{}`", shown(text)),
            other => format!(", and is {}", other.noun()),
        };
        let wants_text = schema::kinds(schema).contains(&"string");
        let scalar = matches!(node.value, Written::Number(_) | Written::Bool(_));
        let hint = if wants_text && scalar { "; write it in quotes" } else { "" };
        Error::invalid(format!("{source}: {key} must be {}{found}{hint}", schema::expectation(schema)))
    }
}

/// What a text means where this schema holds. What does not fit stays text, and is refused by name.
fn from_text(schema: &Value, text: &str) -> Node {
    let kinds = schema::kinds(schema);
    let is = |kind| kinds.contains(&kind);
    let trimmed = text.trim();
    let structured = |sign| trimmed.starts_with(sign).then(|| parse(trimmed).ok()).flatten();
    if is("null") && text.is_empty() {
        return Node { line: 1, value: Written::Null };
    }
    if is("array") {
        let node = structured('[').unwrap_or_else(|| {
            let items = schema::items(schema).unwrap_or(&Value::Bool(true));
            let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
            let list = parts.map(|part| from_text(items, part)).collect();
            Node { line: 1, value: Written::List(list) }
        });
        return node;
    }
    if is("object")
        && let Some(node) = structured('{')
    {
        return node;
    }
    let boolean = match trimmed.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    };
    let number = if is("integer") || is("number") { number(trimmed) } else { None };
    let value = match (number, boolean) {
        (Some(number), _) => Written::Number(number),
        (None, Some(value)) if is("boolean") => Written::Bool(value),
        _ => Written::Text(text.to_owned()),
    };
    Node { line: 1, value }
}

fn number(text: &str) -> Option<serde_json::Number> {
    let whole = text.parse::<u64>().map(Into::into).or_else(|_| text.parse::<i64>().map(Into::into));
    whole.ok().or_else(|| serde_json::Number::from_f64(text.parse().ok()?))
}

fn within(schema: &Value, number: &serde_json::Number) -> bool {
    let (least, most) = schema::bounds(schema);
    let Some(number) = number.as_f64() else { return false };
    least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
}

fn set(values: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((group, rest)) => {
            let group = values.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if !group.is_object() {
                *group = Value::Object(Map::new());
            }
            if let Value::Object(group) = group {
                set(group, rest, value);
            }
        }
    }
}

fn unknown(root: &Value, source: &Source, key: &str) -> Error {
    let right = match schema::nearest(root, key) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let group = key.rsplit_once('.').map_or("", |(group, _)| group);
            let at = group.split('.').try_fold(root, |at, name| schema::field(at, name));
            let names =
                |at: &Value| schema::fields(at).into_iter().map(|(name, _)| name.to_owned()).collect();
            let known: Vec<String> =
                at.map(names).filter(|n: &Vec<_>| !n.is_empty()).unwrap_or_else(|| names(root));
            format!("the keys there are {}", known.join(", "))
        }
    };
    Error::invalid(format!("{source}: there is no key `{}`; {right}", shown(key)))
}

fn secret_at(root: &Value, key: &str) -> bool {
    let mut at = root;
    for name in key.split('.') {
        let name = name.split('[').next().unwrap_or_default();
        let Some(field) = schema::field(at, name) else { return false };
        if schema::is_secret(field) {
            return true;
        }
        at = schema::items(field).unwrap_or(field);
    }
    false
}

fn is_below(known: &str, key: &str) -> bool {
    known.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A name or value for an error: short, and without control characters.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug())
}
