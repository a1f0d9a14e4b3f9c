//! The gateway's own login at a service: OAuth 2.1 as a client, for services elsewhere that want a token.
//!
//! `connect_service` finds the service's authorization server, makes a client there if there is none, and answers
//! with the URL at which a person says yes; the browser comes back to `/oauth/callback`. The tokens are the
//! service's, for everybody who may call it; they are renewed before they end.
//!
//! # Invariants
//!
//! - Tokens, secrets of clients and proofs are sealed in the database, and are in no answer, event or log.
//! - Credentials are for the issuer that gave them: for another one, a new client is made.
//! - An answer counts once, within ten minutes, and only if it is from the issuer that was asked (RFC 9207).
//! - A service that still refuses with the scopes that it asked for is not asked for again.

mod discovery;
mod flow;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::{Error, Result, Secret, Time};
use serde::{Deserialize, Serialize};

use super::Services;
use super::model::{Kind, Service};
use discovery::Challenge;

pub use flow::Given;

/// How often it is looked for tokens that end soon.
const PERIOD: Duration = Duration::from_secs(15);

/// So many seconds before its end a token is renewed; of a short-lived one, in its last fifth.
const EARLY: i64 = 120;

/// For how many seconds one server has the renewal of a token to itself.
const LEASE: i64 = 60;

/// What logging in at services needs.
pub struct Logins {
    /// Seals what is kept.
    pub sealer: Sealer,
    /// By which people reach us, for the way back.
    pub public_url: String,
    /// The URL of our own metadata document; empty where there is none.
    pub client_id: String,
    /// What services refused lately, by their slugs.
    refused: Mutex<BTreeMap<String, Challenge>>,
}

impl Logins {
    /// With nothing refused yet.
    pub fn new(sealer: Sealer, public_url: &str, client_id: &str) -> Self {
        let public_url = public_url.trim_end_matches('/').to_owned();
        let client_id = match client_id {
            "" if public_url.starts_with("https://") => format!("{public_url}/oauth/client.json"),
            given => given.to_owned(),
        };
        Self { sealer, public_url, client_id, refused: Mutex::default() }
    }

    /// Where the browser comes back.
    pub fn redirect_uri(&self) -> String {
        format!("{}/oauth/callback", self.public_url)
    }

    fn refusal(&self, slug: &str) -> Option<Challenge> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(slug).cloned()
    }

    fn forgive(&self, slug: &str) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(slug);
    }
}

/// Who we are at an authorization server.
#[derive(Clone, Serialize, Deserialize)]
struct Credentials {
    issuer: String,
    client_id: String,
    client_secret: Option<String>,
    /// `none`, `client_secret_post` or `client_secret_basic`.
    method: String,
    token_endpoint: String,
}

/// A login that was begun.
#[derive(Serialize, Deserialize)]
struct Pending {
    credentials: Credentials,
    /// Whether the answer has to say who it is from.
    iss_promised: bool,
    verifier: String,
    resource: String,
    scopes: Vec<String>,
    redirect_uri: String,
}

/// A login that was made.
#[derive(Clone, Serialize, Deserialize)]
struct Login {
    credentials: Credentials,
    resource: String,
    /// The scopes that were asked for or given.
    scopes: Vec<String>,
    /// Empty when it has ended and has to be made again.
    access: String,
    refresh: Option<String>,
    /// When the token was got and when it ends, in microseconds since 1970.
    got_at: i64,
    expires_at: Option<i64>,
}

impl Login {
    /// Whether it is time to renew it.
    fn is_due(&self, now: Time) -> bool {
        let Some(end) = self.expires_at.filter(|_| self.refresh.is_some() && !self.access.is_empty()) else {
            return false;
        };
        let early = (EARLY * 1_000_000).min((end - self.got_at) / 5);
        now.0 >= end - early
    }
}

impl Services {
    /// Takes note that a service refused a call for want of a token or of scopes.
    pub fn challenged(&self, slug: &str, header: Option<&str>) {
        let challenge = header.map(Challenge::of).unwrap_or_default();
        let mut refused = self.inner.logins.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < 1000 || refused.contains_key(slug) {
            refused.insert(slug.to_owned(), challenge);
        }
    }

    /// Forgets the login at a service; says whether there was one.
    pub(super) async fn end_login(&self, it: &Service) -> Result<bool> {
        self.inner.logins.forgive(&it.slug);
        let had = self.inner.store.remove_login(it.id).await?;
        self.publish_upstreams().await?;
        Ok(had)
    }

    /// What we say of ourselves as a client (Client ID Metadata Document).
    pub fn client_document(&self) -> serde_json::Value {
        let logins = &self.inner.logins;
        serde_json::json!({
            "client_id": logins.client_id,
            "client_name": "Opsroom",
            "client_uri": logins.public_url,
            "redirect_uris": [logins.redirect_uri()],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        })
    }

