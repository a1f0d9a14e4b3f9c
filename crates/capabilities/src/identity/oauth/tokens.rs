//! The token endpoint: from a code or a refresh token to tokens, and their end.

use opsroom_core::db::Transaction;
use opsroom_core::id::{new_id, new_token, sha256_hex};
use opsroom_core::{Caller, Error, Result, Time};
use serde_json::{Value, json};

use super::authorize::{Code, Parameters};
use super::model::{self, Client, Denied, Grant};
use super::{ACCESS_PREFIX, CODE_PREFIX, OAuth, REFRESH_PREFIX};
use crate::identity::authenticate::is_token;
use crate::identity::store;
use store::oauth::grants;
use store::oauth::tokens::{self, Kind, New};

/// The most grants of one user; of more, the oldest end.
const MOST_OF_USER: u64 = 100;

const DAY: i64 = 24 * 3600;

/// How a client showed who it is.
pub struct Shown<'a> {
    /// Its id.
    pub client_id: &'a str,
    /// Its secret, when it has one.
    pub secret: Option<&'a str>,
    /// Whether by `Authorization: Basic`.
    pub basic: bool,
}

impl OAuth {
    /// Answers a request for tokens.
    ///
    /// # Errors
    /// In the words of RFC 6749.
    pub async fn token(
        &self,
        caller: &Caller,
        shown: Shown<'_>,
        given: &Parameters,
    ) -> Result<Value, Denied> {
        self.need_available()?;
        if let Some(name) = given.twice() {
            let name: String = name.chars().take(40).collect();
            return Err(Denied::request(format!("{name:?} is given twice")));
        }
        let client = self.authenticated(caller, shown.client_id, shown.secret, shown.basic).await?;
        match given.get("grant_type") {
            Some("authorization_code") => self.redeem(caller, &client, given).await,
            Some("refresh_token") => self.renew(caller, &client, given).await,
            _ => Err(Denied::new(
                "unsupported_grant_type",
                "grant_type is `authorization_code` or `refresh_token`",
            )),
        }
    }

    /// From a code to the first tokens. Whatever is wrong, the code is used up: who shows it has read it.
    async fn redeem(&self, caller: &Caller, client: &Client, given: &Parameters) -> Result<Value, Denied> {
        let code = given.get("code").filter(|code| is_token(code, CODE_PREFIX)).ok_or_else(Denied::grant)?;
        let (hash, now) = (sha256_hex(code), self.identity.clock.now());
        let mut on = self.identity.db.begin().await?;
        let Some(taken) = tokens::take(&mut on, &hash, Kind::Code, now).await? else {
            return Err(self.wrong(caller)?);
        };
        if taken.again {
            return Err(self.stolen(on, caller, taken.grant.as_deref(), "a code was used twice").await?);
        }
        let code: Code = serde_json::from_str(&taken.details.unwrap_or_default()).map_err(Error::internal)?;
        let verifier = given.get("code_verifier").unwrap_or_default();
        let right = code.asked.client_id == client.id
            && given.get("redirect_uri") == Some(code.asked.redirect_uri.as_str())
            && model::proves(verifier, &code.asked.challenge)
            && self.same_resource(given, &code.asked.resource)?
            && self.identity.people.user(&code.user_id).is_some()
            && store::sessions::exists(&mut on, &code.session, now).await?;
        if !right {
            on.commit().await?;
            return Err(self.wrong(caller)?);
        }
        let grant = Grant {
            id: new_id(),
            user_id: code.user_id,
            client_id: code.asked.client_id,
            client_name: code.asked.client_name,
            scopes: code.asked.scopes,
            resource: code.asked.resource,
            refreshes: code.asked.refreshes,
            created_at: now,
            renewed_at: now,
            expires_at: now.plus_seconds(i64::from(self.config.grant_days) * DAY),
            revoked_at: None,
        };
        grants::insert(&mut on, &grant, MOST_OF_USER).await?;
        tokens::set_grant(&mut on, &hash, &grant.id).await?;
        let answer = self.issue(&mut on, &grant, now).await?;
        on.commit().await?;
        self.identity.agents.changed().await;
        let details = json!({ "grant_id": grant.id, "client_id": grant.client_id, "scopes": grant.scopes });
        self.identity.record(&self.acting(caller, &grant), "begin_grant", &details, Ok(())).await?;
        Ok(answer)
    }

    /// From a refresh token to the next tokens; it is used up by that.
    async fn renew(&self, caller: &Caller, client: &Client, given: &Parameters) -> Result<Value, Denied> {
        let token = given
            .get("refresh_token")
            .filter(|token| is_token(token, REFRESH_PREFIX))
            .ok_or_else(Denied::grant)?;
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let taken = tokens::take(&mut on, &sha256_hex(token), Kind::Refresh, now).await?;
        let Some(taken) = taken else { return Err(self.wrong(caller)?) };
        let id = taken.grant.unwrap_or_default();
        if taken.again {
            return Err(self.stolen(on, caller, Some(&id), "a refresh token was used twice").await?);
        }
        let grant = grants::get_on(&mut on, &id).await?;
        let live = |grant: &Grant| {
            grant.revoked_at.is_none()
                && now < grant.expires_at
                && self.identity.people.user(&grant.user_id).is_some()
        };
        let Some(grant) = grant.filter(live) else { return Err(self.wrong(caller)?) };
        if grant.client_id != client.id {
            return Err(self.stolen(on, caller, Some(&id), "another client showed a refresh token").await?);
        }
        if !self.same_resource(given, &grant.resource)? {
            return Err(Denied::new(
                "invalid_target",
                "the resource is another one than the token was given for",
            ));
        }
        if let Some(wanted) = given.get("scope") {
            let words = wanted.split_ascii_whitespace().filter(|word| *word != model::OFFLINE);
            let has = |word: &str| grant.scopes.iter().any(|scope| String::from(scope.clone()) == word);
            if !words.clone().all(has) {
                return Err(Denied::new(
                    "invalid_scope",
                    "a refresh token gives the scopes that a person gave, not more",
                ));
            }
        }
        grants::set_renewed(&mut on, &grant.id, now).await?;
        let answer = self.issue(&mut on, &grant, now).await?;
        on.commit().await?;
        Ok(answer)
    }

