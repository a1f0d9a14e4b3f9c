//! Passwords: which are taken, and how they are kept.
//!
//! Hashed with argon2id (RFC 9106) at 19 MiB, two passes and one lane, the least that OWASP ASVS 5.0 names.
//! Hashing runs on as many threads as there are processors and never more at once, and the line before them
//! is short, so that a flood of logins takes neither the memory nor the patience of the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64_NOPAD;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result, Secret};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// The shortest and the longest password, in characters (ASVS 6.2.1 and 6.2.9).
const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;

/// Memory in KiB, passes and lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);

/// How many may wait for a thread; those beyond are told to come again.
const MOST_WAITING: usize = 24;

/// Passwords that were leaked often, in lower case and sorted; see NOTICE.
static LEAKED: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("../../../assets/leaked-passwords.txt").lines().collect());

/// What a hash is compared with when there is no user, so that it takes as long.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash(&opsroom_core::id::random_text(20)).unwrap_or_default());

/// Hashes a few at a time. Cheap to clone.
#[derive(Clone)]
pub struct Hasher {
    threads: Arc<Semaphore>,
    /// For those who were here before: a crowd of strangers does not stand before them.
    known: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Hasher {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).saturating_sub(1).max(1);
        Self {
            threads: Arc::new(Semaphore::new(threads)),
            known: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }
}

impl Hasher {
    /// The hash of a new password.
    pub async fn hash(&self, password: &Secret) -> Result<String> {
        let password = password.clone();
        let _turn = self.turn(true).await?;
        Lifecycle::blocking(move || hash(password.expose())).await
    }

    /// Whether a password is the one of a hash; without a hash it takes as long and is not. `known` says that
    /// the address is one from which this user came before.
    ///
    /// # Errors
    /// `Busy` when too many wait.
    pub async fn verify(&self, password: &Secret, kept: Option<String>, known: bool) -> Result<bool> {
        let password = password.clone();
        let _turn = self.turn(known).await?;
        Lifecycle::blocking(move || {
            let right = verify(password.expose(), kept.as_deref().unwrap_or(&NOBODY));
            Ok(right && kept.is_some())
        })
        .await
    }

    async fn turn(&self, known: bool) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let line = if known { self.known.clone() } else { self.threads.clone() };
        let place = Place::take(&self.waiting, known)?;
        let turn = line.acquire_owned().await.map_err(Error::internal);
        drop(place);
        turn
    }
}

