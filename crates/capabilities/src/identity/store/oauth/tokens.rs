//! Rows of what is short-lived: tickets of the consent page, codes, access and refresh tokens, and what a login
//! elsewhere needs once.

use opsroom_core::db::{Db, Transaction};
use opsroom_core::{Error, Result, Time};
use sea_query::{Expr, ExprTrait, Query};

use super::OauthTokens;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The person who was shown a consent page answers it.
    Ticket,
    /// The client fetches its first tokens.
    Code,
    /// The client calls.
    Access,
    /// The client fetches its next tokens.
    Refresh,
    /// A login that came back from the provider of single sign-on, remembered so that it does not come twice.
    Login,
    /// Whoever holds it and the user's session links a login elsewhere.
    Link,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Ticket => "ticket",
            Kind::Code => "code",
            Kind::Access => "access",
            Kind::Refresh => "refresh",
            Kind::Login => "login",
            Kind::Link => "link",
        }
    }
}

/// A new token.
pub struct New<'a> {
    /// The SHA-256 of it.
    pub hash: &'a str,
    /// What it is for.
    pub kind: Kind,
    /// Of which grant, once there is one.
    pub grant: Option<&'a str>,
    /// What it stands for.
    pub details: Option<String>,
    /// Since when.
    pub now: Time,
    /// Until when.
    pub expires: Time,
}

/// A token that was just taken.
pub struct Taken {
    /// Of which grant.
    pub grant: Option<String>,
    /// What it stands for.
    pub details: Option<String>,
    /// Whether it was taken before: somebody has what they should not have.
    pub again: bool,
}

/// Adds a token.
pub async fn put(on: &mut Transaction, new: New<'_>) -> Result<()> {
    let insert = Query::insert()
        .into_table(OauthTokens::Table)
        .columns([
            OauthTokens::Hash,
            OauthTokens::Kind,
            OauthTokens::GrantId,
            OauthTokens::Details,
            OauthTokens::CreatedAt,
            OauthTokens::ExpiresAt,
        ])
        .values_panic([
            new.hash.into(),
            new.kind.as_str().into(),
            new.grant.into(),
            new.details.into(),
            new.now.0.into(),
            new.expires.0.into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

/// Takes a token of a kind, once; `None` for one that is not there or has ended. Whoever takes it commits, also
/// when it is of no use then.
pub async fn take(on: &mut Transaction, hash: &str, kind: Kind, now: Time) -> Result<Option<Taken>> {
    let query = Query::select()
        .columns([OauthTokens::GrantId, OauthTokens::Details, OauthTokens::UsedAt, OauthTokens::ExpiresAt])
        .from(OauthTokens::Table)
        .and_where(Expr::col(OauthTokens::Hash).eq(hash))
        .and_where(Expr::col(OauthTokens::Kind).eq(kind.as_str()))
        .lock_exclusive()
        .to_owned();
    let Some(row) = on.first(&query).await? else { return Ok(None) };
    let taken = Taken {
        grant: row.get("grant_id")?,
        details: row.get("details")?,
        again: row.time_or_none("used_at")?.is_some(),
    };
    if taken.again {
        return Ok(Some(taken));
    }
    if row.time("expires_at")? <= now {
        return Ok(None);
    }
    let update = Query::update()
        .table(OauthTokens::Table)
        .value(OauthTokens::UsedAt, now.0)
        .and_where(Expr::col(OauthTokens::Hash).eq(hash))
        .and_where(Expr::col(OauthTokens::UsedAt).is_null())
        .to_owned();
    match on.run(&update).await? {
        1 => Ok(Some(taken)),
        _ => Err(Error::conflict("the token is being used by another request")),
    }
}

/// Says of which grant a code that was taken has become.
pub async fn set_grant(on: &mut Transaction, hash: &str, grant: &str) -> Result<()> {
    let update = Query::update()
        .table(OauthTokens::Table)
        .value(OauthTokens::GrantId, grant)
        .and_where(Expr::col(OauthTokens::Hash).eq(hash))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// The grant and the end of an access token.
pub async fn access(db: &Db, hash: &str) -> Result<Option<(String, Time)>> {
    find(db, hash, Kind::Access).await
}

/// The grant of a token of either kind that a client holds.
pub async fn held(db: &Db, hash: &str) -> Result<Option<String>> {
    match find(db, hash, Kind::Refresh).await? {
        Some((grant, _)) => Ok(Some(grant)),
        None => Ok(find(db, hash, Kind::Access).await?.map(|(grant, _)| grant)),
    }
}

async fn find(db: &Db, hash: &str, kind: Kind) -> Result<Option<(String, Time)>> {
    let query = Query::select()
        .columns([OauthTokens::GrantId, OauthTokens::ExpiresAt])
        .from(OauthTokens::Table)
        .and_where(Expr::col(OauthTokens::Hash).eq(hash))
        .and_where(Expr::col(OauthTokens::Kind).eq(kind.as_str()))
        .to_owned();
    let Some(row) = db.first(&query).await? else { return Ok(None) };
    let (grant, expires) = (row.get::<Option<String>>("grant_id")?, row.time("expires_at")?);
    Ok(grant.map(|grant| (grant, expires)))
}

/// Removes what has ended.
pub async fn remove_old(db: &Db, now: Time) -> Result<()> {
    let delete = Query::delete()
        .from_table(OauthTokens::Table)
        .and_where(Expr::col(OauthTokens::ExpiresAt).lte(now.0))
        .to_owned();
    db.run(&delete).await.map(drop)
}
