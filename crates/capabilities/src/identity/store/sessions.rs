//! Rows of sessions.

use opsroom_core::db::{Db, Row as DbRow, Step, Transaction};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Iden, Index, Order, Query, SelectStatement, Table};

use super::{IdentityState, number, text, text_or_none};

/// The counter that grows when a session is ended.
pub const GENERATION: &str = "sessions";

#[derive(Clone, Copy, Iden)]
pub(super) enum UserSessions {
    Table,
    Id,
    Hash,
    UserId,
    Device,
    Address,
    CreatedAt,
    SeenAt,
    ExpiresAt,
}

/// A session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// The SHA-256 of its token.
    pub hash: String,
    /// Whose it is.
    pub user_id: String,
    /// What the user calls where they logged in.
    pub device: String,
    /// From which address.
    pub address: Option<String>,
    /// Since when.
    pub created_at: Time,
    /// When it was last used.
    pub seen_at: Time,
    /// When it ends in any case.
    pub expires_at: Time,
}

const COLUMNS: [UserSessions; 8] = [
    UserSessions::Id,
    UserSessions::Hash,
    UserSessions::UserId,
    UserSessions::Device,
    UserSessions::Address,
    UserSessions::CreatedAt,
    UserSessions::SeenAt,
    UserSessions::ExpiresAt,
];

pub(super) fn tables() -> Vec<Step> {
    let sessions = Table::create()
        .table(UserSessions::Table)
        .col(text(UserSessions::Id, 36).primary_key())
        .col(text(UserSessions::Hash, 64))
        .col(text(UserSessions::UserId, 36))
        .col(text(UserSessions::Device, 200))
        .col(text_or_none(UserSessions::Address, 64))
        .col(number(UserSessions::CreatedAt))
        .col(number(UserSessions::SeenAt))
        .col(number(UserSessions::ExpiresAt))
        .to_owned();
    let unique = Index::create()
        .unique()
        .name("user_sessions_hash")
        .table(UserSessions::Table)
        .col(UserSessions::Hash)
        .to_owned();
    let by_user = Index::create()
        .name("user_sessions_user")
        .table(UserSessions::Table)
        .col(UserSessions::UserId)
        .to_owned();
    let generation = Query::insert()
        .into_table(IdentityState::Table)
        .columns([IdentityState::Name, IdentityState::Value])
        .values_panic([GENERATION.into(), 0i64.into()])
        .to_owned();
    vec![Step::Create(sessions), Step::Index(unique), Step::Index(by_user), Step::Insert(generation)]
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(UserSessions::Table).to_owned()
}

fn read(row: &DbRow) -> Result<SessionRow> {
    Ok(SessionRow {
        id: row.get("id")?,
        hash: row.get("hash")?,
        user_id: row.get("user_id")?,
        device: row.get("device")?,
        address: row.get("address")?,
        created_at: row.time("created_at")?,
        seen_at: row.time("seen_at")?,
        expires_at: row.time("expires_at")?,
    })
}

/// The session of a token's hash.
pub async fn by_hash(db: &Db, hash: &str) -> Result<Option<SessionRow>> {
    let query = select().and_where(Expr::col(UserSessions::Hash).eq(hash)).to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Whether a session goes on.
pub async fn exists(on: &mut Transaction, id: &str, now: Time) -> Result<bool> {
    let query = select()
        .and_where(Expr::col(UserSessions::Id).eq(id))
        .and_where(Expr::col(UserSessions::ExpiresAt).gt(now.0))
        .to_owned();
    Ok(on.first(&query).await?.is_some())
}

/// The sessions of a user, newest first.
pub async fn of_user(db: &Db, user: &str, now: Time) -> Result<Vec<SessionRow>> {
    let query = select()
        .and_where(Expr::col(UserSessions::UserId).eq(user))
        .and_where(Expr::col(UserSessions::ExpiresAt).gt(now.0))
        .order_by(UserSessions::Id, Order::Desc)
        .limit(200)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// Adds a session.
pub async fn insert(on: &mut Transaction, session: &SessionRow) -> Result<()> {
    let insert = Query::insert()
        .into_table(UserSessions::Table)
        .columns(COLUMNS)
        .values_panic([
            session.id.as_str().into(),
            session.hash.as_str().into(),
            session.user_id.as_str().into(),
            session.device.as_str().into(),
            session.address.as_deref().into(),
            session.created_at.0.into(),
            session.seen_at.0.into(),
            session.expires_at.0.into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Ends sessions of a user: one, or all but one; answers how many.
pub async fn end(on: &mut Transaction, user: &str, one: Option<&str>, but: Option<&str>) -> Result<u64> {
    let mut delete = Query::delete();
    delete.from_table(UserSessions::Table).and_where(Expr::col(UserSessions::UserId).eq(user));
    if let Some(one) = one {
        delete.and_where(Expr::col(UserSessions::Id).eq(one));
    }
    if let Some(but) = but {
        delete.and_where(Expr::col(UserSessions::Id).ne(but));
    }
    let ended = on.run(&delete).await?;
    super::changed(on, GENERATION).await?;
    Ok(ended)
}

/// Notes when sessions were last used.
pub async fn set_seen(db: &Db, seen: &[(String, Time)]) -> Result<()> {
    let mut on = db.begin().await?;
    for (id, time) in seen {
        let update = Query::update()
            .table(UserSessions::Table)
            .value(UserSessions::SeenAt, time.0)
            .and_where(Expr::col(UserSessions::Id).eq(id.as_str()))
            .and_where(Expr::col(UserSessions::SeenAt).lt(time.0))
            .to_owned();
        on.run(&update).await?;
    }
    on.commit().await
}

/// Removes sessions that are over: past their end, or not used since `idle`.
pub async fn remove_old(db: &Db, now: Time, idle: Time) -> Result<u64> {
    let delete = Query::delete()
        .from_table(UserSessions::Table)
        .and_where(
            Expr::col(UserSessions::ExpiresAt).lte(now.0).or(Expr::col(UserSessions::SeenAt).lte(idle.0)),
        )
        .to_owned();
    db.run(&delete).await
}
