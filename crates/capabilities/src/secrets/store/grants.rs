//! Rows of leases and of grants.

use opsroom_core::db::{Db, Row as DbRow};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Index, IndexCreateStatement, Order, Query, Table, TableCreateStatement};

use super::{SecretGrants, SecretLeases, number, number_or_none, text};

/// A lease: who was given which version until when.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// The secret's id.
    pub secret_id: String,
    /// The version that was given.
    pub version: i64,
    /// Who has it.
    pub holder: String,
    /// Their name.
    pub holder_name: String,
    /// Since when.
    pub created_at: Time,
    /// Until when.
    pub expires_at: Time,
    /// When it was ended early.
    pub ended_at: Option<Time>,
}

/// A grant: who may be shown a secret over MCP until when.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// The secret's id.
    pub secret_id: String,
    /// To whom.
    pub subject: String,
    /// By whom.
    pub granted_by: String,
    /// Since when.
    pub created_at: Time,
    /// Until when.
    pub expires_at: Time,
}

pub(super) fn lease_table() -> TableCreateStatement {
    Table::create()
        .table(SecretLeases::Table)
        .col(text(SecretLeases::Id, 36).primary_key())
        .col(text(SecretLeases::SecretId, 36))
        .col(number(SecretLeases::Version))
        .col(text(SecretLeases::Holder, 190))
        .col(text(SecretLeases::HolderName, 190))
        .col(number(SecretLeases::CreatedAt))
        .col(number(SecretLeases::ExpiresAt))
        .col(number_or_none(SecretLeases::EndedAt))
        .to_owned()
}

pub(super) fn lease_index() -> IndexCreateStatement {
    Index::create()
        .name("secret_leases_secret")
        .table(SecretLeases::Table)
        .col(SecretLeases::SecretId)
        .col(SecretLeases::ExpiresAt)
        .to_owned()
}

pub(super) fn grant_table() -> TableCreateStatement {
    Table::create()
        .table(SecretGrants::Table)
        .col(text(SecretGrants::Id, 36).primary_key())
        .col(text(SecretGrants::SecretId, 36))
        .col(text(SecretGrants::Subject, 190))
        .col(text(SecretGrants::GrantedBy, 190))
        .col(number(SecretGrants::CreatedAt))
        .col(number(SecretGrants::ExpiresAt))
        .to_owned()
}

pub(super) fn grant_index() -> IndexCreateStatement {
    Index::create()
        .name("secret_grants_secret")
        .table(SecretGrants::Table)
        .col(SecretGrants::SecretId)
        .col(SecretGrants::Subject)
        .to_owned()
}

const LEASE: [SecretLeases; 8] = [
    SecretLeases::Id,
    SecretLeases::SecretId,
    SecretLeases::Version,
    SecretLeases::Holder,
    SecretLeases::HolderName,
    SecretLeases::CreatedAt,
    SecretLeases::ExpiresAt,
    SecretLeases::EndedAt,
];

fn read_lease(row: &DbRow) -> Result<Lease> {
    Ok(Lease {
        id: row.get("id")?,
        secret_id: row.get("secret_id")?,
        version: row.get("version")?,
        holder: row.get("holder")?,
        holder_name: row.get("holder_name")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
        ended_at: row.time_or_none("ended_at")?,
    })
}

/// Adds a lease.
pub async fn insert_lease(db: &Db, lease: &Lease) -> Result<()> {
    let insert = Query::insert()
        .into_table(SecretLeases::Table)
        .columns(LEASE)
        .values_panic([
            lease.id.as_str().into(),
            lease.secret_id.as_str().into(),
            lease.version.into(),
            lease.holder.as_str().into(),
            lease.holder_name.as_str().into(),
            lease.created_at.0.into(),
            lease.expires_at.0.into(),
            lease.ended_at.map(|time| time.0).into(),
        ])
        .to_owned();
    db.run(&insert).await.map(drop)
}

/// The leases of a secret that run, newest first.
pub async fn leases(db: &Db, secret: &str, now: Time) -> Result<Vec<Lease>> {
    let query = Query::select()
        .columns(LEASE)
        .from(SecretLeases::Table)
        .and_where(Expr::col(SecretLeases::SecretId).eq(secret))
        .and_where(Expr::col(SecretLeases::ExpiresAt).gt(now.0))
        .and_where(Expr::col(SecretLeases::EndedAt).is_null())
        .order_by(SecretLeases::Id, Order::Desc)
        .limit(200)
        .to_owned();
    db.all(&query).await?.iter().map(read_lease).collect()
}

/// Ends a lease of a secret early; false when none of that id runs.
pub async fn end_lease(db: &Db, secret: &str, id: &str, now: Time) -> Result<bool> {
    let update = Query::update()
        .table(SecretLeases::Table)
        .value(SecretLeases::EndedAt, now.0)
        .and_where(Expr::col(SecretLeases::Id).eq(id))
        .and_where(Expr::col(SecretLeases::SecretId).eq(secret))
        .and_where(Expr::col(SecretLeases::EndedAt).is_null())
        .and_where(Expr::col(SecretLeases::ExpiresAt).gt(now.0))
        .to_owned();
    Ok(db.run(&update).await? == 1)
}

/// Removes leases and grants that ended before.
pub async fn forget(db: &Db, before: Time) -> Result<()> {
    let leases = Query::delete()
        .from_table(SecretLeases::Table)
        .and_where(Expr::col(SecretLeases::ExpiresAt).lt(before.0))
        .to_owned();
    let grants = Query::delete()
        .from_table(SecretGrants::Table)
        .and_where(Expr::col(SecretGrants::ExpiresAt).lt(before.0))
        .to_owned();
    db.run(&leases).await?;
    db.run(&grants).await.map(drop)
}

/// Adds a grant.
pub async fn insert_grant(db: &Db, grant: &Grant) -> Result<()> {
    let insert = Query::insert()
        .into_table(SecretGrants::Table)
        .columns([
            SecretGrants::Id,
            SecretGrants::SecretId,
            SecretGrants::Subject,
            SecretGrants::GrantedBy,
            SecretGrants::CreatedAt,
            SecretGrants::ExpiresAt,
        ])
        .values_panic([
            grant.id.as_str().into(),
            grant.secret_id.as_str().into(),
            grant.subject.as_str().into(),
            grant.granted_by.as_str().into(),
            grant.created_at.0.into(),
            grant.expires_at.0.into(),
        ])
        .to_owned();
    db.run(&insert).await.map(drop)
}

/// Whether somebody may be shown a secret now.
pub async fn is_granted(db: &Db, secret: &str, subject: &str, now: Time) -> Result<bool> {
    let query = Query::select()
        .column(SecretGrants::Id)
        .from(SecretGrants::Table)
        .and_where(Expr::col(SecretGrants::SecretId).eq(secret))
        .and_where(Expr::col(SecretGrants::Subject).eq(subject))
        .and_where(Expr::col(SecretGrants::ExpiresAt).gt(now.0))
        .limit(1)
        .to_owned();
    Ok(db.first(&query).await?.is_some())
}

/// Ends every grant of a secret to somebody; answers how many there were.
pub async fn end_grants(db: &Db, secret: &str, subject: &str) -> Result<u64> {
    let delete = Query::delete()
        .from_table(SecretGrants::Table)
        .and_where(Expr::col(SecretGrants::SecretId).eq(secret))
        .and_where(Expr::col(SecretGrants::Subject).eq(subject))
        .to_owned();
    db.run(&delete).await
}
