//! The provider of single sign-on: its metadata (OpenID Connect Discovery 1.0), its keys, and what it gives for
//! a code. All of it goes through the egress.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::{HeaderValue, Method, header};
use opsroom_core::caller::DEFAULT_TEAM;
use opsroom_core::egress::{Egress, Limits, Request, Response};
use opsroom_core::resolver::{Purpose, Resolver};
use opsroom_core::{Clock, Error, Result, Secret, Time};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::config::{OidcConfig, is_safe};
use super::jwt::{Fault, Keys};

const LIMITS: Limits = Limits { max_bytes: 1 << 20, timeout: Duration::from_secs(10), redirects: 0 };

/// For how many seconds metadata and keys are kept.
const KEEP: i64 = 3600;

/// For how many seconds a provider that did not answer is not asked for its metadata again.
const REST: i64 = 5;

/// How often keys are fetched in a minute at the most, whatever tokens name: a flood of forged ones reaches the
/// provider no oftener.
const FETCHES: usize = 5;

/// What a provider says about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    /// Where people log in.
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether what comes back always says from whom (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What a code gave.
#[derive(Deserialize)]
pub struct Tokens {
    /// Who it is.
    pub id_token: Secret,
    #[serde(default)]
    access_token: Option<Secret>,
}

/// The provider.
pub struct Provider {
    egress: Egress,
    resolver: Resolver,
    clock: Clock,
    config: OidcConfig,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Time, Arc<Metadata>)>,
    /// When it was asked in vain, and what came of it.
    down: Option<(Time, String)>,
    keys: Option<(Time, Arc<Keys>)>,
    fetches: Vec<Time>,
}

impl Provider {
    /// The provider of a configuration.
    pub fn new(egress: Egress, resolver: Resolver, clock: Clock, config: OidcConfig) -> Self {
        Self { egress, resolver, clock, config, known: Mutex::default() }
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer, or answers as another one.
    pub async fn metadata(&self) -> Result<Arc<Metadata>> {
        let now = self.clock.now();
        let mut known = self.known.lock().await;
        if let Some((read, metadata)) = &known.metadata
            && now < read.plus_seconds(KEEP)
        {
            return Ok(metadata.clone());
        }
        if let Some((asked, message)) = &known.down
            && now < asked.plus_seconds(REST)
        {
            return Err(Error::unavailable(message.as_str()));
        }
        match self.discover().await {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                (known.metadata, known.down) = (Some((now, metadata.clone())), None);
                Ok(metadata)
            }
            Err(error) => {
                known.down = Some((now, error.message.clone()));
                Err(error)
            }
        }
    }

    async fn discover(&self) -> Result<Metadata> {
        let issuer = self.config.issuer.trim_end_matches('/');
        let answer = self.get(format!("{issuer}/.well-known/openid-configuration"), None).await?;
        let metadata: Metadata = serde_json::from_slice(&answer.body)
            .map_err(|_| trouble("its metadata are not those of OpenID Connect"))?;
        // Else one provider could speak for another (Discovery 4.3).
        if metadata.issuer != self.config.issuer {
            return Err(trouble("it calls itself otherwise than `oidc.issuer` has it, letter by letter"));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        if !endpoints.into_iter().chain(&metadata.userinfo_endpoint).all(|url| is_safe(url)) {
            return Err(trouble("one of its endpoints is not https"));
        }
        Ok(metadata)
    }

    /// What a token says, when the provider signed it. A key that is not known is asked for once.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is not the provider's.
    pub async fn open(&self, metadata: &Metadata, token: &str, of: Of) -> Result<Map<String, Value>> {
        let refused = |fault| match of {
            Of::Identity => refused(fault),
            Of::Access => refused_access(fault),
        };
        let now = self.clock.now();
        let known = self.known.lock().await.keys.clone();
        if let Some((read, keys)) = known
            && now < read.plus_seconds(KEEP)
        {
            match keys.open(token, &self.config.algorithms, of.kinds()) {
                Err(Fault::UnknownKey) => {}
                result => return result.map_err(refused),
            }
        }
        let keys = self.fetch_keys(metadata, now).await?;
        keys.open(token, &self.config.algorithms, of.kinds()).map_err(refused)
    }

    async fn fetch_keys(&self, metadata: &Metadata, now: Time) -> Result<Arc<Keys>> {
        let mut known = self.known.lock().await;
        known.fetches.retain(|fetched| now < fetched.plus_seconds(60));
        if known.fetches.len() >= FETCHES {
            return match &known.keys {
                // As they are: what they do not know is refused.
                Some((_, keys)) => Ok(keys.clone()),
                None => Err(trouble("its keys were asked for too often; try again in a minute")),
            };
        }
        known.fetches.push(now);
        let answer = self.get(metadata.jwks_uri.clone(), None).await?;
        let set: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let keys = Arc::new(Keys::parse(&set).ok_or_else(|| trouble("its keys are no set of keys"))?);
        known.keys = Some((now, keys.clone()));
        Ok(keys)
    }

    /// What a code gives, once.
    ///
    /// # Errors
    /// `Unauthenticated` when the provider refuses, `Unavailable` when it does not answer.
    pub async fn redeem(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
        back: &str,
    ) -> Result<Tokens> {
        let purpose = Purpose { team: DEFAULT_TEAM, owner: "operator", user: "single sign-on" };
        let secret = self.resolver.value(self.config.client_secret.expose(), purpose).await?;
        let request = redemption(
            metadata,
            &self.config.client_id,
            &secret,
            &[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", back),
                ("code_verifier", verifier),
            ],
        )?;
        let answer = self.egress.send(request, LIMITS).await.map_err(unreachable)?;
        if !answer.status.is_success() {
            return Err(Error::unauthenticated(format!(
                "the provider of single sign-on did not take what came back ({}); log in again",
                said(&answer)
            )));
        }
        serde_json::from_slice(&answer.body).map_err(|_| trouble("it gave no identity token"))
    }

    /// What the provider tells besides about the subject (OpenID Connect Core 1.0, 5.3); nothing where it tells
    /// nothing.
    ///
    /// # Errors
    /// `Unauthenticated` when it tells about somebody else, `Unavailable` when it does not answer.
    pub async fn more(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        subject: &str,
    ) -> Result<Map<String, Value>> {
        let (Some(endpoint), Some(token)) = (&metadata.userinfo_endpoint, &tokens.access_token) else {
            return Ok(Map::new());
        };
        let answer = self.get(endpoint.clone(), Some(token)).await?;
        let more: Map<String, Value> = serde_json::from_slice(&answer.body)
            .map_err(|_| trouble("what it tells about a person is no JSON"))?;
        // A token of somebody else may have been put in (5.3.2).
        if more.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(refused(Fault::Wrong("what the provider tells besides is about somebody else")));
        }
        Ok(more)
    }

