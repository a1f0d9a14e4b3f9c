//! Linking, listing, verifying and unlinking cloud accounts.

use std::collections::BTreeMap;

use opsroom_core::id::new_id;
use opsroom_core::{Call, Effect, Error, Operation, Result, Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Clouds;
use super::model::{self, CloudAccount, CloudRow, Provider};
use crate::identity::accounts::tokens::Accepted;
use crate::identity::model::{Page, id_cursor, page_limit, short_text};
use crate::identity::store::clouds;

/// The credentials that an account may have, and whether it is an account at all without them.
const FIELDS: [&str; 6] = [
    "access_key_id",
    "secret_access_key",
    "session_token",
    "client_secret",
    "private_key",
    "credentials_json",
];

/// The most accounts of a team.
const MOST: u64 = 1000;

/// Link an account that you have in a cloud: its credentials are kept sealed and shown to nobody, and log sources use
/// them as `secret://cloud/NAME#FIELD`.
///
/// AWS, Alibaba, Tencent and IBM (HMAC) have `access_key_id` and `secret_access_key`, Azure a `client_secret` with
/// `tenant_id` and `client_id` in `settings` or the storage account's key as `secret_access_key`, Google a service
/// account's `credentials_json` or an HMAC key, Oracle a `private_key` with `user` and `fingerprint` in `settings`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkCloudAccount {
    /// Its name in your team, such as `prod`: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// Whose cloud it is.
    pub provider: Provider,
    /// What the provider calls the account: the account's number, the subscription, the project, the tenancy.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub account_id: String,
    /// Its usual region, such as `eu-central-1`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub region: String,
    /// What belongs to it and is no secret, at most 16 entries. `endpoint` is where AWS's security token service is
    /// asked, when it is not the region's public one.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The access key's id, or the name of the storage account.
    #[serde(default)]
    pub access_key_id: Option<Secret>,
    /// The secret access key.
    #[serde(default)]
    pub secret_access_key: Option<Secret>,
    /// The session token of credentials that end.
    #[serde(default)]
    pub session_token: Option<Secret>,
    /// The secret of an application.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// A private key in PEM.
    #[serde(default)]
    pub private_key: Option<Secret>,
    /// A service account's key, as the JSON that its provider gives.
    #[serde(default)]
    pub credentials_json: Option<Secret>,
    /// Put these in the place of an account of this name that is there.
    #[serde(default)]
    pub replace: bool,
}

/// List the linked cloud accounts of your teams. Their credentials are never shown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListCloudAccounts {
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// Ask the provider whose a linked account's credentials are. AWS is asked by a signed call; of the others it is said
/// that they are not verified.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyCloudAccount {
    /// The account's name.
    #[schemars(length(max = 64))]
    pub name: String,
}

/// Unlink a cloud account: its credentials are removed, and what used them is refused from now on. The account itself
/// is not touched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlinkCloudAccount {
    /// The account's name.
    #[schemars(length(max = 64))]
    pub name: String,
}

/// What is said of a verification.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CloudVerdict {
    /// `verified`, `failed` or `not verified`.
    pub state: String,
    /// As whom the provider knows the credentials, or why they are not verified.
    pub message: String,
    /// The account.
    pub account: CloudAccount,
}

pub(super) fn all(clouds: &Clouds) -> Vec<Operation> {
    macro_rules! operation {
        ($name:literal, $effect:ident, $route:literal, $run:path) => {
            Operation::new("identity", $name, Effect::$effect, $route, clouds, $run).role(Role::Operator)
        };
    }
    vec![
        operation!("link_cloud_account", Write, "POST /cloud-accounts", link).on("name"),
        operation!("list_cloud_accounts", Read, "GET /cloud-accounts", list),
        operation!("verify_cloud_account", Write, "POST /cloud-accounts/{name}/verify", verify).on("name"),
        operation!("unlink_cloud_account", Destroy, "DELETE /cloud-accounts/{name}", unlink)
            .on("name")
            .role(Role::Administrator),
    ]
}

