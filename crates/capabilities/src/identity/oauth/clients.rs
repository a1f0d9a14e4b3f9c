//! Which client it is: by its metadata document, its registration, or what an administrator made.

use std::sync::PoisonError;
use std::time::Duration;

use opsroom_core::egress::{Limits, Request};
use opsroom_core::id::{new_id, new_token, sha256_hex};
use opsroom_core::{Caller, Error, Kind, Result, Time};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::model::{self, Client, ClientAuth, Denied};
use super::{OAuth, SECRET_PREFIX};
use crate::identity::{model::name, store};

/// The most clients that are kept.
const MOST_CLIENTS: i64 = 10_000;

/// How many documents are remembered, and for how many seconds.
const MOST_DOCUMENTS: usize = 256;
const FRESH: i64 = 600;

/// What fetching a document may take. It is a page of text, and is not sent on to another place.
const LIMITS: Limits = Limits { max_bytes: 16 << 10, timeout: Duration::from_secs(5), redirects: 0 };

/// What a client says of itself, in a document or when it registers (RFC 7591). What we do not use is ignored.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    client_name: Option<String>,
    #[serde(default)]
    client_secret: Option<Value>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_method: Option<String>,
    #[serde(default)]
    grant_types: Option<Vec<String>>,
    #[serde(default)]
    response_types: Option<Vec<String>>,
}

impl Metadata {
    fn check(&self) -> Result<(), Denied> {
        let wrong = |message: &str| Err(Denied::new("invalid_client_metadata", message));
        let known = ["authorization_code", "refresh_token"];
        if let Some(grants) = &self.grant_types
            && !grants.iter().any(|grant| grant == known[0])
        {
            return wrong("grant_types has no `authorization_code`, which is how clients are let in here");
        }
        if let Some(responses) = &self.response_types
            && !responses.iter().any(|response| response == "code")
        {
            return wrong("response_types has no `code`, which is what is answered here");
        }
        Ok(())
    }

    fn refreshes(&self) -> bool {
        self.grant_types.as_ref().is_some_and(|grants| grants.iter().any(|grant| grant == "refresh_token"))
    }

    fn name(&self) -> Result<String, Denied> {
        let given = self.client_name.as_deref().filter(|name| !name.trim().is_empty());
        name("client_name", given.unwrap_or("a client without a name"))
            .map_err(|error| Denied::new("invalid_client_metadata", error.message))
    }
}

impl OAuth {
    /// The client of an id. A document is fetched only when `fetch` says so.
    ///
    /// # Errors
    /// `invalid_client` for one that is not there or not let in; `Ok(None)` when it would have to be fetched.
    pub(super) async fn client(&self, id: &str, fetch: bool) -> Result<Option<Client>, Denied> {
        if id.len() > model::MOST_TEXT {
            return Err(Denied::client());
        }
        if !model::is_document(id) {
            let client =
                if id.len() <= 64 { store::oauth::clients::get(&self.identity.db, id).await? } else { None };
            return client.map(Some).ok_or_else(Denied::client);
        }
        if let Some(known) = self.known_document(id) {
            return Ok(Some(known));
        }
        let url = self.document_url(id)?;
        if !fetch {
            return Ok(None);
        }
        self.fetch(id, url).await.map(Some)
    }

