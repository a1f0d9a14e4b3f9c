//! A login elsewhere, from the click to the session.
//!
//! Between the two nothing is kept here: the browser has a cookie with a secret, of which the state, the nonce and
//! the PKCE verifier are made. What comes back is good in that browser alone (a login cannot be begun by one and
//! ended by another), for ten minutes, and once.

use data_encoding::BASE64URL_NOPAD;
use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Caller, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::claims::{self, Expected, Person};
use super::provider::{Of, error_code, refused};
use super::{LINK_PREFIX, Oidc};
use crate::identity::accounts::LoggedIn;
use crate::identity::accounts::login::caller_of_user_id;
use crate::identity::authenticate::is_token;
use crate::identity::oauth::Parameters;
use crate::identity::oauth::model::with_query;
use crate::identity::store::oauth::tokens::{self, Kind, New};

/// For how many seconds a login may take.
pub const SECONDS: i64 = 600;

/// How the secret in the cookie begins.
const PREFIX: &str = "olt_";

/// The longest path to go on to, in bytes: cookies have four kilobytes.
const LONGEST: usize = 2000;

/// A login that has begun.
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What it keeps meanwhile, in a cookie.
    pub cookie: String,
}

/// How a login ended.
pub enum Ended {
    /// With a session.
    LoggedIn {
        /// The session.
        session: Box<LoggedIn>,
        /// The path to go on to, as it was given.
        next: String,
    },
    /// With a link to the account of who was logged in already.
    Linked,
}

/// What the browser keeps.
struct Pending<'a> {
    whole: &'a str,
    at: i64,
    then: Then,
}

/// What is to be done when it comes back.
#[derive(Default, Serialize, Deserialize)]
struct Then {
    next: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    link: String,
}

impl Oidc {
    /// Begins a login; `next` is the path to go on to, `link` a ticket of `link_identity`.
    ///
    /// # Errors
    /// `NotFound` where nobody logs in so, `Unavailable` when the provider cannot be asked.
    pub async fn begin(&self, next: &str, link: &str) -> Result<Begun> {
        self.need_offered()?;
        let metadata = self.provider.metadata().await?;
        let next = if next.len() <= LONGEST { next } else { "" };
        let link = if is_token(link, LINK_PREFIX) { link } else { "" };
        let then = Then { next: next.to_owned(), link: link.to_owned() };
        let then = serde_json::to_vec(&then).map_err(Error::internal)?;
        let at = self.identity.clock.now().0 / 1_000_000;
        let cookie = format!("{}.{at}.{}", new_token(PREFIX), BASE64URL_NOPAD.encode(&then));
        let mut scopes = vec!["openid"];
        scopes.extend(self.config.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(made(&cookie, "verifier").as_bytes()));
        let url = with_query(
            &metadata.authorization_endpoint,
            &[
                ("response_type", "code"),
                ("client_id", &self.config.client_id),
                ("redirect_uri", &self.back()),
                ("scope", &scopes.join(" ")),
                ("state", &made(&cookie, "state")),
                ("nonce", &made(&cookie, "nonce")),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
            ],
        );
        Ok(Begun { url, cookie })
    }

    /// Ends a login with what the browser came back with. `caller` is who is logged in there, or nobody.
    ///
    /// # Errors
    /// `Forbidden` for what was not begun in this browser, or by somebody who has no account here;
    /// `Unauthenticated` for what the provider did not say; `Unavailable` when it cannot be asked.
    pub async fn end(
        &self,
        caller: &Caller,
        cookie: Option<&str>,
        given: &Parameters,
        device: &str,
    ) -> Result<Ended> {
        self.need_offered()?;
        let result = self.try_end(caller, cookie, given, device).await;
        let (who, details) = match &result {
            Ok(Ended::LoggedIn { session, .. }) => (
                caller_of_user_id(caller, &session.user),
                json!({ "username": session.user.username, "by": self.config.issuer }),
            ),
            _ => (caller.clone(), json!({ "by": self.config.issuer })),
        };
        let action = if matches!(result, Ok(Ended::Linked)) { "finish_identity_link" } else { "login" };
        self.identity.record(&who, action, &details, result.as_ref().map(|_| ())).await?;
        result
    }

