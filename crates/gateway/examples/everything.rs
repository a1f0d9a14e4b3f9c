//! An MCP server on the official SDK with everything that the conformance suite asks of a server, for tests
//! of the gateway. `everything [--legacy] [PORT]`; with `--legacy` it is a server of 2025-11-25, which
//! knows nothing of 2026-07-28. Prints its URL.

#![expect(deprecated, reason = "the suite asks for what the newest revision deprecates too")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::tower::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// A red pixel (PNG).
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
/// No sound (WAV).
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";
/// What a state of ours begins with; the rest is checked against it.
const STATE: &str = "state";

type Result<T> = std::result::Result<T, ErrorData>;

#[derive(Clone, Default)]
struct Everything {
    listeners: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
}

/// Any model from its JSON.
fn of<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn text(text: impl Into<String>) -> Value {
    json!({ "content": [{ "type": "text", "text": text.into() }] })
}

fn cached(mut list: Value) -> Value {
    list["ttlMs"] = json!(60_000);
    list["cacheScope"] = json!("public");
    list
}

/// A state that tells when it was changed.
fn sealed(what: &str) -> String {
    let sum: u64 = what.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{STATE}:{what}:{sum}")
}

fn opened(state: &str) -> Result<String> {
    let what = state.split(':').nth(1).unwrap_or_default().to_owned();
    if state == sealed(&what) {
        return Ok(what);
    }
    Err(ErrorData::invalid_params("requestState failed integrity verification", None))
}

fn form(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    json!({ "method": "elicitation/create", "params": { "mode": "form", "message": message, "requestedSchema": schema } })
}

fn sampling(prompt: &str) -> Value {
    let messages = json!([{ "role": "user", "content": { "type": "text", "text": prompt } }]);
    json!({ "method": "sampling/createMessage", "params": { "messages": messages, "maxTokens": 100 } })
}

fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

fn wanted(requests: Value, state: Option<String>) -> Result<InputRequiredResult> {
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if let Some(state) = state {
        result["requestState"] = json!(state);
    }
    of(result)
}

/// What the client answered under a key, when it is an answer at all.
fn answer(responses: &Option<Value>, key: &str) -> Option<Value> {
    responses.as_ref()?.get(key).filter(|answer| answer.is_object()).cloned()
}

fn tools() -> Value {
    let plain = [
        ("test_simple_text", "Returns text"),
        ("test_image_content", "Returns an image"),
        ("test_audio_content", "Returns a sound"),
        ("test_embedded_resource", "Returns a resource"),
        ("test_multiple_content_types", "Returns several kinds of content"),
        ("test_tool_with_logging", "Logs while it works"),
        ("test_error_handling", "Always fails"),
        ("test_tool_with_progress", "Says how far it is"),
        ("test_elicitation_sep1034_defaults", "Asks for values that have defaults"),
        ("test_elicitation_sep1330_enums", "Asks for choices"),
        ("test_reconnection", "Answers after a while"),
        ("test_trigger_tool_change", "Says that the tools changed"),
        ("test_trigger_prompt_change", "Says that the prompts changed"),
        ("test_missing_capability", "Needs a client that samples"),
        ("test_streaming_elicitation", "Asks for a value"),
        ("test_logging_tool", "Logs when that is wanted"),
        ("test_input_required_result_elicitation", "Asks a person"),
        ("test_input_required_result_sampling", "Asks a model"),
        ("test_input_required_result_list_roots", "Asks for roots"),
        ("test_input_required_result_request_state", "Gives a state"),
        ("test_input_required_result_multiple_inputs", "Asks for three things"),
        ("test_input_required_result_multi_round", "Asks twice"),
        ("test_input_required_result_tampered_state", "Refuses a changed state"),
        ("test_input_required_result_capabilities", "Asks for what the client can"),
    ];
    let empty = json!({ "type": "object", "properties": {} });
    let mut all: Vec<Value> = plain
        .iter()
        .map(|(name, about)| json!({ "name": name, "description": about, "inputSchema": empty }))
        .collect();
    for (name, field) in [("test_sampling", "prompt"), ("test_elicitation", "message")] {
        let schema =
            json!({ "type": "object", "properties": { field: { "type": "string" } }, "required": [field] });
        all.push(json!({ "name": name, "description": "Asks the client", "inputSchema": schema }));
    }
    all.push(json!({ "name": "test_custom_header", "description": "Repeats an argument in a header", "inputSchema": {
        "type": "object", "properties": { "value": { "type": "string", "x-mcp-header": "Value" } }, "required": ["value"],
    }}));
    all.push(
        json!({ "name": "json_schema_2020_12_tool", "description": "Has a rich schema", "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": { "$anchor": "address", "type": "object", "properties": {
                "street": { "type": "string" }, "city": { "type": "string" } } } },
            "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
            "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
            "if": { "required": ["address"] },
            "then": { "properties": { "address": { "required": ["street"] } } },
            "else": { "required": ["name"] },
            "additionalProperties": false,
        }}),
    );
    Value::Array(all)
}

