//! What of an input may be written down, and how a secret is noticed that comes back in a message.

use std::sync::Arc;

use opsroom_core::Operation;
use opsroom_core::resolver::SCHEME;
use serde_json::{Map, Value, json};

/// How deep an input is looked into; what is deeper is hidden.
const DEEPEST: usize = 16;

/// The shortest text that counts as a secret, in bytes: shorter ones are in any sentence by chance.
const SHORTEST: usize = 4;

/// The parts of an input that were taken out of it.
#[derive(Clone, Default)]
pub struct Hidden(Arc<[String]>);

impl Hidden {
    /// Whether a text repeats one of them, as it is or as an error quotes it.
    pub fn occurs_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| text.contains(secret.as_str()))
    }
}

/// The input as [`Operation::redact`] shows it, with nested `writeOnly` fields hidden as well, and what
/// was hidden.
pub fn redact(operation: &Operation, input: &Value) -> (Value, Hidden) {
    let mut shown = operation.redact(input);
    hide(operation.input(), &mut shown, 0);
    let mut hidden = Vec::new();
    collect(operation.input(), input, false, 0, &mut hidden);
    (shown, Hidden(hidden.into()))
}

/// What a field is marked with whose value is a reference to a secret: a value that is none is hidden, because
/// it may be the secret itself.
const REFERENCE: &str = "x-secret-reference";

fn is_secret(schema: &Value, value: &Value) -> bool {
    let is = |word| schema.get(word) == Some(&Value::Bool(true));
    let refers = || value.as_str().is_none_or(|text| text.starts_with(SCHEME));
    is("writeOnly") || is(REFERENCE) && !refers()
}

/// The parts of a schema that may describe the same value: itself and the branches of its choices.
fn branches(schema: &Value) -> Vec<&Value> {
    let mut all = vec![schema];
    for word in ["anyOf", "oneOf", "allOf"] {
        all.extend(schema.get(word).and_then(Value::as_array).into_iter().flatten());
    }
    all
}

/// The schemas of a field: those that name it, or else those of additional fields.
fn field_schemas<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let branches = branches(schema);
    let named: Vec<&Value> =
        branches.iter().filter_map(|branch| branch.get("properties")?.get(name)).collect();
    if !named.is_empty() {
        return named;
    }
    branches
        .iter()
        .filter_map(|branch| branch.get("additionalProperties").filter(|s| s.is_object()))
        .collect()
}

fn item_schemas(schema: &Value) -> Vec<&Value> {
    branches(schema).into_iter().filter_map(|branch| branch.get("items")).collect()
}

fn hide(schema: &Value, value: &mut Value, depth: usize) {
    if depth > DEEPEST || branches(schema).into_iter().any(|schema| is_secret(schema, value)) {
        *value = json!("[hidden]");
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                for schema in field_schemas(schema, name) {
                    hide(schema, value, depth + 1);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                for schema in item_schemas(schema) {
                    hide(schema, value, depth + 1);
                }
            }
        }
        _ => {}
    }
}

fn collect(schema: &Value, value: &Value, secret: bool, depth: usize, to: &mut Vec<String>) {
    let secret =
        secret || depth > DEEPEST || branches(schema).into_iter().any(|schema| is_secret(schema, value));
    match value {
        Value::Object(fields) => collect_fields(schema, fields, secret, depth, to),
        Value::Array(values) => {
            let schemas = item_schemas(schema);
            for value in values {
                if schemas.is_empty() && secret {
                    collect(&Value::Null, value, true, depth + 1, to);
                }
                for schema in &schemas {
                    collect(schema, value, secret, depth + 1, to);
                }
            }
        }
        Value::String(text) if secret && text.len() >= SHORTEST => {
            to.push(text.clone());
            // Errors quote texts, and quoting changes them.
            for quoted in [format!("{text:?}"), json!(text).to_string()] {
                let inner = quoted[1..quoted.len() - 1].to_owned();
                if inner != *text {
                    to.push(inner);
                }
            }
        }
        Value::Number(number) if secret => {
            let digits = number.to_string();
            if digits.len() >= SHORTEST {
                to.push(digits);
            }
        }
        _ => {}
    }
}

