//! The story that every face tells: each operation with an input, in an order in which they make sense.

use std::sync::LazyLock;

use opsroom_core::{Clock, Time};
use serde_json::{Value, json};

/// A log in which one request takes a way that no other takes.
pub fn log() -> String {
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
pub fn labelled() -> String {
    let row = |n: usize| {
        let repeated = "4 ".repeat(n % 7);
        if n.is_multiple_of(3) { format!("1 2 {repeated}5 3,1\n") } else { format!("1 2 3 {repeated}2,0\n") }
    };
    std::iter::once("sequence,label\n".to_owned()).chain((0..60).map(row)).collect()
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
pub fn story() -> Vec<(&'static str, Value)> {
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
        ("list_identities", json!({})),
        ("unlink_identity", json!({ "id": "nothing", "password": "x" })),
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
        (
            "link_cloud_account",
            json!({ "name": "prod", "provider": "gcp", "credentials_json": "{\"type\":\"service_account\"}" }),
        ),
        ("link_cloud_account", json!({ "name": "prod", "provider": "aws" })),
        ("list_cloud_accounts", json!({})),
        ("verify_cloud_account", json!({ "name": "prod" })),
        ("unlink_cloud_account", json!({ "name": "prod" })),
        ("export_audit", json!({ "path": "audit.csv", "format": "csv", "operation": "create_api_key" })),
        ("export_audit", json!({ "path": "../audit.csv" })),
        ("explain_access", json!({ "operation": "rotate_master_key", "subject": "operator" })),
        ("explain_access", json!({ "operation": "no_such_operation" })),
        ("verify_audit", json!({})),
        ("list_calls", json!({ "operation": "no_such_operation" })),
    ]
}

/// Operations whose answers over MCP differ by design: what a `Reveal` shows is withheld there.
pub const WITHHELD: [&str; 12] = [
    "create_api_key",
    "rotate_api_key",
    "create_oauth_client",
    "create_receiver",
    "create_setup_token",
    "exchange_setup_token",
    "get_secret",
    "grant_secret",
    "link_identity",
    "login",
    "enable_two_factor",
    "confirm_two_factor",
];
