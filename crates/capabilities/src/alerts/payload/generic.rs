//! Any JSON, read by a mapping of JSON pointers (RFC 6901).

use std::collections::BTreeMap;

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::matchers::Labels;
use super::super::model::{Incoming, LONGEST_LABEL, LONGEST_TEXT, Severity, bounded, cut, fingerprint};
use super::{text, texts, time};

/// Where a delivery has what. Every field but `alerts` is a pointer within one alert, such as `/labels/host`;
/// one that is empty or leads nowhere is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// The list of alerts in the delivery; empty when the delivery is one alert.
    #[schemars(length(max = 256))]
    pub alerts: String,
    /// One line. Without it: `/title`, `/name`, `/alertname`, `/subject` or `/message`.
    #[schemars(length(max = 256))]
    pub title: String,
    /// What happened. Without it: `/description`, `/message`, `/text` or `/body`.
    #[schemars(length(max = 256))]
    pub description: String,
    /// How bad it is, in any usual word. Without it: `/severity`, `/level` or `/priority`.
    #[schemars(length(max = 256))]
    pub severity: String,
    /// Whether it goes on. Without it: `/status` or `/state`.
    #[schemars(length(max = 256))]
    pub status: String,
    /// The values of `status` that mean that it is over; without any, `resolved`, `ok`, `recovered`, `closed`,
    /// `success` and `normal`.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub resolved: Vec<String>,
    /// What makes it the same alert when it comes again. Without it, its labels.
    #[schemars(length(max = 256))]
    pub fingerprint: String,
    /// When it began, RFC 3339.
    #[schemars(length(max = 256))]
    pub starts_at: String,
    /// Labels by name, each with its pointer. Without any, the texts in `/labels`, or else those at the top.
    #[schemars(length(max = 64))]
    pub labels: BTreeMap<String, String>,
}

const OVER: [&str; 6] = ["resolved", "ok", "recovered", "closed", "success", "normal"];