/// A place in the line; given back when dropped, also by one who goes away.
struct Place(Option<Arc<AtomicUsize>>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>, known: bool) -> Result<Self> {
        if known {
            return Ok(Self(None));
        }
        if waiting.fetch_add(1, Ordering::AcqRel) >= MOST_WAITING {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Error::busy("too many log in at once; try again in a second"));
        }
        Ok(Self(Some(waiting.clone())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(waiting) = &self.0 {
            waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Refuses a password that is too short, too long, known to everybody, or the user's own name.
///
/// Any characters may be in it, and none must be (ASVS 6.2.5).
pub fn acceptable(password: &Secret, names: &[&str]) -> Result<()> {
    let text = password.expose();
    let length = text.chars().count();
    if !LENGTH.contains(&length) {
        return Err(Error::invalid(format!(
            "password has {length} characters; it has from 8 to 256, of any kind"
        )));
    }
    let lower = text.to_lowercase();
    if LEAKED.binary_search(&lower.as_str()).is_ok() {
        return Err(Error::invalid(
            "password is one that attackers try first, because it was leaked; choose another",
        ));
    }
    if names.iter().any(|name| !name.is_empty() && lower == name.to_lowercase()) {
        return Err(Error::invalid("password is your own name or address; choose another"));
    }
    Ok(())
}

fn hasher() -> Result<Argon2<'static>> {
    let (memory, passes, lanes) = COST;
    let params =
        Params::new(memory, passes, lanes, Some(32)).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// In the usual form, `$argon2id$v=19$m=...,t=...,p=...$SALT$HASH`.
fn hash(password: &str) -> Result<String> {
    let salt = opsroom_core::id::random_text(22);
    let out = digest(password, &salt)?;
    let (memory, passes, lanes) = COST;
    Ok(format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${}", BASE64_NOPAD.encode(&out)))
}

fn digest(password: &str, salt: &str) -> Result<[u8; 32]> {
    let salt = BASE64_NOPAD.decode(&salt.as_bytes()[..20]).map_err(Error::internal)?;
    let mut out = [0u8; 32];
    hasher()?
        .hash_password_into(password.as_bytes(), &salt, &mut out)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(out)
}

fn verify(password: &str, kept: &str) -> bool {
    let mut parts = kept.rsplit('$');
    let (Some(wanted), Some(salt)) = (parts.next(), parts.next()) else { return false };
    let Ok(wanted) = BASE64_NOPAD.decode(wanted.as_bytes()) else { return false };
    salt.len() >= 20 && digest(password, salt).is_ok_and(|found| bool::from(found.ct_eq(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v6_2_passwords_of_any_composition_are_taken_and_leaked_ones_are_not() {
        for good in ["correct horse battery", "ääääääää", "        x", "12 characters", &"x".repeat(256)]
        {
            assert!(acceptable(&Secret::new(good), &["ada"]).is_ok(), "{good}");
        }
        for bad in ["", "short", "12345678", "PASSWORD", "Password1", "adalovelace", &"x".repeat(257)] {
            let error = acceptable(&Secret::new(bad), &["adalovelace"]).unwrap_err();
            assert!(bad.is_empty() || !error.message.contains(bad), "{error}");
        }
        assert!(LEAKED.is_sorted() && LEAKED.len() > 3000);
    }

    #[tokio::test]
    async fn v11_4_2_a_password_is_kept_as_argon2id_with_a_salt_of_its_own() {
        let hasher = Hasher::default();
        let password = Secret::new("correct horse battery");
        let (one, other) = (hasher.hash(&password).await.unwrap(), hasher.hash(&password).await.unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one != other);
        assert!(hasher.verify(&password, Some(one.clone()), false).await.unwrap());
        assert!(!hasher.verify(&Secret::new("correct horse batterx"), Some(one), false).await.unwrap());
        assert!(!hasher.verify(&password, None, false).await.unwrap());
        assert!(!hasher.verify(&password, Some("garbage".to_owned()), false).await.unwrap());
    }

    #[test]
    fn v6_3_8_timing_a_login_of_nobody_is_as_much_work_as_one_of_somebody() {
        // What a name that nobody has is held against: a hash that costs the same, and not a short cut.
        let somebody = hash("correct horse battery").unwrap();
        let shape = |hash: &str| {
            let parts: Vec<&str> = hash.split('$').collect();
            let digest = BASE64_NOPAD.decode(parts[5].as_bytes()).unwrap();
            (parts[1].to_owned(), parts[3].to_owned(), parts[4].len(), digest.len())
        };
        assert_eq!(shape(&NOBODY), shape(&somebody));
        assert!(!verify("correct horse battery", &NOBODY));
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_told_to_wait_and_somebody_known_is_not() {
        let hasher = Hasher::default();
        let password = Secret::new("correct horse battery");
        let strangers = (0..200).map(|_| hasher.verify(&password, None, false));
        let crowd = futures_util::future::join_all(strangers);
        let known = async {
            let kept = hash("correct horse battery").unwrap();
            hasher.verify(&password, Some(kept), true).await.unwrap()
        };
        let (crowd, known) = tokio::join!(crowd, known);
        assert!(known);
        let refused = crowd.iter().filter(|result| result.is_err()).count();
        assert!(refused >= 200 - MOST_WAITING - 64, "{refused} were refused");
        assert_eq!(hasher.waiting.load(Ordering::SeqCst), 0);
    }
}
