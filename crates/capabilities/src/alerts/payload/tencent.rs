//! Tencent Cloud Monitor's callback and Cloud Log Service's alarms. Their times have no zone and are those of
//! China.

use opsroom_core::{Error, Result, Time};
use serde_json::Value;

use super::super::matchers::Labels;
use super::super::model::{Incoming, LONGEST_TEXT, Severity, cut, fingerprint};
use super::{text, texts};

/// China has had one zone and no summer time since 1991.
const ZONE_SECONDS: i64 = 8 * 3600;

/// One callback of Tencent Cloud Monitor: a metric's alarm or an event.
pub fn monitor(body: &Value) -> Result<Incoming> {
    let field = |pointer: &str| body.pointer(pointer).and_then(text).filter(|text| !text.is_empty());
    let firing = match field("/alarmStatus").as_deref() {
        Some("1") => true,
        Some("0") => false,
        _ => {
            return Err(Error::invalid(
                "alarmStatus: it is \"1\" for an alarm that fires or \"0\" for one that is over",
            ));
        }
    };
    let policy = field("/alarmPolicyInfo/policyId")
        .ok_or_else(|| Error::invalid("alarmPolicyInfo.policyId: an alarm has a policy"))?;
    let mut labels = texts(body.pointer("/alarmObjInfo/dimensions"));
    let mut add =
        |name: &str, value: Option<String>| value.map(|value| labels.insert(name.to_owned(), value));
    let conditions = "/alarmPolicyInfo/conditions";
    let what = ["metricShowName", "metricName", "eventShowName", "eventName"]
        .iter()
        .find_map(|name| field(&format!("{conditions}/{name}")));
    let name = field("/alarmPolicyInfo/policyName").unwrap_or_else(|| policy.clone());
    add("alertname", Some(name.clone()));
    add("policy_id", Some(policy.clone()));
    for (label, pointer) in [
        ("region", "/alarmObjInfo/region"),
        ("namespace", "/alarmObjInfo/namespace"),
        ("alarm_type", "/alarmType"),
    ] {
        add(label, field(pointer));
    }
    add("metric", what.clone());
    let value = field(&format!("{conditions}/currentValue"))
        .map(|value| format!("{value}{}", field(&format!("{conditions}/unit")).unwrap_or_default()));
    let object =
        field("/alarmObjInfo/dimensions/objName").or_else(|| field("/alarmObjInfo/dimensions/objId"));
    let limit = ["calcType", "calcValue", "calcUnit"].map(|part| field(&format!("{conditions}/{part}")));
    let mut alert = Incoming::of_labels(labels, firing);
    alert.severity = Severity::Warning;
    alert.title = [Some(name), object].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let words = [what, value.clone()].into_iter().chain(limit).flatten();
    alert.description = cut(&words.collect::<Vec<_>>().join(" "), LONGEST_TEXT).to_owned();
    alert.value = value;
    alert.starts_at = field("/firstOccurTime").and_then(|text| local(&text));
    alert.ends_at = field("/recoverTime").filter(|_| !firing).and_then(|text| local(&text));
    // An alarm that fires again later is another one: what tells them apart is when it began.
    let object = field("/alarmObjInfo/dimensions/objId").unwrap_or_default();
    let began = field("/firstOccurTime").unwrap_or_default();
    let parts = [("policy", policy), ("object", object), ("began", began)];
    alert.fingerprint = fingerprint(&parts.map(|(name, value)| (name.to_owned(), value)).into());
    Ok(alert)
}

