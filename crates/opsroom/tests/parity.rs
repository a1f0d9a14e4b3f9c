//! The same answer by MCP, REST and the command line, for every operation. Each face has a server of its
//! own and plays the same story through; what must differ (ids, times, tokens, the face) is masked.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use opsroom_core::{Clock, Time};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Map, Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_opsroom");

/// A log in which one request takes a way that no other takes.
fn log() -> String {
    let line = |n: usize| {
        let odd = if n == 60 { "INFO db request req-0060 gave up waiting for a connection\n" } else { "" };
        format!(
            "INFO web request req-{n:04} started\nINFO db request req-{n:04} read 3 rows\n{odd}INFO web request req-{n:04} answered 200\n"
        )
    };
    (0..200).map(line).collect()
}

/// The same with times within the last hour, the same for every server of this run.
fn timed_log() -> String {
    static START: LazyLock<Time> = LazyLock::new(|| Clock::System.now().plus_seconds(-3600));
    let line = |(n, line): (usize, &str)| format!("{} {line}\n", START.plus_seconds(n as i64).to_rfc3339());
    log().lines().enumerate().map(line).collect()
}

/// Sequences of events; those with event 5 are anomalies.
fn labelled() -> String {
    let row = |n: usize| {
        let repeated = "4 ".repeat(n % 7);
        if n.is_multiple_of(3) { format!("1 2 {repeated}5 3,1\n") } else { format!("1 2 3 {repeated}2,0\n") }
    };
    std::iter::once("sequence,label\n".to_owned()).chain((0..60).map(row)).collect()
}

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

/// Ten days of a metric, hour by hour.
fn metrics() -> String {
    let line = |hour: i64| {
        let at = jiff::Timestamp::from_second(1_762_732_800 + hour * 3600).unwrap();
        format!("{at},{}\n", 0.3 + 0.2 * ((hour % 24) as f64 / 24.0))
    };
    std::iter::once("timestamp,avg_cpu\n".to_owned()).chain((0..240).map(line)).collect()
}

fn plan_context() -> Value {
    json!({ "timestamp": "2025-11-19T23:30:00Z", "service_type": "web" })
}

