//! What was begun and has no record yet: a row that is written before the operation runs and removed by its
//! record, so that a crash between the two leaves a trace.

use opsroom_core::caller::Face;
use opsroom_core::db::{Db, Dialect};
use opsroom_core::id::new_id;
use opsroom_core::{Clock, Effect, Error, Result, Time};
use serde::{Deserialize, Serialize};

use super::redact::Hidden;
use super::{AuditEntry, append};
use crate::identity::store;

/// After so many seconds without a record another server takes a call for interrupted. A longer one, which
/// no job is, has both records then.
const SILENCE: i64 = 3600;

/// What is recovered in one transaction.
const BATCH: u64 = 256;

/// An entry as it is kept until its record.
#[derive(Serialize, Deserialize)]
struct Kept {
    team_id: String,
    subject: String,
    name: String,
    face: Face,
    address: Option<String>,
    operation: String,
    effect: Effect,
    input: String,
    request_id: Option<String>,
}

/// A row of what was begun.
pub struct Begun {
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub at: Time,
    /// The entry, as JSON.
    pub entry: String,
}

impl Begun {
    /// The row of an entry.
    pub fn new(entry: &AuditEntry, at: Time) -> Result<Self> {
        let kept = Kept {
            team_id: entry.team_id.clone(),
            subject: entry.subject.clone(),
            name: entry.name.clone(),
            face: entry.face,
            address: entry.address.clone(),
            operation: entry.operation.clone(),
            effect: entry.effect,
            input: entry.input.clone(),
            request_id: entry.request_id.clone(),
        };
        Ok(Self { id: new_id(), at, entry: serde_json::to_string(&kept).map_err(Error::internal)? })
    }

    /// The entry that says that no end is known.
    fn interrupted(&self, now: Time) -> Result<AuditEntry> {
        let kept: Kept = serde_json::from_str(&self.entry).map_err(Error::internal)?;
        Ok(AuditEntry {
            time: now,
            team_id: kept.team_id,
            subject: kept.subject,
            name: kept.name,
            face: kept.face,
            address: kept.address,
            operation: kept.operation,
            effect: kept.effect,
            input: kept.input,
            outcome: "interrupted".to_owned(),
            message: Some(format!(
                "begun at {}; the server ended before its record, so it may have taken effect",
                self.at.to_rfc3339()
            )),
            job_id: None,
            request_id: kept.request_id,
            begun: Some(self.id.clone()),
            hidden: Hidden::default(),
        })
    }
}

/// Puts on record what was begun by a server that is no more; answers how much. On SQLite that is all of it
/// when the only server starts, elsewhere what has been silent for an hour.
pub async fn recover(db: &Db, clock: &Clock, starting: bool) -> Result<usize> {
    let now = clock.now();
    let alone = starting && db.dialect() == Dialect::Sqlite;
    let until = if alone { now.plus_seconds(1) } else { now.plus_seconds(-SILENCE) };
    let mut recovered = 0;
    loop {
        let mut on = db.begin().await?;
        // The head is held first: of two servers that recover, the second finds nothing left.
        store::audit::lock_head(&mut on).await?;
        let rows = store::audit::begun_before(&mut on, until, BATCH).await?;
        if rows.is_empty() {
            return Ok(recovered);
        }
        let entries: Vec<AuditEntry> = rows.iter().map(|row| row.interrupted(now)).collect::<Result<_>>()?;
        append(&mut on, &entries).await?;
        on.commit().await?;
        recovered += entries.len();
    }
}
