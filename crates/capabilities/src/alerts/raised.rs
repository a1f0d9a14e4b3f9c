//! What the house itself finds, such as abnormal metrics of plans, as alerts: they come into the inbox within the
//! transaction that found them, and are over when nothing is found again.

use opsroom_core::id::new_id;
use opsroom_core::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::Alerts;
use super::matchers::Labels;
use super::model::{Incoming, LONGEST_TEXT, Severity, Status, bounded, cut, fingerprint};
use super::store::{AlertRow, Delivery, DeliveryState, Entry, Store};
use crate::notifications::Message;

/// Stands for the receiver of what the house finds.
pub const RECEIVER: &str = "opsroom";

/// The field that says how bad it is.
pub const SEVERITY: &str = "severity";

/// Alerts that one round ends.
const ROUND: u64 = 200;

/// A finding, as the inbox keeps it.
#[derive(Serialize, Deserialize)]
struct Finding {
    /// `None` for what is over when nothing is found again; else whether it goes on.
    #[serde(default)]
    goes_on: Option<bool>,
    key: String,
    title: String,
    text: String,
    url: String,
    fields: Vec<(String, String)>,
}

impl Alerts {
    /// Takes in what is raised, within the transaction that raises it.
    pub fn take_in_what_is_raised(&self) {
        let alerts = self.clone();
        self.notifications.set_intake(move |on, message| {
            let alerts = alerts.clone();
            Box::pin(async move {
                let delivery = alerts.delivery(message)?;
                Store::keep_in(on, &delivery).await?;
                // It is read after the commit, at the latest by the next round.
                alerts.arrived.notify_one();
                Ok(())
            })
        });
    }

    /// The delivery of a service's status.
    pub(super) fn delivery_of_status(&self, message: &Message, goes_on: bool) -> Result<Delivery> {
        self.finding(message, Some(goes_on))
    }

    fn delivery(&self, message: &Message) -> Result<Delivery> {
        self.finding(message, None)
    }

    fn finding(&self, message: &Message, goes_on: Option<bool>) -> Result<Delivery> {
        let finding = Finding {
            goes_on,
            key: message.key.clone(),
            title: message.title.clone(),
            text: message.text.clone(),
            url: message.url.clone(),
            fields: message.fields.clone(),
        };
        let id = new_id();
        Ok(Delivery {
            team: message.team.clone(),
            receiver: RECEIVER.to_owned(),
            key: id.clone(),
            id,
            event: "finding".to_owned(),
            body: serde_json::to_string(&finding).map_err(Error::internal)?,
            state: DeliveryState::Waiting,
            error: None,
            alerts: 0,
            received_at: self.clock.now(),
        })
    }

    /// The alert of a finding. It is over before the same may be raised again, so that people are told again then.
    pub(super) fn raised(&self, delivery: &Delivery) -> Result<Vec<Incoming>> {
        let it: Finding = serde_json::from_str(&delivery.body).map_err(Error::internal)?;
        let pairs = [("alertname", it.title.as_str()), ("source", RECEIVER), ("key", it.key.as_str())];
        let labels: Labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut alert = Incoming::of_labels(labels, it.goes_on.unwrap_or(true));
        alert.fingerprint = fingerprint(&Labels::from([("finding".to_owned(), it.key)]));
        let severity = it.fields.iter().find(|(name, _)| name == SEVERITY);
        alert.severity = severity.map_or(Severity::Warning, |(_, word)| Severity::of(word));
        alert.description = cut(&it.text, LONGEST_TEXT).to_owned();
        alert.annotations = bounded(it.fields.into_iter().collect(), LONGEST_TEXT);
        if it.url.starts_with("https://") || it.url.starts_with("http://") {
            alert.links.insert("source".to_owned(), it.url);
        }
        let lives = (self.notifications.deduplicate_seconds() / 2).max(1);
        if it.goes_on.is_none() {
            alert.ends_at = Some(delivery.received_at.plus_seconds(lives));
        }
        Ok(vec![alert])
    }

    /// Ends the alerts that nobody told of again in time.
    pub(super) async fn end_expired(&self) -> Result<()> {
        let now = self.clock.now();
        for row in self.store.expired(now, ROUND).await? {
            let row = AlertRow { status: Status::Resolved, ends_at: row.expires_at, ..row };
            let entry = Entry {
                at: now,
                what: "resolved",
                by: "routing".to_owned(),
                words: "it is over: nothing was told of it again".to_owned(),
                notification: None,
            };
            match self.store.change(&row, entry).await {
                // Somebody changed it meanwhile: the next round looks again.
                Err(error) if error.kind == Kind::Conflict => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl AlertRow {
    /// Whether it ended because nothing was told of it again: people need not hear that.
    pub(super) fn expired(&self) -> bool {
        self.status == Status::Resolved && self.expires_at.is_some() && self.ends_at == self.expires_at
    }
}