fn collect_fields(
    schema: &Value,
    fields: &Map<String, Value>,
    secret: bool,
    depth: usize,
    to: &mut Vec<String>,
) {
    for (name, value) in fields {
        let schemas = field_schemas(schema, name);
        // A field that the schema does not know is hidden, so it may be a misspelt secret.
        if schemas.is_empty() {
            collect(&Value::Null, value, secret || depth == 0, depth + 1, to);
        }
        for schema in schemas {
            collect(schema, value, secret, depth + 1, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::caller::Face;
    use opsroom_core::{Call, Caller, Effect, Error, Result};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::super::AuditEntry;
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the schema and the refusals are looked at")]
    struct Input {
        name: String,
        #[schemars(extend("writeOnly" = true))]
        password: String,
        #[serde(default)]
        login: Option<Login>,
        #[serde(default)]
        more: Vec<Login>,
        #[serde(default)]
        #[schemars(extend("x-secret-reference" = true))]
        key: Option<String>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only the schema and the refusals are looked at")]
    struct Login {
        user: String,
        #[schemars(extend("writeOnly" = true))]
        token: String,
    }

    #[derive(Serialize, JsonSchema)]
    struct Done {}

    async fn refuse(_: (), _: Call, _: Input) -> Result<Done> {
        Err(Error::invalid("no"))
    }

    fn operation() -> Operation {
        Operation::new("tests", "log_in", Effect::Write, "POST /x", &(), refuse)
    }

    #[test]
    fn write_only_values_are_never_in_the_input_however_deep() {
        let input = json!({
            "name": "n", "password": "hunter2",
            "login": { "user": "u", "token": "hunter3" },
            "more": [{ "user": "v", "token": "hunter4" }],
            "pasword": "hunter5",
        });
        let entry = AuditEntry::started(&Caller::operator(Face::Rest), &operation(), &input);
        assert!(!entry.input.contains("hunter"), "{}", entry.input);
        assert!(entry.input.contains("\"u\"") && entry.input.contains("\"v\""), "{}", entry.input);
    }

    #[test]
    fn a_secret_that_was_sent_in_place_of_its_reference_is_not_kept() {
        let kept = |key: &str| {
            let input = json!({ "name": "n", "password": "hunter2", "key": key });
            let entry = AuditEntry::started(&Caller::operator(Face::Rest), &operation(), &input);
            let error = Error::invalid(format!("key: {key} is no reference"));
            (entry.input.clone(), entry.failed(&error).message.unwrap())
        };
        let (input, message) = kept("secret://env/KEY");
        assert!(
            input.contains("secret://env/KEY") && message.contains("secret://env/KEY"),
            "{input} {message}"
        );
        let (input, message) = kept("a-real-key");
        assert!(!input.contains("a-real-key") && message.contains("withheld"), "{input} {message}");
    }

    #[tokio::test]
    async fn a_message_that_repeats_a_secret_is_withheld() {
        for input in [
            json!({ "name": "n", "password": "hunter2", "login": "hunter\"9" , "pasword": 1 }),
            json!({ "name": "n", "password": 4711 }),
            json!({ "name": "n", "password": ["a\"b\n"] }),
        ] {
            let caller = Caller::operator(Face::Rest);
            let result = operation().run(Call::new(caller.clone()), input.clone()).await;
            let entry = AuditEntry::started(&caller, &operation(), &input).ended(&result);
            let message = entry.message.unwrap();
            assert!(!message.contains("4711") && !message.contains("hunter2"), "{message}");
        }
        let input = json!({ "name": "n", "password": "se\"cret" });
        let error = Error::invalid("password \"se\\\"cret\" is in a list");
        let entry = AuditEntry::started(&Caller::operator(Face::Rest), &operation(), &input).failed(&error);
        assert!(entry.message.unwrap().contains("withheld"));
        let error = Error::invalid("name \"n\" is taken");
        let entry = AuditEntry::started(&Caller::operator(Face::Rest), &operation(), &input).failed(&error);
        assert_eq!(entry.message.as_deref(), Some("name \"n\" is taken"));
    }
}
