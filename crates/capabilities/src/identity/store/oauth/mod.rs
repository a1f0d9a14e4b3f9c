//! Rows of OAuth: clients that registered or were registered, grants, and what is short-lived.
//!
//! A grant is a user's own: lists are narrowed to one user, or given to an administrator. Tokens, codes and
//! tickets are here only as SHA-256 hashes.

pub mod clients;
pub mod grants;
pub mod tokens;

use opsroom_core::db::{Dialect, Step};
use sea_query::{Iden, Index, Query, Table};

use super::{IdentityState, number, number_or_none, text, text_or_none};

/// The counter that grows when a grant is made or ends.
pub const GENERATION: &str = "grants";

#[derive(Clone, Copy, Iden)]
pub(super) enum OauthClients {
    Table,
    Id,
    SecretHash,
    Name,
    RedirectUris,
    Auth,
    Refreshes,
    CreatedBy,
    CreatedAt,
    UsedAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum OauthGrants {
    Table,
    Id,
    UserId,
    ClientId,
    ClientName,
    Scopes,
    Resource,
    Refreshes,
    CreatedAt,
    RenewedAt,
    ExpiresAt,
    RevokedAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum OauthTokens {
    Table,
    Hash,
    Kind,
    GrantId,
    Details,
    CreatedAt,
    ExpiresAt,
    UsedAt,
}

/// The tables.
pub(in crate::identity::store) fn tables(dialect: Dialect) -> Vec<Step> {
    let clients = Table::create()
        .table(OauthClients::Table)
        .col(text(OauthClients::Id, 64).primary_key())
        .col(text_or_none(OauthClients::SecretHash, 64))
        .col(text(OauthClients::Name, 100))
        .col(dialect.long_text(OauthClients::RedirectUris).not_null())
        .col(text(OauthClients::Auth, 32))
        .col(sea_query::ColumnDef::new(OauthClients::Refreshes).boolean().not_null())
        .col(text(OauthClients::CreatedBy, 190))
        .col(number(OauthClients::CreatedAt))
        .col(number_or_none(OauthClients::UsedAt))
        .to_owned();
    let grants = Table::create()
        .table(OauthGrants::Table)
        .col(text(OauthGrants::Id, 36).primary_key())
        .col(text(OauthGrants::UserId, 36))
        .col(text(OauthGrants::ClientId, 400))
        .col(text(OauthGrants::ClientName, 100))
        .col(dialect.long_text(OauthGrants::Scopes).not_null())
        .col(text(OauthGrants::Resource, 200))
        .col(sea_query::ColumnDef::new(OauthGrants::Refreshes).boolean().not_null())
        .col(number(OauthGrants::CreatedAt))
        .col(number(OauthGrants::RenewedAt))
        .col(number(OauthGrants::ExpiresAt))
        .col(number_or_none(OauthGrants::RevokedAt))
        .to_owned();
    let of_user = Index::create()
        .name("oauth_grants_user")
        .table(OauthGrants::Table)
        .col(OauthGrants::UserId)
        .col(OauthGrants::Id)
        .to_owned();
    let tokens = Table::create()
        .table(OauthTokens::Table)
        .col(text(OauthTokens::Hash, 64).primary_key())
        .col(text(OauthTokens::Kind, 16))
        .col(text_or_none(OauthTokens::GrantId, 36))
        .col(dialect.long_text(OauthTokens::Details).null())
        .col(number(OauthTokens::CreatedAt))
        .col(number(OauthTokens::ExpiresAt))
        .col(number_or_none(OauthTokens::UsedAt))
        .to_owned();
    let by_end = Index::create()
        .name("oauth_tokens_end")
        .table(OauthTokens::Table)
        .col(OauthTokens::ExpiresAt)
        .to_owned();
    let no_change_yet = Query::insert()
        .into_table(IdentityState::Table)
        .columns([IdentityState::Name, IdentityState::Value])
        .values_panic([GENERATION.into(), 0i64.into()])
        .to_owned();
    vec![
        Step::Create(clients),
        Step::Create(grants),
        Step::Index(of_user),
        Step::Create(tokens),
        Step::Index(by_end),
        Step::Insert(no_change_yet),
    ]
}
