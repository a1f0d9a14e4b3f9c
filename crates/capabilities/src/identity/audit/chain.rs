//! What a record is, and its hash.

use opsroom_core::Time;
use opsroom_core::id::hex;
use sha2::{Digest, Sha256};

use super::AuditEntry;

/// The hash before the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What the hash is over begins with this, so that no other hash of ours can be taken for it.
const DOMAIN: &[u8] = b"opsroom audit record, version 1";

/// The last record's number and hash; before the first, 0 and [`GENESIS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number.
    pub seq: i64,
    /// The hash, 64 hexadecimal digits.
    pub hash: String,
}

/// An entry in its place in the chain, as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number, from 1 without gaps.
    pub seq: i64,
    /// When it was made.
    pub time: Time,
    /// The team of the one who called.
    pub team_id: String,
    /// Who called.
    pub subject: String,
    /// The name of the one who called.
    pub name: String,
    /// By which face.
    pub face: String,
    /// From which address.
    pub address: Option<String>,
    /// What was called.
    pub operation: String,
    /// What it does to the world.
    pub effect: String,
    /// With which input, as JSON, without secrets.
    pub input: String,
    /// `ok`, `started` or the error's kind.
    pub outcome: String,
    /// The error's message.
    pub message: Option<String>,
    /// The job that does the work.
    pub job_id: Option<String>,
    /// The request it came with.
    pub request_id: Option<String>,
    /// The hash of the record before.
    pub prev_hash: String,
    /// The hash of this record, over all of the above.
    pub hash: String,
}

impl Record {
    /// The entry as the record after `head`.
    pub fn after(head: &Head, entry: &AuditEntry) -> Self {
        let mut record = Self {
            seq: head.seq + 1,
            time: entry.time,
            team_id: entry.team_id.clone(),
            subject: entry.subject.clone(),
            name: entry.name.clone(),
            face: entry.face.as_str().to_owned(),
            address: entry.address.clone(),
            operation: entry.operation.clone(),
            effect: entry.effect.as_str().to_owned(),
            input: entry.input.clone(),
            outcome: entry.outcome.clone(),
            message: entry.message.clone(),
            job_id: entry.job_id.clone(),
            request_id: entry.request_id.clone(),
            prev_hash: head.hash.clone(),
            hash: String::new(),
        };
        record.hash = record.computed_hash();
        record
    }

    /// The head when this is the last record.
    pub fn as_head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }

    /// The hash that the fields ask for. Every field is written with its length before it, so that no
    /// two different records are written alike; a missing field differs from an empty one.
    pub fn computed_hash(&self) -> String {
        let mut hasher = Sha256::new();
        put(&mut hasher, Some(DOMAIN));
        put(&mut hasher, Some(&self.seq.to_be_bytes()));
        put(&mut hasher, Some(&self.time.0.to_be_bytes()));
        let fields = [
            Some(&self.team_id),
            Some(&self.subject),
            Some(&self.name),
            Some(&self.face),
            self.address.as_ref(),
            Some(&self.operation),
            Some(&self.effect),
            Some(&self.input),
            Some(&self.outcome),
            self.message.as_ref(),
            self.job_id.as_ref(),
            self.request_id.as_ref(),
            Some(&self.prev_hash),
        ];
        for field in fields {
            put(&mut hasher, field.map(|text| text.as_bytes()));
        }
        hex(&hasher.finalize())
    }
}

fn put(hasher: &mut Sha256, field: Option<&[u8]>) {
    match field {
        None => hasher.update([0]),
        Some(bytes) => {
            hasher.update([1]);
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            seq: 7,
            time: Time(1),
            team_id: "default".to_owned(),
            subject: "operator".to_owned(),
            name: "operator".to_owned(),
            face: "rest".to_owned(),
            address: None,
            operation: "create_api_key".to_owned(),
            effect: "write".to_owned(),
            input: "{}".to_owned(),
            outcome: "ok".to_owned(),
            message: None,
            job_id: None,
            request_id: None,
            prev_hash: GENESIS.to_owned(),
            hash: String::new(),
        }
    }

    #[test]
    fn every_field_counts_in_the_hash() {
        let change: [fn(&mut Record); 15] = [
            |r| r.seq = 8,
            |r| r.time = Time(2),
            |r| r.team_id.push('x'),
            |r| r.subject.push('x'),
            |r| r.name.push('x'),
            |r| r.face.push('x'),
            |r| r.address = Some(String::new()),
            |r| r.operation.push('x'),
            |r| r.effect.push('x'),
            |r| r.input.push('x'),
            |r| r.outcome.push('x'),
            |r| r.message = Some(String::new()),
            |r| r.job_id = Some(String::new()),
            |r| r.request_id = Some(String::new()),
            |r| r.prev_hash.push('x'),
        ];
        let mut hashes = std::collections::HashSet::from([record().computed_hash()]);
        for change in change {
            let mut changed = record();
            change(&mut changed);
            assert!(hashes.insert(changed.computed_hash()), "{changed:?}");
        }
    }

    #[test]
    fn text_cannot_move_from_one_field_to_the_next() {
        let (mut one, mut other) = (record(), record());
        (one.subject, one.name) = ("ab".to_owned(), "c".to_owned());
        (other.subject, other.name) = ("a".to_owned(), "bc".to_owned());
        assert_ne!(one.computed_hash(), other.computed_hash());
    }
}
