//! Rows of the setup token and of operator keys.

use opsroom_core::db::{Db, Transaction};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query};

use super::{OperatorKeys, SetupTokens};

/// The only row of the setup tokens: a new token replaces the old one.
const THE_TOKEN: i64 = 1;

/// How many operator keys are remembered: one for each data folder that uses this database, and those
/// of folders that are gone.
const MOST_OPERATOR_KEYS: u64 = 1000;

/// Replaces the setup token.
pub async fn put_setup(on: &mut Transaction, hash: &str, now: Time, expires: Time) -> Result<()> {
    void_setup(on).await?;
    let insert = Query::insert()
        .into_table(SetupTokens::Table)
        .columns([SetupTokens::Id, SetupTokens::Hash, SetupTokens::CreatedAt, SetupTokens::ExpiresAt])
        .values_panic([THE_TOKEN.into(), hash.into(), now.0.into(), expires.0.into()])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Takes the setup token away if it has this hash and has not expired: true for one caller only.
pub async fn take_setup(on: &mut Transaction, hash: &str, now: Time) -> Result<bool> {
    let delete = Query::delete()
        .from_table(SetupTokens::Table)
        .and_where(Expr::col(SetupTokens::Id).eq(THE_TOKEN))
        .and_where(Expr::col(SetupTokens::Hash).eq(hash))
        .and_where(Expr::col(SetupTokens::ExpiresAt).gt(now.0))
        .to_owned();
    Ok(on.run(&delete).await? == 1)
}

/// Whether the setup token has this hash and has not expired.
pub async fn is_setup(db: &Db, hash: &str, now: Time) -> Result<bool> {
    let query = Query::select()
        .column(SetupTokens::Id)
        .from(SetupTokens::Table)
        .and_where(Expr::col(SetupTokens::Id).eq(THE_TOKEN))
        .and_where(Expr::col(SetupTokens::Hash).eq(hash))
        .and_where(Expr::col(SetupTokens::ExpiresAt).gt(now.0))
        .to_owned();
    Ok(db.first(&query).await?.is_some())
}

/// Takes any setup token away.
pub async fn void_setup(on: &mut Transaction) -> Result<()> {
    let delete = Query::delete().from_table(SetupTokens::Table).to_owned();
    on.run(&delete).await.map(drop)
}

/// Notes that the operator key of this hash is in use; false when it is not one of ours.
pub async fn see_operator(db: &Db, hash: &str, now: Time) -> Result<bool> {
    let update = Query::update()
        .table(OperatorKeys::Table)
        .value(OperatorKeys::SeenAt, now.0)
        .and_where(Expr::col(OperatorKeys::Hash).eq(hash))
        .to_owned();
    Ok(db.run(&update).await? == 1)
}

/// Adds an operator key, and forgets those that were longest not seen when there are too many.
pub async fn insert_operator(db: &Db, hash: &str, now: Time) -> Result<()> {
    let mut on = db.begin().await?;
    let insert = Query::insert()
        .into_table(OperatorKeys::Table)
        .columns([OperatorKeys::Hash, OperatorKeys::CreatedAt, OperatorKeys::SeenAt])
        .values_panic([hash.into(), now.0.into(), now.0.into()])
        .to_owned();
    on.run(&insert).await?;
    let oldest_kept = Query::select()
        .column(OperatorKeys::SeenAt)
        .from(OperatorKeys::Table)
        .order_by(OperatorKeys::SeenAt, Order::Desc)
        .offset(MOST_OPERATOR_KEYS)
        .limit(1)
        .to_owned();
    if let Some(row) = on.first(&oldest_kept).await? {
        let delete = Query::delete()
            .from_table(OperatorKeys::Table)
            .and_where(Expr::col(OperatorKeys::SeenAt).lte(row.time("seen_at")?.0))
            .to_owned();
        on.run(&delete).await?;
    }
    on.commit().await
}
