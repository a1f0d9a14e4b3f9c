//! One operation, defined once: a typed function with a name, an effect and a route.
//!
//! The MCP tool, the REST endpoint, the OpenAPI entry, the command and the audit record are all made
//! from it. The doc comments of the input struct and its fields are the text that callers read, in
//! every face. A path parameter always wins over a body field of the same name: it is what was routed
//! and authorised.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::caller::{Caller, Role};
use crate::error::{Error, Result};
use crate::job::Progress;

/// What calling an operation does to the world. All but `Read` are audited before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks, and changes nothing that a caller would miss.
    Read,
    /// Shows a secret: withheld over MCP without a person's grant.
    Reveal,
    /// Makes or changes something.
    Write,
    /// Removes something for good.
    Destroy,
}

impl Effect {
    /// The word used in scopes, in the audit trail and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Reveal => "reveal",
            Effect::Write => "write",
            Effect::Destroy => "destroy",
        }
    }
}

/// The HTTP side of an operation, such as `GET /jobs/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// The path, with parameters in braces.
    pub path: &'static str,
}

impl Route {
    /// The names of the path's parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// What an operation gets besides its input: who calls, and how to report and be stopped.
#[derive(Clone)]
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// Where long work says how far it is.
    pub progress: Progress,
    /// Set when the caller or the server wants the work to stop.
    pub cancel: CancellationToken,
    /// The id of the job that the call is, when it is one.
    pub job: Option<String>,
}

impl Call {
    /// A call whose progress nobody watches.
    pub fn new(caller: Caller) -> Self {
        Self { caller, progress: Progress::silent(), cancel: CancellationToken::new(), job: None }
    }
}

type Run = Arc<dyn Fn(Call, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;
type Draw = Arc<dyn Fn(Call, Value) -> BoxFuture<'static, Result<Picture>> + Send + Sync>;

/// A picture that belongs to an answer.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What its bytes are, such as `image/png`.
    pub media_type: &'static str,
    /// The bytes.
    pub bytes: Bytes,
}

/// A typed function that every face offers.
#[derive(Clone)]
pub struct Operation {
    /// The capability it belongs to.
    pub capability: &'static str,
    /// `verb_noun`; the same word in every face.
    pub name: &'static str,
    /// What it does to the world.
    pub effect: Effect,
    /// Its HTTP side.
    pub route: Route,
    /// The least role that may call it.
    pub role: Role,
    /// Whether it runs as a job, and accepts `background: true`.
    pub long: bool,
    /// Whether it mostly answers at once all the same: nobody gets a job in the place of its answer who did
    /// not ask for one.
    pub prompt: bool,
    /// Whether calling it twice with the same input does no more than calling it once.
    pub idempotent: bool,
    /// Whether it may be called by somebody who has no key.
    pub open: bool,
    /// Whether REST answers input that cannot be used with 422 and a `detail` list of its fields.
    pub detail_errors: bool,
    /// The status with which REST answers when all is well.
    pub success: u16,
    /// Whether REST wraps the answer as `{success, data}`, and an error as `{success, message, ...}`.
    pub envelope: bool,
    /// The field that names what it works on, for scopes that give a part of an operation. Empty: it
    /// works on several, and shows or changes those that the caller's scopes name.
    pub resource: Option<&'static str>,
    input: Schema,
    output: Schema,
    run: Run,
    draw: Option<Draw>,
}

/// A schema that is made when somebody first asks: most are never asked for, and all of them at once take
/// more memory than a server at rest needs otherwise.
#[derive(Clone)]
struct Schema {
    make: fn() -> Value,
    made: Arc<OnceLock<Value>>,
}

impl Schema {
    fn new(make: fn() -> Value) -> Self {
        Self { make, made: Arc::default() }
    }

    fn get_or_make(&self, finish: impl FnOnce(Value) -> Value) -> &Value {
        self.made.get_or_init(|| finish((self.make)()))
    }
}

