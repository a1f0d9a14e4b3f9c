//! The operations of grants and clients.

use opsroom_core::id::new_id;
use opsroom_core::{Call, Caller, Effect, Error, Operation, Result, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{self, Client, ClientAuth, Grant};
use super::{OAuth, store};
use crate::identity::model::{Page, id_cursor, name, page_limit, short_text, wrong_cursor};

/// List the clients that were let in to act for you, newest first. An administrator can list everybody's.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListGrants {
    /// List everybody's; for administrators.
    pub everybody: bool,
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// Take back that a client may act for you: its tokens open nothing from now on. An administrator can take back
/// anybody's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeGrant {
    /// The grant's id, as `list_grants` shows it.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// Make an OAuth client for a program that cannot register itself. The answer has its secret, when it has one,
/// this once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOauthClient {
    /// What people are told that asks them, 1 to 100 bytes.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Where answers may go, 1 to 16 URIs: `https`, `http` on a loopback address (whose port does not matter
    /// then), or a scheme of an application's own.
    pub redirect_uris: Vec<String>,
    /// How it shows that it is the one at the token endpoint: `none` for a program on somebody's machine, which
    /// can keep no secret.
    #[serde(default = "public")]
    pub token_endpoint_auth_method: ClientAuth,
    /// Whether it renews its access by itself, so that people need not log in each hour.
    #[serde(default = "yes")]
    pub refreshes: bool,
}

/// List the OAuth clients that were made here or registered themselves, newest first. Clients with a metadata
/// document are not kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListOauthClients {
    /// How many to list, from 1 to 200.
    #[schemars(range(min = 1, max = 200), extend("default" = 20))]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the answer before.
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
}

/// Delete an OAuth client: every grant to it ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteOauthClient {
    /// The client's id.
    #[schemars(length(max = 64))]
    pub id: String,
}

/// A client as everybody may know it who may see it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ShownClient {
    /// Its id, to be given as `client_id`.
    pub id: String,
    /// What people are told that asks them.
    pub name: String,
    /// Where answers may go.
    pub redirect_uris: Vec<String>,
    /// How it shows that it is the one.
    pub token_endpoint_auth_method: ClientAuth,
    /// Whether it renews its access by itself.
    pub refreshes: bool,
    /// Who made it; `itself` when it registered.
    pub created_by: String,
    /// Since when, RFC 3339.
    pub created_at: String,
    /// When somebody last let it in, RFC 3339; null is never.
    pub used_at: Option<String>,
}

/// A client that was just made. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct CreatedClient {
    /// Its secret, `ocs_` and 64 hexadecimal digits, shown this once; null when it has none.
    pub client_secret: Option<String>,
    /// What is known about it from now on.
    pub client: ShownClient,
}

/// What was ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ended {
    /// What happened.
    pub message: String,
}

fn public() -> ClientAuth {
    ClientAuth::None
}

fn yes() -> bool {
    true
}

impl From<Client> for ShownClient {
    fn from(client: Client) -> Self {
        Self {
            id: client.id,
            name: client.name,
            redirect_uris: client.redirect_uris,
            token_endpoint_auth_method: client.auth,
            refreshes: client.refreshes,
            created_by: client.created_by,
            created_at: client.created_at.to_rfc3339(),
            used_at: client.used_at.map(|time| time.to_rfc3339()),
        }
    }
}

pub(super) fn all(oauth: &OAuth) -> Vec<Operation> {
    macro_rules! operation {
        ($name:literal, $effect:ident, $route:literal, $run:path, $role:ident) => {
            Operation::new("identity", $name, Effect::$effect, $route, oauth, $run).role(Role::$role)
        };
    }
    vec![
        operation!("list_grants", Read, "GET /oauth/grants", list, Viewer),
        operation!("revoke_grant", Write, "DELETE /oauth/grants/{id}", revoke, Viewer).idempotent(),
        operation!("create_oauth_client", Reveal, "POST /oauth/clients", create_client, Administrator),
        operation!("list_oauth_clients", Read, "GET /oauth/clients", list_clients, Administrator),
        operation!(
            "delete_oauth_client",
            Destroy,
            "DELETE /oauth/clients/{id}",
            delete_client,
            Administrator
        ),
    ]
}

