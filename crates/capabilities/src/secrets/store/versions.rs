//! Rows of versions.

use opsroom_core::db::{Db, Row as DbRow, Transaction};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::SecretVersions;
use crate::secrets::model::VersionRow;

const COLUMNS: [SecretVersions; 7] = [
    SecretVersions::SecretId,
    SecretVersions::Version,
    SecretVersions::Sealed,
    SecretVersions::State,
    SecretVersions::CreatedBy,
    SecretVersions::CreatedAt,
    SecretVersions::UsableUntil,
];

fn select(secret: &str) -> SelectStatement {
    Query::select()
        .columns(COLUMNS)
        .from(SecretVersions::Table)
        .and_where(Expr::col(SecretVersions::SecretId).eq(secret))
        .to_owned()
}

fn read(row: &DbRow) -> Result<VersionRow> {
    Ok(VersionRow {
        secret_id: row.get("secret_id")?,
        version: row.get("version")?,
        sealed: row.get("sealed")?,
        state: row.get("state")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        usable_until: row.time_or_none("usable_until")?,
    })
}

/// A version.
pub async fn get(db: &Db, secret: &str, version: i64) -> Result<Option<VersionRow>> {
    let query = select(secret).and_where(Expr::col(SecretVersions::Version).eq(version)).to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// The versions of a secret, newest first.
pub async fn list(db: &Db, secret: &str) -> Result<Vec<VersionRow>> {
    let query = select(secret).order_by(SecretVersions::Version, Order::Desc).limit(200).to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// The number of the newest version, whatever became of it.
pub async fn newest(on: &mut Transaction, secret: &str) -> Result<i64> {
    let query = select(secret).order_by(SecretVersions::Version, Order::Desc).limit(1).to_owned();
    on.first(&query).await?.map_or(Ok(0), |row| row.get("version"))
}

/// Adds a version.
pub async fn insert(on: &mut Transaction, row: &VersionRow) -> Result<()> {
    let insert = Query::insert()
        .into_table(SecretVersions::Table)
        .columns(COLUMNS)
        .values_panic([
            row.secret_id.as_str().into(),
            row.version.into(),
            row.sealed.as_str().into(),
            row.state.as_str().into(),
            row.created_by.as_str().into(),
            row.created_at.0.into(),
            row.usable_until.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Makes `version` the current one: the one before is the previous one until `until`, the one before that
/// is old, and the values of those below `keep` are destroyed.
pub async fn promote(on: &mut Transaction, secret: &str, version: i64, until: Time, keep: i64) -> Result<()> {
    let set = |from: &str, to: &str, until: Option<Time>| {
        Query::update()
            .table(SecretVersions::Table)
            .value(SecretVersions::State, to)
            .value(SecretVersions::UsableUntil, until.map(|time| time.0))
            .and_where(Expr::col(SecretVersions::SecretId).eq(secret))
            .and_where(Expr::col(SecretVersions::State).eq(from))
            .and_where(Expr::col(SecretVersions::Version).ne(version))
            .to_owned()
    };
    on.run(&set("previous", "old", None)).await?;
    on.run(&set("current", "previous", Some(until))).await?;
    let current = Query::update()
        .table(SecretVersions::Table)
        .value(SecretVersions::State, "current")
        .and_where(Expr::col(SecretVersions::SecretId).eq(secret))
        .and_where(Expr::col(SecretVersions::Version).eq(version))
        .to_owned();
    on.run(&current).await?;
    let destroy = Query::update()
        .table(SecretVersions::Table)
        .value(SecretVersions::State, "destroyed")
        .value(SecretVersions::Sealed, "")
        .and_where(Expr::col(SecretVersions::SecretId).eq(secret))
        .and_where(Expr::col(SecretVersions::Version).lt(keep))
        .and_where(Expr::col(SecretVersions::State).is_in(["old", "failed", "disabled"]))
        .to_owned();
    on.run(&destroy).await.map(drop)
}

/// Sets how a version is.
pub async fn set_state(on: &mut Transaction, secret: &str, version: i64, state: &str) -> Result<u64> {
    let update = Query::update()
        .table(SecretVersions::Table)
        .value(SecretVersions::State, state)
        .and_where(Expr::col(SecretVersions::SecretId).eq(secret))
        .and_where(Expr::col(SecretVersions::Version).eq(version))
        .to_owned();
    on.run(&update).await
}

/// Replaces a sealed text by the same one under a new key, unless it changed meanwhile.
pub async fn rewrap(db: &Db, row: &VersionRow, sealed: &str) -> Result<()> {
    let update = Query::update()
        .table(SecretVersions::Table)
        .value(SecretVersions::Sealed, sealed)
        .and_where(Expr::col(SecretVersions::SecretId).eq(row.secret_id.as_str()))
        .and_where(Expr::col(SecretVersions::Version).eq(row.version))
        .and_where(Expr::col(SecretVersions::Sealed).eq(row.sealed.as_str()))
        .to_owned();
    db.run(&update).await.map(drop)
}
