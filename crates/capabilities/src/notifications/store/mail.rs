//! Rows of mail that waits; its contents are sealed.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Step};
use opsroom_core::error::Result;
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Order, Query, SelectStatement, Table};

#[derive(Clone, Copy, Iden)]
enum NotificationsMail {
    Table,
    Id,
    Sealed,
    Attempts,
    DueAt,
    LeaseUntil,
}

/// A mail that waits.
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// Its sealed contents.
    pub sealed: String,
    /// How often it was tried.
    pub attempts: i64,
}

pub(in crate::notifications) fn tables(dialect: Dialect) -> Vec<Step> {
    let table = Table::create()
        .table(NotificationsMail::Table)
        .col(ColumnDef::new(NotificationsMail::Id).string_len(36).not_null().primary_key())
        .col(dialect.long_text(NotificationsMail::Sealed).not_null())
        .col(ColumnDef::new(NotificationsMail::Attempts).big_integer().not_null())
        .col(ColumnDef::new(NotificationsMail::DueAt).big_integer().not_null())
        .col(ColumnDef::new(NotificationsMail::LeaseUntil).big_integer().not_null())
        .to_owned();
    vec![Step::Create(table)]
}

/// Adds a mail.
pub async fn insert(db: &Db, id: &str, sealed: &str, now: Time) -> Result<()> {
    let insert = Query::insert()
        .into_table(NotificationsMail::Table)
        .columns([
            NotificationsMail::Id,
            NotificationsMail::Sealed,
            NotificationsMail::Attempts,
            NotificationsMail::DueAt,
            NotificationsMail::LeaseUntil,
        ])
        .values_panic([id.into(), sealed.into(), 0i64.into(), now.0.into(), 0i64.into()])
        .to_owned();
    db.run(&insert).await.map(drop)
}

/// What is to be tried now.
pub async fn due(db: &Db, now: Time) -> Result<Vec<Waiting>> {
    let query = select()
        .and_where(Expr::col(NotificationsMail::DueAt).lte(now.0))
        .and_where(Expr::col(NotificationsMail::LeaseUntil).lte(now.0))
        .order_by(NotificationsMail::Id, Order::Asc)
        .limit(50)
        .to_owned();
    read(db, &query).await
}

/// Everything that waits.
pub async fn all(db: &Db) -> Result<Vec<Waiting>> {
    read(db, &select()).await
}

fn select() -> SelectStatement {
    Query::select()
        .columns([NotificationsMail::Id, NotificationsMail::Sealed, NotificationsMail::Attempts])
        .from(NotificationsMail::Table)
        .to_owned()
}

async fn read(db: &Db, query: &SelectStatement) -> Result<Vec<Waiting>> {
    let rows = db.all(query).await?;
    let read = |row: &opsroom_core::db::Row| {
        Ok(Waiting { id: row.get("id")?, sealed: row.get("sealed")?, attempts: row.get("attempts")? })
    };
    rows.iter().map(read).collect()
}

/// Replaces how a mail is sealed.
pub async fn seal(db: &Db, id: &str, sealed: &str) -> Result<()> {
    let update = Query::update()
        .table(NotificationsMail::Table)
        .value(NotificationsMail::Sealed, sealed)
        .and_where(Expr::col(NotificationsMail::Id).eq(id))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// Claims a mail until `until`: true for one server only.
pub async fn claim(db: &Db, id: &str, now: Time, until: Time) -> Result<bool> {
    let update = Query::update()
        .table(NotificationsMail::Table)
        .value(NotificationsMail::LeaseUntil, until.0)
        .and_where(Expr::col(NotificationsMail::Id).eq(id))
        .and_where(Expr::col(NotificationsMail::LeaseUntil).lte(now.0))
        .to_owned();
    Ok(db.run(&update).await? == 1)
}

/// Tries again later.
pub async fn later(db: &Db, id: &str, attempts: i64, due: Time) -> Result<()> {
    let update = Query::update()
        .table(NotificationsMail::Table)
        .value(NotificationsMail::Attempts, attempts)
        .value(NotificationsMail::DueAt, due.0)
        .value(NotificationsMail::LeaseUntil, 0i64)
        .and_where(Expr::col(NotificationsMail::Id).eq(id))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// It was sent, or given up.
pub async fn remove(db: &Db, id: &str) -> Result<()> {
    let delete = Query::delete()
        .from_table(NotificationsMail::Table)
        .and_where(Expr::col(NotificationsMail::Id).eq(id))
        .to_owned();
    db.run(&delete).await.map(drop)
}
