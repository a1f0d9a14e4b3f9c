//! The section `oauth` of the configuration.

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How MCP clients connect by a person's login instead of a key (OAuth 2.1). It needs accounts, and a
/// `server.public_url` that begins with `https://` wherever the server is not reached by a loopback address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OAuthConfig {
    /// Whether clients may connect so.
    pub enabled: bool,
    /// Whether clients may register themselves, unasked and without a key (RFC 7591), at most a few from one
    /// address in a minute. Clients with a metadata document of their own need no registration.
    pub registration: bool,
    /// Hosts whose metadata documents are taken for clients, such as `claude.ai`. Empty: every public host.
    pub client_hosts: Vec<String>,
    /// After how many minutes an access token ends and is renewed by the client, from 1 to 1440.
    pub access_minutes: u32,
    /// After how many days without a renewal a client is asked to log in again, from 1 to 365.
    pub refresh_days: u32,
    /// After how many days a client is asked to log in again in any case, from 1 to 730.
    pub grant_days: u32,
}

impl Default for OAuthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            registration: false,
            client_hosts: Vec::new(),
            access_minutes: 60,
            refresh_days: 30,
            grant_days: 180,
        }
    }
}

impl OAuthConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if !(1..=1440).contains(&self.access_minutes) {
            return Err(Error::invalid("oauth.access_minutes: it is from 1 to 1440"));
        }
        if !(1..=365).contains(&self.refresh_days) {
            return Err(Error::invalid("oauth.refresh_days: it is from 1 to 365"));
        }
        if !(1..=730).contains(&self.grant_days) {
            return Err(Error::invalid("oauth.grant_days: it is from 1 to 730"));
        }
        for host in &self.client_hosts {
            if host.is_empty() || host.contains(['/', ':', '*', '@', ' ']) {
                let host = host.escape_debug();
                return Err(Error::invalid(format!(
                    "oauth.client_hosts: `{host}` is not a name such as claude.ai"
                )));
            }
        }
        Ok(())
    }
}
