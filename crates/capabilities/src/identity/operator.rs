//! The operator key: whoever can read the data folder may do everything.
//!
//! The key is in `<data folder>/operator.key`, readable by its owner only; the database has its hash,
//! so that a file that was put there from elsewhere opens nothing. The server accepts the key of its own
//! data folder only.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::authenticate::is_token;
use super::{Identity, OPERATOR_PREFIX, store};

/// The file's name in the data folder.
pub const OPERATOR_FILE: &str = "operator.key";

impl Identity {
    /// Makes sure that the data folder has an operator key that this server accepts, and answers where.
    /// A file that is missing, or whose key the database does not know, is replaced.
    ///
    /// # Errors
    /// `Invalid` when others than the owner can get at the folder or the file, or the file is a link;
    /// `Unavailable` when the folder cannot be written.
    pub async fn ensure_operator_key(&self) -> Result<PathBuf> {
        let path = self.data_dir.join(OPERATOR_FILE);
        let now = self.clock.now();
        let found = {
            let (folder, path) = (self.data_dir.clone(), path.clone());
            Lifecycle::blocking(move || {
                check_folder(&folder)?;
                read_key(&path)
            })
            .await?
        };
        if let Some(key) = found
            && store::tokens::see_operator(&self.db, &sha256_hex(&key), now).await?
        {
            self.accept_operator_key(&key);
            return Ok(path);
        }
        let key = new_token(OPERATOR_PREFIX);
        // The hash first: a file whose key nobody knows would be replaced at the next start, a hash whose
        // key nobody has opens nothing.
        store::tokens::insert_operator(&self.db, &sha256_hex(&key), now).await?;
        {
            let (path, key) = (path.clone(), key.clone());
            Lifecycle::blocking(move || write_key(&path, &key)).await?;
        }
        self.accept_operator_key(&key);
        Ok(path)
    }

    pub(super) fn is_operator_key(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let own = self.operator.read().unwrap_or_else(PoisonError::into_inner);
        own.is_some_and(|own| bool::from(own.ct_eq(&hash)))
    }

    fn accept_operator_key(&self, key: &str) {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        *self.operator.write().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    }
}

/// Makes the folder for its owner only, or refuses one that others can enter.
fn check_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| no_access("make the data folder", folder, error))?;
    let found = fs::metadata(folder).map_err(|error| no_access("look at the data folder", folder, error))?;
    refuse_others(folder, &found, "700")
}

fn refuse_others(path: &Path, found: &fs::Metadata, right: &str) -> Result<()> {
    let path = path.display();
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::invalid(format!(
            "{path} can be used by others than its owner (mode {mode:03o}), and the operator key would be \
             theirs too; run `chmod {right} {path}`"
        )));
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        let owner = found.uid();
        return Err(Error::invalid(format!(
            "{path} belongs to user {owner}, and the server runs as user {me}; run it as the owner of its data folder"
        )));
    }
    Ok(())
}

/// The key in the file; `None` when there is no file, or no key in it.
fn read_key(path: &Path) -> Result<Option<String>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(no_access("read the operator key", path, error)),
    };
    let found = file.metadata().map_err(|error| no_access("look at the operator key", path, error))?;
    if !found.is_file() {
        return Err(Error::invalid(format!(
            "{} is not a file; remove it, and a new key is made",
            path.display()
        )));
    }
    if found.mode() & 0o077 != 0 {
        let (path, mode) = (path.display(), found.mode() & 0o777);
        return Err(Error::invalid(format!(
            "{path} can be read by others than its owner (mode {mode:03o}), who may know the operator key by \
             now; remove it, and a new key is made"
        )));
    }
    refuse_others(path, &found, "600")?;
    let mut text = String::new();
    // A file that is not text has no key in it.
    let read = file.take(256).read_to_string(&mut text);
    let key = text.trim();
    Ok((read.is_ok() && is_token(key, OPERATOR_PREFIX)).then(|| key.to_owned()))
}

/// Writes the key beside its place and moves it there, so that a reader never sees half a key.
fn write_key(path: &Path, key: &str) -> Result<()> {
    let beside = path.with_extension("key.new");
    let failed = |error| no_access("write the operator key", path, error);
    match fs::remove_file(&beside) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(format!("{key}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

fn no_access(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot {doing}, {}: {error}", path.display())).because(error)
}
