//! Alertmanager's webhook, version 4, and Grafana's, which is the same with more in it.

use std::collections::BTreeMap;

use opsroom_core::{Error, Result};
use serde_json::Value;

use super::super::model::{Incoming, LONGEST_LABEL, LONGEST_TEXT, Severity, bounded, cut};
use super::{text, texts, time};

/// Each alert by itself: one that cannot be read takes no other with it.
pub fn alerts(body: &Value) -> Result<Vec<Result<Incoming>>> {
    let wrong = || Error::invalid("alerts: a delivery of Alertmanager or Grafana has a list of alerts");
    if body.get("alerts").is_none() && body.get("ruleName").is_some() {
        return Ok(vec![legacy(body)]);
    }
    let list = body.get("alerts").and_then(Value::as_array).ok_or_else(wrong)?;
    Ok(list.iter().enumerate().map(|(at, one)| alert(at, one, body)).collect())
}

fn alert(at: usize, it: &Value, body: &Value) -> Result<Incoming> {
    let labels = texts(it.get("labels"));
    if labels.is_empty() {
        return Err(Error::invalid(format!("alerts.{at}.labels: an alert has labels")));
    }
    let firing = match it.get("status").and_then(Value::as_str) {
        Some("firing") => true,
        Some("resolved") => false,
        _ => return Err(Error::invalid(format!("alerts.{at}.status: it is `firing` or `resolved`"))),
    };
    let mut alert = Incoming::of_labels(labels, firing);
    let annotations = bounded(texts(it.get("annotations")), LONGEST_TEXT);
    let first = |names: &[&str]| names.iter().find_map(|name| annotations.get(*name)).cloned();
    if let Some(summary) = first(&["summary", "title"]) {
        alert.title = cut(&summary, LONGEST_LABEL).to_owned();
    }
    alert.description = first(&["description", "message", "text"]).unwrap_or_default();
    if let Some(level) = alert.labels.get("level").or_else(|| alert.labels.get("priority"))
        && !alert.labels.contains_key("severity")
    {
        alert.severity = Severity::of(level);
    }
    alert.value = value(it);
    alert.starts_at = time(it.get("startsAt"));
    alert.ends_at = time(it.get("endsAt")).filter(|_| !firing);
    alert.links = links(it, body);
    alert.annotations = annotations;
    Ok(alert)
}

/// What Grafana posted before its version 9: one rule and its state.
fn legacy(body: &Value) -> Result<Incoming> {
    let field = |name: &str| body.get(name).and_then(text).filter(|text| !text.is_empty());
    let firing = match field("state").as_deref() {
        Some("alerting" | "no_data") => true,
        Some("ok" | "paused" | "pending") => false,
        _ => return Err(Error::invalid("state: it is `alerting`, `no_data`, `ok`, `paused` or `pending`")),
    };
    let name = field("ruleName").ok_or_else(|| Error::invalid("ruleName: an alert has a name"))?;
    let mut labels = texts(body.get("tags"));
    labels.insert("alertname".to_owned(), name);
    if let Some(id) = field("ruleId") {
        labels.insert("rule_id".to_owned(), id);
    }
    let mut alert = Incoming::of_labels(labels, firing);
    alert.title = cut(&field("title").unwrap_or_else(|| alert.title.clone()), LONGEST_LABEL).to_owned();
    alert.description = cut(&field("message").unwrap_or_default(), LONGEST_TEXT).to_owned();
    let values = body.get("evalMatches").and_then(Value::as_array).into_iter().flatten();
    let words: Vec<String> = values
        .filter_map(|it| {
            Some(format!("{}={}", it.get("metric").and_then(text)?, it.get("value").and_then(text)?))
        })
        .collect();
    alert.value = (!words.is_empty()).then(|| cut(&words.join(", "), LONGEST_LABEL).to_owned());
    if let Some(url) =
        field("ruleUrl").filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    {
        alert.links.insert("panel".to_owned(), cut(&url, LONGEST_TEXT).to_owned());
    }
    Ok(alert)
}

