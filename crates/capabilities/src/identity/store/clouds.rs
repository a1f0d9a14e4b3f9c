//! Rows of linked cloud accounts. What opens them is here only sealed; every list takes the caller's teams.

use opsroom_core::db::{Db, Dialect, Row, Step, Transaction};
use opsroom_core::{Error, Result};
use sea_query::{Expr, ExprTrait, Iden, Index, Order, Query, SelectStatement, Table};

use super::{number, number_or_none, text, text_or_none};
use crate::identity::cloud::model::{CloudRow, Provider};

#[derive(Clone, Copy, Iden)]
enum CloudAccounts {
    Table,
    Id,
    TeamId,
    Name,
    Provider,
    AccountId,
    Region,
    Settings,
    Fields,
    Sealed,
    CreatedBy,
    CreatedAt,
    UpdatedAt,
    VerifiedAt,
    VerifiedAs,
    Failure,
}

const COLUMNS: [CloudAccounts; 15] = [
    CloudAccounts::Id,
    CloudAccounts::TeamId,
    CloudAccounts::Name,
    CloudAccounts::Provider,
    CloudAccounts::AccountId,
    CloudAccounts::Region,
    CloudAccounts::Settings,
    CloudAccounts::Fields,
    CloudAccounts::Sealed,
    CloudAccounts::CreatedBy,
    CloudAccounts::CreatedAt,
    CloudAccounts::UpdatedAt,
    CloudAccounts::VerifiedAt,
    CloudAccounts::VerifiedAs,
    CloudAccounts::Failure,
];

/// The table.
pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    let table = Table::create()
        .table(CloudAccounts::Table)
        .col(text(CloudAccounts::Id, 36).primary_key())
        .col(text(CloudAccounts::TeamId, 64))
        .col(text(CloudAccounts::Name, 64))
        .col(text(CloudAccounts::Provider, 16))
        .col(text(CloudAccounts::AccountId, 128))
        .col(text(CloudAccounts::Region, 64))
        .col(dialect.long_text(CloudAccounts::Settings).not_null())
        .col(dialect.long_text(CloudAccounts::Fields).not_null())
        .col(dialect.long_text(CloudAccounts::Sealed).not_null())
        .col(text(CloudAccounts::CreatedBy, 190))
        .col(number(CloudAccounts::CreatedAt))
        .col(number(CloudAccounts::UpdatedAt))
        .col(number_or_none(CloudAccounts::VerifiedAt))
        .col(text_or_none(CloudAccounts::VerifiedAs, 255))
        .col(text_or_none(CloudAccounts::Failure, 255))
        .to_owned();
    let of_team = Index::create()
        .unique()
        .name("cloud_accounts_name")
        .table(CloudAccounts::Table)
        .col(CloudAccounts::TeamId)
        .col(CloudAccounts::Name)
        .to_owned();
    vec![Step::Create(table), Step::Index(of_team)]
}

