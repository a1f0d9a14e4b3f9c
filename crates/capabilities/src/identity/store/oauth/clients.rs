//! Rows of clients. Those with a metadata document of their own are not kept.

use opsroom_core::db::{Db, Row as DbRow, Transaction};
use opsroom_core::{Error, Result, Time};
use sea_query::{Expr, ExprTrait, Func, Order, Query, SelectStatement};

use super::OauthClients;
use crate::identity::oauth::model::{Client, ClientAuth};

/// Who made a client that registered itself.
pub const ITSELF: &str = "itself";

const COLUMNS: [OauthClients; 9] = [
    OauthClients::Id,
    OauthClients::SecretHash,
    OauthClients::Name,
    OauthClients::RedirectUris,
    OauthClients::Auth,
    OauthClients::Refreshes,
    OauthClients::CreatedBy,
    OauthClients::CreatedAt,
    OauthClients::UsedAt,
];

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(OauthClients::Table).to_owned()
}

fn read(row: &DbRow) -> Result<Client> {
    let auth: String = row.get("auth")?;
    Ok(Client {
        id: row.get("id")?,
        name: row.get("name")?,
        redirect_uris: row.json("redirect_uris")?,
        auth: ClientAuth::parse(&auth)
            .ok_or_else(|| Error::internal(format!("oauth_clients.auth is {auth:?}")))?,
        secret_hash: row.get("secret_hash")?,
        refreshes: row.get("refreshes")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        used_at: row.time_or_none("used_at")?,
    })
}

/// A client.
pub async fn get(db: &Db, id: &str) -> Result<Option<Client>> {
    let query = select().and_where(Expr::col(OauthClients::Id).eq(id)).to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Clients, newest first, older than `before`.
pub async fn list(db: &Db, before: Option<&str>, limit: u64) -> Result<Vec<Client>> {
    let mut query = select();
    if let Some(before) = before {
        query.and_where(Expr::col(OauthClients::Id).lt(before));
    }
    query.order_by(OauthClients::Id, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Adds a client, unless there are `most`; says whether it did.
pub async fn insert(on: &mut Transaction, client: &Client, most: i64) -> Result<bool> {
    let count = Query::select()
        .expr_as(Func::count(Expr::col(OauthClients::Id)), "total")
        .from(OauthClients::Table)
        .to_owned();
    let there: i64 = on.first(&count).await?.map_or(Ok(0), |row| row.get("total"))?;
    if there >= most {
        return Ok(false);
    }
    let uris = serde_json::to_string(&client.redirect_uris).map_err(Error::internal)?;
    let insert = Query::insert()
        .into_table(OauthClients::Table)
        .columns(COLUMNS)
        .values_panic([
            client.id.as_str().into(),
            client.secret_hash.as_deref().into(),
            client.name.as_str().into(),
            uris.into(),
            client.auth.as_str().into(),
            client.refreshes.into(),
            client.created_by.as_str().into(),
            client.created_at.0.into(),
            client.used_at.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await?;
    Ok(true)
}

/// Notes that somebody let a client in.
pub async fn set_used(on: &mut Transaction, id: &str, now: Time) -> Result<()> {
    let update = Query::update()
        .table(OauthClients::Table)
        .value(OauthClients::UsedAt, now.0)
        .and_where(Expr::col(OauthClients::Id).eq(id))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// Removes a client; says whether it was there.
pub async fn delete(on: &mut Transaction, id: &str) -> Result<bool> {
    let delete = Query::delete()
        .from_table(OauthClients::Table)
        .and_where(Expr::col(OauthClients::Id).eq(id))
        .to_owned();
    Ok(on.run(&delete).await? == 1)
}

/// Removes clients that registered themselves before this and that nobody ever let in.
pub async fn remove_unused(db: &Db, before: Time) -> Result<()> {
    let delete = Query::delete()
        .from_table(OauthClients::Table)
        .and_where(Expr::col(OauthClients::CreatedBy).eq(ITSELF))
        .and_where(Expr::col(OauthClients::UsedAt).is_null())
        .and_where(Expr::col(OauthClients::CreatedAt).lt(before.0))
        .to_owned();
    db.run(&delete).await.map(drop)
}