    /// Tokens of a grant, and the answer that holds them.
    async fn issue(&self, on: &mut Transaction, grant: &Grant, now: Time) -> Result<Value> {
        let seconds = i64::from(self.config.access_minutes) * 60;
        let access = new_token(ACCESS_PREFIX);
        let mut answer = json!({
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": model::scope_text(&grant.scopes),
        });
        let end = |seconds: i64| Time(now.plus_seconds(seconds).0.min(grant.expires_at.0));
        let (hash, expires) = (sha256_hex(&access), end(seconds));
        let new =
            New { hash: &hash, kind: Kind::Access, grant: Some(&grant.id), details: None, now, expires };
        tokens::put(on, new).await?;
        if grant.refreshes {
            let refresh = new_token(REFRESH_PREFIX);
            let (hash, expires) = (sha256_hex(&refresh), end(i64::from(self.config.refresh_days) * DAY));
            let new =
                New { hash: &hash, kind: Kind::Refresh, grant: Some(&grant.id), details: None, now, expires };
            tokens::put(on, new).await?;
            answer["refresh_token"] = json!(refresh);
        }
        Ok(answer)
    }

    /// Ends the grant of a token that its client holds (RFC 7009). What is not there has ended.
    ///
    /// # Errors
    /// In the words of RFC 6749.
    pub async fn revoke(&self, caller: &Caller, shown: Shown<'_>, given: &Parameters) -> Result<(), Denied> {
        self.need_available()?;
        let client = self.authenticated(caller, shown.client_id, shown.secret, shown.basic).await?;
        let token = given.get("token").ok_or_else(|| Denied::request("the request names no token"))?;
        if !is_token(token, REFRESH_PREFIX) && !is_token(token, ACCESS_PREFIX) {
            return Ok(());
        }
        let Some(id) = tokens::held(&self.identity.db, &sha256_hex(token)).await? else { return Ok(()) };
        let grant = grants::get(&self.identity.db, None, &id).await?;
        let Some(grant) = grant.filter(|grant| grant.client_id == client.id) else { return Ok(()) };
        self.end_grant(&self.acting(caller, &grant), &grant).await?;
        Ok(())
    }

    /// Ends a grant, on record.
    pub(super) async fn end_grant(&self, caller: &Caller, grant: &Grant) -> Result<()> {
        let mut on = self.identity.db.begin().await?;
        let ended = grants::revoke(&mut on, &grant.id, self.identity.clock.now()).await?;
        on.commit().await?;
        self.identity.agents.changed().await;
        if ended {
            let details = json!({ "grant_id": grant.id, "client_id": grant.client_id });
            self.identity.record(caller, "end_grant", &details, Ok(())).await?;
        }
        Ok(())
    }

    /// What is no good, counted; the answer does not say why.
    fn wrong(&self, caller: &Caller) -> Result<Denied> {
        self.identity.throttle.failed(caller.address.as_deref(), self.identity.clock.now())?;
        Ok(Denied::grant())
    }

    /// Somebody has what only one may have: neither of the two keeps it (RFC 9700, 4.14.2).
    async fn stolen(
        &self,
        mut on: Transaction,
        caller: &Caller,
        grant: Option<&str>,
        how: &str,
    ) -> Result<Denied> {
        if let Some(grant) = grant {
            let ended = grants::revoke(&mut on, grant, self.identity.clock.now()).await?;
            on.commit().await?;
            self.identity.agents.changed().await;
            if ended {
                tracing::warn!(grant, address = caller.address, "{how}: the grant ends");
                let error = Error::forbidden(format!("{how}: the grant ends"));
                self.identity.record(caller, "end_grant", &json!({ "grant_id": grant }), Err(&error)).await?;
            }
        }
        self.wrong(caller)
    }

    /// The client as the one who acts, on behalf of its person.
    fn acting(&self, caller: &Caller, grant: &Grant) -> Caller {
        let user = self.identity.people.user(&grant.user_id);
        let acting =
            user.map(|user| super::caller_of_grant(grant, &user, caller.face, caller.address.clone()));
        acting.map_or_else(
            || caller.clone(),
            |acting| Caller { request_id: caller.request_id.clone(), ..acting },
        )
    }

    fn same_resource(&self, given: &Parameters, resource: &str) -> Result<bool> {
        Ok(given
            .get("resource")
            .is_none_or(|text| model::resource(&self.bases(), text).as_deref() == Some(resource)))
    }
}
