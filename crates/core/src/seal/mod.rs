//! Sealing: how what must stay secret is kept in the database.
//!
//! # Words
//!
//! - The *master key* is outside of the database: in a file of the data folder, in the environment, in the
//!   transit engine of Vault or OpenBao, or in AWS KMS. It seals only *key-encryption keys*, which are in the database.
//! - A sealed text has a *data key* of its own, sealed by a key-encryption key ([`envelope`]).
//!
//! # Invariants
//!
//! - Without the master key nothing opens: a lost or wrong one is an error that says so, never an empty
//!   answer, and never a new key where something was sealed before.
//! - Rotating makes a new key-encryption key at once; what is sealed by older ones opens meanwhile.

mod config;
pub mod envelope;
mod kms;
mod root;
mod store;
#[cfg(test)]
mod tests;
mod transit;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::clock::{Clock, Time};
use crate::db::Db;
use crate::egress::Egress;
use crate::error::{Error, Kind, Result};
use envelope::{Envelope, Key};
use root::Root;

pub use config::SealConfig;
pub use root::MASTER_FILE;
pub use store::{MIGRATIONS, TABLE};

/// Seals again, by the newest key, what one part of the house keeps sealed; answers how many texts it was.
pub type Reseal = Arc<dyn Fn() -> BoxFuture<'static, Result<u64>> + Send + Sync>;

/// For how many seconds a server seals by the newest key that it knows before it looks for a newer one, which
/// another server may have made.
const KNOWN_FOR: i64 = 60;

/// How many seconds after a key has a successor it is forgotten at the earliest: beyond [`KNOWN_FOR`], so that
/// no server seals by it any more.
const KEPT_FOR: i64 = 3600;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Clock,
    egress: Egress,
    config: SealConfig,
    data_dir: PathBuf,
    keys: RwLock<Keys>,
    /// Held while keys are read or made.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Arc<Key>>,
    current: Option<(String, Arc<Key>, i64)>,
    read_at: Option<Time>,
}

