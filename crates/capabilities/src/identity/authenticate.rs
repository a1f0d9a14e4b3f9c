//! Who calls: from a token to a [`Caller`].

use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Result};

use super::accounts::SESSION_PREFIX;
use super::accounts::people::caller_of_user;
use super::cache::LiveKey;
use super::oauth::{ACCESS_PREFIX, caller_of_grant, model};
use super::{Identity, KEY_PREFIX, OPERATOR_PREFIX};

/// What a token looks like: a prefix and 64 hexadecimal digits.
const DIGITS: usize = 64;

impl Identity {
    /// Who calls with this token, an API key or the operator key.
    ///
    /// Takes microseconds and asks no database, unless that has not answered for a minute. A token that
    /// cannot be one is refused by its length and form, before it is hashed. Wrong, expired and revoked
    /// keys are refused alike.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that opens nothing, however often: 256 random bits cannot be guessed;
    /// `Unavailable` when keys cannot be checked.
    pub async fn authenticate(&self, token: &str, face: Face, address: Option<String>) -> Result<Caller> {
        if is_token(token, OPERATOR_PREFIX) && self.is_operator_key(token) {
            return Ok(Caller { address, ..Caller::operator(face) });
        }
        if is_token(token, KEY_PREFIX)
            && let Some(key) = self.cache.find(token).await?
        {
            return Ok(caller_of_key(&key, face, address));
        }
        if is_token(token, SESSION_PREFIX)
            && let Some(present) = self.people.find(token).await?
        {
            let caller = caller_of_user(&present.user, face, address);
            return Ok(Caller { session: Some(present.session), ..caller });
        }
        Err(refused(address, face))
    }

    /// The same at an MCP endpoint, where a token that a person gave to a client is good too, if it is for this
    /// endpoint.
    ///
    /// # Errors
    /// Those of [`Identity::authenticate`].
    pub async fn authenticate_at(
        &self,
        endpoint: &str,
        token: &str,
        face: Face,
        address: Option<String>,
    ) -> Result<Caller> {
        if !is_token(token, ACCESS_PREFIX) {
            return self.authenticate(token, face, address).await;
        }
        let grant = self.agents.find(token).await?.filter(|grant| model::covers(&grant.resource, endpoint));
        let user = grant.as_ref().and_then(|grant| self.people.user(&grant.user_id));
        match grant.zip(user) {
            Some((grant, user)) => Ok(caller_of_grant(&grant, &user, face, address)),
            None => Err(refused(address, face)),
        }
    }
}

fn refused(address: Option<String>, face: Face) -> Error {
    tracing::warn!(address, face = face.as_str(), "an attempt to authenticate failed");
    Error::unauthenticated(
        "this needs a valid API key: send the header `Authorization: Bearer opk_...`; an administrator \
         makes keys with `create_api_key`",
    )
}

impl Identity {
    /// The caller that a `created_by` names, with the rights it has now: for work that goes on without
    /// it, such as a schedule. `None` when its key was revoked or has expired.
    pub fn caller_of(&self, subject: &str, face: Face) -> Option<Caller> {
        if subject == "operator" {
            return Some(Caller::operator(face));
        }
        if let Some(id) = subject.strip_prefix("user:") {
            return self.people.user(id).map(|user| caller_of_user(&user, face, None));
        }
        if let Some(id) = subject.strip_prefix("grant:") {
            let grant = self.agents.grant(id)?;
            return self.people.user(&grant.user_id).map(|user| caller_of_grant(&grant, &user, face, None));
        }
        let key = self.cache.get(subject.strip_prefix("key:")?)?;
        let now = self.clock.now();
        key.expires_at.is_none_or(|end| now < end).then(|| caller_of_key(&key, face, None))
    }
}

/// The caller that a key is.
pub(super) fn caller_of_key(key: &LiveKey, face: Face, address: Option<String>) -> Caller {
    Caller {
        subject: format!("key:{}", key.id),
        name: key.name.clone(),
        role: key.role,
        scopes: key.scopes.clone(),
        teams: vec![key.team_id.clone()],
        session: None,
        face,
        address,
        request_id: None,
    }
}

/// Whether a text has the form of a token with this prefix.
pub fn is_token(text: &str, prefix: &str) -> bool {
    text.len() == prefix.len() + DIGITS
        && text
            .strip_prefix(prefix)
            .is_some_and(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}
