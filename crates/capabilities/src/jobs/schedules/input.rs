//! Whether an input fits an operation, judged by its schema before it is stored: a schedule that could
//! never run is refused when it is written, not at night.

use opsroom_core::error::{Error, Result};
use opsroom_core::operation::{BACKGROUND, Effect, Operation};
use serde_json::{Map, Value};

use crate::jobs::model::clean;

/// The largest input of a schedule, as JSON text.
const MOST_BYTES: usize = 64 << 10;

/// Whether a schedule may call this operation at all.
///
/// # Errors
/// `Invalid` for what shows a secret (nobody would see it), and for what works on schedules (it could
/// multiply itself).
pub fn check_operation(operation: &Operation) -> Result<()> {
    if operation.effect == Effect::Reveal {
        return Err(Error::invalid(format!(
            "operation: {} shows a secret and cannot be scheduled",
            operation.name
        )));
    }
    if operation.capability == "jobs" && operation.effect != Effect::Read {
        return Err(Error::invalid(format!(
            "operation: {} works on jobs or schedules and cannot be scheduled itself",
            operation.name
        )));
    }
    Ok(())
}

/// The input as it is stored, when it fits the operation.
///
/// # Errors
/// `Invalid`, naming the field and what would be right.
pub fn check_input(operation: &Operation, mut input: Map<String, Value>) -> Result<Value> {
    if operation.long {
        // A schedule's run is always a job in the background.
        input.remove(BACKGROUND);
    }
    for (name, schema) in operation.fields() {
        if input.contains_key(name) && schema.get("writeOnly") == Some(&Value::Bool(true)) {
            return Err(Error::invalid(format!("input.{name} is a secret and cannot be kept in a schedule")));
        }
    }
    let input = Value::Object(input);
    let size = input.to_string().len();
    if size > MOST_BYTES {
        return Err(Error::invalid(format!("input has {size} bytes as JSON; the most is {MOST_BYTES}")));
    }
    fits(operation.input(), &input, "input").map_err(Error::invalid)?;
    Ok(input)
}

/// Whether a value fits a schema, as far as schemas of operations go: types, choices, required and
/// unknown fields, ranges, items, alternatives. What else a schema says is left to the operation.
fn fits(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    fits_type(schema, value, path)?;
    if let Some(choices) = schema.get("enum").and_then(Value::as_array)
        && !choices.contains(value)
    {
        return Err(format!(
            "{path} is {}; it must be one of {}",
            shown(value),
            Value::from(choices.clone())
        ));
    }
    if let Some(only) = schema.get("const")
        && only != value
    {
        return Err(format!("{path} is {}; it must be {only}", shown(value)));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(ways) = schema.get(key).and_then(Value::as_array) {
            let mut wrong = None;
            if !ways
                .iter()
                .any(|way| fits(way, value, path).map_err(|why| wrong.get_or_insert(why).clone()).is_ok())
                && let Some(why) = wrong
            {
                return Err(why);
            }
        }
    }
    match value {
        Value::Object(fields) => fits_fields(schema, fields, path),
        Value::Array(items) => match schema.get("items") {
            Some(each) => {
                items.iter().enumerate().try_for_each(|(n, item)| fits(each, item, &format!("{path}[{n}]")))
            }
            None => Ok(()),
        },
        Value::Number(number) => fits_range(schema, number.as_f64().unwrap_or(f64::NAN), path),
        _ => Ok(()),
    }
}

fn fits_type(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let is = |name: &&str| match (*name, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_))
        | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(number)) => number.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => false,
    };
    if types.iter().any(is) {
        return Ok(());
    }
    Err(format!("{path} is {}; it must be of type {}", shown(value), types.join(" or ")))
}

fn fits_fields(schema: &Value, fields: &Map<String, Value>, path: &str) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{path}.{name} is missing"));
        }
    }
    let known = schema.get("properties").and_then(Value::as_object);
    for (name, value) in fields {
        let place = format!("{path}.{}", clean(name, 64));
        match (known.and_then(|known| known.get(name)), schema.get("additionalProperties")) {
            (Some(field), _) => fits(field, value, &place)?,
            (None, Some(Value::Bool(false))) => {
                let names: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                return Err(format!("{place} is not known; the fields are {}", names.join(", ")));
            }
            (None, Some(each @ Value::Object(_))) => fits(each, value, &place)?,
            (None, _) => {}
        }
    }
    Ok(())
}

fn fits_range(schema: &Value, number: f64, path: &str) -> Result<(), String> {
    let bound = |key| schema.get(key).and_then(Value::as_f64);
    if let Some(least) = bound("minimum")
        && number < least
    {
        return Err(format!("{path} is {number}; it must be at least {least}"));
    }
    if let Some(most) = bound("maximum")
        && number > most
    {
        return Err(format!("{path} is {number}; it must be at most {most}"));
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    clean(&value.to_string(), 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(schema: Value, value: Value) -> String {
        fits(&schema, &value, "input").err().unwrap_or_default()
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string" },
                "limit": { "type": ["integer", "null"], "minimum": 1, "maximum": 10 },
                "mode": { "anyOf": [{ "enum": ["fast", "slow"] }, { "type": "null" }] },
                "words": { "type": "array", "items": { "type": "string" } }
            },
            "required": ["path"],
            "additionalProperties": false
        })
    }

    #[test]
    fn what_fits_is_taken() {
        for value in [
            json!({ "path": "a" }),
            json!({ "path": "a", "limit": 3, "mode": "fast", "words": ["x"] }),
            json!({ "path": "a", "limit": null, "mode": null, "words": [] }),
        ] {
            assert_eq!(wrong(schema(), value), "");
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        for (value, expected) in [
            (json!([]), "input is []; it must be of type object"),
            (json!({}), "input.path is missing"),
            (json!({ "path": 1 }), "input.path is 1; it must be of type string"),
            (
                json!({ "path": "a", "limt": 1 }),
                "input.limt is not known; the fields are limit, mode, path, words",
            ),
            (json!({ "path": "a", "limit": 1.5 }), "input.limit is 1.5; it must be of type integer or null"),
            (json!({ "path": "a", "limit": 11 }), "input.limit is 11; it must be at most 10"),
            (
                json!({ "path": "a", "mode": "x" }),
                "input.mode is \"x\"; it must be one of [\"fast\",\"slow\"]",
            ),
            (json!({ "path": "a", "words": ["x", 2] }), "input.words[1] is 2; it must be of type string"),
        ] {
            assert_eq!(wrong(schema(), value), expected);
        }
    }
}
