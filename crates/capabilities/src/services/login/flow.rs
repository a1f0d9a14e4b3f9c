//! The way there and back: what a person is sent to, and what their browser brings.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue};
use opsroom_core::egress::Request;
use opsroom_core::id::{new_token, random_text, sha256_hex};
use opsroom_core::{Error, Result, Time};
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::Services;
use super::super::model::{Kind, Service};
use super::discovery::{self, Challenge, Server, TOKEN_LIMITS, form, shown, words};
use super::{Credentials, Login, Pending};

/// How states begin.
const STATE_PREFIX: &str = "ost_";

/// For how many seconds an answer counts.
const ANSWER_SECONDS: i64 = 600;

/// The scope by which a client asks for a refresh token.
const OFFLINE: &str = "offline_access";

/// Where a person says yes.
pub struct Begun {
    /// The URL.
    pub url: String,
    /// Who asks there.
    pub issuer: String,
    /// For which scopes.
    pub scopes: Vec<String>,
}

/// A client that somebody registered for us.
pub struct Given {
    /// Its id.
    pub client_id: String,
    /// Its secret, when it has one.
    pub client_secret: Option<String>,
}

/// What a token endpoint answers. It is not `Debug`, so that no log can show it.
#[derive(Deserialize)]
pub(super) struct Tokens {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<i64>,
    #[serde(default)]
    scope: Option<String>,
}

impl Tokens {
    /// Puts them in the place of those before; a server that gives no new refresh token means the old one.
    pub(super) fn into_login(self, login: &mut Login, now: Time) {
        login.access = self.access_token;
        login.refresh = self.refresh_token.or(login.refresh.take());
        login.got_at = now.0;
        login.expires_at = self.expires_in.map(|seconds| now.plus_seconds(seconds.clamp(0, 1 << 32)).0);
        for scope in self.scope.iter().flat_map(|text| words(text)) {
            if !login.scopes.contains(&scope) {
                login.scopes.push(scope);
            }
        }
    }
}

impl Services {
    /// Begins a login at a service.
    ///
    /// # Errors
    /// `Invalid` for a service that needs none, `Conflict` for one that is logged in at or refuses in any case,
    /// `Forbidden` and `Unavailable` for metadata that cannot be trusted or read.
    pub(in crate::services) async fn begin_login(
        &self,
        it: &Service,
        given: Option<Given>,
        more: Vec<String>,
    ) -> Result<Begun> {
        if !matches!(it.kind, Kind::Cloud | Kind::Remote) {
            return Err(Error::invalid(format!(
                "the service `{}` is no server elsewhere; it needs no login",
                it.name
            )));
        }
        let inner = &self.inner;
        let known = inner.store.login(it.id).await?.and_then(|row| row.login);
        let known = self.open_login(it.id, known.as_deref()).await?;
        let (challenge, before) = self.wanted(it, known.as_ref()).await?;
        let egress = &inner.egress;
        let resource = discovery::resource(egress, &it.spec.url, &challenge).await?;
        let issuer = resource
            .authorization_servers
            .first()
            .ok_or_else(|| Error::unavailable("the service's metadata names no authorization server"))?;
        let server = discovery::server(egress, issuer).await?;
        let mut scopes = before;
        let asked = challenge.scopes.or_else(|| resource.scopes_supported.clone()).unwrap_or_default();
        let offline =
            server.scopes_supported.as_ref().is_some_and(|known| known.iter().any(|word| word == OFFLINE));
        for scope in asked.into_iter().chain(more).chain(offline.then(|| OFFLINE.to_owned())) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        let old = known.map(|login| login.credentials).filter(|old| old.issuer == server.issuer);
        let credentials = self.credentials(&server, given, old).await?;
        let pending = Pending {
            credentials,
            iss_promised: server.authorization_response_iss_parameter_supported,
            verifier: random_text(64),
            resource: resource.resource,
            scopes,
            redirect_uri: inner.logins.redirect_uri(),
        };
        self.send_there(it, &server, pending).await
    }

