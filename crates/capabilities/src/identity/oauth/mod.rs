//! OAuth 2.1 for MCP clients: a person logs in and lets a client act for them, instead of handing it a key.
//!
//! # Words
//!
//! - A *client* is a program that asks. It is known by the URL of its metadata document, which is fetched, by
//!   registering itself where that is allowed, or because an administrator made it.
//! - A *grant* is that a person let a client in: with which scopes, at which MCP endpoint (the *resource*). Its
//!   access and refresh tokens end with it.
//! - A *ticket* is what the consent page holds: who answers it has seen it.
//!
//! # Invariants
//!
//! - Whoever is asked is asked each time: no consent is remembered, and none is given for another client.
//! - A code works once, for a minute, for its client, its redirect URI and the holder of its proof; used again,
//!   it ends what it gave. A refresh token used again does too.
//! - A token is good at the endpoint it was asked for, and nowhere else: not over REST.
//! - An agent has no more than its person has at the moment of the call, and no account: its subject is
//!   `grant:<id>`, its name says on whose behalf it acts.
//! - A client's document is fetched only for somebody who is logged in, and through the egress.

mod authorize;
mod clients;
pub mod config;
pub mod live;
pub mod model;
mod operations;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use opsroom_core::caller::Face;
use opsroom_core::egress::Egress;
use opsroom_core::{Caller, Error, Operation, Result, Time};
use serde_json::{Value, json};

use super::accounts::model::UserRow;
use super::throttle::Throttle;
use super::{Identity, store};
use config::OAuthConfig;
use model::{Client, Grant};

pub use authorize::{Parameters, Refused};
pub use clients::Metadata;
pub use operations::CreatedClient;
pub use tokens::Shown;

/// How access tokens begin.
pub const ACCESS_PREFIX: &str = "oat_";

/// How refresh tokens begin.
pub const REFRESH_PREFIX: &str = "ort_";

/// How codes, tickets and the secrets of clients begin.
const CODE_PREFIX: &str = "oac_";
const TICKET_PREFIX: &str = "otk_";
const SECRET_PREFIX: &str = "ocs_";

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct OAuth {
    identity: Identity,
    egress: Egress,
    config: Arc<OAuthConfig>,
    /// Our name as an authorization server: the URL by which people reach us, without a slash at its end. It is
    /// never taken from a request.
    issuer: Arc<str>,
    /// Other origins by which the same server is reached on its own machine.
    aliases: Arc<Vec<String>>,
    registrations: Arc<Throttle>,
    /// Documents that were fetched lately.
    documents: Arc<Mutex<HashMap<String, (Time, Client)>>>,
}

impl OAuth {
    /// The service. `public_url` is the URL by which people reach the server.
    pub fn new(identity: Identity, egress: Egress, config: OAuthConfig, public_url: &str) -> Self {
        let issuer = public_url.trim_end_matches('/');
        Self {
            identity,
            egress,
            config: Arc::new(config),
            aliases: Arc::new(aliases(issuer)),
            issuer: issuer.into(),
            registrations: Arc::default(),
            documents: Arc::default(),
        }
    }

    /// The operations of grants and clients.
    pub fn operations(&self) -> Vec<Operation> {
        operations::all(self)
    }

    /// Whether clients may connect by a login. Not where tokens would travel in the clear.
    pub fn available(&self) -> bool {
        self.config.enabled && (self.issuer.starts_with("https://") || !self.aliases.is_empty())
    }

    /// Our name as an authorization server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The origin by which a request reached us, when it is one of ours; else the usual one.
    pub fn origin(&self, host: Option<&str>) -> &str {
        let meant = host.map(|host| format!("http://{host}"));
        let alias = meant.and_then(|meant| self.aliases.iter().find(|alias| **alias == meant));
        alias.map_or(&self.issuer, String::as_str)
    }

