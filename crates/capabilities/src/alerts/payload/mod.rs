//! What senders post, each in its own form, as alerts.

mod alertmanager;
mod generic;
mod github;
mod tencent;

use opsroom_core::{Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::Incoming;

pub use generic::Mapping;

/// The most alerts that one delivery may bring.
pub const MOST_ALERTS: usize = 1000;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// Prometheus Alertmanager, webhook version 4.
    Alertmanager,
    /// Grafana's alerting.
    Grafana,
    /// Tencent Cloud Monitor (TCOP).
    TencentMonitor,
    /// Tencent Cloud Log Service alarms.
    TencentCls,
    /// GitHub.
    Github,
    /// Anything that posts JSON, read by a mapping.
    Generic,
}

impl Sender {
    /// The word of the answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alertmanager => "alertmanager",
            Self::Grafana => "grafana",
            Self::TencentMonitor => "tencent_monitor",
            Self::TencentCls => "tencent_cls",
            Self::Github => "github",
            Self::Generic => "generic",
        }
    }

    /// What this sender wants to read back.
    pub fn reply(self, body: &Value) -> Value {
        match self {
            // Its older form wants its session's id back.
            Self::TencentMonitor => json!({ "sessionId": body.get("sessionId"), "retCode": 0 }),
            _ => json!({ "status": "accepted" }),
        }
    }
}

/// The alerts of a delivery, and what of it was left: the alerts after the first [`MOST_ALERTS`], and those that
/// cannot be read, in words.
///
/// # Errors
/// `Invalid`, naming the field, when nothing can be read: what it held and what would be right. The delivery stays
/// in the inbox.
pub fn alerts(
    sender: Sender,
    event: &str,
    body: &Value,
    mapping: &Mapping,
    now: Time,
) -> Result<(Vec<Incoming>, Option<String>)> {
    let mut left: Vec<String> = Vec::new();
    let mut alerts = match sender {
        Sender::Alertmanager | Sender::Grafana => {
            let read: Vec<Result<Incoming>> = alertmanager::alerts(body)?;
            let count = read.len();
            let mut good = Vec::with_capacity(count);
            for alert in read {
                match alert {
                    Ok(alert) => good.push(alert),
                    Err(error) => left.push(error.message),
                }
            }
            if good.is_empty() && count > 0 {
                return Err(Error::invalid(left.swap_remove(0)));
            }
            Ok(good)
        }
        Sender::TencentMonitor => tencent::monitor(body).map(|alert| vec![alert]),
        Sender::TencentCls => tencent::log_service(body, now).map(|alert| vec![alert]),
        Sender::Github => Ok(github::alert(event, body).into_iter().collect()),
        Sender::Generic => mapping.alerts(body),
    }?;
    if alerts.len() > MOST_ALERTS {
        left.push(format!("the delivery holds {} alerts; the first {MOST_ALERTS} were taken", alerts.len()));
        alerts.truncate(MOST_ALERTS);
    }
    let more = left.len().saturating_sub(3);
    left.truncate(3);
    let words = left.join("; ");
    let words = if more > 0 { format!("{words}; and {more} more") } else { words };
    Ok((alerts, (!words.is_empty()).then_some(words)))
}

/// A time as RFC 3339; `None` for what is not one, and for the year 1, which means «not yet».
fn time(value: Option<&Value>) -> Option<Time> {
    let text = value?.as_str()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    (at.as_second() > 0).then(|| Time(at.as_microsecond()))
}

/// A value as text: strings as they are, numbers and truth values as JSON writes them.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The texts of an object's fields; what is not text is left out.
fn texts(value: Option<&Value>) -> std::collections::BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}