    /// What the service wants now, and which scopes we have that it knows.
    async fn wanted(&self, it: &Service, known: Option<&Login>) -> Result<(Challenge, Vec<String>)> {
        let token = known.map(|login| login.access.as_str()).filter(|token| !token.is_empty());
        let (status, said) = discovery::probe(&self.inner.egress, &it.spec.url, token).await?;
        let remembered = self.inner.logins.refusal(&it.slug);
        let had = || known.map(|login| login.scopes.clone()).unwrap_or_default();
        let challenge = match (status, remembered) {
            (StatusCode::UNAUTHORIZED, _) => return Ok((said.unwrap_or_default(), Vec::new())),
            (StatusCode::FORBIDDEN, _) => said.unwrap_or_default(),
            (_, Some(remembered)) if token.is_some() => remembered,
            (_, _) if token.is_some() => {
                let message = format!("the service `{}` is logged in at, and refuses nothing", it.name);
                return Err(Error::conflict(message));
            }
            _ => return Err(Error::invalid(format!("the service `{}` asks for no login", it.name))),
        };
        let has = |wanted: &Vec<String>| wanted.iter().all(|scope| had().contains(scope));
        if token.is_some() && challenge.insufficient && challenge.scopes.as_ref().is_none_or(has) {
            return Err(Error::conflict(format!(
                "the service `{}` still refuses with the scopes that it asked for; whoever runs it can say why, or \
                 `disconnect_service` and log in as somebody else",
                it.name
            )));
        }
        Ok((challenge, if token.is_some() { had() } else { Vec::new() }))
    }

    /// Who we are at an authorization server: as somebody registered us, as before, by our own document, or newly
    /// registered.
    async fn credentials(
        &self,
        server: &Server,
        given: Option<Given>,
        old: Option<Credentials>,
    ) -> Result<Credentials> {
        let of = |client_id: String, client_secret: Option<String>, method: Option<String>| Credentials {
            issuer: server.issuer.clone(),
            method: method.unwrap_or_else(|| method_for(server, client_secret.is_some()).to_owned()),
            client_id,
            client_secret,
            token_endpoint: server.token_endpoint.clone(),
        };
        if let Some(given) = given {
            return Ok(of(given.client_id, given.client_secret, None));
        }
        if let Some(old) = old {
            return Ok(Credentials { token_endpoint: server.token_endpoint.clone(), ..old });
        }
        let logins = &self.inner.logins;
        if server.client_id_metadata_document_supported && !logins.client_id.is_empty() {
            return Ok(of(logins.client_id.clone(), None, Some("none".to_owned())));
        }
        let Some(endpoint) = &server.registration_endpoint else {
            return Err(Error::invalid(format!(
                "{} lets no client register itself; register one there with the redirect URI {} and give its \
                 `client_id`",
                shown(&server.issuer),
                logins.redirect_uri()
            )));
        };
        let method = method_for(server, true);
        let kind = if logins.public_url.starts_with("https://") { "web" } else { "native" };
        let body = json!({
            "client_name": "Opsroom",
            "redirect_uris": [logins.redirect_uri()],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
            "application_type": kind,
        });
        let answer = self.inner.egress.send(Request::post_json(endpoint, &body), TOKEN_LIMITS).await?;
        #[derive(Deserialize)]
        struct Registered {
            client_id: String,
            #[serde(default)]
            client_secret: Option<String>,
            #[serde(default)]
            token_endpoint_auth_method: Option<String>,
        }
        let registered: Option<Registered> =
            if answer.status.is_success() { serde_json::from_slice(&answer.body).ok() } else { None };
        let registered = registered.ok_or_else(|| {
            Error::unavailable(format!(
                "{} does not register us: status {}",
                shown(&server.issuer),
                answer.status.as_u16()
            ))
        })?;
        Ok(of(registered.client_id, registered.client_secret, registered.token_endpoint_auth_method))
    }

