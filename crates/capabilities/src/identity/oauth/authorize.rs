//! The authorization endpoint: what a client asks for, what a person answers.

use std::collections::BTreeMap;

use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Caller, Error, Result, Scope};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::model::{self, Asked, Denied};
use super::{CODE_PREFIX, OAuth, TICKET_PREFIX};
use crate::identity::authenticate::is_token;
use crate::identity::store;
use store::oauth::tokens::{self, Kind, New};

/// For how many seconds a consent page can be answered, and a code be redeemed.
const TICKET_SECONDS: i64 = 600;
const CODE_SECONDS: i64 = 60;

/// The parameters of a request. One that came twice is remembered as such.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    values: BTreeMap<String, String>,
    twice: Option<String>,
}

impl Parameters {
    /// The parameter, when it came and is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first that came twice (RFC 6749, 3.1: none may).
    pub fn twice(&self) -> Option<&str> {
        self.twice.as_deref()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Parameters {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut parameters = Self::default();
        for (name, value) in pairs {
            let name: String = name.into();
            if parameters.values.insert(name.clone(), value.into()).is_some() {
                parameters.twice.get_or_insert(name);
            }
        }
        parameters
    }
}

/// Why a request is not put to a person.
#[derive(Debug)]
pub enum Refused {
    /// It may not be answered to the client: the person is told.
    Told(Error),
    /// The client is told, at this URL.
    Back(String),
    /// Somebody has to log in before more is looked at.
    LogIn,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Told(error)
    }
}

/// What a ticket stands for.
#[derive(Serialize, Deserialize)]
struct Ticket {
    asked: Asked,
    /// The session that was shown the page: another one cannot answer it.
    session: String,
}

/// What a code stands for.
#[derive(Serialize, Deserialize)]
pub(super) struct Code {
    pub asked: Asked,
    pub user_id: String,
    pub session: String,
}

impl OAuth {
    /// What a client asks for. Somebody who is not logged in makes us fetch nothing.
    ///
    /// # Errors
    /// See [`Refused`]: while the client or the redirect URI is in doubt, nothing is sent there.
    pub async fn asked(&self, given: &Parameters, logged_in: bool) -> Result<Asked, Refused> {
        self.need_available()?;
        let told = |message: &str| Refused::Told(Error::invalid(message));
        let id = given.get("client_id").ok_or_else(|| told("the request names no client_id"))?;
        let client = self.client(id, logged_in).await.map_err(|denied| told(&denied.message))?;
        let client = client.ok_or(Refused::LogIn)?;
        let redirect_uri =
            given.get("redirect_uri").ok_or_else(|| told("the request names no redirect_uri"))?;
        if !model::may_redirect(&client.redirect_uris, redirect_uri) {
            return Err(told("the redirect_uri is none that the client has named; nothing was sent there"));
        }
        let asked = self.asked_of(given, client, redirect_uri);
        asked.map_err(|denied| Refused::Back(self.refusal(redirect_uri, given.get("state"), &denied)))
    }

    fn asked_of(
        &self,
        given: &Parameters,
        client: model::Client,
        redirect_uri: &str,
    ) -> Result<Asked, Denied> {
        if let Some(name) = given.twice() {
            let name: String = name.chars().take(40).collect();
            let code = if name == "resource" { "invalid_target" } else { "invalid_request" };
            return Err(Denied::new(code, format!("{name:?} is given twice")));
        }
        if given.get("response_type") != Some("code") {
            return Err(Denied::new("unsupported_response_type", "response_type is `code`"));
        }
        if given.get("code_challenge_method") != Some("S256") {
            return Err(Denied::request(
                "code_challenge_method is `S256`: PKCE is needed, and no other method is taken",
            ));
        }
        let challenge = given.get("code_challenge").filter(|text| model::is_challenge(text));
        let challenge =
            challenge.ok_or_else(|| Denied::request("code_challenge is a SHA-256 in base64url"))?;
        if given.get("state").is_some_and(|state| state.len() > 2048) {
            return Err(Denied::request("state has more than 2048 bytes"));
        }
        let resource = match given.get("resource") {
            None => "/mcp".to_owned(),
            Some(text) => model::resource(&self.bases(), text).ok_or_else(|| {
                Denied::new(
                    "invalid_target",
                    format!("the resource is an MCP endpoint of {}, such as its /mcp", self.issuer),
                )
            })?,
        };
        let scope = given.get("scope").unwrap_or_default();
        let offline = scope.split_ascii_whitespace().any(|word| word == model::OFFLINE);
        Ok(Asked {
            refreshes: client.refreshes || offline,
            client_id: client.id,
            client_name: client.name,
            redirect_uri: redirect_uri.to_owned(),
            state: given.get("state").map(str::to_owned),
            challenge: challenge.to_owned(),
            scopes: model::scopes(scope)?,
            resource,
        })
    }

