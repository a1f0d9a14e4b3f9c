//! Rows of API keys.

use opsroom_core::db::{Db, Row, Transaction};
use opsroom_core::{Error, Result, Role, Scope, Time};
use sea_query::{Cond, Expr, ExprTrait, Func, Order, Query, SelectStatement};

use super::ApiKeys;
use crate::identity::model::ApiKey;

/// The counter that grows with every change of a key.
pub const GENERATION: &str = "api_keys";

const COLUMNS: [ApiKeys; 11] = [
    ApiKeys::Id,
    ApiKeys::StartsWith,
    ApiKeys::Name,
    ApiKeys::Role,
    ApiKeys::Scopes,
    ApiKeys::TeamId,
    ApiKeys::CreatedBy,
    ApiKeys::CreatedAt,
    ApiKeys::ExpiresAt,
    ApiKeys::LastUsedAt,
    ApiKeys::RevokedAt,
];

/// Adds a key under the hash of its token.
pub async fn insert(on: &mut Transaction, key: &ApiKey, hash: &str) -> Result<()> {
    let scopes = key.scopes.as_ref().map(serde_json::to_string).transpose().map_err(Error::internal)?;
    let insert = Query::insert()
        .into_table(ApiKeys::Table)
        .columns(COLUMNS.into_iter().chain([ApiKeys::Hash]))
        .values_panic([
            key.id.as_str().into(),
            key.starts_with.as_str().into(),
            key.name.as_str().into(),
            key.role.as_str().into(),
            scopes.into(),
            key.team_id.as_str().into(),
            key.created_by.as_str().into(),
            key.created_at.0.into(),
            key.expires_at.map(|time| time.0).into(),
            key.last_used_at.map(|time| time.0).into(),
            key.revoked_at.map(|time| time.0).into(),
            hash.into(),
        ])
        .to_owned();
    on.run(&insert).await?;
    changed(on).await
}

/// Revokes a key of these teams unless it is revoked already.
pub async fn revoke(on: &mut Transaction, teams: &[String], id: &str, now: Time) -> Result<()> {
    let update = Query::update()
        .table(ApiKeys::Table)
        .value(ApiKeys::RevokedAt, now.0)
        .and_where(Expr::col(ApiKeys::Id).eq(id))
        .and_where(Expr::col(ApiKeys::TeamId).is_in(teams))
        .and_where(Expr::col(ApiKeys::RevokedAt).is_null())
        .to_owned();
    on.run(&update).await?;
    changed(on).await
}

/// Lets a key end at a moment, unless it ends sooner.
pub async fn end_at(on: &mut Transaction, teams: &[String], id: &str, end: Time) -> Result<()> {
    let later =
        Cond::any().add(Expr::col(ApiKeys::ExpiresAt).is_null()).add(Expr::col(ApiKeys::ExpiresAt).gt(end.0));
    let update = Query::update()
        .table(ApiKeys::Table)
        .value(ApiKeys::ExpiresAt, end.0)
        .and_where(Expr::col(ApiKeys::Id).eq(id))
        .and_where(Expr::col(ApiKeys::TeamId).is_in(teams))
        .cond_where(later)
        .to_owned();
    on.run(&update).await?;
    changed(on).await
}

/// How often keys have changed.
pub async fn generation(db: &Db) -> Result<i64> {
    super::generation(db, GENERATION).await
}

async fn changed(on: &mut Transaction) -> Result<()> {
    super::changed(on, GENERATION).await
}