impl Sealer {
    /// A sealer over a database that has the table of [`MIGRATIONS`]. The master key is looked for when it
    /// is first needed, so that a server starts, and says what is wrong, without one.
    pub fn new(db: Db, clock: Clock, egress: Egress, config: SealConfig, data_dir: &Path) -> Self {
        let inner = Inner {
            db,
            clock,
            egress,
            config,
            data_dir: data_dir.to_owned(),
            keys: RwLock::default(),
            reading: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Seals a text that belongs to `context`.
    ///
    /// # Errors
    /// `Unavailable` without the master key.
    pub async fn seal(&self, context: &[&str], plain: &[u8]) -> Result<String> {
        let (id, key, _) = self.current().await?;
        Ok(Envelope::seal(&key, &id, context, plain).to_string())
    }

    /// Opens a text that was sealed for `context`.
    ///
    /// # Errors
    /// `Unavailable` without the master key that sealed it, or when it was changed or moved.
    pub async fn open(&self, context: &[&str], sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let envelope = Envelope::parse(sealed).ok_or_else(broken)?;
        let key = self.key(&envelope.kek).await?;
        envelope.open(&key, context).ok_or_else(broken)
    }

    /// The same as text.
    pub async fn open_text(&self, context: &[&str], sealed: &str) -> Result<Zeroizing<String>> {
        let bytes = self.open(context, sealed).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| broken())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The sealed text under the newest key-encryption key; `None` when it is already.
    pub async fn rewrap(&self, context: &[&str], sealed: &str) -> Result<Option<String>> {
        let envelope = Envelope::parse(sealed).ok_or_else(broken)?;
        let (id, new, _) = self.current().await?;
        if envelope.kek == id {
            return Ok(None);
        }
        let old = self.key(&envelope.kek).await?;
        let again = envelope.rewrap(&old, &new, &id, context).ok_or_else(broken)?;
        Ok(Some(again.to_string()))
    }

    /// Makes a new key-encryption key, which seals from now on; answers its id and its generation. A
    /// master key that is in a file of ours is replaced as well.
    pub async fn rotate(&self) -> Result<(String, i64)> {
        self.current().await?;
        let _one_at_a_time = self.inner.reading.lock().await;
        self.replace_file().await?;
        let root = self.root(false).await?;
        let rows = store::all(&self.inner.db).await?;
        let generation = rows.last().map_or(0, |row| row.generation) + 1;
        let id = self.add(&root, generation).await?;
        self.read(&root).await?;
        Ok((id, generation))
    }

    /// Forgets the key-encryption keys that have had a successor for an hour. The caller has sealed again all
    /// that this house keeps: what was left out opens never again.
    pub async fn retire(&self) -> Result<()> {
        store::remove_succeeded(&self.inner.db, self.inner.clock.now().plus_seconds(-KEPT_FOR)).await
    }

    /// Whether something can be sealed now, and by which key.
    ///
    /// # Errors
    /// What is wrong with the master key.
    pub async fn check(&self) -> Result<String> {
        self.current().await.map(|(id, _, generation)| format!("key {id}, the {generation}. one"))
    }

    /// Whether anything was ever sealed in this database.
    pub async fn in_use(&self) -> Result<bool> {
        Ok(!store::all(&self.inner.db).await?.is_empty())
    }

    async fn current(&self) -> Result<(String, Arc<Key>, i64)> {
        let fresh =
            |keys: &Keys| keys.read_at.is_some_and(|at| self.inner.clock.now() < at.plus_seconds(KNOWN_FOR));
        let known = Some(self.known()).filter(|keys| fresh(keys)).and_then(|keys| keys.current.clone());
        if let Some(current) = known {
            return Ok(current);
        }
        self.load().await?;
        self.known().current.clone().ok_or_else(|| Error::internal("no key-encryption key was read"))
    }

    /// A key by its id; one that another server made is read from the database.
    async fn key(&self, id: &str) -> Result<Arc<Key>> {
        if let Some(key) = self.known().by_id.get(id) {
            return Ok(key.clone());
        }
        self.load().await?;
        self.known().by_id.get(id).cloned().ok_or_else(|| {
            Error::unavailable("the key that sealed this is not in the database; it was sealed elsewhere")
        })
    }

    async fn load(&self) -> Result<()> {
        let _one_at_a_time = self.inner.reading.lock().await;
        let rows = store::all(&self.inner.db).await?;
        let root = self.root(rows.is_empty()).await?;
        if rows.is_empty() {
            match self.add(&root, 1).await {
                // Another server was first.
                Err(error) if error.kind == Kind::Conflict => {}
                added => drop(added?),
            }
        }
        self.read(&root).await
    }

    async fn add(&self, root: &Root, generation: i64) -> Result<String> {
        let kek = Key::random();
        let id = kek.id();
        let wrapped = root.wrap(&id, &kek).await?;
        let row = store::Row { generation, id: id.clone(), wrapped };
        store::insert(&self.inner.db, &row, self.inner.clock.now()).await?;
        Ok(id)
    }

    /// Reads every key, and seals anew those that an older master key sealed.
    async fn read(&self, root: &Root) -> Result<()> {
        let mut keys = Keys { read_at: Some(self.inner.clock.now()), ..Keys::default() };
        for row in store::all(&self.inner.db).await? {
            let key = Arc::new(root.unwrap(&row.id, &row.wrapped).await?);
            if !root.is_newest(&row.wrapped) {
                let wrapped = root.wrap(&row.id, &key).await?;
                store::rewrap(&self.inner.db, row.generation, &wrapped).await?;
            }
            keys.by_id.insert(row.id.clone(), key.clone());
            keys.current = Some((row.id, key, row.generation));
        }
        *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    async fn root(&self, make: bool) -> Result<Root> {
        let sealer = self.clone();
        crate::lifecycle::Lifecycle::blocking(move || {
            let inner = &sealer.inner;
            Root::find(&inner.config, &inner.data_dir, (&inner.egress, &inner.clock), make)
        })
        .await
    }

    /// A new master key in the file, in three steps of which each can be the last one: the file has both,
    /// every key is sealed by the new one, the file has the new one alone.
    async fn replace_file(&self) -> Result<()> {
        let inner = &self.inner;
        if !inner.config.is_file() {
            return Ok(());
        }
        let path = root::file(&inner.config, &inner.data_dir);
        let Ok(old) = root::read(&path) else { return Ok(()) };
        let new = Key::random();
        let copy = || Key::of(new.bytes()).ok_or_else(|| Error::internal("a key has 32 bytes"));
        let mut both = vec![copy()?];
        both.extend(old);
        root::write(&path, &both)?;
        self.read(&Root::Local(both)).await?;
        root::write(&path, &[new])
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Keys> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the master key of a configuration opens these rows of [`TABLE`], each the id of a key and the key as
/// it is sealed. Without rows there is nothing to open.
///
/// # Errors
/// `Unavailable` without the master key that sealed them, with words on where it belongs.
pub async fn opens(
    config: &SealConfig,
    data_dir: &Path,
    egress: &Egress,
    rows: &[(String, String)],
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let root = Root::find(config, data_dir, (egress, &Clock::System), false)?;
    for (id, wrapped) in rows {
        root.unwrap(id, wrapped).await?;
    }
    Ok(())
}

fn broken() -> Error {
    Error::unavailable("what was sealed does not open: it was changed, moved, or sealed by another key")
}
