//! Grants and access tokens in memory: a call of an agent is authenticated without asking the database, but for
//! the first one with a token on this server.
//!
//! Grants are read anew when one was made or ended anywhere, which a counter in the database tells, asked every
//! few seconds as for keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use opsroom_core::db::Db;
use opsroom_core::id::sha256_hex;
use opsroom_core::{Clock, Error, Result, Time};

use super::model::Grant;
use crate::identity::store;

/// The most grants that go on at once, so that memory is bounded; of more, the oldest are not known.
pub const MOST_GRANTS: u64 = 20_000;

/// The most access tokens that are remembered.
const MOST_TOKENS: usize = 20_000;

/// After so many seconds without an answer of the database, what is remembered does not count.
const STALE: i64 = 60;

/// For how many seconds tokens that are over, and grants that ended, are kept.
const KEEP_UNUSED: i64 = 24 * 3600;
const KEEP_ENDED: i64 = 90 * 24 * 3600;

type Grants = HashMap<String, Arc<Grant>>;

/// The memory. Shared by clones of the service.
pub struct Agents {
    db: Db,
    clock: Clock,
    grants: RwLock<Arc<Grants>>,
    /// The grant and the end of an access token, by its SHA-256.
    tokens: Mutex<HashMap<String, (String, Time)>>,
    generation: AtomicI64,
    checked_at: AtomicI64,
    /// Held while reading anew, so that an older reading never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
}

impl Agents {
    /// A memory that is empty.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self {
            db,
            clock,
            grants: RwLock::default(),
            tokens: Mutex::default(),
            generation: AtomicI64::new(-1),
            checked_at: AtomicI64::new(i64::MIN),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// Reads what changed.
    pub async fn refresh(&self) -> Result<()> {
        let _one_at_a_time = self.reading.lock().await;
        let now = self.clock.now();
        // Before the grants: a change in between is seen as a newer generation the next time.
        let generation = store::generation(&self.db, store::oauth::GENERATION).await?;
        if self.generation.load(Ordering::Relaxed) != generation {
            let rows = store::oauth::grants::live(&self.db, now, MOST_GRANTS).await?;
            let grants = rows.into_iter().map(|grant| (grant.id.clone(), Arc::new(grant))).collect();
            *self.grants.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(grants);
            self.generation.store(generation, Ordering::Relaxed);
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
                "grants could not be read after a change; the next call tries again"
            );
        }
    }

    /// The grant of an access token, if both go on.
    ///
    /// # Errors
    /// `Unavailable` when tokens cannot be checked.
    pub async fn find(&self, token: &str) -> Result<Option<Arc<Grant>>> {
        let now = self.clock.now();
        let unchecked = |error| {
            Error::unavailable("tokens cannot be checked, because the database does not answer")
                .because(error)
        };
        if now > Time(self.checked_at.load(Ordering::Acquire)).plus_seconds(STALE) {
            self.refresh().await.map_err(unchecked)?;
        }
        let hash = sha256_hex(token);
        let known = self.lock_tokens().get(&hash).cloned();
        let (grant, expires) = match known {
            Some(known) => known,
            None => match store::oauth::tokens::access(&self.db, &hash).await.map_err(unchecked)? {
                Some(found) => {
                    // The token may be of a grant that another server has just made.
                    if self.grant(&found.0).is_none() {
                        self.refresh().await.map_err(unchecked)?;
                    }
                    self.remember(hash, found)
                }
                None => return Ok(None),
            },
        };
        Ok(self.grant(&grant).filter(|_| now < expires))
    }

    /// A grant that goes on.
    pub fn grant(&self, id: &str) -> Option<Arc<Grant>> {
        let grant = self.grants.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        grant.filter(|grant| self.clock.now() < grant.expires_at)
    }

    /// Every grant that goes on.
    pub fn all(&self) -> Vec<Arc<Grant>> {
        let now = self.clock.now();
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner).clone();
        grants.values().filter(|grant| now < grant.expires_at).cloned().collect()
    }

    /// Removes what is over.
    pub async fn remove_old(&self) -> Result<()> {
        let now = self.clock.now();
        self.lock_tokens().retain(|_, (_, expires)| now < *expires);
        store::oauth::tokens::remove_old(&self.db, now).await?;
        store::oauth::grants::remove_old(&self.db, now.plus_seconds(-KEEP_ENDED)).await?;
        store::oauth::clients::remove_unused(&self.db, now.plus_seconds(-KEEP_UNUSED)).await
    }

    fn remember(&self, hash: String, found: (String, Time)) -> (String, Time) {
        let mut tokens = self.lock_tokens();
        if tokens.len() >= MOST_TOKENS {
            // They are read again when they are used again.
            tokens.clear();
        }
        tokens.insert(hash, found.clone());
        found
    }

    fn lock_tokens(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, Time)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