/// The story: each operation with an input, in an order in which they make sense. `$key`, `$job` and
/// `$schedule` stand for ids that earlier answers gave.
fn story() -> Vec<(&'static str, Value)> {
    let schedule = json!({ "name": "nightly", "cron": "0 3 * * *", "zone": "Europe/Berlin", "operation": "get_info", "input": {} });
    vec![
        ("get_health", json!({})),
        ("get_info", json!({})),
        ("get_detailed_health", json!({})),
        ("list_api_keys", json!({ "limit": 1 })),
        ("list_api_keys", json!({ "limit": 0 })),
        ("get_api_key", json!({ "id": "$key" })),
        ("get_api_key", json!({ "id": "nobody" })),
        ("revoke_api_key", json!({ "id": "$key" })),
        (
            "signup",
            json!({ "username": "ada", "email": "ada@example.com", "password": "correct horse battery" }),
        ),
        (
            "set_up",
            json!({ "token": "ops_0", "username": "ada", "email": "ada@example.com", "password": "correct horse battery" }),
        ),
        ("request_password_reset", json!({ "email": "nobody@example.com" })),
        ("reset_password", json!({ "token": "omt_0", "password": "correct horse battery" })),
        ("verify_email", json!({ "token": "omt_0" })),
        ("create_user", json!({ "username": "ada", "email": "ada@example.com", "role": "operator" })),
        ("create_user", json!({ "username": "ada", "email": "ada@example.com" })),
        ("create_user", json!({ "username": "a b", "email": "ada@example.com" })),
        ("list_users", json!({})),
        ("get_user", json!({ "id": "$user" })),
        ("update_user", json!({ "id": "$user", "role": "viewer" })),
        ("get_profile", json!({})),
        ("update_profile", json!({ "full_name": "Ada" })),
        ("change_password", json!({ "password": "x", "new_password": "y" })),
        ("change_email", json!({ "password": "x", "email": "ada@example.com" })),
        ("disable_two_factor", json!({ "password": "x" })),
        ("list_sessions", json!({})),
        ("end_session", json!({ "id": "nothing" })),
        ("logout", json!({})),
        ("delete_account", json!({ "password": "x" })),
        ("delete_user", json!({ "id": "$user" })),
        ("connect_service", json!({ "id": "nobody" })),
        ("disconnect_service", json!({ "id": "nobody" })),
        ("list_grants", json!({})),
        ("revoke_grant", json!({ "id": "nobody" })),
        ("list_oauth_clients", json!({})),
        ("delete_oauth_client", json!({ "id": "nobody" })),
        ("detect_anomalies", json!({ "text": log(), "limit": 3 })),
        ("detect_anomalies", json!({ "text": log(), "session": "(" })),
        ("detect_anomalies", json!({ "path": "../../etc/passwd" })),
        ("register_dataset", json!({ "name": "mine", "path": "train.csv" })),
        ("register_dataset", json!({ "name": "mine", "path": "../train.csv" })),
        ("list_datasets", json!({})),
        ("describe_dataset", json!({ "name": "mine" })),
        ("train_federated_model", json!({ "data_type": "mine", "num_clients": 1 })),
        ("train_centralized_model", json!({ "data_type": "mine", "method": "tree", "output_dir": "mine" })),
        ("get_training_status", json!({ "model_type": "both" })),
        ("get_training_results", json!({})),
        ("predict_logs", json!({ "model_path": "mine/model_param.pkl" })),
        ("evaluate_model", json!({ "model_path": "mine/model_param.pkl", "data_type": "mine" })),
        ("list_models", json!({})),
        ("get_model", json!({ "model_path": "mine/model_param.pkl" })),
        ("export_model", json!({ "model_path": "mine/model_param.pkl", "path": "out.safetensors" })),
        ("import_model", json!({ "path": "out.safetensors", "name": "kept" })),
        ("delete_model", json!({ "model_path": "kept" })),
        ("analyze_logs", json!({ "text": log() })),
        ("list_log_templates", json!({ "text": log() })),
        ("ingest_logs", json!({ "text": timed_log(), "service": "shop" })),
        ("ingest_logs", json!({})),
        ("search_logs", json!({ "query": "service:shop NOT nothing", "limit": 3, "context": 1 })),
        ("search_logs", json!({ "query": "\"open" })),
        ("count_logs", json!({ "query": "", "by": "level", "buckets": 3, "until": "2030-01-01" })),
        ("detect_anomalies", json!({ "query": "service:shop", "limit": 3 })),
        ("count_logs", json!({ "path": "train.csv", "by": "/([a-z]+)/", "limit": 2 })),
        ("count_logs", json!({ "path": "train.csv", "buckets": 2 })),
        ("explain_logs", json!({ "text": log() })),
        ("export_logs", json!({ "path": "out.csv", "format": "csv", "query": "service:shop" })),
        ("process_log_batch", json!({ "operation": "analyze_logs", "items": [{ "text": "INFO one" }, {}] })),
        ("process_log_batch", json!({ "operation": "delete_log_source", "items": [{}] })),
        ("get_log_batch", json!({ "id": "$batch", "limit": 0 })),
        ("cancel_log_batch", json!({ "id": "nobody" })),
        ("add_log_source", json!({ "name": "here", "place": { "kind": "folder", "path": "." } })),
        ("add_log_source", json!({ "name": "here", "place": { "kind": "folder" } })),
        ("add_log_source", json!({ "name": "web", "place": { "kind": "docker", "container": "web-*" } })),
        ("list_log_sources", json!({})),
        ("test_log_source", json!({ "name": "here" })),
        ("list_log_objects", json!({ "name": "here", "prefix": "train" })),
        ("estimate_logs", json!({ "name": "here", "prefix": "train" })),
        ("download_logs", json!({ "name": "here", "prefix": "train", "to": "down" })),
        (
            "update_log_source",
            json!({ "name": "here", "place": { "kind": "folder", "path": ".", "prefix": "train" } }),
        ),
        ("delete_log_source", json!({ "name": "here" })),
        ("ingest_metrics", json!({ "service_id": "shop", "metric_name": "avg_cpu", "csv": metrics() })),
        ("list_series", json!({ "service_id": "shop" })),
        ("get_plan_metrics", json!({ "service_id": "unknown" })),
        ("create_plan", json!({ "service_id": "shop", "metric_name": "avg_cpu", "context": plan_context() })),
        ("create_plan", json!({ "service_id": "unknown", "context": plan_context() })),
        ("create_plan", json!({ "context": plan_context() })),
        (
            "create_plans",
            json!({ "github_url": "shop", "metric_names": ["avg_cpu"], "context": plan_context() }),
        ),
        (
            "create_hourly_plan",
            json!({ "github_url": "shop", "metric_name": "avg_cpu", "context": plan_context() }),
        ),
        ("analyze_repository", json!({ "github_url": "not a repository" })),
        ("list_forecasters", json!({})),
        (
            "backtest_forecaster",
            json!({ "service_id": "shop", "metric_name": "avg_cpu", "timestamp": "2025-11-19T23:30:00Z" }),
        ),
        ("backtest_forecaster", json!({ "service_id": "nobody", "metric_name": "avg_cpu" })),
        ("train_forecaster", json!({})),
        ("list_notifications", json!({})),
        ("get_notification", json!({ "id": "nothing" })),
        ("list_channels", json!({})),
        ("add_channel", json!({ "name": "hook", "url": "https://192.0.2.1/hook" })),
        ("add_channel", json!({ "name": "hook", "kind": "slack", "url": "http://169.254.169.254/" })),
        ("list_channels", json!({})),
        ("test_channel", json!({ "name": "nobody" })),
        ("preview_channel", json!({ "name": "hook", "text": "hello" })),
        ("send_notification", json!({ "channel": "nobody", "title": "hello" })),
        ("delete_channel", json!({ "name": "hook" })),
        ("list_on_call", json!({})),
        (
            "override_on_call",
            json!({ "rotation": "db", "channel": "hook", "ends_at": "2030-01-01T00:00:00Z" }),
        ),
        ("end_on_call_override", json!({ "id": "nothing" })),
        ("import_apprise", json!({ "text": "ops=foo://x", "dry_run": true })),
        ("import_silences", json!({ "json": "[]" })),
        ("import_alertmanager", json!({ "yaml": "route: {receiver: a}\nreceivers: [{name: a}]" })),
        ("list_receivers", json!({})),
        ("list_webhook_deliveries", json!({ "name": "nobody" })),
        ("replay_webhook", json!({ "id": "nothing" })),
        ("delete_receiver", json!({ "name": "nobody" })),
        ("list_alerts", json!({})),
        ("get_alert", json!({ "id": "nothing" })),
        ("acknowledge_alert", json!({ "id": "nothing" })),
        ("resolve_alert", json!({ "id": "nothing" })),
        ("mute_alert", json!({ "id": "nothing" })),
        ("explain_alert", json!({ "id": "nothing" })),
        ("silence_alerts", json!({ "matchers": ["env=\"dev\""], "comment": "works" })),
        ("silence_alerts", json!({ "matchers": ["env"], "comment": "works" })),
        ("list_silences", json!({})),
        ("end_silence", json!({ "id": "nothing" })),
        ("simulate_routing", json!({ "labels": [{ "alertname": "Down" }] })),
        (
            "add_dashboard_source",
            json!({ "name": "pages", "place": { "url": "https://pages.example.com/ops" } }),
        ),
        ("add_dashboard_source", json!({ "name": "pages", "place": { "url": "http://169.254.169.254/" } })),
        ("list_dashboard_sources", json!({})),
        ("capture_dashboard", json!({ "source": "pages", "dashboard_uid": "abc" })),
        ("list_captures", json!({ "limit": 1 })),
        ("get_capture", json!({ "id": "nothing" })),
        ("delete_capture", json!({ "id": "nothing" })),
        ("delete_dashboard_source", json!({ "name": "pages" })),
        (
            "create_service",
            json!({ "name": "maps", "service_type": "cloud", "url": "https://maps.example.com/mcp", "start": false }),
        ),
        ("create_service", json!({ "name": "x", "service_type": "local", "command": ["sh"] })),
        ("create_service", json!({ "name": "12", "service_type": "cloud", "url": "x", "dry_run": true })),
        ("list_services", json!({ "search": "map" })),
        ("get_service", json!({ "id": "maps" })),
        ("get_service", json!({ "id": "nothing" })),
        ("update_service", json!({ "id": "maps", "description": "Maps" })),
        ("get_service_health", json!({ "id": "maps" })),
        ("get_service_logs", json!({ "id": "maps" })),
        ("get_service_stats", json!({ "id": "maps" })),
        ("start_service", json!({ "id": "nothing" })),
        ("stop_service", json!({ "id": "maps" })),
        ("restart_service", json!({ "id": "nothing" })),
        ("create_network", json!({ "vlan_id": 100 })),
        ("create_network", json!({ "vlan_id": 100 })),
        ("list_networks", json!({})),
        ("delete_network", json!({ "name": "vlan-100" })),
        (
            "register_service",
            json!({ "service_id": "a", "url": "https://a.example.com/mcp", "type": "other" }),
        ),
        ("register_service", json!({ "service_id": "b", "url": "http://169.254.169.254/" })),
        ("heartbeat_service", json!({ "service_id": "a", "status": "healthy" })),
        ("discover_services", json!({})),
        ("list_registry_servers", json!({})),
        ("list_registry_versions", json!({ "server_name": "maps" })),
        ("get_registry_server", json!({ "server_name": "maps", "version": "latest" })),
        ("search_mcp_registry", json!({ "registry": "http://127.0.0.1:9" })),
        ("deregister_service", json!({ "service_id": "a" })),
        ("delete_service", json!({ "id": "maps" })),
        ("list_tools", json!({ "category": "utility" })),
        ("list_tool_categories", json!({})),
        ("get_tool_stats", json!({ "service_id": "none" })),
        ("search_tools", json!({ "query": "find what is abnormal in a log", "limit": 2 })),
        ("get_tool", json!({ "name": "list_profiles" })),
        ("execute_tool", json!({ "name": "list_profiles" })),
        ("execute_tool", json!({ "name": "get_job", "parameters": { "id": "nothing" } })),
        ("set_tool_enabled", json!({ "name": "list_profiles", "enabled": false })),
        ("set_tool_enabled", json!({ "name": "list_tools", "enabled": false })),
        ("configure_tool", json!({ "name": "list_profiles", "is_enabled": true, "tags": ["sets"] })),
        ("approve_tool", json!({ "name": "list_profiles" })),
        ("create_profile", json!({ "name": "oncall", "tools": ["get_info"], "instructions": "Be calm." })),
        ("list_profiles", json!({})),
        ("delete_profile", json!({ "name": "oncall" })),
        ("list_jobs", json!({ "operation": "list_log_templates" })),
        ("get_job", json!({ "id": "$job" })),
        ("get_job", json!({ "id": "nothing" })),
        ("cancel_job", json!({ "id": "$job" })),
        ("create_schedule", schedule),
        (
            "create_schedule",
            json!({ "name": "bad", "cron": "every day", "operation": "get_info", "input": {} }),
        ),
        ("list_schedules", json!({})),
        ("get_schedule", json!({ "id": "$schedule" })),
        ("update_schedule", json!({ "id": "$schedule", "enabled": false })),
        ("run_schedule_now", json!({ "id": "$schedule" })),
        ("delete_schedule", json!({ "id": "$schedule" })),
        (
            "put_secret",
            json!({ "path": "token", "value": "correct horse battery", "labels": { "env": "test" } }),
        ),
        ("put_secret", json!({ "path": "../x", "value": "correct horse battery" })),
        ("list_secrets", json!({ "prefix": "to", "label": "env=test" })),
        ("list_secret_versions", json!({ "path": "token" })),
        ("list_secret_versions", json!({ "path": "nothing" })),
        ("plan_secret_rotation", json!({ "path": "token", "plan": { "kind": "generate", "length": 20 } })),
        ("rotate_secret", json!({ "path": "token" })),
        ("list_secret_leases", json!({ "path": "token" })),
        ("end_secret_lease", json!({ "path": "token", "id": "nothing" })),
        ("revoke_secret_grant", json!({ "path": "token", "subject": "nobody" })),
        ("rotate_master_key", json!({})),
        ("disable_secret", json!({ "path": "token" })),
        ("restore_secret", json!({ "path": "token" })),
        ("delete_secret", json!({ "path": "token" })),
        ("list_audit", json!({ "operation": "create_api_key", "limit": 1 })),
        ("verify_audit", json!({})),
        ("list_calls", json!({ "operation": "no_such_operation" })),
    ]
}

/// Operations whose answers over MCP differ by design: what a `Reveal` shows is withheld there.
const WITHHELD: [&str; 10] = [
    "create_api_key",
    "create_oauth_client",
    "create_receiver",
    "create_setup_token",
    "exchange_setup_token",
    "get_secret",
    "grant_secret",
    "login",
    "enable_two_factor",
    "confirm_two_factor",
];

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
