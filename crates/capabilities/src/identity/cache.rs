//! The keys that open something, in memory: a call is authenticated without asking the database.
//!
//! The cache is read anew when this server changes a key, and every [`PERIOD`] when another server did
//! (a counter in the database tells). When the database cannot be asked for [`STALE`], nobody is let in
//! by what is remembered: a key may have been revoked meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use opsroom_core::db::Db;
use opsroom_core::{Clock, Error, Result, Role, Scope, Time};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::store;

/// How often the database is asked whether keys changed.
pub const PERIOD: Duration = Duration::from_secs(3);

/// After so many seconds without an answer, what is remembered does not count.
const STALE: i64 = 60;

/// The most keys that may be live at once, so that memory is bounded.
pub const MOST_KEYS: u64 = 10_000;

/// A SHA-256.
pub type Hash = [u8; 32];

/// A key that opens something.
#[derive(Debug)]
pub struct LiveKey {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its rung.
    pub role: Role,
    /// What narrows it.
    pub scopes: Option<Vec<Scope>>,
    /// Its team.
    pub team_id: String,
    /// When it ends.
    pub expires_at: Option<Time>,
    hash: Hash,
    /// When it was last used, in microseconds, and the same as the database has it; 0 is never.
    used: AtomicI64,
    written: AtomicI64,
}

/// The cache. Shared by clones of the service.
pub struct KeyCache {
    db: Db,
    clock: Clock,
    keys: RwLock<Arc<Snapshot>>,
    /// When the database last confirmed the snapshot, in microseconds.
    checked_at: AtomicI64,
    /// Held while reading anew, so that an older reading never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Snapshot {
    generation: Option<i64>,
    by_hash: HashMap<Hash, Arc<LiveKey>>,
    by_id: HashMap<String, Arc<LiveKey>>,
}

impl KeyCache {
    /// A cache that has read nothing yet.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self {
            db,
            clock,
            keys: RwLock::default(),
            checked_at: AtomicI64::new(i64::MIN),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// The key that this token is, if it opens something now.
    ///
    /// The token is looked up by its SHA-256 and compared in constant time: how long a wrong token takes
    /// says nothing about a right one.
    pub async fn find(&self, token: &str) -> Result<Option<Arc<LiveKey>>> {
        let now = self.clock.now();
        if self.is_stale(now) {
            self.refresh().await.map_err(|error| {
                Error::unavailable("keys cannot be checked, because the database does not answer")
                    .because(error)
            })?;
        }
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        let key = self.snapshot().by_hash.get(&hash).cloned();
        let right = key.as_ref().is_some_and(|key| bool::from(key.hash.ct_eq(&hash)));
        Ok(key.filter(|key| right && key.expires_at.is_none_or(|end| now < end)).inspect(|key| {
            key.used.fetch_max(now.0, Ordering::Relaxed);
        }))
    }

    /// A live key by its id.
    pub fn get(&self, id: &str) -> Option<Arc<LiveKey>> {
        self.snapshot().by_id.get(id).cloned()
    }

    /// Every live key.
    pub fn all(&self) -> Vec<Arc<LiveKey>> {
        self.snapshot().by_id.values().cloned().collect()
    }

    /// When a key was last used, as far as this server knows.
    pub fn last_used(&self, id: &str) -> Option<Time> {
        let used = self.get(id)?.used.load(Ordering::Relaxed);
        (used > 0).then_some(Time(used))
    }

    /// Reads the keys if they changed, or if nothing was read yet.
    pub async fn refresh(&self) -> Result<()> {
        let _one_at_a_time = self.reading.lock().await;
        let now = self.clock.now();
        // Before the keys: a change in between is seen as a newer generation the next time.
        let generation = store::keys::generation(&self.db).await?;
        if self.snapshot().generation != Some(generation) {
            let rows = store::keys::live(&self.db, now, MOST_KEYS * 2).await?;
            let snapshot = self.read(generation, rows)?;
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        }
        self.checked_at.store(now.0, Ordering::Release);
        Ok(())
    }

    /// After a change: reads anew, or else makes sure that the next use does.
    pub async fn changed(&self) {
        if let Err(error) = self.refresh().await {
            self.checked_at.store(i64::MIN, Ordering::Release);
            tracing::warn!(
                error = error.message,
                "keys could not be read after a change; the next call tries again"
            );
        }
    }

    /// Writes when keys were last used, as far as the database does not know.
    pub async fn write_last_used(&self) -> Result<()> {
        let snapshot = self.snapshot();
        let mut used: Vec<(&Arc<LiveKey>, i64)> = Vec::new();
        for key in snapshot.by_id.values() {
            let time = key.used.load(Ordering::Relaxed);
            if time > key.written.load(Ordering::Relaxed) {
                used.push((key, time));
            }
        }
        for batch in used.chunks(500) {
            let rows: Vec<(String, Time)> =
                batch.iter().map(|(key, time)| (key.id.clone(), Time(*time))).collect();
            store::keys::set_last_used(&self.db, &rows).await?;
            for (key, time) in batch {
                key.written.fetch_max(*time, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn is_stale(&self, now: Time) -> bool {
        now > Time(self.checked_at.load(Ordering::Acquire)).plus_seconds(STALE)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, generation: i64, rows: Vec<(super::ApiKey, String)>) -> Result<Snapshot> {
        let old = self.snapshot();
        let mut new = Snapshot { generation: Some(generation), ..Snapshot::default() };
        for (key, hash) in rows {
            let hash = parse_hash(&hash)
                .ok_or_else(|| Error::internal(format!("api_keys.hash of {} is not a SHA-256", key.id)))?;
            // The old entry is kept on, because it knows when the key was last used. A key never changes
            // but to end sooner.
            let same = |old: &&Arc<LiveKey>| old.hash == hash && old.expires_at == key.expires_at;
            let live = old.by_id.get(&key.id).filter(same).cloned();
            let live = live.unwrap_or_else(|| Arc::new(LiveKey::new(key, hash)));
            new.by_hash.insert(hash, live.clone());
            new.by_id.insert(live.id.clone(), live);
        }
        Ok(new)
    }
}

impl LiveKey {
    fn new(key: super::ApiKey, hash: Hash) -> Self {
        let used = key.last_used_at.map_or(0, |time| time.0);
        Self {
            id: key.id,
            name: key.name,
            role: key.role,
            scopes: key.scopes,
            team_id: key.team_id,
            expires_at: key.expires_at,
            hash,
            used: AtomicI64::new(used),
            written: AtomicI64::new(used),
        }
    }
}

/// Reads a SHA-256 from its 64 hexadecimal digits.
fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}