impl Mapping {
    /// The alerts of a delivery.
    pub fn alerts(&self, body: &Value) -> Result<Vec<Incoming>> {
        let list = match self.alerts.as_str() {
            "" => body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]),
            pointer => match body.pointer(pointer) {
                Some(Value::Array(list)) => list.clone(),
                _ => {
                    return Err(Error::invalid(format!(
                        "{pointer}: the mapping looks there for a list of alerts"
                    )));
                }
            },
        };
        list.iter().map(|it| self.alert(it)).collect()
    }

    fn alert(&self, it: &Value) -> Result<Incoming> {
        let find = |pointer: &str, usual: &[&str]| {
            let given = (!pointer.is_empty()).then_some(pointer);
            given.into_iter().chain(usual.iter().copied()).find_map(|at| it.pointer(at).and_then(text))
        };
        let title = find(&self.title, &["/title", "/name", "/alertname", "/subject", "/message"])
            .ok_or_else(|| {
                Error::invalid(
                    "the delivery has no title: map `title` to the pointer of the text that names the alert",
                )
            })?;
        let status = find(&self.status, &["/status", "/state"]).unwrap_or_default();
        let is_over = |word: &str| word.eq_ignore_ascii_case(status.trim());
        let over = if self.resolved.is_empty() {
            OVER.into_iter().any(is_over)
        } else {
            self.resolved.iter().any(|word| is_over(word))
        };
        let mut alert = Incoming::of_labels(self.labels(it, &title), !over);
        if let Some(word) = find(&self.severity, &["/severity", "/level", "/priority"]) {
            alert.severity = Severity::of(&word);
        }
        if let Some(key) = find(&self.fingerprint, &[]) {
            alert.fingerprint = fingerprint(&Labels::from([("key".to_owned(), key)]));
        }
        let description =
            find(&self.description, &["/description", "/message", "/text", "/body"]).unwrap_or_default();
        alert.description = cut(&description, LONGEST_TEXT).to_owned();
        alert.title = cut(&title, LONGEST_LABEL).to_owned();
        alert.starts_at = time(it.pointer(&self.starts_at));
        alert.annotations = bounded(texts(it.get("annotations")), LONGEST_TEXT);
        Ok(alert)
    }

    /// The labels: mapped, or the delivery's own, or what at its top is text and no number or time.
    fn labels(&self, it: &Value, title: &str) -> Labels {
        if !self.labels.is_empty() {
            let found =
                self.labels.iter().filter_map(|(name, at)| Some((name.clone(), text(it.pointer(at)?)?)));
            return found.collect();
        }
        let mut labels = texts(it.get("labels"));
        if labels.is_empty() {
            let steady = |name: &str| {
                ["host", "service", "instance", "source", "environment", "env", "team"].contains(&name)
            };
            labels = texts(Some(it)).into_iter().filter(|(name, _)| steady(name)).collect();
        }
        labels.entry("alertname".to_owned()).or_insert_with(|| title.to_owned());
        labels
    }

    /// A mapping for a delivery that nobody described, from the names of its fields.
    pub fn proposed(body: &Value) -> Self {
        let at_top = |names: &[&str]| {
            let found = names.iter().find(|name| body.get(**name).and_then(text).is_some());
            found.map_or_else(String::new, |name| format!("/{name}"))
        };
        let lists = ["alerts", "events", "incidents", "items", "data"];
        let list = lists.iter().find(|name| body.get(**name).is_some_and(Value::is_array));
        Self {
            alerts: list.map_or_else(String::new, |name| format!("/{name}")),
            title: at_top(&["title", "name", "alertname", "rule", "subject", "message", "event"]),
            description: at_top(&["description", "message", "text", "body", "details"]),
            severity: at_top(&["severity", "level", "priority", "urgency"]),
            status: at_top(&["status", "state", "event_type", "action"]),
            fingerprint: at_top(&["fingerprint", "dedup_key", "incident_key", "alert_id", "id"]),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mapping_reads_a_foreign_form() {
        let mapping: Mapping = serde_json::from_value(json!({
            "alerts": "/batch", "title": "/check/name", "severity": "/prio", "status": "/now",
            "resolved": ["green"], "labels": { "host": "/where/0" }
        }))
        .unwrap();
        let body = json!({ "batch": [
            { "check": { "name": "disk" }, "prio": "P1", "now": "red", "where": ["db-1"] },
            { "check": { "name": "disk" }, "prio": "P1", "now": "Green", "where": ["db-1"] }
        ] });
        let alerts = mapping.alerts(&body).unwrap();
        assert_eq!((alerts[0].firing, alerts[1].firing), (true, false));
        assert_eq!(alerts[0].fingerprint, alerts[1].fingerprint);
        assert_eq!((alerts[0].severity, alerts[0].labels["host"].as_str()), (Severity::Critical, "db-1"));
        assert!(mapping.alerts(&json!({})).unwrap_err().message.contains("/batch"));
    }

    #[test]
    fn without_a_mapping_usual_names_are_understood_and_else_the_error_says_what_to_map() {
        let alerts = Mapping::default()
            .alerts(&json!({ "title": "x", "state": "OK", "level": "info", "host": "a", "n": 7 }));
        let alert = &alerts.unwrap()[0];
        assert_eq!((alert.firing, alert.severity), (false, Severity::Info));
        assert_eq!(alert.labels.keys().collect::<Vec<_>>(), ["alertname", "host"]);
        assert!(Mapping::default().alerts(&json!({ "n": 1 })).unwrap_err().message.contains("`title`"));
    }

    #[test]
    fn a_proposal_points_at_what_is_there() {
        let proposed =
            Mapping::proposed(&json!({ "rule": "cpu", "urgency": 2, "events": [], "dedup_key": "k" }));
        assert_eq!((proposed.title.as_str(), proposed.severity.as_str()), ("/rule", "/urgency"));
        assert_eq!((proposed.alerts.as_str(), proposed.fingerprint.as_str()), ("/events", "/dedup_key"));
    }
}