    /// The metadata of the authorization server (RFC 8414).
    ///
    /// # Errors
    /// `NotFound` where clients cannot connect so.
    pub fn metadata(&self) -> Result<Value> {
        self.need_available()?;
        let issuer = &self.issuer;
        let mut scopes: Vec<&str> = model::LISTED.to_vec();
        scopes.push(model::OFFLINE);
        let methods = ["none", "client_secret_post", "client_secret_basic"];
        let mut metadata = json!({
            "issuer": &**issuer,
            "authorization_endpoint": format!("{issuer}/oauth/authorize"),
            "token_endpoint": format!("{issuer}/oauth/token"),
            "revocation_endpoint": format!("{issuer}/oauth/revoke"),
            "scopes_supported": scopes,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": true,
            "service_documentation": format!("{issuer}/docs"),
        });
        if self.config.registration {
            metadata["registration_endpoint"] = json!(format!("{issuer}/oauth/register"));
        }
        Ok(metadata)
    }

    /// The metadata of an MCP endpoint (RFC 9728), as reached by an origin.
    ///
    /// # Errors
    /// `NotFound` for a path that is none, or where clients cannot connect so.
    pub fn resource_metadata(&self, origin: &str, path: &str) -> Result<Value> {
        self.need_available()?;
        let path = if path.is_empty() || path == "/" { "/mcp" } else { path };
        let endpoint = model::endpoint(path)
            .ok_or_else(|| Error::not_found("there is no MCP endpoint at that path; `/mcp` is one"))?;
        Ok(json!({
            "resource": format!("{origin}{endpoint}"),
            "authorization_servers": [&*self.issuer],
            "scopes_supported": model::ASKED.split(' ').collect::<Vec<_>>(),
            "bearer_methods_supported": ["header"],
            "resource_name": "Opsroom",
            "resource_documentation": format!("{}/docs", self.issuer),
        }))
    }

    /// What a request without a good token is told (RFC 6750, RFC 9728); `None` where clients cannot connect so.
    pub fn challenge(&self, origin: &str, endpoint: &str, had_token: bool) -> Option<String> {
        let error = if had_token { "error=\"invalid_token\", " } else { "" };
        self.available().then(|| {
            format!(
                "Bearer realm=\"opsroom\", {error}scope=\"{}\", \
                 resource_metadata=\"{origin}/.well-known/oauth-protected-resource{endpoint}\"",
                model::ASKED
            )
        })
    }

    fn need_available(&self) -> Result<()> {
        if self.available() {
            return Ok(());
        }
        Err(Error::not_found(
            "clients cannot connect by a login here: `oauth.enabled` is off, or `server.public_url` is not https",
        ))
    }

    /// Every origin of ours.
    fn bases(&self) -> Vec<String> {
        let issuer = reqwest::Url::parse(&self.issuer).map(|url| url.origin().ascii_serialization());
        issuer.into_iter().chain(self.aliases.iter().cloned()).collect()
    }
}

/// The caller that a client is, on behalf of the person who let it in: with the rights that they have now,
/// narrowed to those that they gave.
pub(super) fn caller_of_grant(grant: &Grant, user: &UserRow, face: Face, address: Option<String>) -> Caller {
    Caller {
        subject: format!("grant:{}", grant.id),
        name: format!("{} on behalf of {}", grant.client_name, user.username),
        role: user.role,
        scopes: Some(grant.scopes.clone()),
        teams: user.teams.clone(),
        session: None,
        face,
        address,
        request_id: None,
    }
}

/// By which origins a server that has no public name is reached on its own machine: the loopback names with its
/// port.
fn aliases(issuer: &str) -> Vec<String> {
    let Ok(url) = reqwest::Url::parse(issuer) else { return Vec::new() };
    if url.scheme() != "http" || !model::is_loopback(&url) {
        return Vec::new();
    }
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    ["127.0.0.1", "localhost", "[::1]"].iter().map(|host| format!("http://{host}{port}")).collect()
}

#[cfg(test)]
mod tests;
