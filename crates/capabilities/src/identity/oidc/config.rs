//! The section `oidc` of the configuration.

use opsroom_core::egress::EgressConfig;
use opsroom_core::{Error, Result, Role, Secret};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jwt::Algorithm;
use crate::identity::oauth::model::is_loopback;

/// How people log in with an account that they have elsewhere (OpenID Connect). The provider is told
/// `PUBLIC_URL/login/oidc/callback` as the place to come back to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's name for itself, letter by letter as its metadata have it, such as
    /// `https://login.example.com/realms/ops`. Empty: nobody logs in so.
    pub issuer: String,
    /// What the login page calls it.
    pub name: String,
    /// What the provider calls us.
    pub client_id: String,
    /// What we show the provider, best as a reference such as `secret://file/oidc`. Empty for a client that has
    /// none.
    pub client_secret: Secret,
    /// What is asked for; `openid` is always among it.
    pub scopes: Vec<String>,
    /// The claim that names a person's groups, such as `groups`, or `realm_access.roles` for one within another.
    pub group_claim: String,
    /// Which group gives what, at each login; of several, the highest role and all the teams. Empty: roles are
    /// given here, and a new account is a viewer.
    pub roles: Vec<GroupRole>,
    /// The role of who is in none of these groups. Left out: they are not let in.
    pub default_role: Option<Role>,
    /// Whether who logs in for the first time gets an account. Otherwise the login has to be linked with one that
    /// is there, which its owner does on the account's page.
    pub sign_up: bool,
    /// Whether the issuer's host may be at a private address. No other host is opened by this.
    pub private_address: bool,
    /// Whether MCP clients may show access tokens that the provider made for an MCP endpoint of ours, such as
    /// `PUBLIC_URL/mcp` as its audience (RFC 9068), on behalf of people whose login is linked here. Needs
    /// `oauth.enabled`, which tells clients where to get one.
    pub access_tokens: bool,
    /// By which algorithms the provider may sign: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.
    pub algorithms: Vec<Algorithm>,
}

/// What a group of the provider gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRole {
    /// The group, letter by letter.
    pub group: String,
    /// The role that it gives.
    pub role: Role,
    /// The teams that it puts a person in. Where no group names any, the teams stay as they are.
    #[serde(default)]
    pub teams: Vec<String>,
}

impl Default for OidcConfig {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            name: "single sign-on".to_owned(),
            client_id: String::new(),
            client_secret: Secret::default(),
            scopes: ["openid", "profile", "email"].map(str::to_owned).to_vec(),
            group_claim: "groups".to_owned(),
            roles: Vec::new(),
            default_role: None,
            sign_up: false,
            private_address: false,
            access_tokens: false,
            algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        }
    }
}

impl OidcConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let invalid = |key: &str, what: &str| Err(Error::invalid(format!("oidc.{key}: {what}")));
        if self.issuer.is_empty() {
            return Ok(());
        }
        if Url::parse(&self.issuer).is_ok_and(|url| url.query().is_some() || url.fragment().is_some())
            || !is_safe(&self.issuer)
            || self.issuer.len() > 400
        {
            return invalid("issuer", "it is such as https://login.example.com; http only on this machine");
        }
        let word =
            |text: &str| !text.is_empty() && text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic());
        if !word(&self.client_id) {
            return invalid("client_id", "it is what the provider calls this server");
        }
        if !self.scopes.iter().all(|scope| word(scope)) {
            return invalid("scopes", "each is a word such as `email`");
        }
        if self.algorithms.is_empty() {
            return invalid("algorithms", "name at least one, such as RS256");
        }
        if self.name.trim().is_empty() || self.name.chars().count() > 60 {
            return invalid("name", "it is 1 to 60 characters");
        }
        for entry in &self.roles {
            if entry.group.is_empty() {
                return invalid("roles", "`group` is empty");
            }
            if !entry.teams.is_empty() {
                crate::identity::accounts::model::teams(entry.teams.clone())
                    .map_err(|error| Error::invalid(format!("oidc.roles: {}", error.message)))?;
            }
        }
        Ok(())
    }

    /// The way out to the provider: what the configuration opens, and the issuer's host where this section says so.
    pub(super) fn way_out(&self, egress: &EgressConfig) -> EgressConfig {
        let mut egress = egress.clone();
        let host = Url::parse(&self.issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        if let Some(host) = host.filter(|_| self.private_address) {
            match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                Some(address) => egress.allow_addresses.push(address.to_owned()),
                None => egress.allow_hosts.push(host),
            }
        }
        egress
    }
}

/// Whether what goes there is read by nobody on the way.
pub(super) fn is_safe(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    })
}
