//! Notifications: messages to people about what happened, through an outbox in the database.
//!
//! # Words
//!
//! - A *message* is queued in the *outbox* before the one who caused it is answered, and *delivered*
//!   later by a task of the server; the one who caused it never waits for that.
//! - Messages with the same *key* within the same ten minutes are one message.
//!
//! # Invariants
//!
//! - What was queued is delivered at least once, also after a crash, or ends as failed with the reason.
//! - The webhook's address is in no row, no log and no answer.

mod deliver;
mod discord;
pub mod mail;
mod operations;
pub mod smtp;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use opsroom_core::db::{Db, Transaction};
use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Capability, Clock, Effect, Error, Operation, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

pub use store::MIGRATIONS;

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationsConfig {
    /// The webhook of a Discord channel; without it nothing is sent. Also read from `DISCORD_WEBHOOK_URL`.
    pub discord_webhook_url: Secret,
    /// The name under which messages appear. Also read from `DISCORD_BOT_NAME`.
    pub discord_bot_name: String,
    /// The picture beside them. Also read from `DISCORD_BOT_AVATAR`.
    pub discord_bot_avatar: String,
    /// For how many seconds a message with the same key is not sent again, from 0 to 86400. Also read
    /// from `ALERT_DEDUP_TTL`.
    pub deduplicate_seconds: u32,
    /// The server that takes mail.
    pub smtp: smtp::SmtpConfig,
}

impl Default for NotificationsConfig {
    fn default() -> Self {
        Self {
            discord_webhook_url: Secret::default(),
            discord_bot_name: "MCP-dangerous".to_owned(),
            discord_bot_avatar: "https://i.imgur.com/9kY5F5k.png".to_owned(),
            deduplicate_seconds: 600,
            smtp: smtp::SmtpConfig::default(),
        }
    }
}

impl NotificationsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let url = self.discord_webhook_url.expose();
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            let text = "notifications.discord_webhook_url: it begins with https://";
            return Err(Error::invalid(text));
        }
        self.smtp.validate()?;
        if self.deduplicate_seconds > 86_400 {
            return Err(Error::invalid("notifications.deduplicate_seconds: it is from 0 to 86400"));
        }
        Ok(())
    }
}

/// Something that a person should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Whose message it is.
    pub team: String,
    /// Messages with the same key are one.
    pub key: String,
    /// One line.
    pub title: String,
    /// What happened.
    pub text: String,
    /// Where to look, when it is a web address.
    pub url: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Notifications {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::Store,
    clock: Clock,
    lifecycle: Lifecycle,
    egress: Egress,
    config: NotificationsConfig,
    queued: Notify,
    mail_queued: Notify,
}

impl Notifications {
    /// Notifications over a database that has been migrated. Nothing is delivered before
    /// [`Notifications::start`].
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(
        db: Db,
        clock: Clock,
        lifecycle: Lifecycle,
        egress: Egress,
        config: NotificationsConfig,
    ) -> Result<Self> {
        config.validate()?;
        let store = store::Store { db };
        let inner = Inner {
            store,
            clock,
            lifecycle,
            egress,
            config,
            queued: Notify::new(),
            mail_queued: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("notifications");
        capability.operations = vec![Operation::new(
            "notifications",
            "list_notifications",
            Effect::Read,
            "GET /notifications",
            self,
            operations::list_notifications,
        )];
        capability.migrations = MIGRATIONS.into();
        capability
    }

    /// Queues a message, unless one with its key was raised lately. Durable when it answers. Answers
    /// whether it was fresh; without a configured channel a fresh one is only remembered.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn raise(&self, message: &Message) -> Result<bool> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let key = digest(&message.team, &message.key);
        let payload = (!inner.config.discord_webhook_url.is_empty())
            .then(|| discord::payload(message, &inner.config, now).to_string());
        let until = now.plus_seconds(inner.config.deduplicate_seconds.into());
        let fresh = inner.store.queue(message, &key, payload.as_deref(), now, until).await?;
        if fresh {
            inner.queued.notify_one();
        }
        Ok(fresh)
    }

    /// Queues a message to a channel within a transaction: it is delivered if that is committed, after
    /// [`Notifications::wake`]. Answers its id; `None` when there is no such channel.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queue_in(
        &self,
        on: &mut Transaction,
        message: &Message,
        channel: &str,
    ) -> Result<Option<String>> {
        let inner = &self.inner;
        if channel != DEFAULT_CHANNEL || inner.config.discord_webhook_url.is_empty() {
            return Ok(None);
        }
        let now = inner.clock.now();
        let payload = discord::payload(message, &inner.config, now).to_string();
        store::Store::queue_in(on, message, &payload, now).await.map(Some)
    }

    /// Looks at the outbox now.
    pub fn wake(&self) {
        self.inner.queued.notify_one();
    }
}

/// The channel of `discord_webhook_url`.
pub const DEFAULT_CHANNEL: &str = "default";

fn digest(team: &str, key: &str) -> String {
    let hash = Sha256::digest(format!("{}\0{team}\0{key}", team.len()));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