/// Grafana's values by the letters of its queries, or its older text.
fn value(it: &Value) -> Option<String> {
    let values = it.get("values").and_then(Value::as_object).into_iter().flatten();
    let words: Vec<String> =
        values.filter_map(|(name, value)| Some(format!("{name}={}", text(value)?))).collect();
    let joined = (!words.is_empty()).then(|| words.join(", "));
    joined
        .or_else(|| it.get("valueString").and_then(Value::as_str).map(str::to_owned))
        .map(|text| cut(&text, LONGEST_LABEL).to_owned())
}

fn links(it: &Value, body: &Value) -> BTreeMap<String, String> {
    let named = [
        ("source", it.get("generatorURL")),
        ("dashboard", it.get("dashboardURL")),
        ("panel", it.get("panelURL")),
        ("silence", it.get("silenceURL")),
        ("image", it.get("imageURL")),
        ("alertmanager", body.get("externalURL")),
        ("runbook", it.get("annotations").and_then(|all| all.get("runbook_url"))),
    ];
    let named = named.into_iter().filter_map(|(name, url)| Some((name, url?.as_str()?)));
    // Other schemes than these would run or open something where a person clicks.
    named
        .filter(|(_, url)| url.starts_with("https://") || url.starts_with("http://"))
        .map(|(name, url)| (name.to_owned(), cut(url, LONGEST_TEXT).to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All of them, or the first error.
    fn alerts(body: &Value) -> Result<Vec<Incoming>> {
        super::alerts(body)?.into_iter().collect()
    }

    fn delivery() -> Value {
        json!({
            "version": "4", "groupKey": "{}:{alertname=\"Down\"}", "status": "firing", "receiver": "opsroom",
            "externalURL": "http://am.example", "truncatedAlerts": 0,
            "alerts": [{
                "status": "firing",
                "labels": { "alertname": "Down", "severity": "critical", "instance": "a:9100" },
                "annotations": { "summary": "a is down", "description": "no answer", "runbook_url": "javascript:alert(1)" },
                "startsAt": "2026-01-05T10:00:00.5Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prom.example/graph", "fingerprint": "abc",
                "values": { "A": 3.5, "B": 0 }
            }]
        })
    }

    #[test]
    fn every_field_finds_its_place() {
        let alert = &alerts(&delivery()).unwrap()[0];
        assert!(alert.firing);
        assert_eq!(alert.severity, Severity::Critical);
        assert_eq!((alert.title.as_str(), alert.description.as_str()), ("a is down", "no answer"));
        assert_eq!(alert.starts_at.map(|at| at.0), Some(1_767_607_200_500_000));
        assert_eq!(alert.ends_at, None);
        assert_eq!(alert.value.as_deref(), Some("A=3.5, B=0"));
        assert_eq!(alert.links.keys().collect::<Vec<_>>(), ["alertmanager", "source"]);
    }

    #[test]
    fn what_grafana_posted_before_its_version_9_is_read() {
        let body = |state: &str| {
            json!({
                "ruleId": 1, "ruleName": "cpu", "state": state, "title": "[Alerting] cpu", "message": "high",
                "evalMatches": [{ "metric": "a", "value": 97.5, "tags": {} }], "ruleUrl": "https://g.example/d/1"
            })
        };
        let (begun, ended) =
            (alerts(&body("alerting")).unwrap().remove(0), alerts(&body("ok")).unwrap().remove(0));
        assert_eq!((begun.firing, ended.firing, begun.value.as_deref()), (true, false, Some("a=97.5")));
        assert_eq!(begun.fingerprint, ended.fingerprint);
        assert!(alerts(&body("burning")).unwrap_err().message.starts_with("state: "));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (pointer, value, words) in [
            ("/alerts", json!(null), "alerts: "),
            ("/alerts/0/labels", json!({}), "alerts.0.labels"),
            ("/alerts/0/status", json!("burning"), "`firing` or `resolved`"),
        ] {
            let mut body = delivery();
            *body.pointer_mut(pointer).unwrap() = value;
            assert!(alerts(&body).unwrap_err().message.contains(words), "{pointer}");
        }
    }
}
