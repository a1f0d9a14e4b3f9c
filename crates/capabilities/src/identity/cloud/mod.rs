//! Cloud accounts that are linked: their credentials are kept sealed, and used by reference.
//!
//! # Words
//!
//! - A *linked account* has a name in its team. `secret://cloud/NAME#FIELD` stands for one of its credentials
//!   wherever a reference is taken, such as in a log source.
//! - It is *verified* when its provider was asked, with these credentials, who they belong to. Amazon can be asked;
//!   of the others it is said that they are not verified.
//!
//! # Invariants
//!
//! - A credential is in the database only sealed, for its team and account, and no answer shows one.
//! - Its use needs a scope on its name, looked at as the owner of what uses it at each use, and is on record.

pub mod model;
mod operations;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use opsroom_core::aws::{self, Credentials};
use opsroom_core::caller::Face;
use opsroom_core::egress::{Egress, Limits};
use opsroom_core::resolver::{Mount, Purpose, Resolver};
use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::telemetry::known;
use opsroom_core::{Caller, Effect, Error, Operation, Result, Role, Secret};
use serde_json::json;
use zeroize::Zeroizing;

use super::store::clouds;
use super::{AuditEntry, Identity};
use model::{CloudRow, Provider, tagged};

/// The place in references.
pub const MOUNT: &str = "cloud";

const LIMITS: Limits = Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(15), redirects: 0 };

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Clouds {
    identity: Identity,
    sealer: Sealer,
    egress: Egress,
}

impl Clouds {
    /// The service, with its place among the references.
    pub fn open(identity: Identity, sealer: Sealer, egress: Egress, resolver: &Resolver) -> Self {
        let clouds = Self { identity, sealer, egress };
        resolver.mount(MOUNT, Arc::new(clouds.clone()));
        clouds
    }

    /// The operations of cloud accounts.
    pub fn operations(&self) -> Vec<Operation> {
        operations::all(self)
    }

    /// Seals every account's credentials again by the newest key.
    pub fn resealing(&self) -> Reseal {
        let clouds = self.clone();
        Arc::new(move || {
            let clouds = clouds.clone();
            Box::pin(async move { clouds.reseal().await })
        })
    }

    async fn reseal(&self) -> Result<u64> {
        const PAGE: u64 = 200;
        let (mut after, mut count) = (None::<String>, 0);
        loop {
            let rows = clouds::all(&self.identity.db, after.as_deref(), PAGE).await?;
            for row in &rows {
                let Some(again) = self.sealer.rewrap(&row.context(), &row.sealed).await? else { continue };
                count += u64::from(clouds::reseal(&self.identity.db, &row.id, &row.sealed, &again).await?);
            }
            match rows.last() {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(count),
            }
        }
    }

    async fn named(&self, teams: &[String], name: &str) -> Result<CloudRow> {
        let name = model::name(name)?;
        let row = clouds::find(&self.identity.db, teams, name).await?;
        row.ok_or_else(|| {
            Error::not_found(format!(
                "there is no cloud account {name:?} in your teams; `list_cloud_accounts` lists them"
            ))
        })
    }

    async fn seal(&self, row: &CloudRow, credentials: &BTreeMap<String, Secret>) -> Result<String> {
        let plain: BTreeMap<&String, &str> =
            credentials.iter().map(|(name, value)| (name, value.expose())).collect();
        let bytes = Zeroizing::new(serde_json::to_vec(&plain).map_err(Error::internal)?);
        self.sealer.seal(&row.context(), &bytes).await
    }

    async fn credentials(&self, row: &CloudRow) -> Result<BTreeMap<String, Secret>> {
        let bytes = self.sealer.open(&row.context(), &row.sealed).await?;
        let credentials: BTreeMap<String, Secret> =
            serde_json::from_slice(&bytes).map_err(Error::internal)?;
        // From now on they are hidden in what this process tells.
        known::remember(&row.id, credentials.values().map(Secret::expose));
        Ok(credentials)
    }

