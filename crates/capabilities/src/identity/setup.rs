//! The first administrator: a setup token, exchanged once for a key.

use opsroom_core::caller::{DEFAULT_TEAM, Face};
use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Caller, Effect, Error, Result, Role};
use serde_json::json;

use super::audit::{self, AuditEntry};
use super::authenticate::is_token;
use super::keys::NewKey;
use super::{CreatedKey, Identity, SETUP_PREFIX, store};

/// How long a setup token works, in seconds.
pub const SETUP_SECONDS: i64 = 15 * 60;

impl Identity {
    /// Whether there is a key that may do everything. While there is none, the server must not be
    /// reachable from other machines.
    pub async fn has_administrator(&self) -> Result<bool> {
        let key = store::keys::has_administrator(&self.db, self.clock.now()).await?;
        Ok(key || store::users::has_administrator_now(&self.db).await?)
    }

    /// A new setup token, `ops_` and 64 hexadecimal digits, for 15 minutes and one use; the one before
    /// stops to work. Show it to the person at the terminal and keep it nowhere.
    ///
    /// # Errors
    /// `Conflict` when there is an administrator.
    pub async fn new_setup_token(&self) -> Result<String> {
        let now = self.clock.now();
        let token = new_token(SETUP_PREFIX);
        let mut on = self.db.begin().await?;
        if store::keys::has_administrator_on(&mut on, now).await?
            || store::users::has_administrator(&mut on).await?
        {
            return Err(there_is_one());
        }
        let expires = now.plus_seconds(SETUP_SECONDS);
        store::tokens::put_setup(&mut on, &sha256_hex(&token), now, expires).await?;
        on.commit().await?;
        Ok(token)
    }

    /// Exchanges the setup token for the first administrator's key (`POST /setup`, open to everybody).
    /// The token is taken, the key is made and the record is written together or not at all, so that of
    /// two who come at the same moment one gets a key.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is wrong, used or expired; `Busy` in its place when the address
    /// has failed too often; `Conflict` when there is an administrator meanwhile.
    pub async fn exchange_setup_token(&self, token: &str, address: Option<String>) -> Result<CreatedKey> {
        let taken =
            if is_token(token, SETUP_PREFIX) { self.try_exchange(token, &address).await? } else { None };
        if let Some(created) = taken {
            self.cache.changed().await;
            return Ok(created);
        }
        Err(self.wrong_setup_token(&address))
    }

    /// Refuses a setup token that is not the one, without taking it.
    pub(super) async fn setup_token_is(&self, token: &str, address: &Option<String>) -> Result<()> {
        let now = self.clock.now();
        let right = is_token(token, SETUP_PREFIX)
            && store::tokens::is_setup(&self.db, &sha256_hex(token), now).await?;
        if right { Ok(()) } else { Err(self.wrong_setup_token(address)) }
    }

    /// Takes the setup token within a transaction that makes the first administrator.
    pub(super) async fn take_setup_token(
        &self,
        on: &mut opsroom_core::db::Transaction,
        token: &str,
        address: &Option<String>,
    ) -> Result<()> {
        let now = self.clock.now();
        if !store::tokens::take_setup(on, &sha256_hex(token), now).await? {
            return Err(self.wrong_setup_token(address));
        }
        if store::keys::has_administrator_on(on, now).await? || store::users::has_administrator(on).await? {
            return Err(there_is_one());
        }
        Ok(())
    }

    fn wrong_setup_token(&self, address: &Option<String>) -> Error {
        if let Err(busy) = self.throttle.failed(address.as_deref(), self.clock.now()) {
            return busy;
        }
        tracing::warn!(address, "an attempt to use a setup token failed");
        Error::unauthenticated(
            "this setup token is wrong, used or older than 15 minutes; start `opsroom serve` on a terminal again, \
             and it prints a new one",
        )
    }

    async fn try_exchange(&self, token: &str, address: &Option<String>) -> Result<Option<CreatedKey>> {
        let now = self.clock.now();
        let caller = Caller {
            subject: "setup".to_owned(),
            name: "setup".to_owned(),
            address: address.clone(),
            ..Caller::operator(Face::Rest)
        };
        let mut on = self.db.begin().await?;
        if !store::tokens::take_setup(&mut on, &sha256_hex(token), now).await? {
            return Ok(None);
        }
        if store::keys::has_administrator_on(&mut on, now).await?
            || store::users::has_administrator(&mut on).await?
        {
            // The token is void all the same.
            on.commit().await?;
            return Err(there_is_one());
        }
        let new = NewKey {
            name: "first administrator".to_owned(),
            role: Role::Administrator,
            scopes: None,
            team_id: DEFAULT_TEAM.to_owned(),
            created_by: caller.subject.clone(),
            expires_at: None,
        };
        let created = new.insert(&mut on, now).await?;
        let details = json!({ "api_key_id": created.api_key.id });
        let entry = AuditEntry::action(&caller, "exchange_setup_token", Effect::Write, &details);
        audit::append(&mut on, &[entry.at(now).ok()]).await?;
        on.commit().await?;
        Ok(Some(created))
    }
}

fn there_is_one() -> Error {
    Error::conflict(
        "there is an administrator's key already; ask its owner for a key, or make one on this machine with \
         `opsroom create-api-key`",
    )
}
