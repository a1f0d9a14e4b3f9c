//! GitHub's webhooks: what failed becomes an alert, what succeeds again ends it; all else is only kept.

use serde_json::Value;

use super::super::matchers::Labels;
use super::super::model::{Incoming, Severity, fingerprint};

/// The alert of an event, if it is about something that can fail.
pub fn alert(event: &str, body: &Value) -> Option<Incoming> {
    let field = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let (what, outcome, name, branch, url) = match event {
        "workflow_run" => (
            "workflow",
            field("/workflow_run/conclusion")?,
            field("/workflow_run/name")?,
            field("/workflow_run/head_branch"),
            field("/workflow_run/html_url"),
        ),
        "check_suite" => (
            "check suite",
            field("/check_suite/conclusion")?,
            field("/check_suite/app/name")?,
            field("/check_suite/head_branch"),
            None,
        ),
        "deployment_status" => (
            "deployment",
            field("/deployment_status/state")?,
            field("/deployment_status/environment")?,
            field("/deployment/ref"),
            field("/deployment_status/target_url"),
        ),
        _ => return None,
    };
    let firing = match outcome {
        "failure" | "timed_out" | "startup_failure" | "error" => true,
        "success" => false,
        _ => return None,
    };
    let repository = field("/repository/full_name")?;
    let mut labels = Labels::new();
    for (label, value) in [
        ("alertname", Some("github")),
        ("event", Some(event)),
        ("repository", Some(repository)),
        ("name", Some(name)),
        ("branch", branch),
    ] {
        if let Some(value) = value {
            labels.insert(label.to_owned(), value.to_owned());
        }
    }
    let mut alert = Incoming::of_labels(labels, firing);
    alert.fingerprint = fingerprint(&alert.labels);
    alert.severity = if event == "deployment_status" { Severity::Critical } else { Severity::Warning };
    alert.title = format!("{what} {name} of {repository}: {outcome}");
    if let Some(url) = url.filter(|url| url.starts_with("https://")) {
        alert.links.insert("github".to_owned(), url.to_owned());
    }
    Some(alert)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_run_fires_and_the_next_success_ends_it() {
        let run = |conclusion: &str| {
            let body = json!({
                "action": "completed",
                "workflow_run": { "name": "CI", "conclusion": conclusion, "head_branch": "main", "html_url": "https://github.com/a/b/actions/1" },
                "repository": { "full_name": "a/b" }
            });
            alert("workflow_run", &body)
        };
        let (failed, passed) = (run("failure").unwrap(), run("success").unwrap());
        assert!(failed.firing && !passed.firing);
        assert_eq!(failed.fingerprint, passed.fingerprint);
        assert_eq!(failed.title, "workflow CI of a/b: failure");
        assert_eq!(run("skipped"), None);
        assert_eq!(alert("ping", &json!({ "zen": "x" })), None);
    }
}
