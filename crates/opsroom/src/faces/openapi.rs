//! The OpenAPI 3.1 document, made from the operations: their schemas are JSON Schema 2020-12 already.

use opsroom_core::{Operation, operation::Effect};
use serde_json::{Map, Value, json};

use super::raw::{self, RawRoute};
use super::rest::has_body;

/// The document of these operations and of the raw routes.
pub fn document(operations: &[Operation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let method = operation.route.method.to_ascii_lowercase();
        add(&mut paths, operation.route.path, &method, entry(operation));
    }
    for route in raw::all() {
        add(&mut paths, route.path, &route.method.to_ascii_lowercase(), raw_entry(route));
    }
    let mut tags: Vec<&str> = operations.iter().map(|operation| operation.capability).collect();
    tags.dedup();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Opsroom",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An operations room for AI agents and the people they work for. \
                Every operation here is also an MCP tool at `/mcp` and a command of `opsroom`.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "tags": tags.iter().map(|tag| json!({ "name": tag })).collect::<Vec<_>>(),
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "An API key, made with `create_api_key`." }
            },
            "schemas": { "Error": error_schema() }
        }
    })
}

fn add(paths: &mut Map<String, Value>, path: &str, method: &str, entry: Value) {
    let methods = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
    if let Some(methods) = methods.as_object_mut() {
        methods.insert(method.to_owned(), entry);
    }
}

fn entry(operation: &Operation) -> Value {
    let mut entry = json!({
        "operationId": operation.name,
        "summary": operation.summary().trim_end_matches('.'),
        "description": description(operation),
        "tags": [operation.capability],
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if has_body(operation) {
        let schema = body_schema(operation);
        let required =
            schema.get("required").and_then(Value::as_array).is_some_and(|names| !names.is_empty());
        entry["requestBody"] =
            json!({ "required": required, "content": { "application/json": { "schema": schema } } });
    }
    if operation.open {
        entry["security"] = json!([]);
    }
    entry
}

fn description(operation: &Operation) -> String {
    let mut text = operation.description().to_owned();
    if !operation.open {
        let effect = match operation.effect {
            Effect::Read => "Reads",
            Effect::Reveal => "Shows a secret",
            Effect::Write => "Changes something; is recorded in the audit trail",
            Effect::Destroy => "Removes something for good; is recorded in the audit trail",
        };
        text.push_str(&format!("\n\n{effect}. Needs the role {}.", operation.role.as_str()));
    }
    text
}

/// Path parameters, and for a route without a body the query.
fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path: Vec<&str> = operation.route.parameters().collect();
    let fields = operation.fields().filter_map(|(name, schema)| {
        let place = if in_path.contains(&name.as_str()) {
            "path"
        } else if has_body(operation) {
            return None;
        } else {
            "query"
        };
        let mut schema = schema.clone();
        let text = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({
            "name": name,
            "in": place,
            "required": place == "path" || operation.requires(name),
            "schema": schema,
        });
        if let Some(text) = text {
            parameter["description"] = text;
        }
        Some(parameter)
    });
    fields.collect()
}

/// The input's schema without what is in the path.
fn body_schema(operation: &Operation) -> Value {
    let mut schema = operation.input().clone();
    for name in operation.route.parameters() {
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            fields.remove(name);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|field| field != name);
        }
    }
    schema
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let output = if operation.long { &operation.output()["anyOf"][0] } else { operation.output() };
    let shown = |schema: Value| if operation.envelope { enveloped(schema) } else { schema };
    responses.insert(operation.success.to_string(), answer("The answer", shown(output.clone())));
    if operation.long {
        let started = operation.output()["anyOf"][1].clone();
        responses.insert("202".to_owned(), answer("The job that goes on in the background", shown(started)));
    }
    let mut statuses = vec![400, 401, 403, 404, 409, 421, 429, 500, 503];
    if has_body(operation) {
        statuses.extend([408, 413, 415]);
    }
    if operation.detail_errors {
        statuses.retain(|status| *status != 400);
        let schema = opsroom_core::fields::detail_schema();
        responses.insert("422".to_owned(), answer("The fields that cannot be used", schema));
    }
    add_failures(&mut responses, &statuses);
    Value::Object(responses)
}

/// The schema of an answer in the envelope of an older system.
fn enveloped(data: Value) -> Value {
    json!({
        "type": "object",
        "required": ["success", "data"],
        "properties": { "success": { "const": true }, "data": data }
    })
}

fn answer(description: &str, schema: Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn add_failures(responses: &mut Map<String, Value>, statuses: &[u16]) {
    for status in statuses {
        let words =
            axum::http::StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let schema = json!({ "$ref": "#/components/schemas/Error" });
        responses.insert(status.to_string(), answer(words.unwrap_or("Failure"), schema));
    }
}

fn raw_entry(route: &RawRoute) -> Value {
    let mut responses = Map::new();
    if route.content.is_empty() {
        responses.insert("204".to_owned(), json!({ "description": "It is stored" }));
    } else {
        let schema = |kind| if kind == "application/json" { "object" } else { "string" };
        let content: Map<String, Value> = route
            .content
            .split(", ")
            .map(|kind| (kind.to_owned(), json!({ "schema": { "type": schema(kind) } })))
            .collect();
        responses.insert("200".to_owned(), json!({ "description": "The answer", "content": content }));
    }
    add_failures(&mut responses, route.statuses);
    // OAuth has errors of its own (RFC 6749, 5.2), and a page tells its troubles as a page.
    let page = route.content.contains("text/html");
    if page || route.path.starts_with("/oauth/") {
        for status in route.statuses {
            let content = &mut responses[&status.to_string()]["content"];
            content["application/json"]["schema"] = json!({ "type": "object" });
            if page {
                content["text/html"] = json!({ "schema": { "type": "string" } });
            }
        }
    }
    if route.path == "/health/ready" {
        responses.insert("503".to_owned(), answer("Not ready", json!({ "type": "object" })));
    }
    add_failures(&mut responses, &[421]);
    let parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let name = route.path.trim_start_matches('/').replace(['/', '{', '}'], "_");
    let mut entry = json!({
        // One path may have several methods, and every id is one operation's alone.
        "operationId": format!("raw_{}_{name}", route.method.to_ascii_lowercase()),
        "summary": route.summary,
        "tags": ["raw"],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(kinds) = route.takes {
        let schema = |kind| match kind {
            "application/json" | "application/x-www-form-urlencoded" => json!({ "type": "object" }),
            _ => json!({ "type": "string", "contentEncoding": "binary" }),
        };
        let body: Map<String, Value> =
            kinds.split(", ").map(|kind| (kind.to_owned(), json!({ "schema": schema(kind) }))).collect();
        entry["requestBody"] = json!({ "required": true, "content": body });
    }
    if route.open.is_some() {
        entry["security"] = json!([]);
    }
    entry
}

fn error_schema() -> Value {
    let kinds: Vec<&str> = opsroom_core::Kind::ALL.into_iter().map(|kind| kind.as_str()).collect();
    json!({
        "type": "object",
        "description": "What was wrong, with which input, and what would be right.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["kind", "message"],
                "properties": {
                    "kind": { "type": "string", "enum": kinds },
                    "message": { "type": "string" }
                }
            }
        }
    })
}
