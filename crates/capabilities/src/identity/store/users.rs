//! Rows of users and of the tokens that are mailed to them.

use opsroom_core::db::{Db, Dialect, Row as DbRow, Step, Transaction};
use opsroom_core::{Error, Result, Role, Time};
use sea_query::{ColumnDef, Expr, ExprTrait, Func, Iden, Index, Order, Query, SelectStatement, Table};

use super::{IdentityState, number, number_or_none, text, text_or_none};
use crate::identity::accounts::model::UserRow;

/// The counter that grows with every change of a user.
pub const GENERATION: &str = "users";

#[derive(Clone, Copy, Iden)]
pub(super) enum Users {
    Table,
    Id,
    Username,
    Email,
    VerifiedAt,
    FullName,
    Organization,
    Role,
    Teams,
    Active,
    Password,
    Seed,
    TwoFactor,
    LastStep,
    Recovery,
    Failures,
    LockedUntil,
    LastLoginAt,
    LastAddress,
    CreatedAt,
    DeletedAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum UserTokens {
    Table,
    Hash,
    Kind,
    UserId,
    Email,
    CreatedAt,
    ExpiresAt,
}

const COLUMNS: [Users; 20] = [
    Users::Id,
    Users::Username,
    Users::Email,
    Users::VerifiedAt,
    Users::FullName,
    Users::Organization,
    Users::Role,
    Users::Teams,
    Users::Active,
    Users::Password,
    Users::Seed,
    Users::TwoFactor,
    Users::LastStep,
    Users::Recovery,
    Users::Failures,
    Users::LockedUntil,
    Users::LastLoginAt,
    Users::LastAddress,
    Users::CreatedAt,
    Users::DeletedAt,
];

/// The tables of users and their tokens.
pub(super) fn tables(dialect: Dialect) -> Vec<Step> {
    let users = Table::create()
        .table(Users::Table)
        .col(text(Users::Id, 36).primary_key())
        .col(text(Users::Username, 64))
        .col(text(Users::Email, 254))
        .col(number_or_none(Users::VerifiedAt))
        .col(text(Users::FullName, 128))
        .col(text(Users::Organization, 128))
        .col(text(Users::Role, 16))
        .col(dialect.long_text(Users::Teams).not_null())
        .col(ColumnDef::new(Users::Active).boolean().not_null())
        .col(text_or_none(Users::Password, 255))
        .col(dialect.long_text(Users::Seed).null())
        .col(ColumnDef::new(Users::TwoFactor).boolean().not_null())
        .col(number(Users::LastStep))
        .col(dialect.long_text(Users::Recovery).not_null())
        .col(number(Users::Failures))
        .col(number_or_none(Users::LockedUntil))
        .col(number_or_none(Users::LastLoginAt))
        .col(text_or_none(Users::LastAddress, 64))
        .col(number(Users::CreatedAt))
        .col(number_or_none(Users::DeletedAt))
        .to_owned();
    let unique = |name: &str, column| {
        Step::Index(Index::create().unique().name(name).table(Users::Table).col(column).to_owned())
    };
    let tokens = Table::create()
        .table(UserTokens::Table)
        .col(text(UserTokens::Hash, 64).primary_key())
        .col(text(UserTokens::Kind, 16))
        .col(text(UserTokens::UserId, 36))
        .col(text_or_none(UserTokens::Email, 254))
        .col(number(UserTokens::CreatedAt))
        .col(number(UserTokens::ExpiresAt))
        .to_owned();
    let generation = |name: &str| {
        Step::Insert(
            Query::insert()
                .into_table(IdentityState::Table)
                .columns([IdentityState::Name, IdentityState::Value])
                .values_panic([name.into(), 0i64.into()])
                .to_owned(),
        )
    };
    vec![
        Step::Create(users),
        unique("users_username", Users::Username),
        unique("users_email", Users::Email),
        Step::Create(tokens),
        generation(GENERATION),
    ]
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(Users::Table).to_owned()
}

fn read(row: &DbRow) -> Result<UserRow> {
    let role: String = row.get("role")?;
    Ok(UserRow {
        id: row.get("id")?,
        username: row.get("username")?,
        email: row.get("email")?,
        verified_at: row.time_or_none("verified_at")?,
        full_name: row.get("full_name")?,
        organization: row.get("organization")?,
        role: Role::parse(&role).ok_or_else(|| Error::internal(format!("users.role is {role:?}")))?,
        teams: row.json("teams")?,
        active: row.get("active")?,
        password: row.get("password")?,
        seed: row.get("seed")?,
        two_factor: row.get("two_factor")?,
        last_step: row.get("last_step")?,
        recovery: row.json("recovery")?,
        failures: row.get("failures")?,
        locked_until: row.time_or_none("locked_until")?,
        last_login_at: row.time_or_none("last_login_at")?,
        last_address: row.get("last_address")?,
        created_at: row.time("created_at")?,
        deleted_at: row.time_or_none("deleted_at")?,
    })
}

/// The user of a name or an address, who is not deleted.
pub async fn by_login(db: &Db, login: &str) -> Result<Option<UserRow>> {
    let query = select()
        .and_where(Expr::col(Users::Username).eq(login).or(Expr::col(Users::Email).eq(login)))
        .and_where(Expr::col(Users::DeletedAt).is_null())
        .to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// The user of an id, who is not deleted.
pub async fn get(db: &Db, id: &str) -> Result<Option<UserRow>> {
    let query = select()
        .and_where(Expr::col(Users::Id).eq(id))
        .and_where(Expr::col(Users::DeletedAt).is_null())
        .to_owned();
    db.first(&query).await?.map(|row| read(&row)).transpose()
}

/// The same in a transaction, locked until its end.
pub async fn get_locked(on: &mut Transaction, id: &str) -> Result<Option<UserRow>> {
    let query = select()
        .and_where(Expr::col(Users::Id).eq(id))
        .and_where(Expr::col(Users::DeletedAt).is_null())
        .lock_exclusive()
        .to_owned();
    on.first(&query).await?.map(|row| read(&row)).transpose()
}

/// Users, newest first, older than `before`.
pub async fn list(db: &Db, before: Option<&str>, limit: u64) -> Result<Vec<UserRow>> {
    let mut query = select();
    query.and_where(Expr::col(Users::DeletedAt).is_null());
    if let Some(before) = before {
        query.and_where(Expr::col(Users::Id).lt(before));
    }
    query.order_by(Users::Id, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// Everybody who may call: what authentication needs.
pub async fn active(db: &Db, most: u64) -> Result<Vec<UserRow>> {
    let query = select()
        .and_where(Expr::col(Users::DeletedAt).is_null())
        .and_where(Expr::col(Users::Active).eq(true))
        .order_by(Users::Id, Order::Asc)
        .limit(most)
        .to_owned();
    db.all(&query).await?.iter().map(read).collect()
}

/// Whether some administrator can log in.
pub async fn has_administrator(on: &mut Transaction) -> Result<bool> {
    let query = administrator();
    Ok(on.first(&query).await?.is_some())
}

/// The same outside of a transaction.
pub async fn has_administrator_now(db: &Db) -> Result<bool> {
    Ok(db.first(&administrator()).await?.is_some())
}

fn administrator() -> SelectStatement {
    Query::select()
        .column(Users::Id)
        .from(Users::Table)
        .and_where(Expr::col(Users::Role).eq(Role::Administrator.as_str()))
        .and_where(Expr::col(Users::Active).eq(true))
        .and_where(Expr::col(Users::Password).is_not_null())
        .and_where(Expr::col(Users::DeletedAt).is_null())
        .limit(1)
        .to_owned()
}

/// How many users there are.
pub async fn count(on: &mut Transaction) -> Result<i64> {
    let query =
        Query::select().expr_as(Func::count(Expr::col(Users::Id)), "total").from(Users::Table).to_owned();
    on.first(&query).await?.map_or(Ok(0), |row| row.get("total"))
}

/// Adds a user; `Conflict` when the name or the address is taken.
pub async fn insert(on: &mut Transaction, user: &UserRow) -> Result<()> {
    let json = |texts: &Vec<String>| serde_json::to_string(texts).map_err(Error::internal);
    let insert = Query::insert()
        .into_table(Users::Table)
        .columns(COLUMNS)
        .values_panic([
            user.id.as_str().into(),
            user.username.as_str().into(),
            user.email.as_str().into(),
            user.verified_at.map(|time| time.0).into(),
            user.full_name.as_str().into(),
            user.organization.as_str().into(),
            user.role.as_str().into(),
            json(&user.teams)?.into(),
            user.active.into(),
            user.password.as_deref().into(),
            user.seed.as_deref().into(),
            user.two_factor.into(),
            user.last_step.into(),
            json(&user.recovery)?.into(),
            user.failures.into(),
            user.locked_until.map(|time| time.0).into(),
            user.last_login_at.map(|time| time.0).into(),
            user.last_address.as_deref().into(),
            user.created_at.0.into(),
            user.deleted_at.map(|time| time.0).into(),
        ])
        .to_owned();
    on.run(&insert).await?;
    super::changed(on, GENERATION).await
}

/// Writes what may change about a user; `visible` says that authentication must hear of it.
pub async fn update(on: &mut Transaction, user: &UserRow, visible: bool) -> Result<()> {
    let json = |texts: &Vec<String>| serde_json::to_string(texts).map_err(Error::internal);
    let update = Query::update()
        .table(Users::Table)
        .value(Users::Username, user.username.as_str())
        .value(Users::Email, user.email.as_str())
        .value(Users::VerifiedAt, user.verified_at.map(|time| time.0))
        .value(Users::FullName, user.full_name.as_str())
        .value(Users::Organization, user.organization.as_str())
        .value(Users::Role, user.role.as_str())
        .value(Users::Teams, json(&user.teams)?)
        .value(Users::Active, user.active)
        .value(Users::Password, user.password.as_deref())
        .value(Users::Seed, user.seed.as_deref())
        .value(Users::TwoFactor, user.two_factor)
        .value(Users::LastStep, user.last_step)
        .value(Users::Recovery, json(&user.recovery)?)
        .value(Users::Failures, user.failures)
        .value(Users::LockedUntil, user.locked_until.map(|time| time.0))
        .value(Users::LastLoginAt, user.last_login_at.map(|time| time.0))
        .value(Users::LastAddress, user.last_address.as_deref())
        .value(Users::DeletedAt, user.deleted_at.map(|time| time.0))
        .and_where(Expr::col(Users::Id).eq(user.id.as_str()))
        .to_owned();
    on.run(&update).await?;
    if visible { super::changed(on, GENERATION).await } else { Ok(()) }
}

/// A token that was mailed.
pub struct TokenRow {
    /// `reset`, `verify` or `invite`.
    pub kind: String,
    /// Whose it is.
    pub user_id: String,
    /// The address that it verifies.
    pub email: Option<String>,
}

/// Adds a token of a kind; those of the kind that the user had before stop to work.
pub async fn put_token(
    on: &mut Transaction,
    hash: &str,
    token: &TokenRow,
    now: Time,
    ends: Time,
) -> Result<()> {
    void_tokens(on, &token.user_id, Some(&token.kind)).await?;
    let insert = Query::insert()
        .into_table(UserTokens::Table)
        .columns([
            UserTokens::Hash,
            UserTokens::Kind,
            UserTokens::UserId,
            UserTokens::Email,
            UserTokens::CreatedAt,
            UserTokens::ExpiresAt,
        ])
        .values_panic([
            hash.into(),
            token.kind.as_str().into(),
            token.user_id.as_str().into(),
            token.email.as_deref().into(),
            now.0.into(),
            ends.0.into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Takes a token of one of these kinds away, for one caller only; `None` when it is wrong, used or late.
pub async fn take_token(
    on: &mut Transaction,
    hash: &str,
    kinds: &[&str],
    now: Time,
) -> Result<Option<TokenRow>> {
    let of_hash = Expr::col(UserTokens::Hash).eq(hash);
    let query = Query::select()
        .columns([UserTokens::Kind, UserTokens::UserId, UserTokens::Email])
        .from(UserTokens::Table)
        .and_where(of_hash.clone())
        .and_where(Expr::col(UserTokens::ExpiresAt).gt(now.0))
        .and_where(Expr::col(UserTokens::Kind).is_in(kinds.iter().copied()))
        .to_owned();
    let Some(row) = on.first(&query).await? else { return Ok(None) };
    let token = TokenRow { kind: row.get("kind")?, user_id: row.get("user_id")?, email: row.get("email")? };
    let delete = Query::delete().from_table(UserTokens::Table).and_where(of_hash).to_owned();
    Ok((on.run(&delete).await? == 1).then_some(token))
}

/// Takes away the tokens of a user, of one kind or of all.
pub async fn void_tokens(on: &mut Transaction, user: &str, kind: Option<&str>) -> Result<()> {
    let mut delete = Query::delete();
    delete.from_table(UserTokens::Table).and_where(Expr::col(UserTokens::UserId).eq(user));
    if let Some(kind) = kind {
        delete.and_where(Expr::col(UserTokens::Kind).eq(kind));
    }
    on.run(&delete).await.map(drop)
}