    async fn try_end(
        &self,
        caller: &Caller,
        cookie: Option<&str>,
        given: &Parameters,
        device: &str,
    ) -> Result<Ended> {
        let pending = cookie.and_then(Pending::read).ok_or_else(elsewhere)?;
        if let Some(name) = given.twice() {
            return Err(Error::invalid(format!("the parameter {name:?} came twice; log in again")));
        }
        let state = made(pending.whole, "state");
        if !bool::from(given.get("state").unwrap_or_default().as_bytes().ct_eq(state.as_bytes())) {
            return Err(elsewhere());
        }
        let now = self.identity.clock.now();
        if now.0 / 1_000_000 >= pending.at.saturating_add(SECONDS) {
            return Err(Error::forbidden("the login took more than ten minutes; begin anew"));
        }
        let _turn = self.turns.try_acquire().map_err(|_| {
            Error::busy("too many people are logging in at this moment; try again in a few seconds")
        })?;
        let metadata = self.provider.metadata().await?;
        // An answer of another provider, put in by it, must not reach this one (RFC 9207).
        match given.get("iss") {
            Some(issuer) if issuer == self.config.issuer => {}
            None if !metadata.authorization_response_iss_parameter_supported => {}
            _ => return Err(Error::forbidden("what came back is of another provider of single sign-on")),
        }
        if let Some(code) = given.get("error") {
            let code = error_code(code);
            return Err(Error::unauthenticated(format!("the provider of single sign-on said no: {code}")));
        }
        let code =
            given.get("code").ok_or_else(|| Error::invalid("what came back has no code; log in again"))?;
        let tokens =
            self.provider.redeem(&metadata, code, &made(pending.whole, "verifier"), &self.back()).await?;
        let claims = self.provider.open(&metadata, tokens.id_token.expose(), Of::Identity).await?;
        let expected = Expected {
            issuer: &self.config.issuer,
            client_id: &self.config.client_id,
            nonce: &made(pending.whole, "nonce"),
            now,
        };
        let subject = claims::check(&claims, &expected).map_err(refused)?;
        let all = claims.contains_key("email")
            && (self.config.roles.is_empty() || claims::tells(&claims, &self.config.group_claim));
        let more =
            if all { Default::default() } else { self.provider.more(&metadata, &tokens, &subject).await? };
        let person = claims::person(subject, &claims, &more, &self.config.group_claim);
        self.use_up(&state, pending.at).await?;
        self.let_in(caller, &person, pending.then, device).await
    }

    async fn let_in(&self, caller: &Caller, person: &Person, then: Then, device: &str) -> Result<Ended> {
        if !then.link.is_empty() {
            self.link(caller, &then.link, person).await?;
            return Ok(Ended::Linked);
        }
        let user = self.account(person).await?;
        let active = |user: &mut crate::identity::accounts::model::UserRow| match user.active {
            true => Ok(()),
            false => {
                Err(Error::unauthenticated("the account is switched off; an administrator can tell why"))
            }
        };
        let session = self.accounts.open_session(caller, &user, device, active).await?;
        Ok(Ended::LoggedIn { session: Box::new(session), next: then.next })
    }

    /// What came back is used up for as long as it could be used.
    async fn use_up(&self, state: &str, at: i64) -> Result<()> {
        let now = self.identity.clock.now();
        let (hash, expires) =
            (sha256_hex(state), opsroom_core::Time(0).plus_seconds(at.saturating_add(SECONDS)));
        let new = New { hash: &hash, kind: Kind::Login, grant: None, details: None, now, expires };
        let mut on = self.identity.db.begin().await?;
        tokens::put(&mut on, new).await.map_err(|error| match error.kind {
            opsroom_core::Kind::Conflict => Error::forbidden("this login has ended already; begin anew"),
            _ => error,
        })?;
        on.commit().await
    }

    /// Where the provider sends people back to.
    fn back(&self) -> String {
        format!("{}/login/oidc/callback", self.public_url)
    }
}

impl<'a> Pending<'a> {
    fn read(cookie: &'a str) -> Option<Self> {
        let (secret, rest) = cookie.split_once('.')?;
        let (at, then) = rest.split_once('.')?;
        if !is_token(secret, PREFIX) {
            return None;
        }
        let then = serde_json::from_slice(&BASE64URL_NOPAD.decode(then.as_bytes()).ok()?).ok()?;
        Some(Self { whole: cookie, at: at.parse().ok()?, then })
    }
}

/// One of the values of a login, made of all that the cookie holds.
fn made(cookie: &str, what: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(format!("opsroom login {what}\0{cookie}").as_bytes()))
}

fn elsewhere() -> Error {
    Error::forbidden("this login was not begun in this browser, or has ended; begin anew")
}