/// Whose grants a caller may see: a user's own, or everybody's for an administrator who is not narrowed.
fn whose(caller: &Caller, everybody: bool) -> Result<Option<&str>> {
    let own = caller.subject.strip_prefix("user:");
    let all = caller.role == Role::Administrator && caller.scopes.is_none();
    match own {
        _ if all && (everybody || own.is_none()) => Ok(None),
        Some(own) if !everybody => Ok(Some(own)),
        _ => Err(Error::forbidden(format!(
            "{} has no grants of its own; an administrator sees everybody's",
            caller.name
        ))),
    }
}

async fn list(oauth: OAuth, call: Call, input: ListGrants) -> Result<Page<Grant>> {
    let limit = page_limit(input.limit)?;
    let before = id_cursor(&input.cursor)?;
    let user = whose(&call.caller, input.everybody)?;
    let now = oauth.identity.clock.now();
    let grants = store::oauth::grants::list(&oauth.identity.db, user, before, now, limit as u64 + 1).await?;
    Ok(Page::cut(grants, limit, |grant: &Grant| grant.id.clone()))
}

async fn revoke(oauth: OAuth, call: Call, input: RevokeGrant) -> Result<Ended> {
    let id = short_text("id", &input.id, 64)?;
    let everybody = call.caller.role == Role::Administrator && call.caller.scopes.is_none();
    let user = whose(&call.caller, everybody)?;
    let grant = store::oauth::grants::get(&oauth.identity.db, user, id).await?;
    let grant = grant
        .ok_or_else(|| Error::not_found(format!("there is no grant {id:?}; `list_grants` lists them")))?;
    oauth.end_grant(&call.caller, &grant).await?;
    Ok(Ended { message: format!("{} has no access by this grant any more", grant.client_name) })
}

async fn create_client(oauth: OAuth, call: Call, input: CreateOauthClient) -> Result<CreatedClient> {
    let client = Client {
        id: format!("oc-{}", new_id()),
        name: name("name", &input.name)?,
        redirect_uris: model::redirect_uris(input.redirect_uris)
            .map_err(|denied| Error::invalid(denied.message))?,
        auth: input.token_endpoint_auth_method,
        secret_hash: None,
        refreshes: input.refreshes,
        created_by: call.caller.subject.clone(),
        created_at: oauth.identity.clock.now(),
        used_at: None,
    };
    let (client, secret) = oauth.keep(client).await?;
    Ok(CreatedClient { client_secret: secret, client: client.into() })
}

async fn list_clients(oauth: OAuth, _: Call, input: ListOauthClients) -> Result<Page<ShownClient>> {
    let limit = page_limit(input.limit)?;
    let before = match input.cursor.as_deref() {
        Some(cursor) if !cursor.starts_with("oc-") => {
            return Err(wrong_cursor(short_text("cursor", cursor, 64)?));
        }
        before => before,
    };
    let clients = store::oauth::clients::list(&oauth.identity.db, before, limit as u64 + 1).await?;
    let clients = clients.into_iter().map(ShownClient::from).collect();
    Ok(Page::cut(clients, limit, |client: &ShownClient| client.id.clone()))
}

async fn delete_client(oauth: OAuth, _: Call, input: DeleteOauthClient) -> Result<Ended> {
    let id = short_text("id", &input.id, 64)?;
    let mut on = oauth.identity.db.begin().await?;
    if !store::oauth::clients::delete(&mut on, id).await? {
        return Err(Error::not_found(format!(
            "there is no OAuth client {id:?}; `list_oauth_clients` lists them"
        )));
    }
    store::oauth::grants::revoke_of_client(&mut on, id, oauth.identity.clock.now()).await?;
    on.commit().await?;
    oauth.identity.agents.changed().await;
    Ok(Ended { message: "the client is deleted, and every grant to it has ended".to_owned() })
}