    /// Asks the provider whose credentials these are; `None` where it cannot be asked.
    async fn ask(&self, row: &CloudRow) -> Result<Option<Verified>> {
        if row.provider != Provider::Aws {
            return Ok(None);
        }
        let mut held = self.credentials(row).await?;
        let missing = || Error::invalid("the account has no access_key_id or no secret_access_key");
        let credentials = Credentials {
            id: held.remove("access_key_id").ok_or_else(missing)?.expose().to_owned(),
            key: held.remove("secret_access_key").ok_or_else(missing)?,
            token: held.remove("session_token"),
        };
        let region = if row.region.is_empty() { "us-east-1" } else { &row.region };
        let endpoint = match row.settings.get("endpoint") {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://sts.{region}.amazonaws.com/"),
        };
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = "Action=GetCallerIdentity&Version=2011-06-15".to_owned();
        let now = self.identity.clock.now();
        let request = aws::post(&credentials, (region, "sts"), &endpoint, &headers, body, now)?;
        let answer = self.egress.send(request, LIMITS).await?;
        let xml = String::from_utf8_lossy(&answer.body);
        if !answer.status.is_success() {
            let code = tagged(&xml, "Code").unwrap_or("no reason given");
            return Ok(Some(Err(format!("AWS answered {} ({code})", answer.status.as_u16()))));
        }
        let (Some(account), Some(arn)) = (tagged(&xml, "Account"), tagged(&xml, "Arn")) else {
            return Err(Error::unavailable("what answered is not the security token service of AWS"));
        };
        if !row.account_id.is_empty() && row.account_id != account {
            return Ok(Some(Err(format!(
                "the credentials are of account {account}, and not of {}",
                row.account_id
            ))));
        }
        Ok(Some(Ok((account.to_owned(), arn.to_owned()))))
    }

    /// A credential, for something that belongs to `owner` and is used by `user`.
    async fn use_one(&self, path: &str, purpose: Purpose<'_>) -> Result<Secret> {
        let (name, field) = path.split_once('#').unwrap_or((path, "secret_access_key"));
        let caller = self.identity.caller_of(purpose.owner, Face::Schedule).ok_or_else(|| {
            let (user, owner) = (purpose.user, purpose.owner);
            Error::forbidden(format!(
                "the cloud account {name:?} cannot be used for {user}: its owner {owner} has no rights any more"
            ))
        })?;
        let result = self.try_use(name, field, &caller, purpose).await;
        let details = json!({ "name": name, "field": field, "user": purpose.user });
        let entry = AuditEntry::action(&caller, "use_cloud_account", Effect::Reveal, &details).ended(&result);
        // What is not on record was not used.
        self.identity.audit(entry).await?;
        result
    }

    async fn try_use(
        &self,
        name: &str,
        field: &str,
        caller: &Caller,
        purpose: Purpose<'_>,
    ) -> Result<Secret> {
        caller.authorise_resource("identity", "use_cloud_account", Effect::Reveal, Role::Operator, name)?;
        if !caller.teams.iter().any(|own| own == purpose.team) {
            return Err(Error::forbidden(format!(
                "{} is not in the team {:?}, whose {} uses {name:?}",
                caller.name, purpose.team, purpose.user
            )));
        }
        let row = self.named(&[purpose.team.to_owned()], name).await?;
        let mut credentials = self.credentials(&row).await?;
        credentials.remove(field).ok_or_else(|| {
            let names: Vec<&str> = credentials.keys().map(String::as_str).collect();
            Error::not_found(format!(
                "the cloud account {name:?} has no {field:?}; it has {}",
                names.join(", ")
            ))
        })
    }
}

/// The account and the name that a provider knows credentials by, or why it does not.
type Verified = std::result::Result<(String, String), String>;

impl Mount for Clouds {
    fn read<'a>(&'a self, path: &'a str, purpose: Purpose<'a>) -> BoxFuture<'a, Result<Secret>> {
        Box::pin(self.use_one(path, purpose))
    }
}