impl Operation {
    /// Defines an operation. `route` is `METHOD /path`; `run` gets the service, the call and the input.
    ///
    /// The role it needs follows from the effect (viewer to read, operator to write, administrator to
    /// reveal or destroy); [`Operation::role`] changes it.
    pub fn new<S, I, O, F, R>(
        capability: &'static str,
        name: &'static str,
        effect: Effect,
        route: &'static str,
        service: &S,
        run: F,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
        I: DeserializeOwned + JsonSchema + Send + 'static,
        O: Serialize + JsonSchema,
        F: Fn(S, Call, I) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<O>> + Send + 'static,
    {
        let (method, path) = route.split_once(' ').expect("a route is `METHOD /path`");
        let service = service.clone();
        Self {
            capability,
            name,
            effect,
            route: Route { method, path },
            role: match effect {
                Effect::Read => Role::Viewer,
                Effect::Write => Role::Operator,
                Effect::Reveal | Effect::Destroy => Role::Administrator,
            },
            long: false,
            prompt: false,
            idempotent: effect == Effect::Read,
            open: false,
            detail_errors: false,
            success: 200,
            envelope: false,
            resource: None,
            input: Schema::new(|| schema::<I>(true)),
            output: Schema::new(|| schema::<O>(false)),
            draw: None,
            run: Arc::new(move |call, input| {
                let service = service.clone();
                Box::pin(async move {
                    let output = run(service, call, parse_input(input)?).await?;
                    serde_json::to_value(output).map_err(Error::internal)
                })
            }),
        }
    }

    /// Sets the least role that may call it.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Says that a second call with the same input changes nothing more.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Lets it be called without a key: for what a newcomer or a probe must reach.
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Says which field names what it works on, so that scopes can give a part of it; empty when it works
    /// on several and holds each against the caller's scopes itself.
    pub fn on(mut self, field: &'static str) -> Self {
        self.resource = Some(field);
        self
    }

    /// Declares that REST answers input that cannot be used with 422 and a `detail` list that names
    /// every field, as the contract of an older system has it. Fields it does not know are ignored.
    pub fn detail_errors(mut self) -> Self {
        self.detail_errors = true;
        self
    }

    /// Declares the status with which REST answers when all is well, such as 201 for something made.
    pub fn success(mut self, status: u16) -> Self {
        self.success = status;
        self
    }

    /// Declares that REST wraps the answer as `{"success": true, "data": ...}`, and an error as
    /// `{"success": false, "message", "error_code", "timestamp", "error"}`, as the contract of an older system
    /// has it. The other faces give the answer as it is.
    pub fn enveloped(mut self) -> Self {
        self.envelope = true;
        self
    }

    /// Says that its answers speak of a picture: their field `picture` is the path at which REST has it, and
    /// `draw` gives it for the answer. MCP shows it beside the answer, and the command line writes it to a file.
    pub fn pictured<S, F, R>(mut self, service: &S, draw: F) -> Self
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Call, Value) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Picture>> + Send + 'static,
    {
        let service = service.clone();
        self.draw = Some(Arc::new(move |call, answer| Box::pin(draw(service.clone(), call, answer))));
        self
    }

    /// Whether its answers speak of a picture.
    pub fn is_pictured(&self) -> bool {
        self.draw.is_some()
    }

