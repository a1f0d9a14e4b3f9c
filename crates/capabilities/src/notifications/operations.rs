//! `list_notifications`.

use opsroom_core::{Call, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Notifications;
use super::deliver::shown;
use super::store::Queued;

/// Lists the messages that were sent to people or wait to be sent, newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListNotifications {
    /// Only older ones than the one with this id.
    #[serde(default)]
    #[schemars(length(max = 64))]
    after: Option<String>,
    /// The most entries, from 1 to 200.
    #[serde(default = "fifty")]
    #[schemars(range(min = 1, max = 200))]
    limit: u64,
}

fn fifty() -> u64 {
    50
}

/// Messages, newest first.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct NotificationPage {
    /// The messages.
    pub items: Vec<Notification>,
    /// Whether there are older ones.
    pub more: bool,
}

/// A message to people.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Notification {
    /// Its id.
    pub id: String,
    /// One line.
    pub title: String,
    /// `waiting`, `sent` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Why the last attempt failed; null when none did.
    pub reason: Option<String>,
    /// When it was raised.
    pub created_at: String,
    /// When it is tried next; null when it is not.
    pub due_at: Option<String>,
    /// When it was sent or given up; null before.
    pub ended_at: Option<String>,
}

pub(super) async fn list_notifications(
    service: Notifications,
    call: Call,
    input: ListNotifications,
) -> Result<NotificationPage> {
    let limit = input.limit.clamp(1, 200);
    let mut rows = service.inner.store.list(&call.caller.teams, input.after.as_deref(), limit + 1).await?;
    let more = rows.len() as u64 > limit;
    rows.truncate(limit as usize);
    Ok(NotificationPage { items: rows.into_iter().map(notification).collect(), more })
}

fn notification(it: Queued) -> Notification {
    Notification {
        due_at: (it.state == "waiting").then(|| shown(it.due_at)),
        id: it.id,
        title: it.title,
        state: it.state,
        attempts: it.attempts,
        reason: it.reason,
        created_at: shown(it.created_at),
        ended_at: it.ended_at.map(shown),
    }
}
