//! The documents that are made from the code, and the tests that hold them current: `docs/api.md` from
//! the operations, `docs/configuration.md` from the configuration. `UPDATE_DOCS=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use opsroom_core::{Effect, Operation};
use serde_json::Value;

use crate::cli::server::describe;
use crate::config::Config;
use crate::faces::raw;

fn held_current(name: &str, text: &str) {
    // Tests run in their package's folder.
    let path = Path::new("../../docs").join(name);
    #[expect(clippy::disallowed_methods, reason = "a wish of whoever runs the tests")]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/{name} is not current: run `UPDATE_DOCS=1 cargo test -p opsroom documents`");
}

#[tokio::test]
async fn the_api_document_is_current() {
    held_current("api.md", &api(&describe().await.unwrap()));
}

#[test]
fn the_configuration_document_is_current() {
    let example = opsroom_core::config::example::<Config>();
    let text = format!(
        "# Configuration\n\n\
         Defaults, then `opsroom.yaml` (in the working folder, else in the data folder, or where `--config` says), then \
         the environment, then flags. Any key can be set by a variable `OPSROOM__SECTION__KEY`, or by \
         `OPSROOM__SECTION__KEY_FILE`, which names a file that holds the value. Unknown keys are errors that name the \
         line. `opsroom config show` prints what is in force and who set it; `opsroom config example` prints the file \
         below.\n\n```yaml\n{example}```\n"
    );
    held_current("configuration.md", &text);
}

fn api(operations: &[Operation]) -> String {
    let mut text = String::from(
        "# Operations\n\n\
         Each operation is a tool over MCP (`/mcp`), an endpoint over REST, and a command of `opsroom` (with dashes). \
         Errors are `{\"error\": {\"kind\", \"message\"}}` over REST, tool errors over MCP, and exit codes on the \
         command line ([cli.md](cli.md)). Long operations take `background: true` and then answer with the job.\n",
    );
    let mut capability = "";
    for operation in operations {
        if operation.capability != capability {
            capability = operation.capability;
            let _ = write!(text, "\n## {capability}\n");
        }
        let _ =
            write!(text, "\n### {}\n\n{}\n\n{}\n", operation.name, operation.description(), facts(operation));
        table(&mut text, operation);
    }
    text.push_str("\n## Raw routes\n\nWhat is not an operation's request and answer.\n\n| route | what it is | key |\n| --- | --- | --- |\n");
    for route in raw::all() {
        let key = route.open.map_or("needed".to_owned(), |why| format!("none: {why}"));
        let _ = writeln!(text, "| `{} {}` | {} | {key} |", route.method, route.path, route.summary);
    }
    text
}

fn facts(operation: &Operation) -> String {
    let effect = match operation.effect {
        Effect::Read => "reads",
        Effect::Reveal => "shows a secret",
        Effect::Write => "changes something",
        Effect::Destroy => "removes for good",
    };
    let who = if operation.open {
        "open to everybody".to_owned()
    } else {
        format!("role {}", operation.role.as_str())
    };
    let long = if operation.long { ", runs as a job" } else { "" };
    format!("`{} {}` · {effect}{long} · {who}", operation.route.method, operation.route.path)
}

fn table(text: &mut String, operation: &Operation) {
    if operation.fields().next().is_none() {
        return;
    }
    text.push_str("\n| field | type | what it is |\n| --- | --- | --- |\n");
    for (name, schema) in operation.fields() {
        let words = schema["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let required = if operation.requires(name) { ", required" } else { "" };
        let _ = writeln!(text, "| `{name}` | {}{required} | {words} |", kind(schema));
    }
}

fn kind(schema: &Value) -> String {
    match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(several) => {
            let names: Vec<&str> =
                several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect();
            names.join(" or ")
        }
        _ => "text".to_owned(),
    }
}