    /// The picture of an answer; `None` where answers have none, or this one is of a job that goes on.
    ///
    /// # Errors
    /// Those of whoever keeps the picture.
    pub async fn picture(&self, call: Call, answer: &Value) -> Result<Option<Picture>> {
        match &self.draw {
            Some(draw) if answer.get("picture").is_some() => draw(call, answer.clone()).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Makes it a job: it can be watched, cancelled, and asked for with `background: true`.
    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }

    /// Says of a job that it mostly answers at once: whoever does not ask for the background waits for it,
    /// even who would take a job in the place of a late answer.
    pub fn prompt(mut self) -> Self {
        self.prompt = true;
        self
    }

    /// The JSON schema of the input, an object.
    pub fn input(&self) -> &Value {
        self.input.get_or_make(|mut input| {
            let fields = input.get_mut("properties").and_then(Value::as_object_mut);
            if let Some(fields) = fields.filter(|_| self.long) {
                fields.insert(BACKGROUND.to_owned(), background_schema());
            }
            input
        })
    }

    /// The JSON schema of the answer, an object.
    pub fn output(&self) -> &Value {
        self.output.get_or_make(|output| {
            if self.long { json!({ "type": "object", "anyOf": [output, started_schema()] }) } else { output }
        })
    }

    /// The same operation with another schema of its input.
    pub fn with_input(mut self, input: Value) -> Self {
        self.input.made = Arc::new(OnceLock::from(input));
        self
    }

    /// The first sentence of the input's documentation: what it does.
    pub fn summary(&self) -> &str {
        let paragraph = self.description().split("\n\n").next().unwrap_or_default();
        // `e.g. this` and `3.5 s` do not end a sentence: the next one begins with a capital.
        let ends = paragraph.match_indices(['.', '?', '!']).find_map(|(at, _)| {
            let after = &paragraph[at + 1..];
            let next = after.trim_start();
            let begins = next.is_empty() || next.starts_with(|c: char| c.is_uppercase() || c == '`');
            (begins && after.len() > next.len() || next.is_empty()).then_some(at + 1)
        });
        &paragraph[..ends.unwrap_or(paragraph.len())]
    }

    /// The input's documentation.
    pub fn description(&self) -> &str {
        self.input().get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// The input's fields with their schemas, in the order of their definition.
    pub fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.input().get("properties").and_then(Value::as_object).into_iter().flatten()
    }

    /// Whether the input must have this field.
    pub fn requires(&self, field: &str) -> bool {
        let required = self.input().get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|name| name == field))
    }

    /// Runs the function itself; whoever calls this has authorised the caller.
    pub async fn run(&self, call: Call, input: Value) -> Result<Value> {
        (self.run)(call, input).await
    }

    /// Turns pairs of text (a query, a path, a command line) into JSON, guided by the schema. Repeated
    /// keys of an array gather; a text that does not fit its type stays text and is refused later by name.
    pub fn from_pairs(&self, pairs: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, text) in pairs {
            let schema = self.input().get("properties").and_then(|fields| fields.get(&key));
            if schema.is_some_and(|schema| has_type(schema, "array")) {
                let items = schema.and_then(|schema| schema.get("items"));
                let value = coerce(items, text);
                match map.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
                    Value::Array(values) => values.push(value),
                    other => *other = value,
                }
            } else {
                let value = coerce(schema, text);
                map.insert(key, value);
            }
        }
        map
    }

    /// The input with what must not be kept (`writeOnly` fields) hidden and long texts cut: for the
    /// audit trail.
    pub fn redact(&self, input: &Value) -> Value {
        let Value::Object(fields) = input else { return Value::Null };
        let shown = fields.iter().map(|(name, value)| {
            let schema = self.input().get("properties").and_then(|properties| properties.get(name));
            let hidden = schema.is_none_or(|schema| schema.get("writeOnly") == Some(&Value::Bool(true)));
            let value = if hidden { json!("[hidden]") } else { shorten(value) };
            (name.clone(), value)
        });
        Value::Object(shown.collect())
    }
}

/// The field that asks for the job instead of the result.
pub const BACKGROUND: &str = "background";

fn background_schema() -> Value {
    json!({
        "type": "boolean",
        "default": false,
        "description": "Answer at once with the job and go on in the background; `get_job` has the result."
    })
}

fn started_schema() -> Value {
    schema::<crate::job::Started>(false)
}

fn schema<T: JsonSchema>(input: bool) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        // Inline, so that a newtype keeps its `type` and text can be coerced by it.
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let settings = if input { settings.for_deserialize() } else { settings.for_serialize() };
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
        root.entry("type").or_insert_with(|| json!("object"));
        root.entry("properties").or_insert_with(|| json!({}));
    }
    schema
}

