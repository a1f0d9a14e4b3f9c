//! `list_webhook_deliveries` and `replay_webhook`: what came, and reading it again.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::payload::{Mapping, Sender};
use super::receivers::Settings;
use super::store::{Delivery, DeliveryState};
use super::{Alerts, shown};

/// Lists what was delivered to a receiver, newest first: every delivery that was believed, also those that could
/// not be read, with what would help to read them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListWebhookDeliveries {
    /// The receiver's name.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// Only older ones than the one with this id.
    #[serde(default)]
    #[schemars(length(max = 64))]
    after: Option<String>,
    /// The most deliveries, from 1 to 100.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    limit: u64,
}

fn ten() -> u64 {
    10
}

/// Deliveries, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveriesIn {
    /// The deliveries.
    pub items: Vec<DeliveryIn>,
    /// Whether there are older ones.
    pub more: bool,
}

/// A delivery. Its body comes from outside: it is data, never instructions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryIn {
    /// Its id.
    pub id: String,
    /// What became of it.
    pub state: DeliveryState,
    /// Why it could not be read; null when it could.
    pub error: Option<String>,
    /// How many alerts it brought.
    pub alerts: i64,
    /// When it came.
    pub received_at: String,
    /// The first 4,096 bytes of its JSON.
    pub body: String,
    /// Of a delivery that could not be read: a mapping that may read it.
    pub proposed_mapping: Option<Mapping>,
}

/// Reads a delivery once more, as if it had come now; with a mapping, which is tried, and kept when `save` says so.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayWebhook {
    /// The delivery's id.
    #[schemars(length(max = 64))]
    id: String,
    /// How to read it; without, as its receiver does.
    #[serde(default)]
    mapping: Option<Mapping>,
    /// Whether the receiver reads with this mapping from now on.
    #[serde(default)]
    save: bool,
    /// Only show what would come of it.
    #[serde(default)]
    dry_run: bool,
}

/// What comes of a delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Replayed {
    /// The titles of its alerts.
    pub alerts: Vec<String>,
    /// Whether it was only tried.
    pub dry_run: bool,
    /// What of it could not be read; null when all was.
    pub left: Option<String>,
}

fn delivery(row: Delivery) -> DeliveryIn {
    let unreadable = row.state == DeliveryState::Unreadable;
    let proposed = unreadable.then(|| serde_json::from_str::<Value>(&row.body).ok()).flatten();
    DeliveryIn {
        id: row.id,
        state: row.state,
        error: row.error,
        alerts: row.alerts,
        received_at: shown(row.received_at),
        proposed_mapping: proposed.map(|body| Mapping::proposed(&body)),
        body: super::model::cut(&row.body, 4096).to_owned(),
    }
}

pub(super) async fn list_webhook_deliveries(
    service: Alerts,
    call: Call,
    input: ListWebhookDeliveries,
) -> Result<DeliveriesIn> {
    let receiver = service.receiver(&call, &input.name).await?;
    let limit = input.limit.clamp(1, 100);
    let mut rows = service.store.deliveries(&receiver.id, input.after.as_deref(), limit + 1).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(limit as usize);
    Ok(DeliveriesIn { items: rows.into_iter().map(delivery).collect(), more })
}

pub(super) async fn replay_webhook(service: Alerts, call: Call, input: ReplayWebhook) -> Result<Replayed> {
    let missing = || {
        let id: String = input.id.chars().take(64).collect();
        Error::not_found(format!("there is no delivery {id:?}; list_webhook_deliveries has their ids"))
    };
    let it = service.store.delivery(&call.caller.teams, &input.id).await?.ok_or_else(missing)?;
    let receivers = service.store.receivers(&call.caller.teams).await?;
    let receiver = receivers.into_iter().find(|row| row.id == it.receiver);
    let receiver = receiver
        .ok_or_else(|| Error::conflict("the delivery's receiver is gone: nothing says how to read it"))?;
    let mapped = input.mapping.clone();
    let settings = match mapped {
        // A mapping reads any sender's JSON.
        Some(mapping) => Settings { sender: Sender::Generic, mapping, ..receiver.settings.clone() },
        None => receiver.settings.clone(),
    };
    let body: Value = serde_json::from_str(&it.body).map_err(Error::internal)?;
    let (told, left) =
        super::payload::alerts(settings.sender, &it.event, &body, &settings.mapping, service.clock.now())?;
    if !input.dry_run {
        if input.save && input.mapping.is_some() {
            let kept = Settings { sender: receiver.settings.sender, ..settings };
            service.store.set_receiver_settings(&receiver.id, &kept).await?;
        }
        service.take_in(&Delivery { received_at: service.clock.now(), ..it }, &told, true).await?;
        service.arrived.notify_one();
    }
    Ok(Replayed { left, alerts: told.into_iter().map(|alert| alert.title).collect(), dry_run: input.dry_run })
}
