//! Reading a JSON schema as configuration needs it: the fields of a group, what a value may be, which
//! values are secrets, and how to say what would be right.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema of a configuration, with everything inlined.
pub(super) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// A schema and its alternatives, such as the two of an `Option`.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let mut all = vec![schema];
    for word in ["anyOf", "oneOf", "allOf"] {
        all.extend(schema.get(word).and_then(Value::as_array).into_iter().flatten());
    }
    all
}

/// The named fields of a group; none for anything else.
pub(super) fn fields(schema: &Value) -> Vec<(&str, &Value)> {
    let groups = alternatives(schema).into_iter().filter_map(|one| one.get("properties")?.as_object());
    groups.flatten().map(|(name, field)| (name.as_str(), field)).collect()
}

/// The schema of one field: a named one, or that of a map's values.
pub(super) fn field<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    if let Some((_, field)) = fields(schema).into_iter().find(|(known, _)| *known == name) {
        return Some(field);
    }
    alternatives(schema).into_iter().find_map(|one| match one.get("additionalProperties") {
        Some(values @ Value::Object(_)) | Some(values @ Value::Bool(true)) => Some(values),
        _ => None,
    })
}

/// The schema of a list's items.
pub(super) fn items(schema: &Value) -> Option<&Value> {
    alternatives(schema).into_iter().find_map(|one| one.get("items"))
}

/// The types that a value may have; empty when the schema does not say.
pub(super) fn kinds(schema: &Value) -> Vec<&str> {
    let mut kinds = Vec::new();
    for one in alternatives(schema) {
        match one.get("type") {
            Some(Value::String(kind)) => kinds.push(kind.as_str()),
            Some(Value::Array(several)) => kinds.extend(several.iter().filter_map(Value::as_str)),
            _ => {}
        }
    }
    if kinds.is_empty() && !choices(schema).is_empty() {
        kinds.push("string");
    }
    kinds
}

/// The words that a value may be; empty when any text will do.
pub(super) fn choices(schema: &Value) -> Vec<&str> {
    let mut words = Vec::new();
    for one in alternatives(schema) {
        words.extend(
            one.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str),
        );
        words.extend(one.get("const").and_then(Value::as_str));
    }
    words
}

/// Whether the value must never be shown.
pub(super) fn is_secret(schema: &Value) -> bool {
    alternatives(schema).into_iter().any(|one| one.get("writeOnly") == Some(&Value::Bool(true)))
}

/// The description, which is the field's doc comment.
pub(super) fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// The least and the greatest number.
pub(super) fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |word| alternatives(schema).into_iter().find_map(|one| one.get(word)?.as_f64());
    (bound("minimum"), bound("maximum"))
}

/// What would be right, in words.
pub(super) fn expectation(schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        let words: Vec<String> = choices.iter().map(|word| format!("`{word}`")).collect();
        return format!("one of {}", words.join(", "));
    }
    let mut words: Vec<String> = Vec::new();
    for kind in kinds(schema) {
        words.push(match kind {
            "string" => "text".to_owned(),
            "boolean" => "true or false".to_owned(),
            "integer" => format!("a whole number{}", range(schema)),
            "number" => format!("a number{}", range(schema)),
            "array" => "a list".to_owned(),
            "object" => "a group of keys".to_owned(),
            _ => continue,
        });
    }
    if words.is_empty() { "a value".to_owned() } else { words.join(" or ") }
}

fn range(schema: &Value) -> String {
    match bounds(schema) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        (None, Some(most)) => format!(" of at most {most}"),
        (None, None) => String::new(),
    }
}

/// Every key of the schema, dotted, groups left out.
pub(super) fn keys(schema: &Value) -> Vec<String> {
    fn walk(schema: &Value, prefix: &str, depth: usize, keys: &mut Vec<String>) {
        for (name, field) in fields(schema) {
            let key = join(prefix, name);
            if fields(field).is_empty() || depth == 0 {
                keys.push(key);
            } else {
                walk(field, &key, depth - 1, keys);
            }
        }
    }
    let mut keys = Vec::new();
    walk(schema, "", 8, &mut keys);
    keys
}

/// A key below another.
pub(super) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The known key that was most likely meant, if one is near.
pub(super) fn nearest(schema: &Value, key: &str) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let known = keys(schema);
    if let Some(same) = known.iter().find(|known| last(known) == last(key)) {
        return Some(same.clone());
    }
    // Sections count too: `sever:` is meant to be `server:`.
    let sections = fields(schema).into_iter().map(|(name, _)| name.to_owned());
    let near = known.into_iter().chain(sections).map(|known| (distance(&known, key), known));
    near.min().filter(|(distance, _)| *distance <= (key.len() / 4).clamp(1, 4)).map(|(_, known)| known)
}

/// How many characters must be put in, taken out or changed (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    // A key of a thousand characters is near to nothing.
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(128).collect(), b.chars().take(128).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
