//! Rows of logins elsewhere that are linked with users here.
//!
//! A link is found by the SHA-256 of the issuer and the subject: as texts, databases take letters of either case
//! for the same, and whoever is `alice` elsewhere is not who is `Alice` there.

use opsroom_core::db::{Db, Row, Step, Transaction};
use opsroom_core::id::sha256_hex;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Iden, Index, Order, Query, Table};

use super::{number, number_or_none, text};

#[derive(Clone, Copy, Iden)]
enum UserIdentities {
    Table,
    Hash,
    Id,
    UserId,
    Issuer,
    Subject,
    CreatedAt,
    LastLoginAt,
}

/// A login elsewhere that is linked.
#[derive(Clone, Debug)]
pub struct IdentityRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// Where it is.
    pub issuer: String,
    /// What they are called there.
    pub subject: String,
    /// Since when.
    pub created_at: Time,
    /// When it was last used.
    pub last_login_at: Option<Time>,
}

/// The table.
pub(super) fn tables(_: opsroom_core::db::Dialect) -> Vec<Step> {
    let table = Table::create()
        .table(UserIdentities::Table)
        .col(text(UserIdentities::Hash, 64).primary_key())
        .col(text(UserIdentities::Id, 36))
        .col(text(UserIdentities::UserId, 36))
        .col(text(UserIdentities::Issuer, 400))
        .col(text(UserIdentities::Subject, 255))
        .col(number(UserIdentities::CreatedAt))
        .col(number_or_none(UserIdentities::LastLoginAt))
        .to_owned();
    let of_user = Index::create()
        .name("user_identities_user")
        .table(UserIdentities::Table)
        .col(UserIdentities::UserId)
        .to_owned();
    vec![Step::Create(table), Step::Index(of_user)]
}

/// By what a login elsewhere is found.
pub fn key(issuer: &str, subject: &str) -> String {
    sha256_hex(&format!("{issuer}\0{subject}"))
}

/// Links a login; `Conflict` when it is linked already.
pub async fn insert(on: &mut Transaction, row: &IdentityRow) -> Result<()> {
    let insert = Query::insert()
        .into_table(UserIdentities::Table)
        .columns([
            UserIdentities::Hash,
            UserIdentities::Id,
            UserIdentities::UserId,
            UserIdentities::Issuer,
            UserIdentities::Subject,
            UserIdentities::CreatedAt,
            UserIdentities::LastLoginAt,
        ])
        .values_panic([
            key(&row.issuer, &row.subject).into(),
            row.id.as_str().into(),
            row.user_id.as_str().into(),
            row.issuer.as_str().into(),
            row.subject.as_str().into(),
            row.created_at.0.into(),
            row.last_login_at.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// The link of a login elsewhere.
pub async fn find(db: &Db, issuer: &str, subject: &str) -> Result<Option<IdentityRow>> {
    let query = select().and_where(Expr::col(UserIdentities::Hash).eq(key(issuer, subject))).to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// The links of a user, oldest first.
pub async fn of_user(db: &Db, user: &str) -> Result<Vec<IdentityRow>> {
    let query = select()
        .and_where(Expr::col(UserIdentities::UserId).eq(user))
        .order_by(UserIdentities::CreatedAt, Order::Asc)
        .limit(200)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// Whether a user logs in elsewhere.
pub async fn has_any(db: &Db, user: &str) -> Result<bool> {
    Ok(!of_user(db, user).await?.is_empty())
}

/// Notes that a link was used.
pub async fn set_used(db: &Db, id: &str, now: Time) -> Result<()> {
    let update = Query::update()
        .table(UserIdentities::Table)
        .value(UserIdentities::LastLoginAt, now.0)
        .and_where(Expr::col(UserIdentities::Id).eq(id))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// Takes a link of a user away; false when they have none of this id.
pub async fn remove(on: &mut Transaction, user: &str, id: &str) -> Result<bool> {
    let delete = Query::delete()
        .from_table(UserIdentities::Table)
        .and_where(Expr::col(UserIdentities::UserId).eq(user))
        .and_where(Expr::col(UserIdentities::Id).eq(id))
        .to_owned();
    Ok(on.run(&delete).await? > 0)
}

/// Takes every link of a user away.
pub async fn remove_of_user(on: &mut Transaction, user: &str) -> Result<()> {
    let delete = Query::delete()
        .from_table(UserIdentities::Table)
        .and_where(Expr::col(UserIdentities::UserId).eq(user))
        .to_owned();
    on.run(&delete).await.map(drop)
}

fn select() -> sea_query::SelectStatement {
    Query::select()
        .columns([
            UserIdentities::Id,
            UserIdentities::UserId,
            UserIdentities::Issuer,
            UserIdentities::Subject,
            UserIdentities::CreatedAt,
            UserIdentities::LastLoginAt,
        ])
        .from(UserIdentities::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<IdentityRow> {
    Ok(IdentityRow {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        issuer: row.get("issuer")?,
        subject: row.get("subject")?,
        created_at: row.time("created_at")?,
        last_login_at: row.time_or_none("last_login_at")?,
    })
}
