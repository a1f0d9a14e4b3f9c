//! Holds an input against its operation's schema, so that what the documents promise (types, bounds,
//! unknown fields) is what every face refuses, in the same words.

use std::collections::HashMap;
use std::sync::OnceLock;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use opsroom_core::fields::{FieldError, FieldErrors, MOST};
use opsroom_core::operation::BACKGROUND;
use opsroom_core::{Error, Operation, Result};
use serde_json::Value;

/// The schemas of all operations, each compiled when it is first used: most are not, in most rooms.
pub struct Inputs(HashMap<&'static str, OnceLock<Validator>>);

impl Inputs {
    /// Knows these operations.
    pub fn new(operations: &[Operation]) -> Self {
        Self(operations.iter().map(|operation| (operation.name, OnceLock::new())).collect())
    }

    fn validator(&self, operation: &Operation) -> Result<&Validator> {
        let unknown = || Error::internal(format!("{} is no operation of this room", operation.name));
        let slot = self.0.get(operation.name).ok_or_else(unknown)?;
        if slot.get().is_none() {
            // Schemas never fetch: the crate is built without its resolvers.
            let compiled = jsonschema::options().should_validate_formats(true).build(operation.input());
            // Whoever was first compiled the same.
            _ = slot.set(compiled.map_err(|error| Error::internal(error.to_string()))?);
        }
        slot.get().ok_or_else(unknown)
    }

    /// Checks an input and takes the `background` wish of a long operation out of it.
    ///
    /// # Errors
    /// `Invalid`, naming the field, what it held and what would be right; `Internal` for a schema that is
    /// none: a fault of the operation's definition.
    pub fn check(&self, operation: &Operation, mut input: Value) -> Result<(Value, bool)> {
        if input.is_null() {
            input = Value::Object(Default::default());
        }
        if !input.is_object() {
            return Err(Error::invalid(format!(
                "the input of {} is a JSON object of its fields",
                operation.name
            )));
        }
        whole_numbers(&mut input, 0)?;
        let validator = self.validator(operation)?;
        if operation.detail_errors {
            let errors: Vec<FieldError> =
                validator.iter_errors(&input).take(MOST).map(|error| field_error(operation, error)).collect();
            if !errors.is_empty() {
                return Err(FieldErrors(errors).into());
            }
        } else if let Some(error) = validator.iter_errors(&input).next() {
            return Err(Error::invalid(explain(operation, &error)));
        }
        let wish =
            input.as_object_mut().filter(|_| operation.long).and_then(|fields| fields.remove(BACKGROUND));
        Ok((input, wish == Some(Value::Bool(true))))
    }
}

fn explain(operation: &Operation, error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let place = place.trim_start_matches('/').replace('/', ".");
    if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
        let known: Vec<&str> = operation.fields().map(|(name, _)| name.as_str()).collect();
        let place = if place.is_empty() { operation.name } else { &place };
        let known = if known.is_empty() { "no fields".to_owned() } else { known.join(", ") };
        return format!("{place} has no field `{}`; it takes {known}", unexpected.join("`, `"));
    }
    let what = match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            format!("{} needs the field `{name}`", if place.is_empty() { operation.name } else { "it" })
        }
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. }
            if !words(operation, error).is_empty() =>
        {
            format!("the value is none of `{}`", words(operation, error).join("`, `"))
        }
        // The value itself may be a secret or a megabyte: it is masked.
        _ => error.masked_with("the value").to_string(),
    };
    if place.is_empty() { what } else { format!("{place}: {what}") }
}

/// The words that the refusing part of the schema allows.
fn words<'a>(operation: &'a Operation, error: &jsonschema::ValidationError<'_>) -> Vec<&'a str> {
    fn gather<'a>(schema: &'a Value, words: &mut Vec<&'a str>) {
        match schema {
            Value::Array(choices) => choices.iter().for_each(|choice| gather(choice, words)),
            Value::Object(parts) => {
                words.extend(parts.get("const").and_then(Value::as_str));
                let several = parts.get("enum").and_then(Value::as_array).into_iter().flatten();
                words.extend(several.filter_map(Value::as_str));
                ["anyOf", "oneOf"]
                    .iter()
                    .filter_map(|name| parts.get(*name))
                    .for_each(|part| gather(part, words));
            }
            _ => {}
        }
    }
    let mut words = Vec::new();
    if let Some(part) = operation.input().pointer(&error.schema_path().to_string()) {
        gather(part, &mut words);
    }
    words
}

