//! `rotate_secret`, `plan_secret_rotation`, `rotate_master_key`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DAY;
use crate::secrets::model::SecretInfo;
use crate::secrets::rotation::Plan;
use crate::secrets::{Secrets, store};

/// Rotate a secret now: make a new value, give it to what checks it (`plan_secret_rotation` says to what), and
/// put it in force. The value before still works for a while. When the hook fails, the old value stays in
/// force, and the next rotation tries the same new one again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
}

/// Say how and how often a secret is rotated.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSecretRotation {
    /// Its path.
    #[schemars(length(min = 1, max = 200))]
    pub path: String,
    /// Every so many days, from 1 to 3650. Left out: only when `rotate_secret` is called.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3650))]
    pub every_days: Option<u32>,
    /// What is rotated.
    pub plan: Plan,
}

/// How a secret is rotated.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RotationInfo {
    /// Its path.
    pub path: String,
    /// Every so many days; null is only when asked.
    pub every_days: Option<u32>,
    /// When next, RFC 3339; null is only when asked.
    pub next_at: Option<String>,
    /// What is rotated.
    pub plan: Plan,
}

/// Make a new key that seals from now on, and seal every secret by it. Secrets stay available meanwhile. A
/// master key in a file of the data folder is replaced too: keep a copy of the new one, and give it to the
/// other servers of this database before they start again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateMasterKey {}

/// What was sealed anew.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MasterKeyRotated {
    /// The name of the key that seals now.
    pub key: String,
    /// How many versions of secrets were sealed by it.
    pub sealed: u64,
}

pub async fn rotate(secrets: Secrets, call: Call, input: RotateSecret) -> Result<SecretInfo> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    row.usable(secrets.now())?;
    let row = secrets.rotate(row, &call.caller.subject).await?;
    Ok(row.info(secrets.now()))
}

pub async fn plan(secrets: Secrets, call: Call, input: PlanSecretRotation) -> Result<RotationInfo> {
    let row = secrets.find(&call.caller.teams, &input.path).await?;
    input.plan.check(&secrets, &call.caller)?;
    let now = secrets.now();
    let every = match input.every_days {
        Some(days @ 1..=3650) => Some(days),
        None => None,
        Some(other) => return Err(Error::invalid(format!("every_days {other} is not from 1 to 3650"))),
    };
    let next = every.map(|days| now.plus_seconds(i64::from(days) * DAY));
    let stored =
        crate::secrets::rotation::Stored { plan: input.plan, every_days: every, owner: call.caller.subject };
    let text = serde_json::to_string(&stored).map_err(Error::internal)?;
    store::set_rotation(&secrets.inner.db, &row.id, Some(&text), next).await?;
    Ok(RotationInfo {
        path: row.path,
        every_days: every,
        next_at: next.map(opsroom_core::Time::to_rfc3339),
        plan: stored.plan,
    })
}

pub async fn rotate_master_key(secrets: Secrets, call: Call, _: RotateMasterKey) -> Result<MasterKeyRotated> {
    let (key, _) = secrets.inner.sealer.rotate().await?;
    let mut sealed = secrets.rewrap(&call).await?;
    for others in &secrets.inner.others {
        sealed += others().await?;
    }
    secrets.inner.sealer.retire().await?;
    Ok(MasterKeyRotated { key, sealed })
}
