//! References to secrets, and the places that they lead to.
//!
//! A *reference* is a text `secret://MOUNT/PATH` in the place of a value: in a service's environment, in an
//! upstream's credentials. It is kept and shown as it is, and looked up only where the value is used.
//! `env` and `file` are there from the start; a capability that keeps secrets mounts its own place.
//!
//! - `secret://env/NAME` is the variable `OPSROOM_SECRET_NAME` of the server, and no other variable.
//! - `secret://file/NAME` is the file `secrets.d/NAME` in the data folder, and no other file; a final line
//!   break is not part of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::BoxFuture;

use crate::error::{Error, Kind, Result};
use crate::files::Roots;
use crate::secret::Secret;

/// How every reference begins.
pub const SCHEME: &str = "secret://";
/// How a variable begins that a reference may name.
const VARIABLE: &str = "OPSROOM_SECRET_";
/// The largest secret, in bytes.
const LARGEST: u64 = 64 << 10;

/// A reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Which place.
    pub mount: String,
    /// What, in that place.
    pub path: String,
}

impl Reference {
    /// The reference that a text is; `None` for a text that is a plain value.
    ///
    /// # Errors
    /// `Invalid` for a text that begins like a reference and is none.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some(rest) = text.strip_prefix(SCHEME) else { return Ok(None) };
        let wrong = || {
            Error::invalid(format!(
                "`{}` is not `secret://MOUNT/PATH`, for example `secret://env/TOKEN` or `secret://file/token`",
                text.escape_debug()
            ))
        };
        let (mount, path) = rest.split_once('/').ok_or_else(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let good = !mount.is_empty()
            && mount.len() <= 64
            && mount.chars().all(plain)
            && path.len() <= 512
            && path.split('/').all(|part| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && part.chars().all(|c| plain(c) || "#@".contains(c))
            });
        if !good {
            return Err(wrong());
        }
        Ok(Some(Self { mount: mount.to_owned(), path: path.to_owned() }))
    }
}

/// On whose behalf a secret is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose<'a> {
    /// The team whose resource uses it.
    pub team: &'a str,
    /// The `created_by` of that resource: the secret is given out if this one may have it now.
    pub owner: &'a str,
    /// Who or what uses it, for the record: `service:12`, `channel:ops`.
    pub user: &'a str,
}

/// A place where secrets are.
pub trait Mount: Send + Sync {
    /// The secret at this path.
    ///
    /// # Errors
    /// `NotFound` when there is none that this purpose may have; the message never holds a value.
    fn read<'a>(&'a self, path: &'a str, purpose: Purpose<'a>) -> BoxFuture<'a, Result<Secret>>;
}

/// Looks references up. Cheap to clone; a mount that is added is there for every clone.
#[derive(Clone, Default)]
pub struct Resolver {
    mounts: Arc<RwLock<BTreeMap<String, Arc<dyn Mount>>>>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(mounts.keys()).finish()
    }
}

impl Resolver {
    /// A resolver with `env`, of these variables, and `file`, of this data folder.
    pub fn new(data_dir: &Path, environment: &BTreeMap<String, String>) -> Self {
        let resolver = Self::default();
        let variables = environment
            .iter()
            .filter_map(|(name, value)| {
                Some((name.strip_prefix(VARIABLE)?.to_owned(), value.as_str().into()))
            })
            .collect();
        resolver.mount("env", Arc::new(Variables(variables)));
        resolver.mount("file", Arc::new(Files(data_dir.join("secrets.d"))));
        resolver
    }

