//! Notifications: messages to people about what happened, through an outbox in the database.
//!
//! # Words
//!
//! - A *message* is queued in the *outbox* before the one who caused it is answered, and *delivered*
//!   later by a task of the server; the one who caused it never waits for that.
//! - A message goes to a *channel*, in the form of its provider, in as many *parts* as that takes.
//! - Messages with the same *key* within the same ten minutes are one message.
//!
//! # Invariants
//!
//! - What was queued is delivered at least once, also after a crash, or ends as failed with the reason.
//! - What a provider confirmed is not sent again; an attempt that a crash cut short is on record as unknown.
//! - A channel's address is sealed in its row, and in no log and no answer.

pub mod channels;
mod deliver;
mod discord;
mod import;
pub mod mail;
mod open;
mod operations;
pub mod smtp;
mod store;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use opsroom_core::db::{Db, Transaction};
use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::seal::Sealer;
use opsroom_core::{Capability, Clock, Effect, Error, Operation, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

pub use channels::{Content, Level};
pub use operations::NotificationWithAttempts;
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

/// Takes in what is raised, within the transaction that remembers its key.
type Intake =
    Arc<dyn for<'a> Fn(&'a mut Transaction, &'a Message) -> BoxFuture<'a, Result<()>> + Send + Sync>;

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
    /// Who keeps what opens channels.
    sealer: OnceLock<Sealer>,
    /// Who takes in what is raised.
    intake: OnceLock<Intake>,
    /// When what ended was removed last.
    tidied: AtomicI64,
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
            sealer: OnceLock::new(),
            intake: OnceLock::new(),
            tidied: AtomicI64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("notifications");
        use Effect::{Destroy, Read, Write};
        macro_rules! operation {
            ($function:path, $effect:expr, $route:literal) => {{
                let path = stringify!($function);
                let name = path.rsplit_once("::").map_or(path, |(_, name)| name.trim());
                Operation::new("notifications", name, $effect, $route, self, $function)
            }};
        }
        capability.operations = vec![
            operation!(operations::list_notifications, Read, "GET /notifications"),
            operation!(operations::get_notification, Read, "GET /notifications/{id}"),
            operation!(open::send_notification, Write, "POST /notifications"),
            operation!(open::add_channel, Write, "POST /channels"),
            operation!(open::list_channels, Read, "GET /channels"),
            operation!(open::test_channel, Write, "POST /channels/{name}/test"),
            operation!(open::preview_channel, Read, "POST /channels/{name}/preview"),
            operation!(import::import_apprise, Write, "POST /channels/import"),
            operation!(open::delete_channel, Destroy, "DELETE /channels/{name}"),
        ];
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
        let until = now.plus_seconds(inner.config.deduplicate_seconds.into());
        let mut on = inner.store.db.begin().await?;
        if !store::Store::remember(&mut on, &key, now, until).await? {
            return Ok(false);
        }
        if let Some(intake) = inner.intake.get() {
            intake(&mut on, message).await?;
        } else if !inner.config.discord_webhook_url.is_empty() {
            let payload = discord::payload(message, &inner.config, now).to_string();
            let new = store::New {
                team: &message.team,
                channel: DEFAULT_CHANNEL,
                title: &message.title,
                payload: &payload,
                is_fallback: false,
            };
            store::Store::queue_in(&mut on, &new, now).await?;
        }
        on.commit().await?;
        inner.queued.notify_one();
        Ok(true)
    }

    /// Hands what is raised to somebody else, who says whether and where people are told.
    pub fn set_intake<F>(&self, intake: F)
    where
        F: for<'a> Fn(&'a mut Transaction, &'a Message) -> BoxFuture<'a, Result<()>> + Send + Sync + 'static,
    {
        let intake: Intake = Arc::new(intake);
        // It is set once, when the room is made.
        let _set_before = self.inner.intake.set(intake);
    }

    /// For how many seconds a message with the same key is not raised again.
    pub fn deduplicate_seconds(&self) -> i64 {
        self.inner.config.deduplicate_seconds.into()
    }

    /// Whether a team has a channel of this name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has_channel(&self, team: &str, name: &str) -> Result<bool> {
        if name == DEFAULT_CHANNEL {
            return Ok(!self.inner.config.discord_webhook_url.is_empty());
        }
        Ok(self.inner.store.channel(&[team.to_owned()], name).await?.is_some())
    }

    /// Queues a message to a channel within a transaction: it is delivered if that is committed, after
    /// [`Notifications::wake`]. Answers its id; `None` when there is no such channel.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queue_in(
        &self,
        on: &mut Transaction,
        team: &str,
        channel: &str,
        content: &Content,
    ) -> Result<Option<String>> {
        let inner = &self.inner;
        let known = match channel {
            DEFAULT_CHANNEL => !inner.config.discord_webhook_url.is_empty(),
            name => store::Store::has_channel(on, team, name).await?,
        };
        if !known {
            return Ok(None);
        }
        let payload = serde_json::to_string(content).map_err(Error::internal)?;
        let new = store::New { team, channel, title: &content.title, payload: &payload, is_fallback: false };
        store::Store::queue_in(on, &new, inner.clock.now()).await.map(Some)
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