async fn link(clouds: Clouds, call: Call, input: LinkCloudAccount) -> Result<CloudAccount> {
    let caller = &call.caller;
    let name = model::name(&input.name)?.to_owned();
    let given = [
        input.access_key_id,
        input.secret_access_key,
        input.session_token,
        input.client_secret,
        input.private_key,
        input.credentials_json,
    ];
    let mut credentials = BTreeMap::new();
    for (field, value) in FIELDS.into_iter().zip(given) {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if value.expose().len() > 16 << 10 {
            return Err(Error::invalid(format!("{field} is larger than the 16 KiB that it may be")));
        }
        credentials.insert(field.to_owned(), value);
    }
    needed(input.provider, &credentials)?;
    if input.settings.len() > 16
        || input.settings.iter().any(|(name, value)| name.len() > 64 || value.len() > 512)
    {
        return Err(Error::invalid("settings has at most 16 entries of 64 and 512 bytes"));
    }
    if let Some(endpoint) = input.settings.get("endpoint") {
        clouds.egress.check(endpoint)?;
    }
    let region = optional("region", &input.region, 64)?;
    // It becomes a part of a host's name.
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Error::invalid("region is letters, digits and `-`, such as `eu-central-1`"));
    }
    let now = clouds.identity.clock.now();
    let there = clouds::find(&clouds.identity.db, &[caller.team().to_owned()], &name).await?;
    if there.is_some() && !input.replace {
        return Err(Error::conflict(format!(
            "there is a cloud account {name:?} already; give `replace: true`"
        )));
    }
    let old = there.as_ref();
    let mut row = CloudRow {
        id: old.map_or_else(new_id, |row| row.id.clone()),
        team_id: caller.team().to_owned(),
        name,
        provider: input.provider,
        account_id: optional("account_id", &input.account_id, 128)?,
        region,
        settings: input.settings,
        fields: credentials.keys().cloned().collect(),
        sealed: String::new(),
        created_by: caller.subject.clone(),
        created_at: old.map_or(now, |row| row.created_at),
        updated_at: now,
        verified_at: None,
        verified_as: None,
        failure: None,
    };
    if old.is_some_and(|row| row.provider != input.provider) {
        return Err(Error::conflict("the account of this name is of another provider; unlink it first"));
    }
    row.sealed = clouds.seal(&row, &credentials).await?;
    let mut on = clouds.identity.db.begin().await?;
    match old {
        Some(_) => clouds::update(&mut on, &row).await?,
        None if clouds::list(&clouds.identity.db, &caller.teams, None, MOST).await?.len() as u64 >= MOST => {
            return Err(Error::conflict(format!("your teams have {MOST} cloud accounts, which is the most")));
        }
        None => clouds::insert(&mut on, &row).await?,
    }
    on.commit().await?;
    Ok(row.shown())
}

/// An account that nothing opens is none.
fn needed(provider: Provider, credentials: &BTreeMap<String, Secret>) -> Result<()> {
    let has = |field: &str| credentials.contains_key(field);
    let pair = has("access_key_id") && has("secret_access_key");
    let (enough, what) = match provider {
        Provider::Aws | Provider::Alibaba | Provider::Tencent | Provider::Ibm => {
            (pair, "access_key_id and secret_access_key")
        }
        Provider::Azure => {
            (pair || has("client_secret"), "client_secret, or access_key_id and secret_access_key")
        }
        Provider::Gcp => {
            (pair || has("credentials_json"), "credentials_json, or access_key_id and secret_access_key")
        }
        Provider::Oracle => {
            (pair || has("private_key"), "private_key, or access_key_id and secret_access_key")
        }
    };
    if enough {
        Ok(())
    } else {
        Err(Error::invalid(format!("an account of {} needs {what}", provider.as_str())))
    }
}

fn optional(field: &str, text: &str, most: usize) -> Result<String> {
    if text.is_empty() { Ok(String::new()) } else { short_text(field, text, most).map(str::to_owned) }
}

async fn list(clouds: Clouds, call: Call, input: ListCloudAccounts) -> Result<Page<CloudAccount>> {
    let limit = page_limit(input.limit)?;
    let after = id_cursor(&input.cursor)?;
    let mut rows = clouds::list(&clouds.identity.db, &call.caller.teams, after, limit as u64 + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().map(|row| row.id.clone()).filter(|_| more);
    let items = rows.iter().map(CloudRow::shown).collect();
    Ok(Page { items, next })
}

async fn verify(clouds: Clouds, call: Call, input: VerifyCloudAccount) -> Result<CloudVerdict> {
    let row = clouds.named(&call.caller.teams, &input.name).await?;
    let now = clouds.identity.clock.now();
    let row = match clouds.ask(&row).await? {
        None => row,
        Some(verdict) => {
            let row = match verdict {
                Ok((account_id, arn)) => CloudRow {
                    account_id,
                    verified_at: Some(now),
                    verified_as: Some(arn),
                    failure: None,
                    ..row
                },
                Err(why) => CloudRow { verified_at: None, verified_as: None, failure: Some(why), ..row },
            };
            let mut on = clouds.identity.db.begin().await?;
            clouds::update(&mut on, &row).await?;
            on.commit().await?;
            row
        }
    };
    let account = row.shown();
    let message = account.message.clone().unwrap_or_else(|| {
        format!(
            "accounts of {} cannot be verified yet; their credentials are kept as they are",
            row.provider.as_str()
        )
    });
    Ok(CloudVerdict { state: account.state.clone(), message, account })
}

async fn unlink(clouds: Clouds, call: Call, input: UnlinkCloudAccount) -> Result<Accepted> {
    let row = clouds.named(&call.caller.teams, &input.name).await?;
    let mut on = clouds.identity.db.begin().await?;
    clouds::remove(&mut on, &row.id).await?;
    on.commit().await?;
    opsroom_core::telemetry::known::forget(&row.id);
    Ok(Accepted { message: format!("the cloud account {} is unlinked", row.name) })
}