    async fn get(&self, url: String, token: Option<&Secret>) -> Result<Response> {
        let mut request = Request::get(url);
        request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            request.headers.insert(header::AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose()))?);
        }
        let answer = self.egress.send(request, LIMITS).await.map_err(unreachable)?;
        if !answer.status.is_success() {
            return Err(trouble(&format!("it answered {}", answer.status.as_u16())));
        }
        Ok(answer)
    }
}

/// What kind of token is expected: one is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Who logged in (OpenID Connect Core 1.0, 2).
    Identity,
    /// What a program may do (RFC 9068).
    Access,
}

impl Of {
    /// What its header may call it; many providers call access tokens no more than `JWT`.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["JWT"],
            Self::Access => &["at+jwt", "application/at+jwt", "JWT"],
        }
    }
}

/// The request for tokens, with the client shown in the way that the provider takes (RFC 6749, 2.3.1).
fn redemption(
    metadata: &Metadata,
    client_id: &str,
    secret: &Secret,
    pairs: &[(&str, &str)],
) -> Result<Request> {
    let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
    let by_header =
        methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs);
    let mut request = Request::get(metadata.token_endpoint.clone());
    if secret.is_empty() {
        form.append_pair("client_id", client_id);
    } else if by_header {
        request.headers.insert(header::AUTHORIZATION, basic(client_id, secret)?);
    } else {
        form.append_pair("client_id", client_id).append_pair("client_secret", secret.expose());
    }
    request.method = Method::POST;
    request.body = form.finish().into();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers.insert(header::CONTENT_TYPE, kind);
    request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// The client id and the secret, each form-encoded (RFC 6749, 2.3.1).
fn basic(client_id: &str, secret: &Secret) -> Result<HeaderValue> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encoded(client_id), encoded(secret.expose())));
    sensitive(&format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| trouble("it gave a token that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The error code of an answer, when it is one.
fn said(answer: &Response) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    error_code(body["error"].as_str().unwrap_or_default())
}

/// A code of an error as it may be repeated: its letters, or nothing of it.
pub fn error_code(code: &str) -> String {
    let plain = (1..=60).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain { code.to_owned() } else { "no reason given".to_owned() }
}

/// A token is refused; which way is for our log and for who set it up, and holds nothing of the token.
pub fn refused(fault: Fault) -> Error {
    let what = match fault {
        Fault::UnknownKey => "the provider has no such key",
        Fault::Wrong(what) => what,
    };
    Error::unauthenticated(format!("the identity token that came back is refused: {what}"))
}

/// The same of an access token.
pub fn refused_access(fault: Fault) -> Error {
    let what = match fault {
        Fault::UnknownKey => "its issuer has no such key",
        Fault::Wrong(what) => what,
    };
    Error::unauthenticated(format!("the access token is refused: {what}"))
}

fn unreachable(error: Error) -> Error {
    trouble(&error.message)
}

fn trouble(what: &str) -> Error {
    Error::unavailable(format!("the provider of single sign-on cannot be used: {what}"))
}
