//! `get_secret`, what is known about secrets, and who has them: leases and grants.

use std::collections::BTreeMap;

use opsroom_core::caller::Face;
use opsroom_core::id::new_id;
use opsroom_core::{Call, Effect, Error, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plain;
use crate::secrets::model::{self, SecretInfo, VersionInfo};
use crate::secrets::store::grants::{Grant, Lease};
use crate::secrets::{Secrets, store};

/// Show a secret's values. It is on record before it is answered, and over MCP it is withheld unless a
/// person granted it with `grant_secret`; use a reference `secret://opsroom/PATH` wherever you can instead.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetSecret {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// A version that is still given out. Left out: the one in force.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,
    /// Take a lease for so many seconds, from 1 to 86400, so that others see who has the secret.
    #[serde(default)]
    #[schemars(range(min = 1, max = 86_400))]
    pub lease_seconds: Option<u32>,
}

/// A secret's values. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct Given {
    /// Its path.
    pub path: String,
    /// Which version it is.
    pub version: i64,
    /// The values by the names of their fields; one value is the field `value`.
    pub fields: BTreeMap<String, String>,
    /// The lease, when one was taken.
    pub lease: Option<LeaseInfo>,
}

/// Who was given a secret, and until when.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LeaseInfo {
    /// Its id.
    pub id: String,
    /// Which version was given.
    pub version: i64,
    /// To whom: `key:<id>`, `user:<id>` or `operator`.
    pub holder: String,
    /// Their name.
    pub holder_name: String,
    /// Since when, RFC 3339.
    pub created_at: String,
    /// Until when, RFC 3339.
    pub expires_at: String,
}

/// List the secrets of your teams that you may name, by their paths. Values are never shown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListSecrets {
    /// Only those whose path begins so, such as `db/`.
    #[schemars(length(max = 200))]
    pub prefix: Option<String>,
    /// Only those with this label, as `NAME=VALUE`.
    #[schemars(length(max = 300))]
    pub label: Option<String>,
    /// Also those that are deleted and can be restored.
    pub deleted: bool,
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 50))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 200))]
    pub cursor: Option<String>,
}

/// Secrets by their paths.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SecretPage {
    /// The secrets.
    pub items: Vec<SecretInfo>,
    /// What to send as `cursor` for those after these; null when these are the last.
    pub next: Option<String>,
}

/// List the versions of a secret, newest first. Values are never shown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSecretVersions {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
}

/// Versions, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionList {
    /// The versions.
    pub items: Vec<VersionInfo>,
}

/// List who was given a secret under a lease that still runs, newest first.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSecretLeases {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
}

/// Leases, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LeaseList {
    /// The leases.
    pub items: Vec<LeaseInfo>,
}

/// End a lease early: its holder says that the secret is no longer needed, or an administrator takes it out
/// of the list. Who has seen a value keeps it; rotate the secret to make it worthless.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndSecretLease {
    /// The secret's path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// The lease's id.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// Whether something was there to be ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ended {
    /// True when it ran until now.
    pub ended: bool,
}

/// Let one caller be shown one secret over MCP, for a time. Only a person may grant it: in the console, the
/// terminal or over REST, never over MCP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantSecret {
    /// The secret's path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// To whom: `key:<id>` or `user:<id>`.
    #[schemars(length(min = 1, max = 190))]
    pub subject: String,
    /// For how many minutes, from 1 to 1440.
    #[serde(default = "quarter")]
    #[schemars(range(min = 1, max = 1440))]
    pub minutes: u32,
}

/// What was granted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrantInfo {
    /// The secret's path.
    pub path: String,
    /// To whom.
    pub subject: String,
    /// Until when, RFC 3339.
    pub expires_at: String,
}

/// End every grant of a secret to a caller.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeSecretGrant {
    /// The secret's path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// From whom.
    #[schemars(length(min = 1, max = 190))]
    pub subject: String,
}

fn quarter() -> u32 {
    15
}

pub async fn get(secrets: Secrets, call: Call, input: GetSecret) -> Result<Given> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    row.usable(secrets.now())?;
    let (version, fields) = secrets.fields(&row, input.version).await?;
    secrets.sing(&row, &call.caller.subject, "get_secret");
    let lease = match input.lease_seconds {
        None => None,
        Some(seconds) => Some(secrets.lease(&call, &row.id, version, seconds).await?),
    };
    let fields = fields.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    Ok(Given { path: row.path, version, fields, lease })
}

