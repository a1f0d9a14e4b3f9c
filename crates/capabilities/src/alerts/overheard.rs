//! What happens in the room and somebody should see, as alerts: findings in logs, a bait that was used, a rotation
//! that failed, a tool that changed behind our back, a service that ended with an error.

use std::sync::Arc;

use opsroom_core::Result;
use opsroom_core::events::Event;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::Alerts;
use crate::notifications::Message;

/// The longest value of a field.
const LONGEST_FIELD: usize = 1_000;

impl Alerts {
    /// Listens until the server stops. An event is told once at a time, as anything that is raised.
    pub(super) fn start_listening(&self) {
        let alerts = self.clone();
        let stopping = self.lifecycle.stopping();
        let (_, mut events) = self.events.listen(None);
        self.lifecycle.spawn("alerts of events", async move {
            loop {
                let event = tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    event = events.recv() => event,
                };
                match event {
                    Ok(event) => {
                        if let Err(error) = alerts.overhear(&event).await {
                            tracing::warn!(topic = event.topic, error = %error, "an event could not be made an alert");
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "events came faster than they could be made alerts");
                    }
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        });
    }

    /// Makes an alert of an event that people should see.
    pub(super) async fn overhear(&self, event: &Arc<Event>) -> Result<()> {
        if event.topic == "service.status" {
            return self.overhear_status(event).await;
        }
        match message(event) {
            Some(message) => self.notifications.raise(&message).await.map(drop),
            None => Ok(()),
        }
    }

    /// A service's error is an alert for as long as it has it, however long that is.
    async fn overhear_status(&self, event: &Event) -> Result<()> {
        let is_error = |name: &str| event.data[name] == "error";
        if is_error("status") || is_error("was") {
            let delivery = self.delivery_of_status(&of_status(event), is_error("status"))?;
            if self.store.keep(&delivery).await? {
                self.arrived.notify_one();
            }
        }
        Ok(())
    }
}

/// The message of a service's status.
fn of_status(event: &Event) -> Message {
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    Message {
        team: event.team.clone(),
        key: format!("service.status|{}", event.subject),
        title: format!("The service {} has an error", text("name")),
        text: text("reason").to_owned(),
        url: String::new(),
        fields: vec![("service".to_owned(), text("name").to_owned())],
    }
}

/// The message of an event that people should see.
fn message(event: &Event) -> Option<Message> {
    let text = |name: &str| event.data.get(name).and_then(Value::as_str).unwrap_or_default();
    let (severity, title, words) = match event.topic.as_str() {
        "logs.finding" => {
            let place = &event.data["place"];
            let named = ["source", "query", "path"].into_iter().filter_map(|name| place[name].as_str());
            let place = named.filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", ");
            let place = if place.is_empty() { "kept lines".to_owned() } else { place };
            let why = event.data["why"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let why = why.collect::<Vec<_>>().join(", ");
            let words = format!("{why}: {} ({} lines)", text("template"), event.data["count"]);
            ("warning", format!("Finding in logs: {place}"), words)
        }
        "secret.canary" => (
            "critical",
            "A canary secret was used".to_owned(),
            format!("{} was read, which nobody has a reason to do.", event.subject),
        ),
        "secret.rotation_failed" => (
            "warning",
            "A secret could not be rotated".to_owned(),
            format!("{}: {}", event.subject, text("error")),
        ),
        "tool.quarantined" => (
            "warning",
            "A tool changed and is withheld".to_owned(),
            format!(
                "{}: `get_tool` shows the difference, `approve_tool` lets it be called again.",
                event.subject
            ),
        ),
        _ => return None,
    };
    let fields = event.data.as_object().into_iter().flatten();
    let field = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), value.chars().take(LONGEST_FIELD).collect())
    };
    let mut fields: Vec<(String, String)> = fields.take(20).map(field).collect();
    fields.push((super::raised::SEVERITY.to_owned(), severity.to_owned()));
    Some(Message {
        team: event.team.clone(),
        key: format!("{}|{title}|{}", event.topic, event.subject),
        title,
        text: words,
        url: String::new(),
        fields,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(topic: &str, subject: &str, data: Value) -> Event {
        let (team, time) = ("default".to_owned(), "2026-01-05T10:00:00Z".to_owned());
        Event { id: 1, topic: topic.to_owned(), team, subject: subject.to_owned(), time, data }
    }

    #[test]
    fn findings_of_one_place_have_one_title_and_their_own_keys() {
        let place = json!({ "source": "bucket", "query": null, "path": null });
        let finding = |template: &str| {
            let data = json!({ "why": ["new", "errors"], "template": template, "count": 3, "place": place });
            message(&event("logs.finding", template, data)).unwrap()
        };
        let (one, other) = (finding("disk <*> full"), finding("no route to <*>"));
        assert_eq!((one.title.as_str(), &one.title), ("Finding in logs: bucket", &other.title));
        assert_ne!(one.key, other.key);
        assert_eq!(one.text, "new, errors: disk <*> full (3 lines)");
    }

    #[test]
    fn what_nobody_needs_to_see_is_no_alert() {
        assert!(message(&event("job.ended", "1", json!({ "status": "failed" }))).is_none());
        assert!(message(&event("service.status", "1", json!({ "status": "running" }))).is_none());
        let ended = json!({ "status": "error", "name": "db", "reason": "it ended with code 1" });
        assert_eq!(of_status(&event("service.status", "1", ended)).title, "The service db has an error");
    }
}
