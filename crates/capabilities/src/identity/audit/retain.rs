//! How long records are kept. What goes from the start of the chain leaves the number and the hash of the last
//! record that went, in a row that is the chain's *base*, and a record of the chain that names the same: so a
//! chain that somebody cut at its start does not verify.

use opsroom_core::caller::Face;
use opsroom_core::db::{Db, Transaction};
use opsroom_core::{Caller, Clock, Effect, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{AuditEntry, Head, Record, SinkConfig, append};
use crate::identity::store;

/// The action by which records went because of their age.
pub const REMOVED: &str = "remove_old_audit";

const DAY: i64 = 86_400;

/// How long the audit trail and the call record are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// For how many days a record of the audit trail is kept, up to 36500; 0 keeps it for good. What goes
    /// leaves its number and hash, so that the rest still verifies.
    pub keep_days: u32,
    /// For how many days a call is kept that only looked, from 1 to 3650.
    pub calls_keep_days: u32,
    /// Where the audit trail is sent as well, record by record.
    pub sinks: Vec<SinkConfig>,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { keep_days: 0, calls_keep_days: 90, sinks: Vec::new() }
    }
}

impl AuditConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if self.keep_days > 36_500 {
            return Err(Error::invalid("audit.keep_days: it is from 0 (for good) to 36500"));
        }
        if !(1..=3650).contains(&self.calls_keep_days) {
            return Err(Error::invalid("audit.calls_keep_days: it is from 1 to 3650"));
        }
        for (at, sink) in self.sinks.iter().enumerate() {
            sink.validate()
                .map_err(|error| Error::invalid(format!("audit.sinks[{at}].{}", error.message)))?;
            if self.sinks[..at].iter().any(|other| other.name == sink.name) {
                return Err(Error::invalid(format!("audit.sinks[{at}].name: another sink has it")));
            }
        }
        Ok(())
    }
}

/// Removes what is older than it is kept.
pub async fn remove_old(db: &Db, clock: &Clock, config: &AuditConfig) -> Result<()> {
    let now = clock.now();
    store::calls::remove_before(db, now.plus_seconds(-DAY * i64::from(config.calls_keep_days))).await?;
    if config.keep_days == 0 {
        return Ok(());
    }
    let mut on = db.begin().await?;
    // Held from here on, so that of two servers one finds nothing left.
    store::audit::lock_head(&mut on).await?;
    let cutoff = now.plus_seconds(-DAY * i64::from(config.keep_days));
    let Some(last) = store::audit::newest_before(&mut on, cutoff).await? else { return Ok(()) };
    cut(&mut on, clock, &last).await?;
    on.commit().await?;
    tracing::info!(until = last.seq, "records of the audit trail went because of their age");
    Ok(())
}

async fn cut(on: &mut Transaction, clock: &Clock, last: &Head) -> Result<()> {
    let details = json!({ "until_seq": last.seq, "hash": last.hash });
    let server = Caller::operator(Face::Schedule);
    let entry = AuditEntry::action(&server, REMOVED, Effect::Destroy, &details).ok().at(clock.now());
    append(on, &[entry]).await?;
    store::audit::set_base(on, last).await?;
    store::audit::remove_until(on, last.seq).await
}

/// The last record that went, when this one says so.
pub fn removed(record: &Record) -> Option<Head> {
    #[derive(Deserialize)]
    struct Details {
        until_seq: i64,
        hash: String,
    }
    if record.operation != REMOVED {
        return None;
    }
    let details: Details = serde_json::from_str(&record.input).ok()?;
    Some(Head { seq: details.until_seq, hash: details.hash })
}
