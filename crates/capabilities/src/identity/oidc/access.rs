//! Access tokens of the provider, shown at an MCP endpoint: this server as a resource server of an issuer elsewhere
//! (RFC 9068, RFC 8707).
//!
//! A token counts when the provider signed it, for the endpoint at which it is shown, and for a person whose login
//! is linked here. It makes no account and changes none: that is what logging in is for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use opsroom_core::caller::Face;
use opsroom_core::id::sha256_hex;
use opsroom_core::{Caller, Error, Result, Scope, Time};
use serde_json::{Map, Value};

use super::Oidc;
use super::claims::check_access;
use super::provider::{Of, refused_access};
use crate::identity::oauth::model;
use crate::identity::store::identities;

/// For how many seconds a token is believed without looking at it again.
const BELIEVED: i64 = 60;
/// The most tokens that are remembered.
const MOST: usize = 10_000;

/// What a token was found to be.
#[derive(Clone)]
struct Known {
    user: String,
    client: String,
    scopes: Vec<Scope>,
    /// The paths of the endpoints that it is for.
    endpoints: Vec<String>,
    until: Time,
}

/// Tokens that were looked at lately, by their SHA-256.
#[derive(Default)]
pub struct Seen(Mutex<HashMap<String, Known>>);

impl Oidc {
    /// The issuer whose access tokens are taken at MCP endpoints, when there is one.
    pub fn access_issuer(&self) -> Option<&str> {
        (self.config.access_tokens && !self.config.issuer.is_empty()).then_some(self.config.issuer.as_str())
    }

    /// Who calls an MCP endpoint with an access token of the provider; `None` for what is no such token, or where
    /// none is taken.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is wrong, of another endpoint, or of nobody who has an account here;
    /// `Unavailable` when the provider cannot be asked for its keys.
    pub async fn authenticate_at(
        &self,
        endpoint: &str,
        token: &str,
        face: Face,
        address: Option<String>,
    ) -> Result<Option<Caller>> {
        // Ours have another form.
        if self.access_issuer().is_none() || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Ok(None);
        }
        let known = match self.remembered(token) {
            Some(known) => known,
            None => self.look_at(token).await?,
        };
        if !known.endpoints.iter().any(|resource| model::covers(resource, endpoint)) {
            return Err(Error::unauthenticated("the access token is for another resource"));
        }
        let user = self.identity.people.user(&known.user);
        let user =
            user.ok_or_else(|| Error::unauthenticated("the account of the access token is switched off"))?;
        Ok(Some(Caller {
            // Nothing that goes on without the token is begun with it: this subject is nobody's later.
            subject: format!("oidc:{}", user.id),
            name: format!("{} on behalf of {}", known.client, user.username),
            role: user.role,
            scopes: Some(known.scopes),
            teams: user.teams,
            session: None,
            face,
            address,
            request_id: None,
        }))
    }

    fn remembered(&self, token: &str) -> Option<Known> {
        let now = self.identity.clock.now();
        let seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&sha256_hex(token)).filter(|known| now < known.until).cloned()
    }

    async fn look_at(&self, token: &str) -> Result<Known> {
        let now = self.identity.clock.now();
        let metadata = self.provider.metadata().await?;
        let claims = self.provider.open(&metadata, token, Of::Access).await?;
        let checked = check_access(&claims, &self.config.issuer, now).map_err(refused_access)?;
        let linked = identities::find(&self.identity.db, &self.config.issuer, &checked.subject).await?;
        let linked = linked.ok_or_else(|| {
            Error::unauthenticated("nobody here is linked with the access token's subject; log in here once")
        })?;
        let own = |audience: &String| audience.strip_prefix(&*self.public_url).and_then(model::endpoint);
        let known = Known {
            user: linked.user_id,
            client: client(&claims),
            scopes: scopes(&claims),
            endpoints: checked.audiences.iter().filter_map(own).collect(),
            until: checked.ends.min(now.plus_seconds(BELIEVED)),
        };
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(sha256_hex(token), known.clone());
        Ok(known)
    }
}

/// Which program shows the token, as it may be shown.
fn client(claims: &Map<String, Value>) -> String {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let name = text("client_id").or_else(|| text("azp")).unwrap_or("a program");
    name.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// The scopes of ours that a token has; those that clients ask for usually where it names none of ours.
fn scopes(claims: &Map<String, Value>) -> Vec<Scope> {
    let words = claims.get("scope").and_then(Value::as_str).unwrap_or_default();
    let of = |words: &str| -> Vec<Scope> {
        let ours = words.split_ascii_whitespace().filter(|word| word.contains(':')).take(32);
        ours.filter_map(|word| Scope::try_from(word.to_owned()).ok()).collect()
    };
    let found = of(words);
    if found.is_empty() { of(model::ASKED) } else { found }
}
