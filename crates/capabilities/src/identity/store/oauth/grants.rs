//! Rows of grants.

use opsroom_core::db::{Db, Row as DbRow, Transaction};
use opsroom_core::{Error, Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::{GENERATION, OauthGrants};
use crate::identity::oauth::model::Grant;

const COLUMNS: [OauthGrants; 11] = [
    OauthGrants::Id,
    OauthGrants::UserId,
    OauthGrants::ClientId,
    OauthGrants::ClientName,
    OauthGrants::Scopes,
    OauthGrants::Resource,
    OauthGrants::Refreshes,
    OauthGrants::CreatedAt,
    OauthGrants::RenewedAt,
    OauthGrants::ExpiresAt,
    OauthGrants::RevokedAt,
];

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(OauthGrants::Table).to_owned()
}

fn read(row: &DbRow) -> Result<Grant> {
    Ok(Grant {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        client_id: row.get("client_id")?,
        client_name: row.get("client_name")?,
        scopes: row.json("scopes")?,
        resource: row.get("resource")?,
        refreshes: row.get("refreshes")?,
        created_at: row.time("created_at")?,
        renewed_at: row.time("renewed_at")?,
        expires_at: row.time("expires_at")?,
        revoked_at: row.time_or_none("revoked_at")?,
    })
}

/// The grants that go on, newest first.
pub async fn live(db: &Db, now: Time, most: u64) -> Result<Vec<Grant>> {
    let query = select()
        .and_where(Expr::col(OauthGrants::RevokedAt).is_null())
        .and_where(Expr::col(OauthGrants::ExpiresAt).gt(now.0))
        .order_by(OauthGrants::Id, Order::Desc)
        .limit(most)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// The grants of one user, or of everybody, that go on, newest first, older than `before`.
pub async fn list(
    db: &Db,
    user: Option<&str>,
    before: Option<&str>,
    now: Time,
    limit: u64,
) -> Result<Vec<Grant>> {
    let mut query = select();
    query
        .and_where(Expr::col(OauthGrants::RevokedAt).is_null())
        .and_where(Expr::col(OauthGrants::ExpiresAt).gt(now.0));
    if let Some(user) = user {
        query.and_where(Expr::col(OauthGrants::UserId).eq(user));
    }
    if let Some(before) = before {
        query.and_where(Expr::col(OauthGrants::Id).lt(before));
    }
    query.order_by(OauthGrants::Id, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// A grant, of one user or of anybody.
pub async fn get(db: &Db, user: Option<&str>, id: &str) -> Result<Option<Grant>> {
    let mut query = select();
    query.and_where(Expr::col(OauthGrants::Id).eq(id));
    if let Some(user) = user {
        query.and_where(Expr::col(OauthGrants::UserId).eq(user));
    }
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// The same in a transaction.
pub async fn get_on(on: &mut Transaction, id: &str) -> Result<Option<Grant>> {
    let query = select().and_where(Expr::col(OauthGrants::Id).eq(id)).to_owned();
    on.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Adds a grant. Of more than `most` of one user, the oldest end.
pub async fn insert(on: &mut Transaction, grant: &Grant, most: u64) -> Result<()> {
    let scopes = serde_json::to_string(&grant.scopes).map_err(Error::internal)?;
    let insert = Query::insert()
        .into_table(OauthGrants::Table)
        .columns(COLUMNS)
        .values_panic([
            grant.id.as_str().into(),
            grant.user_id.as_str().into(),
            grant.client_id.as_str().into(),
            grant.client_name.as_str().into(),
            scopes.into(),
            grant.resource.as_str().into(),
            grant.refreshes.into(),
            grant.created_at.0.into(),
            grant.renewed_at.0.into(),
            grant.expires_at.0.into(),
            grant.revoked_at.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await?;
    let oldest_kept = select()
        .and_where(Expr::col(OauthGrants::UserId).eq(grant.user_id.as_str()))
        .and_where(Expr::col(OauthGrants::RevokedAt).is_null())
        .order_by(OauthGrants::Id, Order::Desc)
        .offset(most)
        .limit(1)
        .to_owned();
    if let Some(row) = on.first(&oldest_kept).await? {
        let last: String = row.get("id")?;
        let update = Query::update()
            .table(OauthGrants::Table)
            .value(OauthGrants::RevokedAt, grant.created_at.0)
            .and_where(Expr::col(OauthGrants::UserId).eq(grant.user_id.as_str()))
            .and_where(Expr::col(OauthGrants::RevokedAt).is_null())
            .and_where(Expr::col(OauthGrants::Id).lte(last))
            .to_owned();
        on.run(&update).await?;
    }
    super::super::changed(on, GENERATION).await
}

/// Notes that a client renewed its access.
pub async fn set_renewed(on: &mut Transaction, id: &str, now: Time) -> Result<()> {
    let update = Query::update()
        .table(OauthGrants::Table)
        .value(OauthGrants::RenewedAt, now.0)
        .and_where(Expr::col(OauthGrants::Id).eq(id))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// Ends a grant; says whether it went on until now.
pub async fn revoke(on: &mut Transaction, id: &str, now: Time) -> Result<bool> {
    end(on, Expr::col(OauthGrants::Id).eq(id), now).await
}

/// Ends every grant of a user.
pub async fn revoke_of_user(on: &mut Transaction, user: &str, now: Time) -> Result<bool> {
    end(on, Expr::col(OauthGrants::UserId).eq(user), now).await
}

/// Ends every grant to a client.
pub async fn revoke_of_client(on: &mut Transaction, client: &str, now: Time) -> Result<bool> {
    end(on, Expr::col(OauthGrants::ClientId).eq(client), now).await
}

async fn end(on: &mut Transaction, of: Expr, now: Time) -> Result<bool> {
    let update = Query::update()
        .table(OauthGrants::Table)
        .value(OauthGrants::RevokedAt, now.0)
        .and_where(of)
        .and_where(Expr::col(OauthGrants::RevokedAt).is_null())
        .to_owned();
    let ended = on.run(&update).await?;
    super::super::changed(on, GENERATION).await?;
    Ok(ended > 0)
}

/// Removes grants that ended before this.
pub async fn remove_old(db: &Db, before: Time) -> Result<()> {
    let delete = Query::delete()
        .from_table(OauthGrants::Table)
        .and_where(
            Expr::col(OauthGrants::ExpiresAt).lt(before.0).or(Expr::col(OauthGrants::RevokedAt).lt(before.0)),
        )
        .to_owned();
    db.run(&delete).await.map(drop)
}
