//! What the environment sets: `OPSROOM__SECTION__KEY`, the same with `_FILE` for a file that holds the
//! value, and the names that a caller lists.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{MAX_VALUE_BYTES, Source, Sources, read_text, schema};
use crate::error::{Error, Result};

const PREFIX: &str = "OPSROOM__";

/// The environment of the process. Only this reads it; whoever needs a variable gets the map passed in.
///
/// A variable that is not UTF-8 is left out, unless it is one of ours.
///
/// # Errors
/// `Invalid` for a variable of ours that is not UTF-8.
pub fn environment() -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(_) if name.starts_with(PREFIX) => {
                return Err(Error::invalid(format!("the variable {name} is not UTF-8 text")));
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

/// Who sets which key to what text, weakest first.
pub(super) fn settings(sources: &Sources, root: &Value) -> Result<Vec<(Source, String, String)>> {
    let variables = &sources.environment;
    let mut settings = Vec::new();
    for (name, key) in sources.names {
        let in_file = format!("{name}_FILE");
        match (variables.get(*name), variables.get(&in_file)) {
            (Some(_), Some(_)) => return Err(twice(name)),
            // An empty variable is how a container's file leaves one unset.
            (Some(text), None) if !text.is_empty() => {
                settings.push((Source::Variable((*name).to_owned()), (*key).to_owned(), text.clone()));
            }
            (None, Some(path)) if !path.is_empty() => {
                settings.push((Source::Variable(in_file.clone()), (*key).to_owned(), value(&in_file, path)?));
            }
            _ => {}
        }
    }
    for (name, text) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let source = Source::Variable(name.clone());
        if let Some(key) = key_of(root, name) {
            settings.push((source, key, text.clone()));
            continue;
        }
        let plain = name.strip_suffix("_FILE");
        match plain.and_then(|plain| Some((plain, key_of(root, plain)?))) {
            Some((plain, _)) if variables.contains_key(plain) => return Err(twice(plain)),
            Some((_, key)) => settings.push((source, key, value(name, text)?)),
            None => return Err(unknown(root, name)),
        }
    }
    Ok(settings)
}

/// The key that a variable of the pattern names, if there is one.
fn key_of(root: &Value, variable: &str) -> Option<String> {
    let mut at = root;
    let mut key = String::new();
    for part in variable.strip_prefix(PREFIX)?.split("__") {
        let part = part.to_ascii_lowercase();
        let known = schema::fields(at).into_iter().find(|(name, _)| name.to_ascii_lowercase() == part);
        let name = known.map_or(part.clone(), |(name, _)| name.to_owned());
        if name.is_empty() {
            return None;
        }
        at = schema::field(at, &name)?;
        key = schema::join(&key, &name);
    }
    Some(key)
}

/// The value in the file that a variable names; the line's end that an editor adds is not part of it.
fn value(variable: &str, path: &str) -> Result<String> {
    let text = read_text(Path::new(path), MAX_VALUE_BYTES)
        .map_err(|error| Error { message: format!("the variable {variable}: {error}"), ..error })?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(text.to_owned())
}

fn twice(name: &str) -> Error {
    Error::invalid(format!("the variables {name} and {name}_FILE are both set; set one of them"))
}

fn unknown(root: &Value, name: &str) -> Error {
    let plain = name.strip_suffix("_FILE").unwrap_or(name);
    let key = plain.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", ".");
    let right = match schema::nearest(root, &key) {
        Some(near) => format!("did you mean {}?", variable_of(&near)),
        None => {
            "`opsroom config example` lists the keys; two underscores part a section from its key".to_owned()
        }
    };
    Error::invalid(format!("the variable {name} sets no key of the configuration; {right}"))
}

/// The variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}
