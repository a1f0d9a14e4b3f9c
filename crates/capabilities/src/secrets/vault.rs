//! Secrets that are kept in Vault or OpenBao: `secret://NAME/PATH#FIELD` leads to its key-value engine, version 2.
//! <https://openbao.org/api-docs/secret/kv/kv-v2/>
//!
//! Who uses one is held to the same rules as for a secret of ours: a scope on `NAME/PATH`, looked at as the owner of
//! what uses it at each use, on record before the value is given out.

use std::sync::Weak;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderValue;
use opsroom_core::caller::{DEFAULT_TEAM, Face};
use opsroom_core::egress::{Limits, Request};
use opsroom_core::resolver::{Mount, Purpose};
use opsroom_core::telemetry::known;
use opsroom_core::{Caller, Effect, Error, Result, Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Inner, MOUNT, model};
use crate::identity::AuditEntry;

const LIMITS: Limits = Limits { max_bytes: 1 << 20, timeout: Duration::from_secs(10), redirects: 0 };

/// A place in Vault or OpenBao that references lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultMount {
    /// The name in references: `vault` makes `secret://vault/PATH#FIELD`.
    pub name: String,
    /// The address, such as `https://vault.internal:8200`.
    pub address: String,
    /// The path of the key-value engine, version 2.
    #[serde(default = "engine")]
    pub engine: String,
    /// The token; it needs to read below `ENGINE/data/`, and nothing else.
    pub token: Secret,
    /// The namespace, where there are any.
    #[serde(default)]
    pub namespace: String,
    /// The teams whose resources may use it.
    #[serde(default = "teams")]
    pub teams: Vec<String>,
}

fn engine() -> String {
    "secret".to_owned()
}

fn teams() -> Vec<String> {
    vec![DEFAULT_TEAM.to_owned()]
}

impl VaultMount {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(mounts: &[Self]) -> Result<()> {
        let invalid = |what: String| Err(Error::invalid(format!("secrets.vaults: {what}")));
        let word = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        for (at, mount) in mounts.iter().enumerate() {
            let name = mount.name.escape_debug();
            if !word(&mount.name) || [MOUNT, "env", "file", "cloud"].contains(&mount.name.as_str()) {
                return invalid(format!("`{name}` is not a free name of letters, digits, - and _"));
            }
            if mounts[..at].iter().any(|other| other.name == mount.name) {
                return invalid(format!("`{name}` is there twice"));
            }
            if !mount.address.starts_with("https://") && !mount.address.starts_with("http://") {
                return invalid(format!("the address of `{name}` does not begin with https://"));
            }
            if mount.token.is_empty() {
                return invalid(format!("`{name}` has no token"));
            }
            if !mount.engine.split('/').all(word) {
                return invalid(format!("the engine of `{name}` is not a path such as `secret`"));
            }
        }
        Ok(())
    }
}

/// The place. Weak, because the service holds the resolver that holds this.
pub(super) struct Place {
    pub(super) inner: Weak<Inner>,
    pub(super) config: VaultMount,
}

impl Mount for Place {
    fn read<'a>(&'a self, path: &'a str, purpose: Purpose<'a>) -> BoxFuture<'a, Result<Secret>> {
        let inner = self.inner.upgrade();
        Box::pin(async move {
            let inner = inner.ok_or_else(|| Error::unavailable("the server is stopping"))?;
            let (path, field) = path.split_once('#').unwrap_or((path, model::VALUE));
            let named = format!("{}/{path}", self.config.name);
            let caller = inner.identity.caller_of(purpose.owner, Face::Schedule).ok_or_else(|| {
                let (user, owner) = (purpose.user, purpose.owner);
                Error::forbidden(format!(
                    "the secret {named:?} cannot be used for {user}: its owner {owner} has no rights any more"
                ))
            })?;
            let result = self.try_read(&inner, &caller, (path, field), purpose).await;
            let details = json!({ "path": named, "field": field, "user": purpose.user });
            let entry = AuditEntry::action(&caller, "use_secret", Effect::Reveal, &details).ended(&result);
            // What is not on record was not used.
            inner.identity.audit(entry).await?;
            result
        })
    }
}

impl Place {
    async fn try_read(
        &self,
        inner: &Inner,
        caller: &Caller,
        (path, field): (&str, &str),
        purpose: Purpose<'_>,
    ) -> Result<Secret> {
        let VaultMount { name, address, engine, namespace, teams, .. } = &self.config;
        let named = format!("{name}/{path}");
        caller.authorise_resource("secrets", "use_secret", Effect::Reveal, Role::Operator, &named)?;
        let team = |teams: &[String]| teams.iter().any(|own| own == purpose.team);
        if !team(&caller.teams) || !team(teams) {
            return Err(Error::forbidden(format!(
                "{named:?} is not for the team {:?}; `secrets.vaults` of the configuration says for which",
                purpose.team
            )));
        }
        let mut request = Request::get(format!("{}/v1/{engine}/data/{path}", address.trim_end_matches('/')));
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| {
                trouble(name, "its token or namespace has characters that no header can have")
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        request.headers.insert("x-vault-token", header(self.config.token.expose())?);
        if !namespace.is_empty() {
            request.headers.insert("x-vault-namespace", header(namespace)?);
        }
        let answer =
            inner.egress.send(request, LIMITS).await.map_err(|error| trouble(name, &error.message))?;
        match answer.status.as_u16() {
            200 => {}
            404 => {
                return Err(Error::not_found(format!(
                    "there is no secret {path:?} in {name}, or it was deleted"
                )));
            }
            status => return Err(trouble(name, &format!("it answered {status}"))),
        }
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|_| trouble(name, "its answer is not JSON"))?;
        let fields =
            body["data"]["data"].as_object().ok_or_else(|| trouble(name, "its answer has no secret"))?;
        let value = fields.get(field).ok_or_else(|| {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            Error::not_found(format!(
                "the secret {named:?} has no field {field:?}; it has {}",
                names.join(", ")
            ))
        })?;
        let value = Secret::new(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        // From now on it is hidden in what this process tells.
        known::remember(&format!("{named}#{field}"), std::iter::once(value.expose()));
        Ok(value)
    }
}

fn trouble(name: &str, what: &str) -> Error {
    Error::unavailable(format!("the secrets of {name} cannot be read: {what}"))
}