/// One alarm of the log service. Its body is the user's template: names in any case, any of them missing.
pub fn log_service(body: &Value, now: Time) -> Result<Incoming> {
    let object =
        body.as_object().ok_or_else(|| Error::invalid("the alarm's template makes a JSON object"))?;
    let field = |names: &[&str]| {
        let has_name = |name: &str| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let found =
            object.iter().find(|(name, value)| has_name(name) && text(value).is_some_and(|t| !t.is_empty()));
        found.and_then(|(_, value)| text(value))
    };
    let name = field(&["Alarm", "AlarmName"]).ok_or_else(|| {
        Error::invalid(
            "AlarmName: the alarm's template has it, or `Alarm`; {{.Alarm}} in the template is enough",
        )
    })?;
    let mut labels = Labels::from([("alertname".to_owned(), name.clone())]);
    for (label, names) in [
        ("alarm_id", ["AlarmID", "AlarmId"]),
        ("region", ["Region", "Region"]),
        ("logset", ["LogsetName", "LogsetID"]),
        ("topic", ["Topic", "TopicID"]),
        ("condition", ["Condition", "Trigger"]),
    ] {
        if let Some(value) = field(&names) {
            labels.insert(label.to_owned(), value);
        }
    }
    let firing = !matches!(field(&["NotifyType"]).as_deref(), Some("2"));
    let mut alert = Incoming::of_labels(labels, firing);
    if let Some(level) = field(&["Level"]) {
        alert.severity = Severity::of(&level);
    }
    alert.title = name;
    let description = field(&["Message", "CustomizeMessage", "TriggerParams"]).unwrap_or_default();
    alert.description = cut(&description, LONGEST_TEXT).to_owned();
    alert.starts_at = field(&["StartTime", "TriggerTime"]).and_then(|text| local(&text)).or(Some(now));
    for (name, known) in [("query", "QueryUrl"), ("details", "DetailUrl")] {
        if let Some(url) = field(&[known]).filter(|url| url.starts_with("https://")) {
            alert.links.insert(name.to_owned(), url);
        }
    }
    if let Some(record) = field(&["RecordGroupId"]) {
        alert.fingerprint = fingerprint(&Labels::from([("record".to_owned(), record)]));
    }
    Ok(alert)
}

/// A time of China such as `2026-01-05 10:00:00`; `0` and what is none are no time.
fn local(text: &str) -> Option<Time> {
    let at: jiff::civil::DateTime = text.trim().replacen(' ', "T", 1).parse().ok()?;
    let offset = jiff::tz::Offset::from_seconds(ZONE_SECONDS as i32).ok()?;
    Some(Time(offset.to_timestamp(at).ok()?.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn callback(status: Value, recovered: &str) -> Value {
        json!({
            "sessionId": "s-1", "alarmStatus": status, "alarmType": "metric",
            "alarmObjInfo": { "region": "gz", "namespace": "qce/cvm", "dimensions": { "objId": "ins-1", "objName": "web-1" } },
            "alarmPolicyInfo": {
                "policyId": "policy-7", "policyName": "cpu", "conditions": {
                    "metricName": "cpu_usage", "metricShowName": "CPU", "calcType": ">", "calcValue": "90",
                    "calcUnit": "%", "currentValue": "97", "unit": "%"
                }
            },
            "firstOccurTime": "2026-01-05 18:00:00", "durationTime": 60, "recoverTime": recovered
        })
    }

    #[test]
    fn an_alarm_and_its_end_are_the_same_alert() {
        let begun = monitor(&callback(json!("1"), "0")).unwrap();
        let ended = monitor(&callback(json!(0), "2026-01-05 18:05:00")).unwrap();
        assert!(begun.firing && !ended.firing);
        assert_eq!(begun.fingerprint, ended.fingerprint);
        assert_eq!(begun.title, "cpu: web-1");
        assert_eq!(begun.description, "CPU 97% > 90 %");
        assert_eq!(begun.starts_at.map(|at| at.to_rfc3339()), Some("2026-01-05T10:00:00Z".to_owned()));
        assert_eq!((begun.ends_at, ended.ends_at.is_some()), (None, true));
        assert!(monitor(&json!({ "alarmStatus": 7 })).unwrap_err().message.contains("alarmStatus"));
    }

    #[test]
    fn the_log_services_template_may_have_any_case_and_miss_most() {
        let now = Time(1_767_607_200_000_000);
        let alarm = json!({ "alarmname": "errors", "LEVEL": "Critical", "Topic": "web", "RecordGroupId": "r-1", "NotifyType": 1 });
        let alert = log_service(&alarm, now).unwrap();
        assert_eq!((alert.severity, alert.firing, alert.starts_at), (Severity::Critical, true, Some(now)));
        let over = json!({ "Alarm": "errors", "NotifyType": "2", "RecordGroupId": "r-1" });
        let over = log_service(&over, now).unwrap();
        assert_eq!((over.firing, over.fingerprint), (false, alert.fingerprint));
        assert!(log_service(&json!({ "x": 1 }), now).unwrap_err().message.contains("AlarmName"));
    }
}
