//! `opsroom example-service`: a small MCP server over standard input and output, for the demo. It does
//! what it says: it tells the time, adds numbers, counts words, and keeps notes while it runs.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use opsroom_core::{Clock, Error, Result};
use serde_json::{Value, json};

/// The newest revision of the protocol that it speaks; it takes every older one as well.
const NEWEST: &str = "2025-11-25";
/// The most notes that are kept.
const MOST_NOTES: usize = 100;

#[derive(Default)]
struct Example {
    notes: Vec<String>,
}

/// Serves until standard input ends: one message a line.
pub fn serve() -> Result<ExitCode> {
    let mut example = Example::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Error::invalid(format!("standard input is not text: {error}")))?;
        let Some(answer) = example.message(&line) else { continue };
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .map_err(|error| Error::unavailable(format!("the client does not read: {error}")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tools() -> Vec<Value> {
    let tool = |name: &str, description: &str, fields: Value, read_only: bool| {
        let required: Vec<&String> =
            fields.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
        let schema = json!({
            "type": "object", "properties": fields, "required": required, "additionalProperties": false
        });
        let annotations =
            json!({ "readOnlyHint": read_only, "destructiveHint": false, "idempotentHint": read_only });
        json!({ "name": name, "description": description, "inputSchema": schema, "annotations": annotations })
    };
    let text = |what: &str| json!({ "type": "string", "maxLength": 10_000, "description": what });
    let number = |what: &str| json!({ "type": "number", "description": what });
    vec![
        tool("tell_time", "Tells the time in UTC.", json!({}), true),
        tool("add", "Adds two numbers.", json!({ "a": number("One."), "b": number("The other.") }), true),
        tool("count_words", "Counts the words of a text.", json!({ "text": text("The text.") }), true),
        tool(
            "keep_note",
            "Keeps a note while the service runs.",
            json!({ "note": text("The note.") }),
            false,
        ),
        tool("list_notes", "Lists the notes that are kept.", json!({}), true),
    ]
}

impl Example {
    /// The answer to a message; `None` to what is not answered.
    fn message(&mut self, line: &str) -> Option<Value> {
        let error = |id: Value, code: i64, message: &str| {
            Some(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }))
        };
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return error(Value::Null, -32700, "this is not JSON");
        };
        // A notification is not answered, nor is what answers us: we ask nothing.
        let id = message.get("id")?.clone();
        let method = message["method"].as_str()?;
        let params = &message["params"];
        let result = match method {
            "initialize" => {
                let asked = params["protocolVersion"].as_str().filter(|asked| *asked <= NEWEST);
                json!({
                    "protocolVersion": asked.unwrap_or(NEWEST),
                    "capabilities": { "tools": {} },
                    "serverInfo": { "name": "opsroom-example", "version": env!("CARGO_PKG_VERSION") },
                    "instructions": "An example of a service behind the gateway.",
                })
            }
            "ping" => json!({}),
            "tools/list" => json!({ "tools": tools() }),
            "tools/call" => {
                match self.call(params["name"].as_str().unwrap_or_default(), &params["arguments"]) {
                    None => return error(id, -32602, "there is no such tool"),
                    Some(Ok(answer)) => json!({
                        "content": [{ "type": "text", "text": answer.to_string() }],
                        "structuredContent": answer,
                        "isError": false,
                    }),
                    Some(Err(wrong)) => {
                        json!({ "content": [{ "type": "text", "text": wrong }], "isError": true })
                    }
                }
            }
            _ => return error(id, -32601, "there is no such method"),
        };
        Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }

    fn call(&mut self, name: &str, input: &Value) -> Option<std::result::Result<Value, String>> {
        let text = |field: &str| {
            input[field].as_str().filter(|text| text.len() <= 10_000).ok_or(format!("{field} is a text"))
        };
        let number = |field: &str| input[field].as_f64().ok_or(format!("{field} is a number"));
        Some(match name {
            "tell_time" => Ok(json!({ "time": Clock::System.now().to_rfc3339() })),
            "add" => number("a").and_then(|a| Ok(json!({ "sum": a + number("b")? }))),
            "count_words" => text("text").map(|text| json!({ "words": text.split_whitespace().count() })),
            "keep_note" => text("note").map(|note| {
                if self.notes.len() == MOST_NOTES {
                    self.notes.remove(0);
                }
                self.notes.push(note.to_owned());
                json!({ "notes": self.notes.len() })
            }),
            "list_notes" => Ok(json!({ "items": self.notes })),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_does_what_it_says() {
        let mut example = Example::default();
        let mut answer = |name: &str, input: Value| example.call(name, &input);
        assert_eq!(answer("add", json!({ "a": 1, "b": 2.5 })), Some(Ok(json!({ "sum": 3.5 }))));
        assert_eq!(answer("count_words", json!({ "text": " a b\nc " })), Some(Ok(json!({ "words": 3 }))));
        assert_eq!(answer("keep_note", json!({ "note": "x" })), Some(Ok(json!({ "notes": 1 }))));
        assert_eq!(answer("list_notes", json!({})), Some(Ok(json!({ "items": ["x"] }))));
        assert!(answer("add", json!({ "a": "1" })).is_some_and(|answer| answer.is_err()));
        for tool in tools() {
            let name = tool["name"].as_str().unwrap();
            assert!(answer(name, json!({})).is_some(), "{name}");
        }
        assert_eq!(answer("nothing", json!({})), None);
    }

    #[test]
    fn it_answers_requests_and_nothing_else() {
        let mut example = Example::default();
        let list = example.message(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).unwrap();
        assert_eq!((&list["id"], list["result"]["tools"].as_array().unwrap().len()), (&json!(1), 5));
        let old =
            example.message(r#"{"id":"a","method":"initialize","params":{"protocolVersion":"2024-11-05"}}"#);
        assert_eq!(old.unwrap()["result"]["protocolVersion"], "2024-11-05");
        let new =
            example.message(r#"{"id":2,"method":"initialize","params":{"protocolVersion":"2026-07-28"}}"#);
        assert_eq!(new.unwrap()["result"]["protocolVersion"], NEWEST);
        assert_eq!(example.message(r#"{"method":"notifications/initialized"}"#), None);
        assert_eq!(example.message("{").unwrap()["error"]["code"], -32700);
        assert_eq!(
            example.message(r#"{"id":3,"method":"server/discover"}"#).unwrap()["error"]["code"],
            -32601
        );
    }
}