    /// Seals every login again by the newest key.
    pub fn resealing(&self) -> Reseal {
        let services = self.clone();
        Arc::new(move || {
            let services = services.clone();
            Box::pin(async move { services.reseal().await })
        })
    }

    async fn reseal(&self) -> Result<u64> {
        let mut count = 0;
        for row in self.inner.store.logins().await? {
            let context = context(row.service_id);
            let context = [context[0].as_str(), context[1].as_str()];
            let Some(sealed) = &row.login else { continue };
            if let Some(again) = self.inner.logins.sealer.rewrap(&context, sealed).await? {
                self.inner.store.reseal_login(row.service_id, sealed, &again).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Renews tokens before they end, until the lifecycle stops.
    pub(super) fn start_logins(&self) {
        let services = self.clone();
        let stop = self.inner.lifecycle.stopping();
        self.inner.lifecycle.spawn("service logins", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(PERIOD) => {}
                }
                if let Err(error) = services.renew_logins().await {
                    tracing::warn!(
                        error = error.message,
                        "logins at services cannot be renewed now; trying again"
                    );
                }
            }
        });
    }

    /// Renews what ends soon.
    pub(super) async fn renew_logins(&self) -> Result<()> {
        let now = self.inner.clock.now();
        for row in self.inner.store.logins().await? {
            let Some(login) = self.open_login(row.service_id, row.login.as_deref()).await? else { continue };
            // A refresh token works once: of several servers, one renews.
            if login.is_due(now)
                && self.inner.store.lease_login(row.service_id, now, now.plus_seconds(LEASE)).await?
            {
                self.renew_login(row.service_id, login).await?;
            }
        }
        Ok(())
    }

    async fn renew_login(&self, id: i64, mut login: Login) -> Result<()> {
        let refresh = login.refresh.clone().unwrap_or_default();
        let pairs =
            [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("resource", &login.resource)];
        match self.tokens(&login.credentials, &pairs).await {
            Ok(tokens) => {
                tokens.into_login(&mut login, self.inner.clock.now());
                self.keep_login(id, &login).await
            }
            // The server said no: it is of no use to ask it again.
            Err(error) if error.kind == opsroom_core::Kind::Forbidden => {
                tracing::warn!(service.id = id, error = error.message, "the login at a service has ended");
                (login.access, login.refresh) = (String::new(), None);
                self.keep_login(id, &login).await
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a login, and tells the gateway.
    async fn keep_login(&self, id: i64, login: &Login) -> Result<()> {
        let sealed = self.seal(id, login).await?;
        self.inner.store.put_login(id, &sealed).await?;
        self.publish_upstreams().await
    }

    async fn seal<T: Serialize>(&self, id: i64, value: &T) -> Result<String> {
        let context = context(id);
        let text = serde_json::to_vec(value).map_err(Error::internal)?;
        self.inner.logins.sealer.seal(&[&context[0], &context[1]], &text).await
    }

    async fn unseal<T: serde::de::DeserializeOwned>(&self, id: i64, sealed: &str) -> Result<T> {
        self.inner.unseal(id, sealed).await
    }

    async fn open_login(&self, id: i64, sealed: Option<&str>) -> Result<Option<Login>> {
        match sealed {
            None => Ok(None),
            Some(sealed) => self.unseal(id, sealed).await.map(Some),
        }
    }
}

impl super::Inner {
    async fn unseal<T: serde::de::DeserializeOwned>(&self, id: i64, sealed: &str) -> Result<T> {
        let context = context(id);
        let text = self.logins.sealer.open(&[&context[0], &context[1]], sealed).await?;
        serde_json::from_slice(&text).map_err(Error::internal)
    }

    /// The header that a login gives the calls to a service elsewhere.
    pub(super) async fn login_header(&self, it: &Service) -> Result<Option<(String, Secret)>> {
        if !matches!(it.kind, Kind::Cloud | Kind::Remote) {
            return Ok(None);
        }
        let Some(sealed) = self.store.login(it.id).await?.and_then(|row| row.login) else { return Ok(None) };
        let login: Login = self.unseal(it.id, &sealed).await?;
        // A service that was given another URL since is another service: it gets no token of this one's.
        if !discovery::is_for(&login.resource, &it.spec.url) {
            return Ok(None);
        }
        let header = || ("Authorization".to_owned(), Secret::new(format!("Bearer {}", login.access)));
        Ok((!login.access.is_empty()).then(header))
    }
}

/// What the login of a service is sealed for.
fn context(id: i64) -> [String; 2] {
    ["service login".to_owned(), id.to_string()]
}
