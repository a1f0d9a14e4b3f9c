//! Mail: queued sealed, because its links open things, and delivered later by a task of the server.

use std::sync::Arc;
use std::time::Duration;

use opsroom_core::id::new_id;
use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::store::mail as rows;
use super::{Notifications, smtp};

/// How often it is looked for mail when none was queued here.
const LOOK: Duration = Duration::from_secs(5);

/// How long a claim holds, in seconds: beyond every attempt.
const LEASE_SECONDS: i64 = 120;

/// After so many attempts, about a day, a mail is given up.
const MOST_ATTEMPTS: i64 = 20;

/// A mail of plain text.
#[derive(Serialize, Deserialize)]
pub struct Mail {
    /// The address it goes to.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub text: String,
}

impl Notifications {
    /// Queues a mail; durable when it answers. Without a configured server for mail it is dropped, and the log
    /// says so without its contents.
    ///
    /// # Errors
    /// Those of the database and of the sealer.
    pub async fn mail(&self, sealer: &Sealer, mail: Mail) -> Result<()> {
        let inner = &self.inner;
        if inner.config.smtp.host.is_empty() {
            tracing::info!("a mail is not sent, because `notifications.smtp.host` names no server");
            return Ok(());
        }
        let id = new_id();
        let text = serde_json::to_vec(&mail).map_err(Error::internal)?;
        let sealed = sealer.seal(&["mail", &id], &text).await?;
        rows::insert(&inner.store.db, &id, &sealed, inner.clock.now()).await?;
        inner.mail_queued.notify_one();
        Ok(())
    }

    /// Seals every waiting mail again by the newest key.
    pub fn resealing(&self, sealer: Sealer) -> Reseal {
        let db = self.inner.store.db.clone();
        Arc::new(move || {
            let (db, sealer) = (db.clone(), sealer.clone());
            Box::pin(async move {
                let mut count = 0;
                for it in rows::all(&db).await? {
                    if let Some(again) = sealer.rewrap(&["mail", &it.id], &it.sealed).await? {
                        rows::seal(&db, &it.id, &again).await?;
                        count += 1;
                    }
                }
                Ok(count)
            })
        })
    }

    /// Delivers mail until the server stops.
    pub fn start_mail(&self, sealer: Sealer) {
        if self.inner.config.smtp.host.is_empty() {
            return;
        }
        let notifications = self.clone();
        let stopping = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("mail", async move {
            loop {
                if let Err(error) = notifications.deliver_mail(&sealer).await {
                    tracing::warn!(error = error.message, "mail cannot be delivered now; trying again");
                }
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = notifications.inner.mail_queued.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
    }

    /// One round: everything that is due is tried once. Answers how many were sent.
    pub async fn deliver_mail(&self, sealer: &Sealer) -> Result<usize> {
        let inner = &self.inner;
        let mut sent = 0;
        for it in rows::due(&inner.store.db, inner.clock.now()).await? {
            let now = inner.clock.now();
            if !rows::claim(&inner.store.db, &it.id, now, now.plus_seconds(LEASE_SECONDS)).await? {
                continue;
            }
            let text = sealer.open(&["mail", &it.id], &it.sealed).await?;
            let mail: Mail = serde_json::from_slice(&text).map_err(Error::internal)?;
            match smtp::send(&inner.egress, &inner.config.smtp, &smtp::Letter::from(&mail), &it.id, now).await
            {
                Ok(()) => {
                    sent += 1;
                    rows::remove(&inner.store.db, &it.id).await?;
                }
                Err(trouble) if trouble.lasting || it.attempts + 1 >= MOST_ATTEMPTS => {
                    tracing::warn!(mail.id = it.id, reason = trouble.reason, "a mail could not be delivered");
                    rows::remove(&inner.store.db, &it.id).await?;
                }
                Err(trouble) => {
                    tracing::warn!(mail.id = it.id, reason = trouble.reason, "a mail is tried again later");
                    let pause = (5_i64 << it.attempts.clamp(0, 10)).min(3600);
                    rows::later(&inner.store.db, &it.id, it.attempts + 1, now.plus_seconds(pause)).await?;
                }
            }
        }
        Ok(sent)
    }
}
