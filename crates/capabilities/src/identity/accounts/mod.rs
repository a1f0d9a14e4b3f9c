//! Accounts of people: signing up or being invited, logging in, and everything about one's own account.
//!
//! # Words
//!
//! - A *session* begins with a login and is known by its token, of which the database has the SHA-256. It ends
//!   when it is not used, when its time is over, or when its user, an administrator or a new password ends it.
//! - A *mailed token* proves that somebody reads an address: to verify it, to set a forgotten password, to
//!   accept an invitation. It works once and not for long.
//!
//! # Invariants
//!
//! - What is answered does not say whether an account exists: not in its words, and not in the time it takes.
//! - A reset sets a password and nothing else: it does not pass the second factor.
//! - A changed password ends every other session.

mod admin;
pub mod config;
pub(in crate::identity) mod login;
pub mod model;
mod operations;
mod own;
mod password;
pub mod people;
pub(in crate::identity) mod tokens;
mod totp;

use std::sync::Arc;

use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::{Caller, Error, Operation, Result, Role};

use super::{Identity, store};
use crate::notifications::Notifications;
use config::AccountsConfig;
use model::UserRow;
use password::Hasher;

pub use login::LoggedIn;
pub use totp::code_at;

/// How tokens of sessions begin.
pub const SESSION_PREFIX: &str = "oss_";

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Accounts {
    identity: Identity,
    sealer: Sealer,
    notifications: Notifications,
    config: Arc<AccountsConfig>,
    /// By which people reach the server, for links in mail; never taken from a request.
    public_url: Arc<str>,
    hasher: Hasher,
}

impl Accounts {
    /// The service over a database that has the tables of this folder.
    pub fn new(
        identity: Identity,
        sealer: Sealer,
        notifications: Notifications,
        config: AccountsConfig,
        public_url: &str,
    ) -> Self {
        let public_url = public_url.trim_end_matches('/').into();
        Self {
            identity,
            sealer,
            notifications,
            config: Arc::new(config),
            public_url,
            hasher: Hasher::default(),
        }
    }

    /// Who may come in.
    pub(in crate::identity) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// The operations of accounts.
    pub fn operations(&self) -> Vec<Operation> {
        operations::all(self)
    }

    /// Seals every second factor again by the newest key.
    pub fn resealing(&self) -> Reseal {
        let accounts = self.clone();
        Arc::new(move || {
            let accounts = accounts.clone();
            Box::pin(async move { accounts.reseal().await })
        })
    }

    async fn reseal(&self) -> Result<u64> {
        const PAGE: u64 = 200;
        let (mut before, mut count) = (None, 0);
        loop {
            let users = store::users::list(&self.identity.db, before.as_deref(), PAGE).await?;
            for user in &users {
                let Some(seed) = &user.seed else { continue };
                let Some(again) = self.sealer.rewrap(&user.context(), seed).await? else { continue };
                let unchanged = |now: &mut UserRow| {
                    if now.seed.as_ref() == Some(seed) {
                        now.seed = Some(again);
                    }
                };
                self.change(&user.id, false, unchanged).await?;
                count += 1;
            }
            match users.last() {
                Some(last) => before = Some(last.id.clone()),
                None => return Ok(count),
            }
        }
    }

    /// The user who calls, as the database has them now.
    ///
    /// # Errors
    /// `Forbidden` for a caller that is no user: a key, the operator.
    pub(in crate::identity) async fn own(&self, caller: &Caller) -> Result<UserRow> {
        let id = caller.subject.strip_prefix("user:").ok_or_else(|| {
            Error::forbidden(format!(
                "{} is a key and has no account; log in with `login` first",
                caller.name
            ))
        })?;
        let user = store::users::get(&self.identity.db, id).await?;
        user.ok_or_else(|| Error::unauthenticated("the account is gone"))
    }

    /// The user who calls, who has just given their password again (ASVS 7.5.1).
    pub(in crate::identity) async fn own_with_password(
        &self,
        caller: &Caller,
        password: &opsroom_core::Secret,
    ) -> Result<UserRow> {
        let user = self.own(caller).await?;
        if self.hasher.verify(password, user.password.clone(), true).await? {
            return Ok(user);
        }
        self.identity.throttle.failed(caller.address.as_deref(), self.identity.clock.now())?;
        Err(Error::forbidden("the current password is wrong"))
    }

    /// What is kept in memory hears of a change.
    pub(in crate::identity) async fn changed(&self) {
        if let Err(error) = self.identity.people.refresh().await {
            tracing::warn!(error = error.message, "accounts could not be read after a change");
        }
        self.identity.agents.changed().await;
    }
}

/// Refuses to give more than the caller has.
fn grantable(caller: &Caller, role: Role) -> Result<()> {
    if role > caller.role || caller.scopes.is_some() {
        return Err(Error::forbidden(format!(
            "{} cannot make {}: nobody gives more than they have",
            caller.name,
            role.as_str()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
