//! `list_notifications` and `get_notification`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Notifications;
use super::deliver::shown;
use super::store::Queued;
use super::store::attempts::Attempt;

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
    /// The channel that it goes to.
    pub channel: String,
    /// One line.
    pub title: String,
    /// `waiting`, `sent`, `failed`, `held` (nobody knows whether it arrived) or `merged` (told with others).
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
    /// The message that it was told with; null when it was told by itself.
    pub merged_into: Option<String>,
}

/// Gets one message to people with every attempt to deliver it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetNotification {
    /// Its id.
    #[schemars(length(max = 64))]
    id: String,
}

/// A message and what became of it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct NotificationWithAttempts {
    /// The message.
    pub notification: Notification,
    /// Every attempt, oldest first.
    pub attempts: Vec<NotificationAttempt>,
}

/// An attempt to deliver a message.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct NotificationAttempt {
    /// When it began.
    pub began_at: String,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// How many requests it made.
    pub requests: i64,
    /// `sent`, `later` (it is tried again), `failed`, or `unknown` (the server died meanwhile).
    pub outcome: String,
    /// Why it was not sent; empty when it was.
    pub words: String,
}

impl Notifications {
    /// A message of these teams with its attempts.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn story(&self, teams: &[String], id: &str) -> Result<Option<NotificationWithAttempts>> {
        let Some(it) = self.inner.store.message(teams, id).await? else { return Ok(None) };
        let attempt = |it: Attempt| NotificationAttempt {
            began_at: shown(it.began_at),
            took_ms: it.took_ms,
            requests: it.requests,
            outcome: it.outcome,
            words: it.words,
        };
        let attempts = self.inner.store.attempts(id).await?.into_iter().map(attempt).collect();
        Ok(Some(NotificationWithAttempts { notification: notification(it), attempts }))
    }
}

pub(super) async fn get_notification(
    service: Notifications,
    call: Call,
    input: GetNotification,
) -> Result<NotificationWithAttempts> {
    let found = service.story(&call.caller.teams, &input.id).await?;
    found.ok_or_else(|| {
        let id: String = input.id.chars().take(64).collect();
        Error::not_found(format!("there is no message {id:?}; list_notifications has their ids"))
    })
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
        channel: it.channel,
        title: it.title,
        state: it.state,
        attempts: it.attempts,
        reason: it.reason,
        created_at: shown(it.created_at),
        ended_at: it.ended_at.map(shown),
        merged_into: it.merged_into,
    }
}