/// Adds an account; `Conflict` when its team has one of this name.
pub async fn insert(on: &mut Transaction, row: &CloudRow) -> Result<()> {
    let insert = Query::insert()
        .into_table(CloudAccounts::Table)
        .columns(COLUMNS)
        .values_panic([
            row.id.as_str().into(),
            row.team_id.as_str().into(),
            row.name.as_str().into(),
            row.provider.as_str().into(),
            row.account_id.as_str().into(),
            row.region.as_str().into(),
            serde_json::to_string(&row.settings).map_err(Error::internal)?.into(),
            serde_json::to_string(&row.fields).map_err(Error::internal)?.into(),
            row.sealed.as_str().into(),
            row.created_by.as_str().into(),
            row.created_at.0.into(),
            row.updated_at.0.into(),
            row.verified_at.map(|time| time.0).into(),
            row.verified_as.as_deref().into(),
            row.failure.as_deref().into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Writes what may change.
pub async fn update(on: &mut Transaction, row: &CloudRow) -> Result<()> {
    let update = Query::update()
        .table(CloudAccounts::Table)
        .value(CloudAccounts::AccountId, row.account_id.as_str())
        .value(CloudAccounts::Region, row.region.as_str())
        .value(CloudAccounts::Settings, serde_json::to_string(&row.settings).map_err(Error::internal)?)
        .value(CloudAccounts::Fields, serde_json::to_string(&row.fields).map_err(Error::internal)?)
        .value(CloudAccounts::Sealed, row.sealed.as_str())
        .value(CloudAccounts::CreatedBy, row.created_by.as_str())
        .value(CloudAccounts::UpdatedAt, row.updated_at.0)
        .value(CloudAccounts::VerifiedAt, row.verified_at.map(|time| time.0))
        .value(CloudAccounts::VerifiedAs, row.verified_as.as_deref())
        .value(CloudAccounts::Failure, row.failure.as_deref())
        .and_where(Expr::col(CloudAccounts::Id).eq(row.id.as_str()))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// Replaces what is sealed, if it is still what it was.
pub async fn reseal(db: &Db, id: &str, old: &str, new: &str) -> Result<bool> {
    let update = Query::update()
        .table(CloudAccounts::Table)
        .value(CloudAccounts::Sealed, new)
        .and_where(Expr::col(CloudAccounts::Id).eq(id))
        .and_where(Expr::col(CloudAccounts::Sealed).eq(old))
        .to_owned();
    Ok(db.run(&update).await? == 1)
}

/// The account of this name that one of these teams has; of several the oldest.
pub async fn find(db: &Db, teams: &[String], name: &str) -> Result<Option<CloudRow>> {
    let query = select()
        .and_where(Expr::col(CloudAccounts::TeamId).is_in(teams))
        .and_where(Expr::col(CloudAccounts::Name).eq(name))
        .order_by(CloudAccounts::Id, Order::Asc)
        .limit(1)
        .to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Accounts of these teams, by name.
pub async fn list(db: &Db, teams: &[String], after: Option<&str>, limit: u64) -> Result<Vec<CloudRow>> {
    let mut query = select();
    query.and_where(Expr::col(CloudAccounts::TeamId).is_in(teams));
    if let Some(after) = after {
        query.and_where(Expr::col(CloudAccounts::Id).gt(after));
    }
    query.order_by(CloudAccounts::Id, Order::Asc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Accounts of every team, for what is sealed again.
pub async fn all(db: &Db, after: Option<&str>, limit: u64) -> Result<Vec<CloudRow>> {
    let mut query = select();
    if let Some(after) = after {
        query.and_where(Expr::col(CloudAccounts::Id).gt(after));
    }
    query.order_by(CloudAccounts::Id, Order::Asc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Removes an account; false when it is gone already.
pub async fn remove(on: &mut Transaction, id: &str) -> Result<bool> {
    let delete = Query::delete()
        .from_table(CloudAccounts::Table)
        .and_where(Expr::col(CloudAccounts::Id).eq(id))
        .to_owned();
    Ok(on.run(&delete).await? > 0)
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(CloudAccounts::Table).to_owned()
}

fn read(row: &Row) -> Result<CloudRow> {
    let provider: String = row.get("provider")?;
    let known = Provider::parse(&provider);
    Ok(CloudRow {
        id: row.get("id")?,
        team_id: row.get("team_id")?,
        name: row.get("name")?,
        provider: known.ok_or_else(|| Error::internal(format!("cloud_accounts.provider is {provider:?}")))?,
        account_id: row.get("account_id")?,
        region: row.get("region")?,
        settings: row.json("settings")?,
        fields: row.json("fields")?,
        sealed: row.get("sealed")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        verified_at: row.time_or_none("verified_at")?,
        verified_as: row.get("verified_as")?,
        failure: row.get("failure")?,
    })
}
