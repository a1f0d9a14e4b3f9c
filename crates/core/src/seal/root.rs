//! The master key: what seals the key-encryption keys. It is in a file, in the environment, or in a service that
//! seals for us, never in the database.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::SealConfig;
use super::envelope::{Context, Key};
use super::kms::Kms;
use super::transit::Transit;
use crate::clock::Clock;
use crate::egress::Egress;
use crate::error::{Error, Result};
use crate::files::DataDir;

/// The file's name in the data folder.
pub const MASTER_FILE: &str = "master.key";

/// Where the master key is.
pub enum Root {
    /// In this process: the first seals, all of them open.
    Local(Vec<Key>),
    /// In Vault or OpenBao, which seals and opens for us.
    Transit(Transit),
    /// In AWS KMS, likewise.
    Kms(Kms),
}

impl Root {
    /// The master key of a configuration. One that is nowhere yet is made, if `make` says that nothing
    /// has been sealed.
    ///
    /// # Errors
    /// `Unavailable` when there is none, or it cannot be read.
    pub fn find(
        config: &SealConfig,
        data_dir: &Path,
        (egress, clock): (&Egress, &Clock),
        make: bool,
    ) -> Result<Self> {
        if !config.kms_key_id.is_empty() {
            return Ok(Root::Kms(Kms::new(config, egress.clone(), clock.clone())));
        }
        if !config.transit_address.is_empty() {
            return Ok(Root::Transit(Transit::new(config, egress.clone())));
        }
        if !config.value.is_empty() {
            return parse(config.value.expose(), "secrets.master_key.value").map(Root::Local);
        }
        let path = file(config, data_dir);
        match read(&path) {
            Ok(keys) => Ok(Root::Local(keys)),
            Err(Missing::Nothing) if make => {
                let key = Key::random();
                write(&path, std::slice::from_ref(&key))?;
                Ok(Root::Local(vec![key]))
            }
            Err(Missing::Nothing) => Err(Error::unavailable(format!(
                "the master key {} is missing, and what is sealed cannot be opened without it; put the file back from \
                 where you keep it",
                path.display()
            ))),
            Err(Missing::Unusable(error)) => Err(error),
        }
    }

    /// Seals a key-encryption key.
    pub async fn wrap(&self, id: &str, kek: &Key) -> Result<String> {
        match self {
            Root::Local(keys) => {
                let root = keys.first().ok_or_else(|| Error::internal("there is no master key"))?;
                let sealed = BASE64URL_NOPAD.encode(&root.seal(&context(id), kek.bytes()));
                Ok(format!("local:{}:{sealed}", root.id()))
            }
            Root::Transit(transit) => Ok(format!("transit:{}", transit.wrap(kek.bytes()).await?)),
            Root::Kms(kms) => Ok(format!("kms:{}", kms.wrap(id, kek.bytes()).await?)),
        }
    }

    /// Opens a key-encryption key.
    ///
    /// # Errors
    /// `Unavailable` when another master key sealed it, when it was changed, or when it cannot be asked.
    pub async fn unwrap(&self, id: &str, wrapped: &str) -> Result<Key> {
        let wrong = || {
            Error::unavailable(format!(
                "the master key is not the one that sealed the key {id}, or the key was changed; give the right one, \
                 or list the old one after the new one"
            ))
        };
        match (self, wrapped.split_once(':')) {
            (Root::Local(keys), Some(("local", rest))) => {
                let (root, sealed) = rest.split_once(':').ok_or_else(wrong)?;
                let key = keys.iter().find(|key| key.id() == root).ok_or_else(wrong)?;
                let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).map_err(|_| wrong())?;
                key.open(&context(id), &sealed).and_then(|bytes| Key::of(&bytes)).ok_or_else(wrong)
            }
            (Root::Transit(transit), Some(("transit", sealed))) => {
                Key::of(&transit.unwrap(sealed).await?).ok_or_else(wrong)
            }
            (Root::Kms(kms), Some(("kms", sealed))) => {
                Key::of(&kms.unwrap(id, sealed).await?).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// Whether this is sealed as new things are.
    pub fn is_newest(&self, wrapped: &str) -> bool {
        match self {
            Root::Local(keys) => {
                keys.first().is_some_and(|key| wrapped.starts_with(&format!("local:{}:", key.id())))
            }
            Root::Transit(_) => wrapped.starts_with("transit:"),
            Root::Kms(_) => wrapped.starts_with("kms:"),
        }
    }
}

/// The file of the master key.
pub fn file(config: &SealConfig, data_dir: &Path) -> PathBuf {
    if config.file.as_os_str().is_empty() { data_dir.join(MASTER_FILE) } else { config.file.clone() }
}

fn context(id: &str) -> Context {
    Context::new("opsroom key-encryption key", &[id])
}

/// Why there is no key in a file.
pub enum Missing {
    /// There is no file.
    Nothing,
    /// There is one, and it cannot be used.
    Unusable(Error),
}

/// The keys in a file that only its owner may read, one a line.
pub fn read(path: &Path) -> std::result::Result<Vec<Key>, Missing> {
    let unusable = |error: std::io::Error| {
        Missing::Unusable(Error::unavailable(format!(
            "the master key {} cannot be read: {error}",
            path.display()
        )))
    };
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Missing::Nothing),
        found => found.map_err(unusable)?,
    };
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Missing::Unusable(Error::unavailable(format!(
            "others than its owner may read the master key {} (mode {mode:03o}); run `chmod 600` on it",
            path.display()
        ))));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(unusable)?);
    parse(&text, &path.display().to_string()).map_err(Missing::Unusable)
}

/// Writes keys into a file that only its owner may read, whole or not at all.
pub fn write(path: &Path, keys: &[Key]) -> Result<()> {
    let mut text = Zeroizing::new(String::new());
    for key in keys {
        text.push_str(&key.to_hex());
        text.push('\n');
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::invalid(format!("the master key {} is no path of a file", path.display())));
    };
    DataDir::open(folder)?.write_private(name, text.as_bytes()).map(drop)
}

fn parse(text: &str, place: &str) -> Result<Vec<Key>> {
    let keys: Option<Vec<Key>> = text.split_whitespace().map(Key::parse).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
        Error::unavailable(format!(
            "{place} is not a master key: 64 hexadecimal digits, such as `openssl rand -hex 32` prints; a second one \
             after it still opens what it sealed"
        ))
    })
}