    /// Adds a place, or puts another in its stead.
    pub fn mount(&self, name: &str, place: Arc<dyn Mount>) {
        self.mounts.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), place);
    }

    /// Whether a text can be looked up at all: a plain value, or a reference to a place that is there.
    ///
    /// # Errors
    /// `Invalid` for a reference that leads nowhere.
    pub fn check(&self, text: &str) -> Result<()> {
        Reference::parse(text)?.map_or(Ok(()), |reference| self.place(&reference).map(drop))
    }

    /// The value of a text: the secret that it refers to, or the text itself when it refers to none.
    ///
    /// # Errors
    /// `Invalid` for a reference that leads nowhere, `NotFound` when there is no such secret.
    pub async fn value(&self, text: &str, purpose: Purpose<'_>) -> Result<Secret> {
        let Some(reference) = Reference::parse(text)? else { return Ok(Secret::new(text)) };
        self.place(&reference)?.read(&reference.path, purpose).await
    }

    fn place(&self, reference: &Reference) -> Result<Arc<dyn Mount>> {
        let mounts = self.mounts.read().unwrap_or_else(PoisonError::into_inner);
        mounts.get(&reference.mount).cloned().ok_or_else(|| {
            let names: Vec<&str> = mounts.keys().map(String::as_str).collect();
            let mount = &reference.mount;
            Error::invalid(format!("there is no place `{mount}` for secrets; there are {}", names.join(", ")))
        })
    }
}

struct Variables(BTreeMap<String, Secret>);

impl Mount for Variables {
    fn read<'a>(&'a self, path: &'a str, _: Purpose<'a>) -> BoxFuture<'a, Result<Secret>> {
        let found = self.0.get(path).cloned();
        Box::pin(async move {
            found.ok_or_else(|| Error::not_found(format!("the server has no variable {VARIABLE}{path}")))
        })
    }
}

struct Files(std::path::PathBuf);

impl Mount for Files {
    fn read<'a>(&'a self, path: &'a str, _: Purpose<'a>) -> BoxFuture<'a, Result<Secret>> {
        let missing =
            move |_| Error::not_found(format!("there is no file secrets.d/{path} in the data folder"));
        Box::pin(async move {
            if path.contains('/') {
                return Err(missing(Error::internal("a folder")));
            }
            let roots = Roots::new(std::slice::from_ref(&self.0)).map_err(missing)?;
            let bytes = roots.read(path, LARGEST).map_err(|error| match error.kind {
                Kind::NotFound | Kind::Forbidden => missing(error),
                _ => error,
            })?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::invalid(format!("the file secrets.d/{path} is not text")))?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            Ok(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose<'static> = Purpose { team: "default", owner: "operator", user: "test" };

    fn resolver(folder: &Path) -> Resolver {
        let variables =
            [("OPSROOM_SECRET_TOKEN", "hunter2"), ("HOME", "/root"), ("DATABASE_URL", "postgres://x")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Resolver::new(folder, &BTreeMap::from(variables))
    }

    #[tokio::test]
    async fn references_lead_to_variables_of_secrets_and_to_files_of_secrets() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets.d")).unwrap();
        std::fs::write(folder.path().join("secrets.d/key"), "s3cret\n").unwrap();
        let resolver = resolver(folder.path());
        for (text, value) in
            [("secret://env/TOKEN", "hunter2"), ("secret://file/key", "s3cret"), ("plain", "plain")]
        {
            assert_eq!(resolver.value(text, PURPOSE).await.unwrap().expose(), value);
        }
    }

    #[tokio::test]
    async fn a_reference_reaches_no_other_variable_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets.d")).unwrap();
        std::fs::write(folder.path().join("operator.key"), "key").unwrap();
        std::os::unix::fs::symlink("../operator.key", folder.path().join("secrets.d/link")).unwrap();
        let resolver = resolver(folder.path());
        for text in [
            "secret://env/HOME",
            "secret://env/DATABASE_URL",
            "secret://file/missing",
            "secret://file/link",
            "secret://file/../operator.key",
            "secret://file//etc/passwd",
            "secret://file/a/b",
            "secret://vault/x",
            "secret://env",
            "secret://env/",
        ] {
            let error = resolver.value(text, PURPOSE).await.unwrap_err();
            assert!(matches!(error.kind, Kind::NotFound | Kind::Invalid), "{text}: {error:?}");
        }
    }
}
