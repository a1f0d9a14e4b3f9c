//! `put_secret`, `disable_secret`, `restore_secret`, `delete_secret`.

use std::collections::BTreeMap;

use opsroom_core::telemetry::known;
use opsroom_core::{Call, Error, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DAY, plain};
use crate::secrets::model::{self, Fields, SecretInfo};
use crate::secrets::service::NewVersion;
use crate::secrets::{Secrets, store};

/// Keep a secret, or a new version of one. The version before still works for a while
/// (`secrets.overlap_seconds`); a disabled secret is enabled by it.
///
/// Elsewhere the secret is named by the reference `secret://opsroom/PATH`, or `secret://opsroom/PATH#FIELD`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// Its path, such as `db/password`: words of letters, digits and `-_.@` between slashes.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// The value, when it is one: the field `value`.
    #[serde(default)]
    pub value: Option<Secret>,
    /// The values by the names of their fields, at most 32, when there are several, such as a user name and
    /// a password.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub fields: Option<Fields>,
    /// What it is for. Left out: as before.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub description: Option<String>,
    /// Names and values to find it by; never secret. Left out: as before.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// After how many days it is no longer given out, from 1 to 3650. Left out: as before, or never.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3650))]
    pub expires_in_days: Option<u32>,
    /// Whether it is bait: nobody should use it, and its use raises an event. Left out: as before.
    #[serde(default)]
    pub canary: Option<bool>,
    /// Only when this version is in force, so that nobody's change is lost; 0 when there must be none.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub if_version: Option<i64>,
}

/// Give a secret, or one version of it, to nobody until `restore_secret`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableSecret {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// One version, which must not be the one in force. Left out: the whole secret.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,
}

/// Enable a secret that was disabled, and bring back one that was deleted and is not yet gone for good.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreSecret {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
}

/// Delete a secret. For `secrets.restore_days` it can be brought back; then it is gone for good.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSecret {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// At once and for good, without a way back.
    #[serde(default)]
    pub now: bool,
}

pub async fn put(secrets: Secrets, call: Call, input: PutSecret) -> Result<SecretInfo> {
    let now = secrets.now();
    let new = NewVersion {
        fields: model::fields(input.value, input.fields)?,
        description: input.description.map(|text| plain("description", text, 500)).transpose()?,
        labels: input.labels.map(model::labels).transpose()?,
        expires_at: input.expires_in_days.map(|days| now.plus_seconds(i64::from(days) * DAY)),
        canary: input.canary,
        if_version: input.if_version,
    };
    Ok(secrets.write(&call.caller, &input.path, new).await?.info(now))
}

pub async fn disable(secrets: Secrets, call: Call, input: DisableSecret) -> Result<SecretInfo> {
    let found = secrets.find(&call.caller.teams, &input.path).await?;
    let mut on = secrets.inner.db.begin().await?;
    let mut row = locked(&mut on, &found.team_id, &input.path).await?;
    match input.version {
        None => row.disabled = true,
        Some(version) if version == row.version => {
            return Err(Error::conflict(format!(
                "version {version} is in force; put or rotate a new one first, or disable the whole secret"
            )));
        }
        Some(version) => {
            if store::versions::set_state(&mut on, &row.id, version, "disabled").await? == 0 {
                return Err(Error::not_found(format!("the secret {:?} has no version {version}", row.path)));
            }
        }
    }
    row.updated_at = secrets.now();
    store::update(&mut on, &row).await?;
    on.commit().await?;
    Ok(row.info(secrets.now()))
}

pub async fn restore(secrets: Secrets, call: Call, input: RestoreSecret) -> Result<SecretInfo> {
    let found = secrets.find(&call.caller.teams, &input.path).await?;
    let mut on = secrets.inner.db.begin().await?;
    let mut row = locked(&mut on, &found.team_id, &input.path).await?;
    row.disabled = false;
    row.purge_at = None;
    row.updated_at = secrets.now();
    store::update(&mut on, &row).await?;
    on.commit().await?;
    Ok(row.info(secrets.now()))
}

pub async fn delete(secrets: Secrets, call: Call, input: DeleteSecret) -> Result<SecretInfo> {
    let found = secrets.find(&call.caller.teams, &input.path).await?;
    let now = secrets.now();
    let mut on = secrets.inner.db.begin().await?;
    let mut row = locked(&mut on, &found.team_id, &input.path).await?;
    if input.now {
        row.purge_at = Some(now);
        store::purge(&mut on, &row.id).await?;
        known::forget(&row.id);
    } else if row.purge_at.is_none() {
        let days = i64::from(secrets.inner.config.restore_days);
        row.purge_at = Some(now.plus_seconds(days * DAY));
        row.updated_at = now;
        store::update(&mut on, &row).await?;
    }
    on.commit().await?;
    Ok(row.info(now))
}

async fn locked(
    on: &mut opsroom_core::db::Transaction,
    team: &str,
    path: &str,
) -> Result<crate::secrets::model::Row> {
    let row = store::get_locked(on, team, path).await?;
    row.ok_or_else(|| Error::not_found(format!("there is no secret {path:?} any more")))
}
