//! The tables of this folder: secrets, their versions, leases and grants. Values are here only sealed.

pub mod grants;
pub mod versions;

use opsroom_core::db::{Db, Dialect, Migration, Row as DbRow, Step, Transaction};
use opsroom_core::{Error, Result, Time};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, IntoIden, Order, Query, SelectStatement, Table};

use super::model::Row;

/// This folder's tables, oldest change first.
pub const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "secrets, versions, leases and grants", steps: first }];

#[derive(Clone, Copy, Iden)]
pub(super) enum Secrets {
    Table,
    Id,
    TeamId,
    Path,
    Description,
    Labels,
    Version,
    Disabled,
    Canary,
    CreatedBy,
    CreatedAt,
    UpdatedAt,
    ExpiresAt,
    PurgeAt,
    Rotation,
    RotateAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum SecretVersions {
    Table,
    SecretId,
    Version,
    Sealed,
    State,
    CreatedBy,
    CreatedAt,
    UsableUntil,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum SecretLeases {
    Table,
    Id,
    SecretId,
    Version,
    Holder,
    HolderName,
    CreatedAt,
    ExpiresAt,
    EndedAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum SecretGrants {
    Table,
    Id,
    SecretId,
    Subject,
    GrantedBy,
    CreatedAt,
    ExpiresAt,
}

const COLUMNS: [Secrets; 13] = [
    Secrets::Id,
    Secrets::TeamId,
    Secrets::Path,
    Secrets::Description,
    Secrets::Labels,
    Secrets::Version,
    Secrets::Disabled,
    Secrets::Canary,
    Secrets::CreatedBy,
    Secrets::CreatedAt,
    Secrets::UpdatedAt,
    Secrets::ExpiresAt,
    Secrets::PurgeAt,
];

fn text(column: impl IntoIden, most: u32) -> ColumnDef {
    ColumnDef::new(column).string_len(most).not_null().take()
}

fn number(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().take()
}

fn number_or_none(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().null().take()
}

fn first(dialect: Dialect) -> Vec<Step> {
    let secrets = Table::create()
        .table(Secrets::Table)
        .col(text(Secrets::Id, 36).primary_key())
        .col(text(Secrets::TeamId, 64))
        .col(text(Secrets::Path, 200))
        .col(text(Secrets::Description, 500))
        .col(dialect.long_text(Secrets::Labels).not_null())
        .col(number(Secrets::Version))
        .col(ColumnDef::new(Secrets::Disabled).boolean().not_null())
        .col(ColumnDef::new(Secrets::Canary).boolean().not_null())
        .col(text(Secrets::CreatedBy, 190))
        .col(number(Secrets::CreatedAt))
        .col(number(Secrets::UpdatedAt))
        .col(number_or_none(Secrets::ExpiresAt))
        .col(number_or_none(Secrets::PurgeAt))
        .col(dialect.long_text(Secrets::Rotation).null())
        .col(number_or_none(Secrets::RotateAt))
        .to_owned();
    let by_path = Index::create()
        .unique()
        .name("secrets_path")
        .table(Secrets::Table)
        .col(Secrets::TeamId)
        .col(Secrets::Path)
        .to_owned();
    let versions = Table::create()
        .table(SecretVersions::Table)
        .col(text(SecretVersions::SecretId, 36))
        .col(number(SecretVersions::Version))
        .col(dialect.long_text(SecretVersions::Sealed).not_null())
        .col(text(SecretVersions::State, 16))
        .col(text(SecretVersions::CreatedBy, 190))
        .col(number(SecretVersions::CreatedAt))
        .col(number_or_none(SecretVersions::UsableUntil))
        .primary_key(Index::create().col(SecretVersions::SecretId).col(SecretVersions::Version))
        .to_owned();
    vec![
        Step::Create(secrets),
        Step::Index(by_path),
        Step::Create(versions),
        Step::Create(grants::lease_table()),
        Step::Index(grants::lease_index()),
        Step::Create(grants::grant_table()),
        Step::Index(grants::grant_index()),
    ]
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(Secrets::Table).to_owned()
}

fn read(row: &DbRow) -> Result<Row> {
    Ok(Row {
        id: row.get("id")?,
        team_id: row.get("team_id")?,
        path: row.get("path")?,
        description: row.get("description")?,
        labels: row.json("labels")?,
        version: row.get("version")?,
        disabled: row.get("disabled")?,
        canary: row.get("canary")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        expires_at: row.time_or_none("expires_at")?,
        purge_at: row.time_or_none("purge_at")?,
    })
}

fn of_path(teams: &[String], path: &str) -> SelectStatement {
    select()
        .and_where(Expr::col(Secrets::Path).eq(path))
        .and_where(Expr::col(Secrets::TeamId).is_in(teams))
        .order_by(Secrets::Id, Order::Asc)
        .to_owned()
}

/// The secret of that path in one of these teams; of several the one of the first team.
pub async fn get(db: &Db, teams: &[String], path: &str) -> Result<Option<Row>> {
    let rows = db.all(&of_path(teams, path)).await?;
    let mut rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    rows.sort_by_key(|row| teams.iter().position(|team| *team == row.team_id));
    Ok(rows.into_iter().next())
}

/// The same in a transaction, in one team, locked until its end.
pub async fn get_locked(on: &mut Transaction, team: &str, path: &str) -> Result<Option<Row>> {
    let teams = [team.to_owned()];
    let query = of_path(&teams, path).lock_exclusive().to_owned();
    on.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Secrets of these teams by their paths, after a path.
pub async fn list(
    db: &Db,
    teams: &[String],
    prefix: Option<&str>,
    after: Option<&str>,
    deleted: bool,
    limit: u64,
) -> Result<Vec<Row>> {
    let mut query = select();
    query.and_where(Expr::col(Secrets::TeamId).is_in(teams));
    if let Some(prefix) = prefix {
        // A path has no character that `LIKE` knows but the underscore, which is held against the rows below.
        query.and_where(Expr::col(Secrets::Path).like(format!("{prefix}%")));
    }
    if let Some(after) = after {
        query.and_where(Expr::col(Secrets::Path).gt(after));
    }
    if !deleted {
        query.and_where(Expr::col(Secrets::PurgeAt).is_null());
    }
    query.order_by(Secrets::Path, Order::Asc).order_by(Secrets::Id, Order::Asc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Every secret, of whatever team, after an id: for what concerns all of them, such as a new master key.
pub async fn every(db: &Db, after: &str, limit: u64) -> Result<Vec<Row>> {
    let query = select()
        .and_where(Expr::col(Secrets::Id).gt(after))
        .order_by(Secrets::Id, Order::Asc)
        .limit(limit)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// Adds a secret.
pub async fn insert(on: &mut Transaction, row: &Row) -> Result<()> {
    let labels = serde_json::to_string(&row.labels).map_err(Error::internal)?;
    let insert = Query::insert()
        .into_table(Secrets::Table)
        .columns(COLUMNS)
        .values_panic([
            row.id.as_str().into(),
            row.team_id.as_str().into(),
            row.path.as_str().into(),
            row.description.as_str().into(),
            labels.into(),
            row.version.into(),
            row.disabled.into(),
            row.canary.into(),
            row.created_by.as_str().into(),
            row.created_at.0.into(),
            row.updated_at.0.into(),
            row.expires_at.map(|time| time.0).into(),
            row.purge_at.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Writes what may change about a secret.
pub async fn update(on: &mut Transaction, row: &Row) -> Result<()> {
    let labels = serde_json::to_string(&row.labels).map_err(Error::internal)?;
    let update = Query::update()
        .table(Secrets::Table)
        .value(Secrets::Description, row.description.as_str())
        .value(Secrets::Labels, labels)
        .value(Secrets::Version, row.version)
        .value(Secrets::Disabled, row.disabled)
        .value(Secrets::Canary, row.canary)
        .value(Secrets::UpdatedAt, row.updated_at.0)
        .value(Secrets::ExpiresAt, row.expires_at.map(|time| time.0))
        .value(Secrets::PurgeAt, row.purge_at.map(|time| time.0))
        .and_where(Expr::col(Secrets::Id).eq(row.id.as_str()))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// The ids of what was deleted so long ago that it goes for good.
pub async fn purgeable(db: &Db, now: Time) -> Result<Vec<String>> {
    let query = Query::select()
        .column(Secrets::Id)
        .from(Secrets::Table)
        .and_where(Expr::col(Secrets::PurgeAt).lte(now.0))
        .limit(100)
        .to_owned();
    db.all(&query).await?.iter().map(|row| row.get("id")).collect()
}

/// Removes a secret, its versions, leases and grants.
pub async fn purge(on: &mut Transaction, id: &str) -> Result<()> {
    let versions = Query::delete()
        .from_table(SecretVersions::Table)
        .and_where(Expr::col(SecretVersions::SecretId).eq(id))
        .to_owned();
    let leases = Query::delete()
        .from_table(SecretLeases::Table)
        .and_where(Expr::col(SecretLeases::SecretId).eq(id))
        .to_owned();
    let grants = Query::delete()
        .from_table(SecretGrants::Table)
        .and_where(Expr::col(SecretGrants::SecretId).eq(id))
        .to_owned();
    let secret =
        Query::delete().from_table(Secrets::Table).and_where(Expr::col(Secrets::Id).eq(id)).to_owned();
    for delete in [versions, leases, grants, secret] {
        on.run(&delete).await?;
    }
    Ok(())
}

/// How a secret is rotated, as JSON, and when next.
pub async fn rotation(db: &Db, id: &str) -> Result<Option<String>> {
    let query = Query::select()
        .column(Secrets::Rotation)
        .from(Secrets::Table)
        .and_where(Expr::col(Secrets::Id).eq(id))
        .to_owned();
    Ok(db.first(&query).await?.map(|row| row.get::<Option<String>>("rotation")).transpose()?.flatten())
}

/// Sets how a secret is rotated and when next.
pub async fn set_rotation(db: &Db, id: &str, rotation: Option<&str>, at: Option<Time>) -> Result<()> {
    let update = Query::update()
        .table(Secrets::Table)
        .value(Secrets::Rotation, rotation)
        .value(Secrets::RotateAt, at.map(|time| time.0))
        .and_where(Expr::col(Secrets::Id).eq(id))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// Secrets whose rotation is due.
pub async fn due(db: &Db, now: Time) -> Result<Vec<Row>> {
    let query = select()
        .and_where(Expr::col(Secrets::RotateAt).lte(now.0))
        .and_where(Expr::col(Secrets::PurgeAt).is_null())
        .and_where(Expr::col(Secrets::Disabled).eq(false))
        .limit(50)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// Claims a due rotation until `until`: true for one server only.
pub async fn claim(db: &Db, id: &str, now: Time, until: Time) -> Result<bool> {
    let update = Query::update()
        .table(Secrets::Table)
        .value(Secrets::RotateAt, until.0)
        .and_where(Expr::col(Secrets::Id).eq(id))
        .and_where(Expr::col(Secrets::RotateAt).lte(now.0))
        .to_owned();
    Ok(db.run(&update).await? == 1)
}