/// A complaint of the schema in the words of the older contracts.
fn field_error(operation: &Operation, error: jsonschema::ValidationError<'_>) -> FieldError {
    let mut path: Vec<String> =
        error.instance_path().to_string().split('/').skip(1).map(str::to_owned).collect();
    let message = error.masked_with("the value").to_string();
    let (code, message) = match error.kind() {
        ValidationErrorKind::Required { property } => {
            path.push(property.as_str().unwrap_or_default().to_owned());
            ("missing", "this field is required".to_owned())
        }
        ValidationErrorKind::Type { .. } => ("type_error", message),
        ValidationErrorKind::Enum { options } => ("literal_error", format!("it must be one of {options}")),
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. }
            if !words(operation, &error).is_empty() =>
        {
            ("literal_error", format!("it must be one of `{}`", words(operation, &error).join("`, `")))
        }
        ValidationErrorKind::Minimum { .. } => ("greater_than_equal", message),
        ValidationErrorKind::Maximum { .. } => ("less_than_equal", message),
        ValidationErrorKind::MinLength { .. } => ("string_too_short", message),
        ValidationErrorKind::MaxLength { .. } => ("string_too_long", message),
        _ => ("value_error", message),
    };
    FieldError { path, code, message }
}

/// JSON has one kind of number: `1.0` is the integer 1 (JSON Schema 2020-12, 6.1.1), which serde would
/// refuse for an integer field.
fn whole_numbers(value: &mut Value, depth: usize) -> Result<()> {
    if depth > 64 {
        return Err(Error::invalid("the input is nested more than 64 deep"));
    }
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 9.0e15
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| whole_numbers(value, depth + 1))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|value| whole_numbers(value, depth + 1))?,
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use opsroom_core::{Call, Effect};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    /// Count sheep.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Count {
        /// How many.
        #[schemars(range(min = 1, max = 10))]
        sheep: u32,
        /// Of which colour.
        colour: Option<Colour>,
    }

    /// What sheep look like.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        /// As most.
        White,
        /// As some.
        Black,
    }

    /// The sheep.
    #[derive(Serialize, JsonSchema)]
    struct Counted {
        sheep: u32,
    }

    async fn count(_: (), _: Call, input: Count) -> Result<Counted> {
        let _seen = input.colour;
        Ok(Counted { sheep: input.sheep })
    }

    fn check(input: Value) -> Result<(Value, bool)> {
        let operation =
            Operation::new("tests", "count_sheep", Effect::Read, "POST /sheep", &(), count).long();
        Inputs::new(std::slice::from_ref(&operation)).check(&operation, input)
    }

    #[test]
    fn what_the_schema_refuses_is_refused_by_name() {
        let message = |input| check(input).unwrap_err().message;
        assert!(message(json!({ "sheep": 11 })).starts_with("sheep: "));
        assert!(message(json!({ "sheep": "many" })).starts_with("sheep: "));
        assert!(message(json!({ "shep": 1, "sheep": 1 })).contains("it takes background, colour, sheep"));
        assert!(message(json!([])).contains("JSON object"));
        assert_eq!(message(json!({})), "count_sheep needs the field `sheep`");
        let wrong = json!({ "sheep": 1, "colour": "green" });
        assert_eq!(message(wrong), "colour: the value is none of `white`, `black`");
    }

    #[test]
    fn a_refused_value_is_not_repeated() {
        assert!(!check(json!({ "sheep": "hunter2" })).unwrap_err().message.contains("hunter2"));
    }

    #[test]
    fn a_whole_float_is_an_integer_and_the_background_wish_is_taken_out() {
        let (input, background) = check(json!({ "sheep": 2.0, "background": true })).unwrap();
        assert_eq!((input, background), (json!({ "sheep": 2 }), true));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert!(check(json!({ "sheep": deep })).unwrap_err().message.contains("64 deep"));
    }
}
