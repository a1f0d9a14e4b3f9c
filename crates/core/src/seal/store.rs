//! Rows of key-encryption keys, sealed by the master key.

use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Order, Query, Table};

use crate::clock::Time;
use crate::db::{Db, Dialect, Migration, Step};
use crate::error::Result;

/// The table, oldest change first.
pub const MIGRATIONS: [Migration; 1] = [Migration { version: 1, name: "key-encryption keys", steps: tables }];

/// The table's name.
pub const TABLE: &str = "sealing_keys";

#[derive(Clone, Copy, Iden)]
enum SealingKeys {
    Table,
    Generation,
    Id,
    Wrapped,
    CreatedAt,
}

/// A key-encryption key as the database has it.
pub struct Row {
    /// From 1; the largest seals what is new.
    pub generation: i64,
    /// Its name.
    pub id: String,
    /// The key, sealed by the master key.
    pub wrapped: String,
}

fn tables(dialect: Dialect) -> Vec<Step> {
    let table = Table::create()
        .table(SealingKeys::Table)
        .col(ColumnDef::new(SealingKeys::Generation).big_integer().not_null().primary_key())
        .col(ColumnDef::new(SealingKeys::Id).string_len(64).not_null())
        .col(dialect.long_text(SealingKeys::Wrapped).not_null())
        .col(ColumnDef::new(SealingKeys::CreatedAt).big_integer().not_null())
        .to_owned();
    vec![Step::Create(table)]
}

/// Every key, oldest first.
pub async fn all(db: &Db) -> Result<Vec<Row>> {
    let query = Query::select()
        .columns([SealingKeys::Generation, SealingKeys::Id, SealingKeys::Wrapped])
        .from(SealingKeys::Table)
        .order_by(SealingKeys::Generation, Order::Asc)
        .to_owned();
    let rows = db.all(&query).await?;
    let read = |row: &crate::db::Row| {
        Ok(Row { generation: row.get("generation")?, id: row.get("id")?, wrapped: row.get("wrapped")? })
    };
    rows.iter().map(read).collect()
}

/// Adds a key; `Conflict` when another server added this generation.
pub async fn insert(db: &Db, row: &Row, now: Time) -> Result<()> {
    let insert = Query::insert()
        .into_table(SealingKeys::Table)
        .columns([SealingKeys::Generation, SealingKeys::Id, SealingKeys::Wrapped, SealingKeys::CreatedAt])
        .values_panic([
            row.generation.into(),
            row.id.as_str().into(),
            row.wrapped.as_str().into(),
            now.0.into(),
        ])
        .to_owned();
    db.run(&insert).await.map(drop)
}

/// Replaces how a key is sealed.
pub async fn rewrap(db: &Db, generation: i64, wrapped: &str) -> Result<()> {
    let update = Query::update()
        .table(SealingKeys::Table)
        .value(SealingKeys::Wrapped, wrapped)
        .and_where(Expr::col(SealingKeys::Generation).eq(generation))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// Removes the keys before the newest one that was made until `time`: nothing is sealed by them any more.
pub async fn remove_succeeded(db: &Db, time: Time) -> Result<()> {
    let newest = Query::select()
        .column(SealingKeys::Generation)
        .from(SealingKeys::Table)
        .and_where(Expr::col(SealingKeys::CreatedAt).lte(time.0))
        .order_by(SealingKeys::Generation, Order::Desc)
        .limit(1)
        .to_owned();
    let Some(newest) = db.first(&newest).await? else { return Ok(()) };
    let generation: i64 = newest.get("generation")?;
    let delete = Query::delete()
        .from_table(SealingKeys::Table)
        .and_where(Expr::col(SealingKeys::Generation).lt(generation))
        .to_owned();
    db.run(&delete).await.map(drop)
}
