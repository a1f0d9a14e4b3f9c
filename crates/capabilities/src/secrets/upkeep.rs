//! What goes on by itself: planned rotations, deleted secrets that go for good, and values that are hidden.

use std::time::Duration;

use opsroom_core::telemetry::known;
use opsroom_core::{Call, Error, Result};

use super::{Secrets, store};
use crate::identity::AuditEntry;

/// How often it is looked for what is due.
const PERIOD: Duration = Duration::from_secs(30);

/// How long a rotation may take before another server tries it, in seconds.
const CLAIM_SECONDS: i64 = 300;

/// After a failure a rotation is tried again after so many seconds.
const AGAIN_SECONDS: i64 = 900;

const DAY: i64 = 24 * 60 * 60;

/// Secrets at a time.
const PAGE: u64 = 100;

impl Secrets {
    /// Goes on until the server stops.
    pub fn start(&self) {
        let secrets = self.clone();
        let stop = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("secrets", async move {
            if let Err(error) = secrets.learn().await {
                tracing::warn!(
                    error = error.message,
                    "secrets cannot be opened, and so not be hidden in the log"
                );
            }
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    () = stop.cancelled() => return Ok(()),
                }
                if let Err(error) = secrets.round().await {
                    tracing::warn!(
                        error = error.message,
                        causes = error.causes(),
                        "secrets cannot be kept up"
                    );
                }
            }
        });
    }

    /// Opens what is in force, so that it is hidden wherever this process would tell it.
    async fn learn(&self) -> Result<()> {
        if !self.inner.sealer.in_use().await? {
            return Ok(());
        }
        let mut after = String::new();
        loop {
            let rows = store::every(&self.inner.db, &after, PAGE).await?;
            for row in &rows {
                if let Some(version) = store::versions::get(&self.inner.db, &row.id, row.version).await? {
                    self.opened(row, &version).await?;
                }
            }
            match rows.last() {
                Some(last) => after = last.id.clone(),
                None => return Ok(()),
            }
        }
    }

    /// One round: everything that is due is done once.
    pub(super) async fn round(&self) -> Result<()> {
        let (db, now) = (&self.inner.db, self.now());
        for id in store::purgeable(db, now).await? {
            let mut on = db.begin().await?;
            store::purge(&mut on, &id).await?;
            on.commit().await?;
            known::forget(&id);
        }
        store::grants::forget(db, now.plus_seconds(-30 * DAY)).await?;
        for row in store::due(db, now).await? {
            if store::claim(db, &row.id, now, now.plus_seconds(CLAIM_SECONDS)).await? {
                self.rotate_due(row).await?;
            }
        }
        Ok(())
    }

    async fn rotate_due(&self, row: super::model::Row) -> Result<()> {
        let (id, path) = (row.id.clone(), row.path.clone());
        let Some(text) = store::rotation(&self.inner.db, &id).await? else { return Ok(()) };
        let stored: super::rotation::Stored = serde_json::from_str(&text).map_err(Error::internal)?;
        let caller = self.inner.identity.caller_of(&stored.owner, opsroom_core::caller::Face::Schedule);
        let team = row.team_id.clone();
        let result = match &caller {
            Some(caller) => match caller.authorise_resource(
                "secrets",
                "rotate_secret",
                opsroom_core::Effect::Write,
                opsroom_core::Role::Operator,
                &path,
            ) {
                Ok(()) => self.rotate(row, &stored.owner).await.map(drop),
                Err(error) => Err(error),
            },
            None => Err(Error::forbidden(format!("{} has no rights any more", stored.owner))),
        };
        let days = stored.every_days.map_or(DAY, |days| i64::from(days) * DAY);
        let wait = if result.is_ok() { days } else { AGAIN_SECONDS };
        let next = self.now().plus_seconds(wait);
        store::set_rotation(&self.inner.db, &id, Some(&text), Some(next)).await?;
        if let Err(error) = &result {
            tracing::warn!(secret.path = path, error = error.message, "a planned rotation failed");
            let data = serde_json::json!({ "path": path, "message": error.message });
            self.inner.events.publish("secret.rotation_failed", &team, &path, data);
        }
        let caller = caller.unwrap_or_else(|| opsroom_core::Caller {
            subject: stored.owner,
            ..opsroom_core::Caller::operator(opsroom_core::caller::Face::Schedule)
        });
        let details = serde_json::json!({ "path": path, "planned": true });
        let entry = AuditEntry::action(&caller, "rotate_secret", opsroom_core::Effect::Write, &details);
        self.inner.identity.audit(entry.ended(&result)).await
    }

    /// Seals every version by the newest key; answers how many were sealed by another.
    pub(super) async fn rewrap(&self, call: &Call) -> Result<u64> {
        let (mut after, mut sealed) = (String::new(), 0);
        loop {
            let rows = store::every(&self.inner.db, &after, PAGE).await?;
            for row in &rows {
                if call.cancel.is_cancelled() {
                    return Err(Error::cancelled("stopped; what is sealed by the older key still opens"));
                }
                for version in store::versions::list(&self.inner.db, &row.id).await? {
                    if version.sealed.is_empty() {
                        continue;
                    }
                    let context = row.context(version.version);
                    let context: Vec<&str> = context.iter().map(String::as_str).collect();
                    if let Some(again) = self.inner.sealer.rewrap(&context, &version.sealed).await? {
                        store::versions::rewrap(&self.inner.db, &version, &again).await?;
                        sealed += 1;
                    }
                }
            }
            call.progress.report(None, format!("{sealed} versions sealed"));
            match rows.last() {
                Some(last) => after = last.id.clone(),
                None => return Ok(sealed),
            }
        }
    }
}