fn content(name: &str) -> Option<Value> {
    let resource = |uri: &str, kind: &str, text: &str| json!({ "type": "resource", "resource": { "uri": uri, "mimeType": kind, "text": text } });
    let image = json!({ "type": "image", "data": PNG, "mimeType": "image/png" });
    Some(match name {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => json!({ "content": [image] }),
        "test_audio_content" => {
            json!({ "content": [{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }] })
        }
        "test_embedded_resource" => {
            json!({ "content": [resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")] })
        }
        "test_multiple_content_types" => json!({ "content": [
            { "type": "text", "text": "Multiple content types test:" },
            image,
            resource("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ] }),
        "test_error_handling" => {
            let mut failed = text("This tool intentionally returns an error for testing");
            failed["isError"] = json!(true);
            failed
        }
        "json_schema_2020_12_tool" => text("The schema was met"),
        _ => return None,
    })
}

fn defaults() -> Value {
    json!({ "type": "object", "properties": {
        "name": { "type": "string", "description": "A name", "default": "John Doe" },
        "age": { "type": "integer", "description": "An age", "default": 30 },
        "score": { "type": "number", "description": "A score", "default": 95.5 },
        "status": { "type": "string", "description": "A status", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "description": "Whether it is verified", "default": true },
    }})
}

fn choices() -> Value {
    let titled = json!([
        { "const": "value1", "title": "First Option" },
        { "const": "value2", "title": "Second Option" },
        { "const": "value3", "title": "Third Option" },
    ]);
    json!({ "type": "object", "properties": {
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": { "type": "string", "oneOf": titled },
        "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"] },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": ["option1", "option2", "option3"] } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled } },
    }})
}

impl Everything {
    async fn tell(&self, context: &RequestContext<RoleServer>, tools: bool) -> Value {
        let listeners: Vec<SubscriptionSink> = self.listeners.lock().await.values().cloned().collect();
        for listener in listeners {
            let _gone = if tools {
                listener.notify_tool_list_changed().await
            } else {
                listener.notify_prompt_list_changed().await
            };
        }
        if tools {
            let _modern = context.peer.notify_tool_list_changed().await;
        } else {
            let _modern = context.peer.notify_prompt_list_changed().await;
        }
        text("Change triggered")
    }

    async fn elicit(
        &self,
        context: &RequestContext<RoleServer>,
        message: &str,
        schema: Value,
    ) -> Result<Value> {
        let params = of(json!({ "mode": "form", "message": message, "requestedSchema": schema }))?;
        let asked = ServerRequest::ElicitRequest(ElicitRequest::new(params));
        let answer = context.peer.send_request(asked).await;
        Ok(match answer {
            Ok(answer) => {
                let answer = serde_json::to_value(answer).unwrap_or_default();
                text(format!(
                    "Elicitation completed: action={}, content={}",
                    answer["action"].as_str().unwrap_or("?"),
                    answer["content"]
                ))
            }
            Err(error) => {
                let mut failed = text(format!("Elicitation error: {error}"));
                failed["isError"] = json!(true);
                failed
            }
        })
    }

    async fn working(
        &self,
        name: &str,
        arguments: &Value,
        context: &RequestContext<RoleServer>,
    ) -> Result<Value> {
        if let Some(content) = content(name) {
            return Ok(content);
        }
        Ok(match name {
            "test_tool_with_logging" => {
                for step in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    let message = of(json!({ "level": "info", "logger": "everything", "data": step }))?;
                    let _gone = context.peer.notify_logging_message(message).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                text("Logging test completed")
            }
            "test_tool_with_progress" => {
                for step in [0, 50, 100] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let step = json!({ "progressToken": token, "progress": step, "total": 100, "message": format!("{step} %") });
                        let _gone = context.peer.notify_progress(of(step)?).await;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                text("Progress test completed")
            }
            "test_custom_header" => match arguments["value"].as_str() {
                Some(value) => text(value),
                None => return Err(ErrorData::invalid_params("value must be a string", None)),
            },
            "test_sampling" => {
                let mut asked = sampling(arguments["prompt"].as_str().unwrap_or("Hello"));
                match context.peer.create_message(of(asked["params"].take())?).await {
                    Ok(answer) => {
                        let answer = serde_json::to_value(answer).unwrap_or_default();
                        let content = &answer["content"];
                        let said =
                            content["text"].as_str().or(content[0]["text"].as_str()).unwrap_or("nothing");
                        text(format!("LLM response: {said}"))
                    }
                    Err(error) => text(format!("Sampling error: {error}")),
                }
            }
            "test_elicitation" => {
                let schema = json!({ "type": "object", "properties": {
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" },
                }, "required": ["username", "email"] });
                let message = arguments["message"].as_str().unwrap_or("Who are you?");
                self.elicit(context, message, schema).await?
            }
            "test_elicitation_sep1034_defaults" => {
                self.elicit(context, "All of these have defaults", defaults()).await?
            }
            "test_elicitation_sep1330_enums" => self.elicit(context, "Choose", choices()).await?,
            "test_reconnection" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                text("Reconnection test completed")
            }
            "test_trigger_tool_change" => self.tell(context, true).await,
            "test_trigger_prompt_change" => self.tell(context, false).await,
            "test_missing_capability" => {
                if context.meta.client_capabilities().unwrap_or_default().sampling.is_none() {
                    return Err(ErrorData::missing_required_client_capability(of(
                        json!({ "sampling": {} }),
                    )?));
                }
                text("The client samples")
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    let message =
                        of(json!({ "level": level, "logger": "everything", "data": "it was wanted" }))?;
                    let _gone = context.peer.notify_logging_message(message).await;
                }
                text("Logging tool completed")
            }
            other => return Err(ErrorData::invalid_params(format!("Unknown tool: {other}"), None)),
        })
    }

    /// The tools that ask the client by `input_required`; `None` for the others.
    fn asking(
        &self,
        name: &str,
        state: Option<&str>,
        responses: Option<Value>,
        can: &Value,
    ) -> Result<Option<CallToolResponse>> {
        let done = |what: &str| -> Result<Option<CallToolResponse>> {
            Ok(Some(of::<CallToolResult>(text(what))?.into()))
        };
        let ask = |requests: Value, state: Option<String>| -> Result<Option<CallToolResponse>> {
            Ok(Some(wanted(requests, state)?.into()))
        };
        let has = |key: &str| answer(&responses, key).is_some();
        match name {
            "test_streaming_elicitation" => {
                ask(json!({ "value": form("Give a value", "value", "string") }), None)
            }
            "test_input_required_result_elicitation" => match answer(&responses, "user_name") {
                Some(answer) => {
                    done(&format!("Hello, {}!", answer["content"]["name"].as_str().unwrap_or("friend")))
                }
                None => ask(json!({ "user_name": form("What is your name?", "name", "string") }), None),
            },
            "test_input_required_result_sampling" => match answer(&responses, "capital_question") {
                Some(answer) => {
                    done(&format!("Sampled: {}", answer["content"]["text"].as_str().unwrap_or("nothing")))
                }
                None => ask(json!({ "capital_question": sampling("What is the capital of France?") }), None),
            },
            "test_input_required_result_list_roots" => match answer(&responses, "client_roots") {
                Some(answer) => done(&format!("{} roots", answer["roots"].as_array().map_or(0, Vec::len))),
                None => ask(json!({ "client_roots": roots() }), None),
            },
            "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
                match state {
                    Some(state) => {
                        opened(state)?;
                        done("Confirmed: state-ok")
                    }
                    None => ask(
                        json!({ "confirm": form("Please confirm", "ok", "boolean") }),
                        Some(sealed("confirm")),
                    ),
                }
            }
            "test_input_required_result_multiple_inputs" => {
                state.map(opened).transpose()?;
                if state.is_some() && has("user_name") && has("greeting") && has("client_roots") {
                    return done("All inputs received");
                }
                let requests = json!({
                    "user_name": form("What is your name?", "name", "string"),
                    "greeting": sampling("Generate a greeting"),
                    "client_roots": roots(),
                });
                ask(requests, Some(sealed("gather")))
            }
            "test_input_required_result_multi_round" => match state.map(opened).transpose()?.as_deref() {
                None => {
                    ask(json!({ "step1": form("Step 1: your name?", "name", "string") }), Some(sealed("1")))
                }
                Some("1") => ask(
                    json!({ "step2": form("Step 2: your colour?", "color", "string") }),
                    Some(sealed("2")),
                ),
                Some(_) => done("Multi-round flow complete"),
            },
            "test_input_required_result_capabilities" => {
                if responses.is_some() {
                    return done("Capability-aware flow complete");
                }
                let mut requests = serde_json::Map::new();
                if can.get("elicitation").is_some() {
                    requests.insert("user_name".into(), form("What is your name?", "name", "string"));
                }
                if can.get("sampling").is_some() {
                    requests.insert("greeting".into(), sampling("Generate a greeting"));
                }
                if can.get("roots").is_some() {
                    requests.insert("client_roots".into(), roots());
                }
                if requests.is_empty() {
                    done("The client can be asked for nothing")
                } else {
                    ask(requests.into(), None)
                }
            }
            _ => Ok(None),
        }
    }
}

impl ServerHandler for Everything {
    fn get_tool(&self, name: &str) -> Option<Tool> {
        let all = tools();
        let found = all.as_array()?.iter().find(|tool| tool["name"] == name)?;
        serde_json::from_value(found.clone()).ok()
    }

    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_logging()
            .enable_completions()
            .build();
        let mut info = InitializeResult::new(capabilities);
        info.server_info = Implementation::new("everything", "1.0.0");
        info
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<()> {
        let key = {
            let mut listeners = self.listeners.lock().await;
            let key = listeners.keys().max().map_or(0, |newest| newest + 1);
            listeners.insert(key, context.sink().clone());
            key
        };
        context.cancelled().await;
        self.listeners.lock().await.remove(&key);
        Ok(())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult> {
        of(cached(json!({ "tools": tools() })))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let responses = request.input_responses.as_ref().and_then(|given| serde_json::to_value(given).ok());
        let can =
            serde_json::to_value(context.meta.client_capabilities().unwrap_or_default()).unwrap_or_default();
        if let Some(asked) = self.asking(&request.name, request.request_state.as_deref(), responses, &can)? {
            return Ok(asked);
        }
        Ok(of::<CallToolResult>(self.working(&request.name, &arguments, &context).await?)?.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult> {
        of(cached(json!({ "resources": [
            { "uri": "test://static-text", "name": "Text", "mimeType": "text/plain" },
            { "uri": "test://static-binary", "name": "Binary", "mimeType": "image/png" },
            { "uri": "test://watched-resource", "name": "Watched", "mimeType": "text/plain" },
        ] })))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let content = match (uri, id) {
            ("test://static-text", _) => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource." })
            }
            ("test://watched-resource", _) => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": "Watched" })
            }
            ("test://static-binary", _) => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
            (_, Some(id)) => {
                let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": text.to_string() })
            }
            _ => {
                return Err(ErrorData::resource_not_found(
                    format!("Resource not found: {uri}"),
                    Some(json!({ "uri": uri })),
                ));
            }
        };
        Ok(of::<ReadResourceResult>(cached(json!({ "contents": [content] })))?.into())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult> {
        of(cached(json!({ "resourceTemplates": [
            { "uriTemplate": "test://template/{id}/data", "name": "Template", "mimeType": "application/json" },
        ] })))
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<()> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<()> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult> {
        of(cached(json!({ "prompts": [
            { "name": "test_simple_prompt", "description": "Has no arguments" },
            { "name": "test_prompt_with_arguments", "description": "Has arguments", "arguments": [
                { "name": "arg1", "description": "The first", "required": true },
                { "name": "arg2", "description": "The second", "required": true },
            ] },
            { "name": "test_prompt_with_embedded_resource", "description": "Has a resource", "arguments": [
                { "name": "resourceUri", "description": "The resource", "required": true },
            ] },
            { "name": "test_prompt_with_image", "description": "Has an image" },
            { "name": "test_input_required_result_prompt", "description": "Asks first" },
        ] })))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let said = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let user = |content: Value| json!({ "role": "user", "content": content });
        let line = |line: String| user(json!({ "type": "text", "text": line }));
        let messages = match request.name.as_str() {
            "test_simple_prompt" => vec![line("This is a simple prompt for testing.".to_owned())],
            "test_prompt_with_arguments" => {
                vec![line(format!("Prompt with arguments: arg1='{}', arg2='{}'", said("arg1"), said("arg2")))]
            }
            "test_prompt_with_embedded_resource" => {
                let resource = json!({ "uri": said("resourceUri"), "mimeType": "text/plain", "text": "Embedded resource content for testing." });
                vec![
                    user(json!({ "type": "resource", "resource": resource })),
                    line("Please process the resource.".to_owned()),
                ]
            }
            "test_prompt_with_image" => {
                vec![
                    user(json!({ "type": "image", "data": PNG, "mimeType": "image/png" })),
                    line("Please analyze the image.".to_owned()),
                ]
            }
            "test_input_required_result_prompt" => {
                let responses =
                    request.input_responses.as_ref().and_then(|given| serde_json::to_value(given).ok());
                match answer(&responses, "user_context") {
                    Some(answer) => vec![line(format!("The context is {}", answer["content"]["context"]))],
                    None => {
                        return Ok(wanted(
                            json!({ "user_context": form("Which context?", "context", "string") }),
                            None,
                        )?
                        .into());
                    }
                }
            }
            other => return Err(ErrorData::invalid_params(format!("Unknown prompt: {other}"), None)),
        };
        Ok(of::<GetPromptResult>(json!({ "messages": messages }))?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult> {
        let values: Vec<String> = ["paris", "park", "party"]
            .into_iter()
            .filter(|value| value.starts_with(&request.argument.value))
            .map(str::to_owned)
            .collect();
        of(json!({ "completion": { "values": values, "total": values.len(), "hasMore": false } }))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<()> {
        Ok(())
    }
}

/// A server of before knows no later revision.
async fn only_legacy(request: Request, next: Next) -> Response {
    let version = request.headers().get("mcp-protocol-version");
    if version.is_some_and(|version| version.as_bytes() > b"2025-11-25".as_slice()) {
        return (StatusCode::BAD_REQUEST, "Bad Request: Unsupported protocol version").into_response();
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let legacy = arguments.iter().any(|argument| argument == "--legacy");
    let port = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(0u16);
    let server = Everything::default();
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let mut router = axum::Router::new().route_service("/mcp", service);
    if legacy {
        router = router.layer(axum::middleware::from_fn(only_legacy));
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}