    fn known_document(&self, id: &str) -> Option<Client> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let (fetched, client) = documents.get(id)?;
        (self.identity.clock.now() < fetched.plus_seconds(FRESH)).then(|| client.clone())
    }

    /// The URL that a client id is: without what makes one document look like another.
    fn document_url(&self, id: &str) -> Result<Url, Denied> {
        let wrong = |message: String| Denied::new("invalid_client", message);
        let plain = id.bytes().all(|byte| byte.is_ascii_graphic());
        let url = Url::parse(id).ok().filter(|url| plain && url.as_str() == id);
        let url = url.filter(|url| {
            let user = !url.username().is_empty() || url.password().is_some();
            url.fragment().is_none() && url.path() != "/" && !user
        });
        let url = url.ok_or_else(|| {
            wrong(
                "the client_id is no plain https URL with a path, such as https://app.example/client.json"
                    .to_owned(),
            )
        })?;
        let host = url.host_str().unwrap_or_default();
        let trusted = &self.config.client_hosts;
        if !trusted.is_empty() && !trusted.iter().any(|known| known.eq_ignore_ascii_case(host)) {
            return Err(wrong(format!(
                "clients of {host} are not let in; `oauth.client_hosts` lists those that are"
            )));
        }
        // Before anything is sent: a place that may not be reached is told as such.
        self.egress.check(id).map_err(|error| wrong(error.message))?;
        Ok(url)
    }

    async fn fetch(&self, id: &str, url: Url) -> Result<Client, Denied> {
        let wrong = |message: String| Denied::new("invalid_client", message);
        let place = url.origin().ascii_serialization();
        let answer = self.egress.send(Request::get(id), LIMITS).await;
        // Not what was there instead: whoever wrote the id may be looking for it.
        let answer = answer.map_err(|error| match error.kind {
            Kind::Forbidden => wrong(error.message),
            _ => wrong(format!("the metadata document at {place} cannot be fetched")),
        })?;
        let kind = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind =
            kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
        let json = kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json");
        if answer.status != http::StatusCode::OK || !json {
            return Err(wrong(format!(
                "the metadata document at {place} is not answered with 200 and as JSON"
            )));
        }
        let document: Metadata = serde_json::from_slice(&answer.body)
            .map_err(|_| wrong(format!("the metadata document at {place} is not one of a client")))?;
        let client = self.of_document(id, document)?;
        let now = self.identity.clock.now();
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.retain(|_, (fetched, _)| now < fetched.plus_seconds(FRESH));
        if documents.len() >= MOST_DOCUMENTS {
            documents.clear();
        }
        documents.insert(id.to_owned(), (now, client.clone()));
        Ok(client)
    }

    pub(super) fn of_document(&self, id: &str, document: Metadata) -> Result<Client, Denied> {
        let wrong = |message: &str| Denied::new("invalid_client", message);
        document.check()?;
        if document.client_id.as_deref() != Some(id) {
            return Err(wrong("the metadata document is of another client_id than the URL it is at"));
        }
        if document.client_secret.is_some()
            || document.token_endpoint_auth_method.as_deref().is_some_and(|auth| auth != "none")
        {
            return Err(wrong(
                "a client with a metadata document has no secret here: its token_endpoint_auth_method is `none`",
            ));
        }
        Ok(Client {
            id: id.to_owned(),
            name: document.name()?,
            refreshes: document.refreshes(),
            redirect_uris: model::redirect_uris(document.redirect_uris)?,
            auth: ClientAuth::None,
            secret_hash: None,
            created_by: id.to_owned(),
            created_at: self.identity.clock.now(),
            used_at: None,
        })
    }

    /// Registers a client that asks for it, without a key: where that is allowed, and a few at a time.
    ///
    /// # Errors
    /// In the words of RFC 7591.
    pub async fn register(&self, caller: &Caller, metadata: Metadata) -> Result<Value, Denied> {
        self.need_available()?;
        if !self.config.registration {
            return Err(Denied::new(
                "access_denied",
                "clients cannot register themselves here; use a metadata document (`client_id` is its URL)",
            ));
        }
        let now = self.identity.clock.now();
        self.registrations.failed(caller.address.as_deref(), now).map_err(|_| {
            Denied::new("slow_down", "too many clients registered from this address; try again in a minute")
        })?;
        metadata.check()?;
        let auth = match metadata.token_endpoint_auth_method.as_deref() {
            None => ClientAuth::Basic,
            Some(word) => ClientAuth::parse(word).ok_or_else(|| {
                let message =
                    "token_endpoint_auth_method is `none`, `client_secret_post` or `client_secret_basic`";
                Denied::new("invalid_client_metadata", message)
            })?,
        };
        let client = Client {
            id: format!("oc-{}", new_id()),
            name: metadata.name()?,
            refreshes: metadata.refreshes(),
            redirect_uris: model::redirect_uris(metadata.redirect_uris)?,
            auth,
            secret_hash: None,
            created_by: store::oauth::clients::ITSELF.to_owned(),
            created_at: now,
            used_at: None,
        };
        let details = json!({ "client_id": client.id, "client_name": client.name, "redirect_uris": client.redirect_uris });
        let made = self.keep(client).await;
        self.identity.record(caller, "register_oauth_client", &details, made.as_ref().map(|_| ())).await?;
        let (client, secret) = made?;
        let mut grants = vec!["authorization_code"];
        if client.refreshes {
            grants.push("refresh_token");
        }
        let mut answer = json!({
            "client_id": client.id,
            "client_id_issued_at": now.0 / 1_000_000,
            "client_name": client.name,
            "redirect_uris": client.redirect_uris,
            "grant_types": grants,
            "response_types": ["code"],
            "token_endpoint_auth_method": client.auth.as_str(),
        });
        if let Some(secret) = secret {
            answer["client_secret"] = json!(secret);
            answer["client_secret_expires_at"] = json!(0);
        }
        Ok(answer)
    }

    /// Keeps a new client; answers it with its secret, when it has one.
    pub(super) async fn keep(&self, mut client: Client) -> Result<(Client, Option<String>)> {
        let secret = (client.auth != ClientAuth::None).then(|| new_token(SECRET_PREFIX));
        client.secret_hash = secret.as_deref().map(sha256_hex);
        let mut on = self.identity.db.begin().await?;
        if !store::oauth::clients::insert(&mut on, &client, MOST_CLIENTS).await? {
            return Err(Error::conflict(format!(
                "there are {MOST_CLIENTS} clients, which is the most there may be; delete some that are not used"
            )));
        }
        on.commit().await?;
        Ok((client, secret))
    }

    /// The client that a request to the token endpoint is from.
    ///
    /// # Errors
    /// `invalid_client`, the same for each reason; `slow_down` after too many.
    pub(super) async fn authenticated(
        &self,
        caller: &Caller,
        id: &str,
        secret: Option<&str>,
        basic: bool,
    ) -> Result<Client, Denied> {
        let now = self.identity.clock.now();
        let found = match self.client(id, false).await {
            // A document that was forgotten since: what is being redeemed says which client it was.
            Ok(None) => Ok(self.public(id, now)),
            Ok(Some(client)) => Ok(client),
            Err(denied) => Err(denied),
        };
        let good = |client: &Client| match (&client.secret_hash, secret) {
            (None, None) => client.auth == ClientAuth::None,
            (Some(hash), Some(secret)) => {
                let same: bool = sha256_hex(secret).as_bytes().ct_eq(hash.as_bytes()).into();
                same && basic == (client.auth == ClientAuth::Basic)
            }
            _ => false,
        };
        match found {
            Ok(client) if good(&client) => Ok(client),
            Err(denied) if denied.code != "invalid_client" => Err(denied),
            _ => {
                self.identity.throttle.failed(caller.address.as_deref(), now)?;
                Err(Denied::client())
            }
        }
    }

    /// A client without a secret that has to prove nothing but that it holds what it redeems.
    fn public(&self, id: &str, now: Time) -> Client {
        Client {
            id: id.to_owned(),
            name: String::new(),
            redirect_uris: Vec::new(),
            auth: ClientAuth::None,
            secret_hash: None,
            refreshes: false,
            created_by: id.to_owned(),
            created_at: now,
            used_at: None,
        }
    }
}
