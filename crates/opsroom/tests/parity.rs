//! The same answer by MCP, REST and the command line, for every operation. Each face has a server of its
//! own and plays the same story through; what must differ (ids, times, tokens, the face) is masked.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Map, Value, json};

#[path = "parity/story.rs"]
mod story;

use story::{WITHHELD, labelled, log, story};

const BINARY: &str = env!("CARGO_BIN_EXE_opsroom");

struct Server {
    process: Child,
    folder: tempfile::TempDir,
    url: String,
    key: String,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A data folder that holds files must be its owner's alone.
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(folder.path(), owner_only).unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        std::fs::write(folder.path().join("files/train.csv"), labelled()).unwrap();
        let mut process = Command::new(BINARY)
            .arg("--data-dir")
            .arg(folder.path())
            .args(["serve", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let greeting = lines.next().unwrap().unwrap();
        let url = greeting[greeting.find("http://").unwrap()..].trim().to_owned();
        // The rest of the greeting must be read, or the server would wait to write it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut server = Self { process, folder, url, key: String::new() };
        let made = server.command(&["create-api-key", "--name", "test", "--role", "administrator"]);
        server.key = made.unwrap()["key"].as_str().unwrap().to_owned();
        server
    }

    /// Runs a command on this server: its answer, or its error message.
    fn command(&self, arguments: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(BINARY);
        command.arg("--data-dir").arg(self.folder.path());
        if !self.key.is_empty() {
            command.args(["--server", &self.url, "--api-key", &self.key]);
        }
        let output = command.args(arguments).output().unwrap();
        if output.status.success() {
            return Ok(serde_json::from_slice(&output.stdout).unwrap());
        }
        let message = String::from_utf8(output.stderr).unwrap();
        Err(message.trim().trim_start_matches("opsroom: ").to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// How a face calls.
enum Caller {
    Rest(reqwest::Client, Value),
    Mcp(rmcp::service::RunningService<rmcp::RoleClient, ()>),
    Cli(Value),
}

impl Caller {
    async fn call(&self, server: &Server, operation: &str, input: &Value) -> Result<Value, String> {
        match self {
            Caller::Rest(client, openapi) => rest(client, openapi, server, operation, input).await,
            Caller::Mcp(client) => mcp(client, operation, input).await,
            Caller::Cli(openapi) => cli(openapi, server, operation, input),
        }
    }
}

async fn rest(
    client: &reqwest::Client,
    openapi: &Value,
    server: &Server,
    operation: &str,
    input: &Value,
) -> Result<Value, String> {
    let (path, method, entry) = route(openapi, operation);
    let mut fields = input.as_object().unwrap().clone();
    let mut url = format!("{}{path}", server.url);
    for parameter in entry["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path") {
        let name = parameter["name"].as_str().unwrap();
        url = url.replace(&format!("{{{name}}}"), fields.remove(name).unwrap().as_str().unwrap());
    }
    let request = client.request(method.to_uppercase().parse().unwrap(), url).bearer_auth(&server.key);
    let request = if entry.get("requestBody").is_some() {
        request.json(&fields)
    } else {
        request.query(&fields.into_iter().map(|(k, v)| (k, text(&v))).collect::<Vec<_>>())
    };
    let answer = request.send().await.unwrap();
    let ok = answer.status().is_success();
    let mut body: Value = answer.json().await.unwrap();
    if ok && body["success"] == true {
        // The envelope of an older system's routes.
        return Ok(body["data"].take());
    }
    if ok { Ok(body) } else { Err(body["error"]["message"].as_str().unwrap().to_owned()) }
}

fn route<'a>(openapi: &'a Value, operation: &str) -> (&'a str, &'a str, &'a Value) {
    let paths = openapi["paths"].as_object().unwrap();
    let mut routes = paths.iter().flat_map(|(path, methods)| {
        methods
            .as_object()
            .unwrap()
            .iter()
            .map(move |(method, entry)| (path.as_str(), method.as_str(), entry))
    });
    routes.find(|(_, _, entry)| entry["operationId"] == operation).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

async fn mcp(
    client: &rmcp::service::RunningService<rmcp::RoleClient, ()>,
    operation: &str,
    input: &Value,
) -> Result<Value, String> {
    let mut request = CallToolRequestParams::new(operation.to_owned());
    request.arguments = input.as_object().cloned();
    let result = client.call_tool(request).await.unwrap();
    let words = serde_json::to_value(&result.content[0]).unwrap()["text"].as_str().unwrap().to_owned();
    if result.is_error == Some(true) {
        let (_kind, message) = words.split_once(": ").unwrap();
        return Err(message.to_owned());
    }
    let structured = result.structured_content.unwrap();
    assert_eq!(
        structured,
        serde_json::from_str::<Value>(&words).unwrap(),
        "both forms of the answer are one"
    );
    Ok(structured)
}

fn cli(openapi: &Value, server: &Server, operation: &str, input: &Value) -> Result<Value, String> {
    let (_, _, entry) = route(openapi, operation);
    let in_path: Vec<&str> = entry["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|parameter| parameter["in"] == "path")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let mut arguments = vec![operation.replace('_', "-")];
    for (name, value) in input.as_object().unwrap() {
        if in_path.contains(&name.as_str()) {
            arguments.push(text(value));
        } else if let Value::Array(items) = value {
            // A list is the flag, given once for each of its items.
            arguments.extend(items.iter().map(|item| format!("--{}={}", name.replace('_', "-"), text(item))));
        } else {
            arguments.push(format!("--{}={}", name.replace('_', "-"), text(value)));
        }
    }
    server.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

async fn play(caller: &Caller, server: &Server) -> Vec<(String, Result<Value, String>)> {
    let mut known = Map::new();
    let key = server.command(&["create-api-key", "--name", "ci", "--role", "viewer"]).unwrap();
    known.insert("$key".to_owned(), key["api_key"]["id"].clone());
    let mut answers = Vec::new();
    for (operation, mut input) in story() {
        for value in input.as_object_mut().unwrap().values_mut() {
            if let Some(id) = value.as_str().and_then(|name| known.get(name)) {
                *value = id.clone();
            }
        }
        let mut answer = caller.call(server, operation, &input).await;
        // A batch goes on by itself: what is compared is how it ended.
        while operation == "get_log_batch" && answer.as_ref().is_ok_and(|it| it["state"] == "running") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            answer = caller.call(server, operation, &input).await;
        }
        if let Ok(answer) = &answer {
            match operation {
                "create_user" => drop(known.insert("$user".to_owned(), answer["user"]["id"].clone())),
                "list_jobs" => drop(known.insert("$job".to_owned(), answer["items"][0]["id"].clone())),
                "process_log_batch" => drop(known.insert("$batch".to_owned(), answer["id"].clone())),
                "create_schedule" => drop(known.insert("$schedule".to_owned(), answer["id"].clone())),
                _ => {}
            }
        }
        answers.push((operation.to_owned(), answer));
    }
    answers
}

/// Hides what must differ between two servers: ids, times, tokens, durations, and by which face it came.
fn mask(value: &mut Value, name: &str) {
    const DIFFER: [&str; 23] = [
        "invitation",
        "took_seconds",
        "face",
        "uptime_seconds",
        "took_ms",
        "message",
        "hash",
        "prev_hash",
        "head_hash",
        "starts_with",
        "key",
        "duration_ms",
        "input_hash",
        "server",
        "response_time_ms",
        "execution_time_ms",
        "usage",
        "log",
        "avg_ms",
        "request_id",
        "p50_ms",
        "p95_ms",
        "p99_ms",
    ];
    match value {
        // Calls are counted a moment after they are answered.
        Value::Object(_) if name == "usage" => *value = json!("<masked>"),
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| mask(value, name)),
        Value::Array(values) => values.iter_mut().for_each(|value| mask(value, name)),
        Value::String(text) if differs(text) => *value = json!("<masked>"),
        other if DIFFER.contains(&name) && !other.is_null() => *other = json!("<masked>"),
        _ => {}
    }
}

fn differs(text: &str) -> bool {
    let uuid = text.len() >= 36
        && text.split(':').next_back().is_some_and(|id| id.split('-').count() == 5 && id.len() == 36);
    let time = text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok();
    uuid || time
}

fn masked_words(message: &str) -> String {
    let mask = |word: &str| {
        if differs(word.trim_end_matches([';', ','])) { "<masked>".to_owned() } else { word.to_owned() }
    };
    message.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_rmcp_client_calls_over_standard_input_and_output() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(BINARY);
    command.arg("--data-dir").arg(folder.path()).arg("mcp");
    let client = ().serve(rmcp::transport::TokioChildProcess::new(command).unwrap()).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "detect_anomalies"));
    let answer = mcp(&client, "detect_anomalies", &json!({ "text": log() })).await.unwrap();
    assert!(answer["anomalies"][0].to_string().contains("req-0060"), "{answer}");
    client.cancel().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_alike_over_mcp_rest_and_the_command_line() {
    let _installed_once = rustls::crypto::ring::default_provider().install_default();
    let servers = [Server::start(), Server::start(), Server::start()];
    #[expect(clippy::disallowed_methods, reason = "the test's client calls the server that it started")]
    let http = reqwest::Client::new();
    let openapi: Value =
        http.get(format!("{}/openapi.json", servers[0].url)).send().await.unwrap().json().await.unwrap();

    let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", servers[1].url))
        .auth_header(servers[1].key.clone());
    let client = ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap();
    let tools: BTreeSet<String> =
        client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect();
    let told: BTreeSet<String> =
        story().iter().map(|(name, _)| (*name).to_owned()).chain(WITHHELD.map(str::to_owned)).collect();
    assert_eq!(tools, told, "the story tells every operation");

    let rest = play(&Caller::Rest(http, openapi.clone()), &servers[0]).await;
    let by_mcp = Caller::Mcp(client);
    let mcp = play(&by_mcp, &servers[1]).await;
    // Refusals are audited: they come when the story is told.
    for (operation, input) in [
        ("create_api_key", json!({ "name": "ci" })),
        ("exchange_setup_token", json!({ "token": "ops_0" })),
        ("get_secret", json!({ "path": "token" })),
    ] {
        let refused = by_mcp.call(&servers[1], operation, &input).await.unwrap_err();
        assert!(refused.contains("withheld over MCP"), "{operation}: {refused}");
    }
    let cli = play(&Caller::Cli(openapi), &servers[2]).await;
    for ((by_rest, by_mcp), by_cli) in rest.into_iter().zip(mcp).zip(cli) {
        let [by_rest, by_mcp, by_cli] = [by_rest, by_mcp, by_cli].map(|(name, answer)| {
            let answer = answer.map(|mut answer| {
                mask(&mut answer, "");
                answer
            });
            (name, answer.map_err(|message| masked_words(&message)))
        });
        assert_eq!(by_rest, by_mcp);
        assert_eq!(by_rest, by_cli);
    }
}
