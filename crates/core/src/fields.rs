//! What is wrong with an input, field by field: for operations whose contract lists it
//! ([`crate::Operation::detail_errors`]). It travels as the source of an `Invalid` error.

use serde_json::{Value, json};

use crate::error::Error;

/// The most complaints of one input that are kept.
pub const MOST: usize = 64;

/// One field that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The way to the field, such as `context`, `weight`; empty for the input itself.
    pub path: Vec<String>,
    /// What kind of complaint, such as `missing` or `float_type`.
    pub code: &'static str,
    /// What was wrong and what would be right.
    pub message: String,
}

/// All complaints about one input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{} fields cannot be used", .0.len())]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldError {
    /// A complaint about the field at this path (dotted).
    pub fn new(path: &str, code: &'static str, message: impl Into<String>) -> Self {
        let path = path.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { path, code, message: message.into() }
    }
}

impl From<FieldErrors> for Error {
    fn from(errors: FieldErrors) -> Self {
        let words = |error: &FieldError| match error.path.join(".") {
            path if path.is_empty() => error.message.clone(),
            path => format!("{path}: {}", error.message),
        };
        let message = errors.0.iter().take(8).map(words).collect::<Vec<_>>().join("; ");
        Error::invalid(message).because(errors)
    }
}

/// Whether an error names the fields that cannot be used.
pub fn are_wrong(error: &Error) -> bool {
    error.source.as_ref().is_some_and(|source| source.is::<FieldErrors>())
}

/// The `detail` list of an `Invalid` error, each with `loc`, `msg` and `type`.
pub fn detail(error: &Error) -> Value {
    let known = error.source.as_ref().and_then(|source| source.downcast_ref::<FieldErrors>());
    let Some(FieldErrors(errors)) = known else {
        return json!([{ "loc": ["body"], "msg": error.message, "type": "value_error" }]);
    };
    let entry = |error: &FieldError| {
        let place = |part: &String| part.parse::<u64>().map_or_else(|_| json!(part), |index| json!(index));
        let loc: Vec<Value> = std::iter::once(json!("body")).chain(error.path.iter().map(place)).collect();
        json!({ "loc": loc, "msg": error.message, "type": error.code })
    };
    errors.iter().map(entry).collect()
}

/// The schema of [`detail`], for the documents.
pub fn detail_schema() -> Value {
    json!({
        "type": "object",
        "description": "Which fields cannot be used, and why.",
        "required": ["detail", "error"],
        "properties": {
            "detail": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg", "type"],
                    "properties": {
                        "loc": { "type": "array", "items": { "type": ["string", "integer"] } },
                        "msg": { "type": "string" },
                        "type": { "type": "string" }
                    }
                }
            },
            "error": { "type": "object" }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_has_its_place_and_its_kind() {
        let error: Error = FieldErrors(vec![
            FieldError::new("context.weight", "float_type", "not a number"),
            FieldError::new("points.3", "missing", "required"),
        ])
        .into();
        assert_eq!(error.message, "context.weight: not a number; points.3: required");
        let list = detail(&error);
        assert_eq!(list[0]["loc"], json!(["body", "context", "weight"]));
        assert_eq!(list[1]["loc"], json!(["body", "points", 3]));
        assert_eq!(list[1]["type"], "missing");
    }

    #[test]
    fn an_error_without_fields_is_one_complaint_about_the_body() {
        let list = detail(&Error::invalid("the body is not JSON"));
        assert_eq!(list, json!([{ "loc": ["body"], "msg": "the body is not JSON", "type": "value_error" }]));
    }
}
