//! The operations of logins elsewhere: each person's own.

use opsroom_core::id::{new_token, sha256_hex};
use opsroom_core::{Call, Effect, Error, Operation, Result, Role, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flow::SECONDS;
use super::people::Ticket;
use super::{LINK_PREFIX, Oidc};
use crate::identity::accounts::tokens::Accepted;
use crate::identity::model::short_text;
use crate::identity::store::identities;
use crate::identity::store::oauth::tokens::{self, Kind, New};

/// List the logins elsewhere that open your account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListIdentities {}

/// Logins elsewhere.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdentityList {
    /// The logins, oldest first.
    pub items: Vec<LinkedIdentity>,
    /// Whether one can be linked: the server has a provider of single sign-on.
    pub available: bool,
}

/// A login elsewhere that opens an account here.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LinkedIdentity {
    /// Its id.
    pub id: String,
    /// The provider.
    pub issuer: String,
    /// What the provider calls the person.
    pub subject: String,
    /// Since when, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339; null is never.
    pub last_login_at: Option<String>,
}

/// Begin to link a login elsewhere with your account. Open the answer's address within ten minutes, in the browser
/// in which you are logged in here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkIdentity {
    /// Your password.
    pub password: Secret,
}

/// Where to go on. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct LinkBegun {
    /// The address to open. It works once.
    pub url: String,
    /// For how many seconds.
    pub expires_in: i64,
}

/// Let a login elsewhere open your account no longer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlinkIdentity {
    /// The login's id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Your password.
    pub password: Secret,
}

pub(super) fn all(oidc: &Oidc) -> Vec<Operation> {
    macro_rules! operation {
        ($name:literal, $effect:ident, $route:literal, $run:path) => {
            Operation::new("identity", $name, Effect::$effect, $route, oidc, $run).role(Role::Viewer)
        };
    }
    vec![
        operation!("list_identities", Read, "GET /auth/identities", list),
        operation!("link_identity", Reveal, "POST /auth/identities", link),
        operation!("unlink_identity", Write, "POST /auth/identities/{id}/unlink", unlink),
    ]
}

async fn list(oidc: Oidc, call: Call, _: ListIdentities) -> Result<IdentityList> {
    let user = oidc.accounts.own(&call.caller).await?;
    let rows = identities::of_user(&oidc.identity.db, &user.id).await?;
    let items = rows
        .into_iter()
        .map(|row| LinkedIdentity {
            id: row.id,
            issuer: row.issuer,
            subject: row.subject,
            created_at: row.created_at.to_rfc3339(),
            last_login_at: row.last_login_at.map(opsroom_core::Time::to_rfc3339),
        })
        .collect();
    Ok(IdentityList { items, available: oidc.offered().is_some() })
}

async fn link(oidc: Oidc, call: Call, input: LinkIdentity) -> Result<LinkBegun> {
    oidc.need_offered()?;
    let user = oidc.accounts.own_with_password(&call.caller, &input.password).await?;
    let now = oidc.identity.clock.now();
    let ticket = new_token(LINK_PREFIX);
    let details = serde_json::to_string(&Ticket { user_id: user.id }).map_err(Error::internal)?;
    let (hash, expires) = (sha256_hex(&ticket), now.plus_seconds(SECONDS));
    let new = New { hash: &hash, kind: Kind::Link, grant: None, details: Some(details), now, expires };
    let mut on = oidc.identity.db.begin().await?;
    tokens::put(&mut on, new).await?;
    on.commit().await?;
    Ok(LinkBegun { url: format!("{}/login/oidc?link={ticket}", oidc.public_url), expires_in: SECONDS })
}

async fn unlink(oidc: Oidc, call: Call, input: UnlinkIdentity) -> Result<Accepted> {
    let user = oidc.accounts.own_with_password(&call.caller, &input.password).await?;
    let id = short_text("id", &input.id, 64)?;
    let mut on = oidc.identity.db.begin().await?;
    let removed = identities::remove(&mut on, &user.id, id).await?;
    on.commit().await?;
    if !removed {
        return Err(Error::not_found(format!(
            "no login {id:?} is linked with your account; `list_identities` lists them"
        )));
    }
    let text = "A login elsewhere no longer opens your account.";
    oidc.accounts.tell(&user, "A login is linked no longer", text).await?;
    Ok(Accepted { message: "the login opens your account no longer".to_owned() })
}