    async fn send_there(&self, it: &Service, server: &Server, pending: Pending) -> Result<Begun> {
        let state = new_token(STATE_PREFIX);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(pending.verifier.as_bytes()));
        let mut url = Url::parse(&server.authorization_endpoint).map_err(Error::internal)?;
        let scope = pending.scopes.join(" ");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &pending.credentials.client_id)
            .append_pair("redirect_uri", &pending.redirect_uri)
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("resource", &pending.resource);
        if !scope.is_empty() {
            url.query_pairs_mut().append_pair("scope", &scope);
        }
        let sealed = self.seal(it.id, &pending).await?;
        let until = self.inner.clock.now().plus_seconds(ANSWER_SECONDS);
        self.inner.store.put_pending_login(it.id, &sha256_hex(&state), &sealed, until).await?;
        Ok(Begun { url: url.into(), issuer: server.issuer.clone(), scopes: pending.scopes })
    }

    /// Takes what a browser brings back; answers the service's name. `get` gives a parameter of the request.
    ///
    /// # Errors
    /// `Forbidden` for an answer that nobody waits for or that is from another issuer, `Unavailable` when the
    /// tokens cannot be got.
    pub async fn finish_login(&self, get: impl Fn(&str) -> Option<String>) -> Result<String> {
        let unexpected =
            || Error::forbidden("nobody waits for this answer; `connect_service` begins a login");
        let state = get("state").filter(|state| state.starts_with(STATE_PREFIX) && state.len() < 100);
        let hash = sha256_hex(&state.ok_or_else(unexpected)?);
        let inner = &self.inner;
        let taken = inner.store.take_pending_login(&hash, inner.clock.now()).await?;
        let (id, sealed) = taken.ok_or_else(unexpected)?;
        let pending: Pending = self.unseal(id, &sealed).await?;
        // Before anything else of the answer counts; letter by letter, as RFC 9207 has it.
        match get("iss") {
            Some(iss) if iss == pending.credentials.issuer => {}
            None if !pending.iss_promised => {}
            _ => {
                return Err(Error::forbidden(format!(
                    "the answer is not from {}, which was asked; nothing was sent anywhere",
                    shown(&pending.credentials.issuer)
                )));
            }
        }
        if let Some(error) = get("error") {
            let issuer = shown(&pending.credentials.issuer);
            return Err(Error::forbidden(format!("{issuer} says no: {}", shown(&error))));
        }
        let code = get("code").ok_or_else(|| Error::invalid("the answer has neither a code nor an error"))?;
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", &pending.redirect_uri),
            ("code_verifier", &pending.verifier),
            ("resource", &pending.resource),
        ];
        let tokens = self.tokens(&pending.credentials, &pairs).await?;
        let mut login = Login {
            credentials: pending.credentials,
            resource: pending.resource,
            scopes: pending.scopes,
            access: String::new(),
            refresh: None,
            got_at: 0,
            expires_at: None,
        };
        tokens.into_login(&mut login, inner.clock.now());
        let it = inner.store.everywhere().await?.into_iter().find(|it| it.id == id);
        let it = it.ok_or_else(|| Error::not_found("the service is gone"))?;
        inner.logins.forgive(&it.slug);
        self.keep_login(id, &login).await?;
        inner.wake.notify_one();
        Ok(it.name)
    }

    /// Asks a token endpoint.
    pub(super) async fn tokens(&self, credentials: &Credentials, pairs: &[(&str, &str)]) -> Result<Tokens> {
        let mut pairs = pairs.to_vec();
        let secret = credentials.client_secret.as_deref().unwrap_or_default();
        let basic = credentials.method == "client_secret_basic";
        if !basic {
            pairs.push(("client_id", &credentials.client_id));
        }
        if credentials.method == "client_secret_post" {
            pairs.push(("client_secret", secret));
        }
        let mut request = form(&credentials.token_endpoint, &pairs)?;
        if basic {
            let text = format!("{}:{}", encoded(&credentials.client_id)?, encoded(secret)?);
            let value =
                HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).map_err(Error::internal)?;
            request.headers.insert(AUTHORIZATION, value);
        }
        let issuer = shown(&credentials.issuer);
        let answer = self.inner.egress.send(request, TOKEN_LIMITS).await?;
        if answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS {
            #[derive(Deserialize)]
            struct Said {
                error: String,
            }
            let said =
                serde_json::from_slice(&answer.body).map_or_else(|_| String::new(), |said: Said| said.error);
            return Err(Error::forbidden(format!("{issuer} gives no token: {}", shown(&said))));
        }
        let tokens: Option<Tokens> =
            if answer.status == StatusCode::OK { serde_json::from_slice(&answer.body).ok() } else { None };
        let tokens = tokens.filter(|tokens| {
            let plain = tokens.access_token.bytes().all(|byte| byte.is_ascii_graphic());
            plain && !tokens.access_token.is_empty() && tokens.token_type.eq_ignore_ascii_case("bearer")
        });
        tokens.ok_or_else(|| {
            let status = answer.status.as_u16();
            Error::unavailable(format!("{issuer} answers with status {status} and no bearer token"))
        })
    }
}

/// How we show who we are: by a secret where the server takes one.
fn method_for(server: &Server, secret: bool) -> &'static str {
    let known = server.token_endpoint_auth_methods_supported.as_ref();
    let takes = |method: &str| {
        known.map_or(method == "client_secret_basic", |known| known.iter().any(|one| one == method))
    };
    ["client_secret_basic", "client_secret_post"]
        .into_iter()
        .find(|method| secret && takes(method))
        .unwrap_or("none")
}

/// Form-encoded, as RFC 6749 wants it before it is put in the header.
fn encoded(text: &str) -> Result<String> {
    let url = Url::parse_with_params("form:", [("v", text)]).map_err(Error::internal)?;
    Ok(url.query().unwrap_or_default().trim_start_matches("v=").to_owned())
}
