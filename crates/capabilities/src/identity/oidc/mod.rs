//! Single sign-on: people log in with an account that they have elsewhere (OpenID Connect Core 1.0, with PKCE and
//! the issuer in the answer, RFC 7636 and 9207).
//!
//! # Words
//!
//! - The *provider* is where they have it; its *issuer* is its name, its *subject* a person's name there.
//! - A login is *linked* with an account here. Who links one gives the account's password first.
//!
//! # Invariants
//!
//! - A link is of issuer and subject. An address for mail never opens an account, and never links one.
//! - What comes back counts in the browser that began, for ten minutes, once, and when the provider's keys, the
//!   issuer, the audience, the nonce and the times say so.
//! - What groups give is given anew at each login; who lost them loses the open sessions too.
//! - An account without a password gets none by mail.

mod access;
mod claims;
pub mod config;
mod flow;
pub mod jwt;
mod operations;
mod people;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::resolver::Resolver;
use opsroom_core::{Error, Operation, Result};
use tokio::sync::Semaphore;

use super::Identity;
use super::accounts::Accounts;
use config::OidcConfig;
use provider::Provider;

pub use flow::{Begun, Ended, SECONDS};

/// How tickets of `link_identity` begin.
const LINK_PREFIX: &str = "olk_";

/// How many logins are held against the provider at once.
const TURNS: usize = 32;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Oidc {
    identity: Identity,
    accounts: Accounts,
    provider: Arc<Provider>,
    config: Arc<OidcConfig>,
    public_url: Arc<str>,
    turns: Arc<Semaphore>,
    seen: Arc<access::Seen>,
}

impl Oidc {
    /// The service. `egress` says where requests may go besides the provider, `public_url` by which URL people
    /// reach the server.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn new(
        accounts: Accounts,
        resolver: Resolver,
        egress: &EgressConfig,
        config: OidcConfig,
        public_url: &str,
    ) -> Result<Self> {
        let identity = accounts.identity();
        let way_out = Egress::new(&config.way_out(egress))?;
        let provider = Provider::new(way_out, resolver, identity.clock.clone(), config.clone());
        Ok(Self {
            identity,
            accounts,
            provider: Arc::new(provider),
            config: Arc::new(config),
            public_url: public_url.trim_end_matches('/').into(),
            turns: Arc::new(Semaphore::new(TURNS)),
            seen: Arc::default(),
        })
    }

    /// The operations of logins elsewhere.
    pub fn operations(&self) -> Vec<Operation> {
        operations::all(self)
    }

    /// What the login page calls the provider, when there is one.
    pub fn offered(&self) -> Option<&str> {
        (!self.config.issuer.is_empty()).then_some(self.config.name.as_str())
    }

    fn need_offered(&self) -> Result<()> {
        self.offered().map(|_| ()).ok_or_else(|| {
            Error::not_found("there is no single sign-on here: `oidc.issuer` of the configuration is empty")
        })
    }
}
