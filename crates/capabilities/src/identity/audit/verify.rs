//! Walking the chain to see whether anybody changed it.

use opsroom_core::db::Db;
use opsroom_core::job::Progress;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::retain::removed;
use super::{GENESIS, Head, Record};
use crate::identity::store;

/// Records read at a time.
const PAGE: u64 = 1000;

/// Check the audit trail: every record's hash, that none is missing, and that the last one is the one
/// that the head knows.
///
/// To notice even a trail that was rewritten as a whole, note `head_seq` and `head_hash` of an answer
/// elsewhere, and give them as `known_seq` and `known_hash` another time.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// The number of a record whose hash was noted earlier; `known_hash` goes with it.
    #[schemars(range(min = 1))]
    pub known_seq: Option<i64>,
    /// The hash that was noted, 64 hexadecimal digits.
    #[schemars(length(min = 64, max = 64))]
    pub known_hash: Option<String>,
}

/// Whether the audit trail is as it was written.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// True when nothing is wrong.
    pub intact: bool,
    /// The number of the last record that was found right, before the first that was not.
    pub records: i64,
    /// The number of the last record, as the head has it.
    pub head_seq: i64,
    /// The hash of the last record, as the head has it.
    pub head_hash: String,
    /// The first thing that is wrong; null when nothing is.
    pub broken: Option<Broken>,
}

/// Where the chain is broken.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Broken {
    /// The number of the record.
    pub seq: i64,
    /// What is wrong with it.
    pub reason: String,
}

/// What may stop or watch the walk.
pub struct Watch<'a> {
    /// Where it says how far it is.
    pub progress: &'a Progress,
    /// What stops it.
    pub cancel: &'a CancellationToken,
}

/// Walks the chain from its start to the head; again when records went meanwhile because of their age.
///
/// # Errors
/// `Invalid` for half of a noted record, `Cancelled`, and what the database says; a broken chain is an
/// answer and not an error.
pub async fn verify(db: &Db, input: &Verify, watch: Watch<'_>) -> Result<Verdict> {
    loop {
        let base = store::audit::base(db).await?;
        let verdict = walk(db, input, &base, &watch).await?;
        if verdict.intact || store::audit::base(db).await? == base {
            return Ok(verdict);
        }
    }
}

async fn walk(db: &Db, input: &Verify, base: &Head, watch: &Watch<'_>) -> Result<Verdict> {
    let known = noted(input)?;
    // In this order: records that are added meanwhile move the head, and never stand behind it.
    let newest = store::audit::newest_seq(db).await?;
    let Some(head) = store::audit::head(db).await? else {
        let head = Head { seq: 0, hash: GENESIS.to_owned() };
        return Ok(verdict(head, 0, Some(broken(newest, "the head row is missing"))));
    };
    let mut walk = Walk { last: base.clone(), known, removed: None };
    let mut after = i64::MIN;
    while walk.last.seq < head.seq {
        if watch.cancel.is_cancelled() {
            return Err(Error::cancelled("the check of the audit trail was cancelled"));
        }
        let rows = store::audit::rows_after(db, after, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let step = match store::audit::read(row) {
                Ok(record) => walk.step(record),
                Err(_) => Err(broken(walk.last.seq + 1, "its row cannot be read as a record")),
            };
            if let Err(broken) = step {
                return Ok(verdict(head, walk.last.seq, Some(broken)));
            }
            if walk.last.seq == head.seq {
                break;
            }
        }
        after = walk.last.seq;
        watch.progress.report(Some(after as f64 / head.seq as f64), format!("{after} records checked"));
    }
    let broken = unsaid(&walk, base).or_else(|| at_the_end(&walk, &head, newest));
    Ok(verdict(head, walk.last.seq, broken))
}

struct Walk {
    last: Head,
    known: Option<Head>,
    /// The last record that went, as the newest record on that has it.
    removed: Option<Head>,
}

impl Walk {
    fn step(&mut self, record: Record) -> Result<(), Broken> {
        let expected = self.last.seq + 1;
        if record.seq > expected {
            let missing = match record.seq - expected {
                1 => "it is missing".to_owned(),
                _ => format!("it and those up to {} are missing", record.seq - 1),
            };
            return Err(broken(expected, &format!("{missing}; the next record is {}", record.seq)));
        }
        if record.seq < expected {
            return Err(broken(
                record.seq,
                "it does not belong to the chain, which counts up by 1 from its start",
            ));
        }
        if record.hash != record.computed_hash() {
            return Err(broken(
                record.seq,
                "it was changed after it was written: its hash does not fit its contents",
            ));
        }
        if record.prev_hash != self.last.hash {
            return Err(broken(
                record.seq,
                "it does not follow the record before it: that one was changed or replaced after this was written",
            ));
        }
        if self.known.as_ref().is_some_and(|known| known.seq == record.seq && known.hash != record.hash) {
            return Err(broken(
                record.seq,
                "it is not the record whose hash was noted: the trail was rewritten",
            ));
        }
        self.last = record.as_head();
        self.removed = removed(&record).or(self.removed.take());
        Ok(())
    }
}

/// Records are gone from the start, and the chain does not say that they went because of their age.
fn unsaid(walk: &Walk, base: &Head) -> Option<Broken> {
    if base.seq == 0 || walk.removed.as_ref() == Some(base) {
        return None;
    }
    let reason = "the records up to here are gone, and no record says that they went because of their age";
    Some(broken(base.seq, reason))
}

fn at_the_end(walk: &Walk, head: &Head, newest: i64) -> Option<Broken> {
    let last = &walk.last;
    if last.seq < head.seq {
        let first = last.seq + 1;
        return Some(broken(first, &format!("the records from here to {} were cut off the end", head.seq)));
    }
    if last.hash != head.hash {
        return Some(broken(head.seq, "its hash is not the one that the head row has"));
    }
    if newest > head.seq {
        return Some(broken(head.seq + 1, "it stands behind the head row, which was set back"));
    }
    match &walk.known {
        Some(known) if known.seq > head.seq => Some(broken(
            head.seq + 1,
            &format!("record {} was noted, and the trail ends before it", known.seq),
        )),
        _ => None,
    }
}

fn noted(input: &Verify) -> Result<Option<Head>> {
    match (input.known_seq, &input.known_hash) {
        (None, None) => Ok(None),
        (Some(seq), Some(hash)) if seq >= 1 && is_hash(hash) => Ok(Some(Head { seq, hash: hash.clone() })),
        (Some(_), Some(_)) => Err(Error::invalid(
            "known_seq and known_hash are not a number from 1 and 64 lower-case hexadecimal digits",
        )),
        _ => Err(Error::invalid("known_seq and known_hash go together; give both or none")),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn broken(seq: i64, reason: &str) -> Broken {
    Broken { seq, reason: reason.to_owned() }
}

fn verdict(head: Head, records: i64, broken: Option<Broken>) -> Verdict {
    Verdict { intact: broken.is_none(), records, head_seq: head.seq, head_hash: head.hash, broken }
}