impl Secrets {
    async fn lease(&self, call: &Call, secret_id: &str, version: i64, seconds: u32) -> Result<LeaseInfo> {
        let now = self.now();
        let lease = Lease {
            id: new_id(),
            secret_id: secret_id.to_owned(),
            version,
            holder: call.caller.subject.clone(),
            holder_name: call.caller.name.clone(),
            created_at: now,
            expires_at: now.plus_seconds(seconds.into()),
            ended_at: None,
        };
        store::grants::insert_lease(&self.inner.db, &lease).await?;
        Ok(info(lease))
    }
}

pub async fn list(secrets: Secrets, call: Call, input: ListSecrets) -> Result<SecretPage> {
    let limit = match input.limit.unwrap_or(50) {
        limit @ 1..=200 => limit as usize,
        other => return Err(Error::invalid(format!("limit {other} is not from 1 to 200"))),
    };
    let prefix = input.prefix.map(|text| plain("prefix", text, 200)).transpose()?.unwrap_or_default();
    let label = input.label.as_deref().map(|label| label.split_once('=').unwrap_or((label, "")));
    let (teams, now) = (&call.caller.teams, secrets.now());
    let mut after = input.cursor.map(|text| model::path(&text).map(str::to_owned)).transpose()?;
    let mut items = Vec::new();
    loop {
        let rows = store::list(&secrets.inner.db, teams, Some(&prefix), after.as_deref(), input.deleted, 200);
        let rows = rows.await?;
        let last = rows.len() < 200;
        for row in rows {
            after = Some(row.path.clone());
            let named = call.caller.may_name("secrets", "list_secrets", Effect::Read, &row.path);
            let labelled =
                label.is_none_or(|(name, value)| row.labels.get(name).is_some_and(|is| is == value));
            if !named || !labelled || !row.path.starts_with(&prefix) {
                continue;
            }
            if items.len() == limit {
                let next = items.last().map(|item: &SecretInfo| item.path.clone());
                return Ok(SecretPage { items, next });
            }
            items.push(row.info(now));
        }
        if last {
            return Ok(SecretPage { items, next: None });
        }
    }
}

pub async fn versions(secrets: Secrets, call: Call, input: ListSecretVersions) -> Result<VersionList> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    let rows = store::versions::list(&secrets.inner.db, &row.id).await?;
    Ok(VersionList { items: rows.iter().map(|row| row.info()).collect() })
}

pub async fn leases(secrets: Secrets, call: Call, input: ListSecretLeases) -> Result<LeaseList> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    let rows = store::grants::leases(&secrets.inner.db, &row.id, secrets.now()).await?;
    Ok(LeaseList { items: rows.into_iter().map(info).collect() })
}

pub async fn end_lease(secrets: Secrets, call: Call, input: EndSecretLease) -> Result<Ended> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    let id = plain("id", input.id, 64)?;
    let ended = store::grants::end_lease(&secrets.inner.db, &row.id, &id, secrets.now()).await?;
    Ok(Ended { ended })
}

pub async fn grant(secrets: Secrets, call: Call, input: GrantSecret) -> Result<GrantInfo> {
    if call.caller.face == Face::Mcp || call.caller.face == Face::Schedule {
        return Err(Error::forbidden(
            "a person grants this: in the console, the terminal or over REST; not over MCP and not by a schedule",
        ));
    }
    let subject = plain("subject", input.subject, 190)?;
    if secrets.inner.identity.caller_of(&subject, Face::Mcp).is_none() {
        return Err(Error::invalid(format!(
            "subject {subject:?} is nobody who can call; it is such as `key:<id>` of `list_api_keys`"
        )));
    }
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    let now = secrets.now();
    let grant = Grant {
        id: new_id(),
        secret_id: row.id,
        subject,
        granted_by: call.caller.subject.clone(),
        created_at: now,
        expires_at: now.plus_seconds(i64::from(input.minutes) * 60),
    };
    store::grants::insert_grant(&secrets.inner.db, &grant).await?;
    Ok(GrantInfo { path: row.path, subject: grant.subject, expires_at: grant.expires_at.to_rfc3339() })
}

pub async fn revoke(secrets: Secrets, call: Call, input: RevokeSecretGrant) -> Result<Ended> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    let subject = plain("subject", input.subject, 190)?;
    let ended = store::grants::end_grants(&secrets.inner.db, &row.id, &subject).await? > 0;
    Ok(Ended { ended })
}

fn info(lease: Lease) -> LeaseInfo {
    LeaseInfo {
        id: lease.id,
        version: lease.version,
        holder: lease.holder,
        holder_name: lease.holder_name,
        created_at: lease.created_at.to_rfc3339(),
        expires_at: Time::to_rfc3339(lease.expires_at),
    }
}