    /// Where the client is told of a refusal.
    fn refusal(&self, redirect_uri: &str, state: Option<&str>, denied: &Denied) -> String {
        let mut pairs = vec![("error", denied.code), ("error_description", denied.message.as_str())];
        pairs.extend(state.map(|state| ("state", state)));
        pairs.push(("iss", &self.issuer));
        model::with_query(redirect_uri, &pairs)
    }

    /// Makes the ticket of a consent page for who is logged in.
    ///
    /// # Errors
    /// `Forbidden` for who is no person with a session.
    pub async fn ask(&self, caller: &Caller, asked: &Asked) -> Result<String> {
        let (_, session) = person(caller)?;
        let now = self.identity.clock.now();
        let ticket = new_token(TICKET_PREFIX);
        let details = Ticket { asked: asked.clone(), session: session.to_owned() };
        let details = serde_json::to_string(&details).map_err(Error::internal)?;
        let (hash, expires) = (sha256_hex(&ticket), now.plus_seconds(TICKET_SECONDS));
        let mut on = self.identity.db.begin().await?;
        let new = New { hash: &hash, kind: Kind::Ticket, grant: None, details: Some(details), now, expires };
        tokens::put(&mut on, new).await?;
        on.commit().await?;
        Ok(ticket)
    }

    /// Takes a person's answer: the scopes that they give, or `None` for no. Answers where the browser goes.
    ///
    /// # Errors
    /// `Forbidden` for a ticket that was answered, is too old, or was shown to somebody else.
    pub async fn decide(&self, caller: &Caller, ticket: &str, given: Option<&[usize]>) -> Result<String> {
        let (user_id, session) = person(caller)?;
        let stale = || {
            Error::forbidden("this page was answered, is too old, or was shown to somebody else; begin anew")
        };
        if !is_token(ticket, TICKET_PREFIX) {
            return Err(stale());
        }
        let now = self.identity.clock.now();
        let mut on = self.identity.db.begin().await?;
        let taken = tokens::take(&mut on, &sha256_hex(ticket), Kind::Ticket, now).await?;
        let details = taken.filter(|taken| !taken.again).and_then(|taken| taken.details).ok_or_else(stale)?;
        let Ticket { mut asked, session: shown_to } =
            serde_json::from_str(&details).map_err(Error::internal)?;
        if shown_to != session {
            return Err(stale());
        }
        let Some(given) = given else {
            on.commit().await?;
            let denied = Denied::new("access_denied", "the person said no");
            return Ok(self.refusal(&asked.redirect_uri, asked.state.as_deref(), &denied));
        };
        asked.scopes = narrowed(&asked.scopes, given)?;
        let code = new_token(CODE_PREFIX);
        let details = Code { asked: asked.clone(), user_id: user_id.to_owned(), session: session.to_owned() };
        let details = serde_json::to_string(&details).map_err(Error::internal)?;
        let (hash, expires) = (sha256_hex(&code), now.plus_seconds(CODE_SECONDS));
        let new = New { hash: &hash, kind: Kind::Code, grant: None, details: Some(details), now, expires };
        tokens::put(&mut on, new).await?;
        store::oauth::clients::set_used(&mut on, &asked.client_id, now).await?;
        on.commit().await?;
        let details = json!({
            "client_id": asked.client_id, "client_name": asked.client_name, "scopes": asked.scopes,
            "resource": asked.resource, "redirect_uri": asked.redirect_uri.split('?').next(),
        });
        self.identity.record(caller, "authorize_agent", &details, Ok(())).await?;
        let mut pairs = vec![("code", code.as_str())];
        pairs.extend(asked.state.as_deref().map(|state| ("state", state)));
        pairs.push(("iss", &self.issuer));
        Ok(model::with_query(&asked.redirect_uri, &pairs))
    }
}

/// The user and the session of a person who is logged in.
fn person(caller: &Caller) -> Result<(&str, &str)> {
    let user = caller.subject.strip_prefix("user:");
    user.zip(caller.session.as_deref())
        .ok_or_else(|| Error::forbidden("only a person who is logged in lets a client in; log in first"))
}

/// The scopes of these places, with all that take away: a person gives less than was asked for, never more.
fn narrowed(asked: &[Scope], given: &[usize]) -> Result<Vec<Scope>> {
    let kept = asked.iter().enumerate().filter(|(at, scope)| scope.denies() || given.contains(at));
    let kept: Vec<Scope> = kept.map(|(_, scope)| scope.clone()).collect();
    if kept.iter().all(Scope::denies) {
        return Err(Error::invalid("nothing was chosen that the client may do; choose something, or say no"));
    }
    Ok(kept)
}