fn parse_input<I: DeserializeOwned>(input: Value) -> Result<I> {
    serde_path_to_error::deserialize(input).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Error::invalid(format!("{place}{}", error.into_inner()))
    })
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn coerce(schema: Option<&Value>, text: String) -> Value {
    let is = |name| schema.is_some_and(|schema| has_type(schema, name));
    let choice = schema.is_some_and(|schema| schema.get("enum").is_some() || schema.get("const").is_some());
    if schema.is_none() || is("string") || choice {
        return Value::String(text);
    }
    match serde_json::from_str::<Value>(&text) {
        // `42` for a field that is none of these stays the text that was sent.
        Ok(value) if !value.is_string() => value,
        _ => Value::String(text),
    }
}

fn shorten(value: &Value) -> Value {
    const MOST: usize = 256;
    match value {
        Value::String(text) if text.len() > MOST => {
            let cut = text.floor_char_boundary(MOST);
            json!(format!("{}… ({} bytes)", &text[..cut], text.len()))
        }
        Value::Array(values) if values.len() > 32 => json!(format!("({} items)", values.len())),
        Value::Array(values) => values.iter().map(shorten).collect(),
        Value::Object(fields) => Value::Object(
            fields.iter().take(64).map(|(name, value)| (name.clone(), shorten(value))).collect(),
        ),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Greet somebody.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Greet {
        /// Whom.
        name: String,
        /// How often.
        #[serde(default)]
        times: Option<u32>,
        /// Words to add.
        #[serde(default)]
        words: Vec<String>,
        /// Never kept.
        #[serde(default)]
        #[schemars(extend("writeOnly" = true))]
        password: Option<String>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Greeting {
        text: String,
    }

    async fn greet(_: (), _: Call, input: Greet) -> Result<Greeting> {
        let text = format!("{} {} {}", input.name, input.times.unwrap_or(1), input.words.join(" "));
        let _ = input.password;
        Ok(Greeting { text })
    }

    fn operation() -> Operation {
        Operation::new("tests", "greet", Effect::Write, "POST /greet/{name}", &(), greet)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Value {
        let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Value::Object(operation().from_pairs(pairs))
    }

    #[test]
    fn text_is_coerced_by_the_schema_and_repeated_keys_gather() {
        let input = pairs(&[("name", "42"), ("times", "3"), ("words", "1"), ("words", "2")]);
        assert_eq!(input, json!({ "name": "42", "times": 3, "words": ["1", "2"] }));
    }

    #[tokio::test]
    async fn a_wrong_field_is_named() {
        let call = || Call::new(Caller::operator(crate::caller::Face::Rest));
        let error = operation().run(call(), json!({ "name": "a", "times": "x" })).await.unwrap_err();
        assert!(error.message.starts_with("times: "), "{}", error.message);
        let error = operation().run(call(), json!({ "name": "a", "tmies": 1 })).await.unwrap_err();
        assert!(error.message.contains("tmies"), "{}", error.message);
        let answer = operation().run(call(), json!({ "name": "a" })).await.unwrap();
        assert_eq!(answer, json!({ "text": "a 1 " }));
    }

    #[test]
    fn what_must_not_be_kept_is_hidden_and_long_texts_are_cut() {
        let input = json!({ "name": "n".repeat(1000), "password": "hunter2", "unknown": "hunter2" });
        let shown = operation().redact(&input).to_string();
        assert!(!shown.contains("hunter2"));
        assert!(shown.len() < 500);
    }

    #[test]
    fn a_long_operation_offers_the_background_and_answers_with_either() {
        let long = operation().long();
        assert!(long.fields().any(|(name, _)| name == BACKGROUND));
        assert_eq!(long.output()["type"], "object");
        assert_eq!(long.output()["anyOf"].as_array().map(Vec::len), Some(2));
        assert_eq!(long.route.parameters().collect::<Vec<_>>(), ["name"]);
    }
}
