//! `opsroom example-service`: a small MCP server over standard input and output, for the demo. It does
//! what it says: it tells the time, adds numbers, counts words, and keeps notes while it runs.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use opsroom_core::{Clock, Error, Result};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, InitializeResult,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};

/// The most notes that are kept.
const MOST_NOTES: usize = 100;

#[derive(Clone, Default)]
struct Example {
    notes: Arc<Mutex<Vec<String>>>,
}

/// Serves until standard input ends.
pub async fn serve() -> Result<ExitCode> {
    let service = Example::default().serve(rmcp::transport::stdio()).await;
    let service = service.map_err(|error| Error::unavailable(format!("no client spoke MCP: {error}")))?;
    service.waiting().await.map_err(Error::internal)?;
    Ok(ExitCode::SUCCESS)
}

fn tools() -> Vec<Tool> {
    let tool = |name: &'static str, description: &'static str, fields: Value, read_only: bool| {
        let required: Vec<&String> =
            fields.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
        let schema = json!({
            "type": "object", "properties": fields, "required": required, "additionalProperties": false
        });
        let schema = schema.as_object().cloned().unwrap_or_default();
        Tool::new(name, description, Arc::new(schema)).with_annotations(
            ToolAnnotations::new().read_only(read_only).destructive(false).idempotent(read_only),
        )
    };
    let text = |what: &str| json!({ "type": "string", "maxLength": 10_000, "description": what });
    let number = |what: &str| json!({ "type": "number", "description": what });
    vec![
        tool("tell_time", "Tells the time in UTC.", json!({}), true),
        tool("add", "Adds two numbers.", json!({ "a": number("One."), "b": number("The other.") }), true),
        tool("count_words", "Counts the words of a text.", json!({ "text": text("The text.") }), true),
        tool(
            "keep_note",
            "Keeps a note for as long as the service runs.",
            json!({ "note": text("The note.") }),
            false,
        ),
        tool("list_notes", "Lists the notes that are kept.", json!({}), true),
    ]
}

impl Example {
    fn answer(&self, name: &str, input: &Value) -> Option<std::result::Result<Value, String>> {
        let text = |field: &str| {
            input[field].as_str().filter(|text| text.len() <= 10_000).ok_or(format!("{field} is a text"))
        };
        let number = |field: &str| input[field].as_f64().ok_or(format!("{field} is a number"));
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match name {
            "tell_time" => Ok(json!({ "time": Clock::System.now().to_rfc3339() })),
            "add" => number("a").and_then(|a| Ok(json!({ "sum": a + number("b")? }))),
            "count_words" => text("text").map(|text| json!({ "words": text.split_whitespace().count() })),
            "keep_note" => text("note").map(|note| {
                if notes.len() == MOST_NOTES {
                    notes.remove(0);
                }
                notes.push(note.to_owned());
                json!({ "notes": notes.len() })
            }),
            "list_notes" => Ok(json!({ "items": *notes })),
            _ => return None,
        })
    }
}

impl ServerHandler for Example {
    fn get_info(&self) -> ServerConfig {
        let mut info = InitializeResult::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new("opsroom-example", env!("CARGO_PKG_VERSION"));
        info.instructions = Some("An example of a service behind the gateway.".to_owned());
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let input = request.arguments.map_or_else(|| json!({}), Value::Object);
        let result = match self.answer(&request.name, &input) {
            Some(Ok(answer)) => CallToolResult::structured(answer),
            Some(Err(wrong)) => CallToolResult::error(vec![ContentBlock::text(wrong)]),
            None => {
                return Err(ErrorData::invalid_params(format!("there is no tool {:?}", request.name), None));
            }
        };
        Ok(result.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_does_what_it_says() {
        let example = Example::default();
        let answer = |name: &str, input: Value| example.answer(name, &input).unwrap();
        assert_eq!(answer("add", json!({ "a": 1, "b": 2.5 })), Ok(json!({ "sum": 3.5 })));
        assert_eq!(answer("count_words", json!({ "text": " a b\nc " })), Ok(json!({ "words": 3 })));
        answer("keep_note", json!({ "note": "x" })).unwrap();
        assert_eq!(answer("list_notes", json!({})), Ok(json!({ "items": ["x"] })));
        assert!(answer("add", json!({ "a": "1" })).is_err());
        for tool in tools() {
            assert!(example.answer(&tool.name, &json!({})).is_some(), "{}", tool.name);
        }
        assert!(example.answer("nothing", &json!({})).is_none());
    }
}
