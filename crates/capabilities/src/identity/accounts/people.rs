//! Users and sessions in memory: a call is authenticated without asking the database, but for the first one
//! of a session on this server.
//!
//! Users are read anew when one changed; a session that was seen is remembered until one was ended anywhere,
//! which counters in the database tell, asked every few seconds as for keys.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use opsroom_core::caller::Face;
use opsroom_core::db::Db;
use opsroom_core::id::sha256_hex;
use opsroom_core::{Caller, Clock, Error, Result, Time};

use super::config::AccountsConfig;
use super::model::UserRow;
use crate::identity::store;

/// The most users, so that memory is bounded.
pub const MOST_USERS: u64 = 20_000;

/// The most sessions that are remembered.
const MOST_SESSIONS: usize = 20_000;

/// After so many seconds without an answer of the database, what is remembered does not count.
const STALE: i64 = 60;

/// A session that was seen.
struct Live {
    id: String,
    user_id: String,
    expires_at: Time,
    seen: AtomicI64,
    written: AtomicI64,
}

/// The memory. Shared by clones of the service.
pub struct People {
    db: Db,
    clock: Clock,
    config: AccountsConfig,
    users: RwLock<Arc<HashMap<String, UserRow>>>,
    sessions: Mutex<HashMap<String, Arc<Live>>>,
    /// The counters that were read last: of users and of sessions.
    generations: Mutex<(Option<i64>, Option<i64>)>,
    checked_at: AtomicI64,
}

/// Who a session's token is.
pub struct Present {
    /// The user.
    pub user: UserRow,
    /// The session's id.
    pub session: String,
}

impl People {
    /// A memory that is empty.
    pub fn new(db: Db, clock: Clock, config: AccountsConfig) -> Self {
        Self {
            db,
            clock,
            config,
            users: RwLock::default(),
            sessions: Mutex::default(),
            generations: Mutex::default(),
            checked_at: AtomicI64::new(i64::MIN),
        }
    }

    /// Reads what changed.
    pub async fn refresh(&self) -> Result<()> {
        let now = self.clock.now();
        let users = store::generation(&self.db, store::users::GENERATION).await?;
        let sessions = store::generation(&self.db, store::sessions::GENERATION).await?;
        let known = *self.lock_generations();
        if known.1 != Some(sessions) {
            self.lock_sessions().clear();
        }
        if known.0 != Some(users) {
            let rows = store::users::active(&self.db, MOST_USERS).await?;
            let users = rows.into_iter().map(|user| (user.id.clone(), user)).collect();
            *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        }
        *self.lock_generations() = (Some(users), Some(sessions));
        self.checked_at.store(now.0, Ordering::Release);
        Ok(())
    }

    /// Who a session's token is, if the session goes on.
    ///
    /// # Errors
    /// `Unavailable` when sessions cannot be checked.
    pub async fn find(&self, token: &str) -> Result<Option<Present>> {
        let now = self.clock.now();
        if now > Time(self.checked_at.load(Ordering::Acquire)).plus_seconds(STALE) {
            self.refresh().await.map_err(|error| {
                Error::unavailable("sessions cannot be checked, because the database does not answer")
                    .because(error)
            })?;
        }
        let hash = sha256_hex(token);
        let known = self.lock_sessions().get(&hash).cloned();
        let live = match known {
            Some(live) => live,
            None => match store::sessions::by_hash(&self.db, &hash).await? {
                Some(row) => self.remember(hash, row),
                None => return Ok(None),
            },
        };
        let idle = i64::from(self.config.session_idle_minutes) * 60;
        if now >= live.expires_at || now > Time(live.seen.load(Ordering::Relaxed)).plus_seconds(idle) {
            return Ok(None);
        }
        live.seen.fetch_max(now.0, Ordering::Relaxed);
        Ok(self.user(&live.user_id).map(|user| Present { user, session: live.id.clone() }))
    }

    /// A user who may call.
    pub fn user(&self, id: &str) -> Option<UserRow> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Everybody who may call, by id.
    pub fn all(&self) -> Arc<HashMap<String, UserRow>> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes when sessions were last used, as far as the database does not know, and removes old ones.
    pub async fn write_seen(&self) -> Result<()> {
        let used: Vec<(String, Time)> = self
            .lock_sessions()
            .values()
            .filter_map(|live| {
                let seen = live.seen.load(Ordering::Relaxed);
                (seen > live.written.swap(seen, Ordering::Relaxed)).then(|| (live.id.clone(), Time(seen)))
            })
            .collect();
        for batch in used.chunks(500) {
            store::sessions::set_seen(&self.db, batch).await?;
        }
        Ok(())
    }

    /// Removes sessions that are over.
    pub async fn remove_old(&self) -> Result<()> {
        let now = self.clock.now();
        let idle = now.plus_seconds(-i64::from(self.config.session_idle_minutes) * 60);
        store::sessions::remove_old(&self.db, now, idle).await.map(drop)
    }

    fn remember(&self, hash: String, row: store::sessions::SessionRow) -> Arc<Live> {
        let live = Arc::new(Live {
            id: row.id,
            user_id: row.user_id,
            expires_at: row.expires_at,
            seen: AtomicI64::new(row.seen_at.0),
            written: AtomicI64::new(row.seen_at.0),
        });
        let mut sessions = self.lock_sessions();
        if sessions.len() >= MOST_SESSIONS {
            // They are read again when they are used again.
            sessions.clear();
        }
        sessions.insert(hash, live.clone());
        live
    }

    fn lock_sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Live>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_generations(&self) -> std::sync::MutexGuard<'_, (Option<i64>, Option<i64>)> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller that a user is.
pub fn caller_of_user(user: &UserRow, face: Face, address: Option<String>) -> Caller {
    Caller {
        subject: format!("user:{}", user.id),
        name: user.username.clone(),
        role: user.role,
        scopes: None,
        teams: user.teams.clone(),
        session: None,
        face,
        address,
        request_id: None,
    }
}