/// A key of these teams.
pub async fn get(db: &Db, teams: &[String], id: &str) -> Result<Option<ApiKey>> {
    let query = select()
        .and_where(Expr::col(ApiKeys::Id).eq(id))
        .and_where(Expr::col(ApiKeys::TeamId).is_in(teams))
        .to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Keys of these teams, newest first, older than `before`.
pub async fn list(
    db: &Db,
    teams: &[String],
    before: Option<&str>,
    revoked: bool,
    limit: u64,
) -> Result<Vec<ApiKey>> {
    let mut query = select();
    query.and_where(Expr::col(ApiKeys::TeamId).is_in(teams));
    if let Some(before) = before {
        query.and_where(Expr::col(ApiKeys::Id).lt(before));
    }
    if !revoked {
        query.and_where(Expr::col(ApiKeys::RevokedAt).is_null());
    }
    query.order_by(ApiKeys::Id, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Every key that still opens something, with its hash: what authentication needs, whatever the team.
pub async fn live(db: &Db, now: Time, most: u64) -> Result<Vec<(ApiKey, String)>> {
    let mut query = select();
    query.column(ApiKeys::Hash).cond_where(alive(now)).order_by(ApiKeys::Id, Order::Asc).limit(most);
    db.all(&query).await?.iter().map(|row| Ok((read(row)?, row.get("hash")?))).collect()
}

/// How many keys still open something, whatever the team.
pub async fn count_live(on: &mut Transaction, now: Time) -> Result<i64> {
    let query = Query::select()
        .expr_as(Func::count(Expr::col(ApiKeys::Id)), "total")
        .from(ApiKeys::Table)
        .cond_where(alive(now))
        .to_owned();
    on.first(&query).await?.map_or(Ok(0), |row| row.get("total"))
}

/// The query for one whole administrator's key that still opens something, whatever the team.
fn administrator(now: Time) -> SelectStatement {
    Query::select()
        .column(ApiKeys::Id)
        .from(ApiKeys::Table)
        .and_where(Expr::col(ApiKeys::Role).eq(Role::Administrator.as_str()))
        .and_where(Expr::col(ApiKeys::Scopes).is_null())
        .cond_where(alive(now))
        .limit(1)
        .to_owned()
}

/// Whether there is a whole administrator's key.
pub async fn has_administrator(db: &Db, now: Time) -> Result<bool> {
    Ok(db.first(&administrator(now)).await?.is_some())
}

/// The same within a transaction.
pub async fn has_administrator_on(on: &mut Transaction, now: Time) -> Result<bool> {
    Ok(on.first(&administrator(now)).await?.is_some())
}

/// Notes when keys were last used; an older moment never replaces a newer one.
pub async fn set_last_used(db: &Db, used: &[(String, Time)]) -> Result<()> {
    let mut on = db.begin().await?;
    for (id, time) in used {
        let update = Query::update()
            .table(ApiKeys::Table)
            .value(ApiKeys::LastUsedAt, time.0)
            .and_where(Expr::col(ApiKeys::Id).eq(id.as_str()))
            .cond_where(
                Cond::any()
                    .add(Expr::col(ApiKeys::LastUsedAt).is_null())
                    .add(Expr::col(ApiKeys::LastUsedAt).lt(time.0)),
            )
            .to_owned();
        on.run(&update).await?;
    }
    on.commit().await
}

fn alive(now: Time) -> Cond {
    let not_expired =
        Cond::any().add(Expr::col(ApiKeys::ExpiresAt).is_null()).add(Expr::col(ApiKeys::ExpiresAt).gt(now.0));
    Cond::all().add(Expr::col(ApiKeys::RevokedAt).is_null()).add(not_expired)
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(ApiKeys::Table).to_owned()
}

fn read(row: &Row) -> Result<ApiKey> {
    let role: String = row.get("role")?;
    let role = Role::parse(&role).ok_or_else(|| Error::internal(format!("api_keys.role holds {role:?}")))?;
    Ok(ApiKey {
        id: row.get("id")?,
        starts_with: row.get("starts_with")?,
        name: row.get("name")?,
        role,
        scopes: row.json_or_none::<Vec<Scope>>("scopes")?,
        team_id: row.get("team_id")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        expires_at: row.time_or_none("expires_at")?,
        last_used_at: row.time_or_none("last_used_at")?,
        revoked_at: row.time_or_none("revoked_at")?,
    })
}
