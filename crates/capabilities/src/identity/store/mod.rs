//! The tables of this folder: keys, setup and operator tokens, the audit trail, the call record.
//!
//! Secrets are here only as SHA-256 hashes. Every list takes the caller's teams.

pub mod audit;
pub mod calls;
pub mod clouds;
pub mod identities;
pub mod keys;
pub mod oauth;
pub mod sessions;
pub mod tokens;
pub mod users;

use opsroom_core::Result;
use opsroom_core::db::{Db, Dialect, Migration, Step, Transaction};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, IntoIden, Query, Table, TableCreateStatement};

/// This folder's tables, oldest change first.
pub const MIGRATIONS: [Migration; 7] = [
    Migration { version: 1, name: "keys, audit and calls", steps: first },
    Migration { version: 2, name: "users and sessions", steps: accounts },
    Migration { version: 3, name: "what was begun, and what went", steps: audit::later_tables },
    Migration { version: 4, name: "how far the audit trail was sent", steps: audit::sink_table },
    Migration { version: 5, name: "oauth", steps: oauth::tables },
    Migration { version: 6, name: "logins elsewhere", steps: identities::tables },
    Migration { version: 7, name: "cloud accounts", steps: clouds::tables },
];

#[derive(Clone, Copy, Iden)]
pub(super) enum ApiKeys {
    Table,
    Id,
    Hash,
    StartsWith,
    Name,
    Role,
    Scopes,
    TeamId,
    CreatedBy,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
    RevokedAt,
}

/// Counters that tell replicas that something changed.
#[derive(Clone, Copy, Iden)]
pub(super) enum IdentityState {
    Table,
    Name,
    Value,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum SetupTokens {
    Table,
    Id,
    Hash,
    CreatedAt,
    ExpiresAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum OperatorKeys {
    Table,
    Hash,
    CreatedAt,
    SeenAt,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum AuditRecords {
    Table,
    Seq,
    Time,
    TeamId,
    Subject,
    Name,
    Face,
    Address,
    Operation,
    Effect,
    Input,
    Outcome,
    Message,
    JobId,
    RequestId,
    PrevHash,
    Hash,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum AuditHead {
    Table,
    Id,
    Seq,
    Hash,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum AuditBegun {
    Table,
    Id,
    BegunAt,
    Entry,
}

/// How far the audit trail was sent, and until when a server has the sink to itself.
#[derive(Clone, Copy, Iden)]
pub(super) enum AuditSinks {
    Table,
    Name,
    Seq,
    TakenUntil,
}

/// The last record that went because of its age.
#[derive(Clone, Copy, Iden)]
pub(super) enum AuditBase {
    Table,
    Id,
    Seq,
    Hash,
}

#[derive(Clone, Copy, Iden)]
pub(super) enum CallRecords {
    Table,
    Id,
    Time,
    TeamId,
    Subject,
    Name,
    Face,
    Address,
    Operation,
    Outcome,
    TookUs,
    RequestId,
}

fn first(dialect: Dialect) -> Vec<Step> {
    let mut steps = key_tables(dialect);
    steps.extend(audit_tables(dialect));
    steps.push(Step::Create(call_table()));
    steps.push(Step::Index(
        Index::create()
            .name("call_records_team")
            .table(CallRecords::Table)
            .col(CallRecords::TeamId)
            .col(CallRecords::Id)
            .to_owned(),
    ));
    steps
}

fn accounts(dialect: Dialect) -> Vec<Step> {
    let mut steps = users::tables(dialect);
    steps.extend(sessions::tables());
    steps
}

/// Tells other servers that something of this name changed.
async fn changed(on: &mut Transaction, name: &str) -> Result<()> {
    let update = Query::update()
        .table(IdentityState::Table)
        .value(IdentityState::Value, Expr::col(IdentityState::Value).add(1i64))
        .and_where(Expr::col(IdentityState::Name).eq(name))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// How often something of this name has changed.
pub async fn generation(db: &Db, name: &str) -> Result<i64> {
    let query = Query::select()
        .column(IdentityState::Value)
        .from(IdentityState::Table)
        .and_where(Expr::col(IdentityState::Name).eq(name))
        .to_owned();
    db.first(&query).await?.map_or(Ok(0), |row| row.get("value"))
}

fn text(column: impl IntoIden, most: u32) -> ColumnDef {
    ColumnDef::new(column).string_len(most).not_null().take()
}

fn text_or_none(column: impl IntoIden, most: u32) -> ColumnDef {
    ColumnDef::new(column).string_len(most).null().take()
}

fn number(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().take()
}

fn number_or_none(column: impl IntoIden) -> ColumnDef {
    ColumnDef::new(column).big_integer().null().take()
}

fn key_tables(dialect: Dialect) -> Vec<Step> {
    let keys = Table::create()
        .table(ApiKeys::Table)
        .col(text(ApiKeys::Id, 36).primary_key())
        .col(text(ApiKeys::Hash, 64))
        .col(text(ApiKeys::StartsWith, 16))
        .col(text(ApiKeys::Name, 100))
        .col(text(ApiKeys::Role, 16))
        .col(dialect.long_text(ApiKeys::Scopes).null())
        .col(text(ApiKeys::TeamId, 64))
        .col(text(ApiKeys::CreatedBy, 190))
        .col(number(ApiKeys::CreatedAt))
        .col(number_or_none(ApiKeys::ExpiresAt))
        .col(number_or_none(ApiKeys::LastUsedAt))
        .col(number_or_none(ApiKeys::RevokedAt))
        .to_owned();
    let unique =
        Index::create().unique().name("api_keys_hash").table(ApiKeys::Table).col(ApiKeys::Hash).to_owned();
    let by_team = Index::create()
        .name("api_keys_team")
        .table(ApiKeys::Table)
        .col(ApiKeys::TeamId)
        .col(ApiKeys::Id)
        .to_owned();
    let state = Table::create()
        .table(IdentityState::Table)
        .col(text(IdentityState::Name, 32).primary_key())
        .col(number(IdentityState::Value))
        .to_owned();
    let no_change_yet = Query::insert()
        .into_table(IdentityState::Table)
        .columns([IdentityState::Name, IdentityState::Value])
        .values_panic([keys::GENERATION.into(), 0i64.into()])
        .to_owned();
    let setup = Table::create()
        .table(SetupTokens::Table)
        .col(number(SetupTokens::Id).primary_key())
        .col(text(SetupTokens::Hash, 64))
        .col(number(SetupTokens::CreatedAt))
        .col(number(SetupTokens::ExpiresAt))
        .to_owned();
    let operator = Table::create()
        .table(OperatorKeys::Table)
        .col(text(OperatorKeys::Hash, 64).primary_key())
        .col(number(OperatorKeys::CreatedAt))
        .col(number(OperatorKeys::SeenAt))
        .to_owned();
    vec![
        Step::Create(keys),
        Step::Index(unique),
        Step::Index(by_team),
        Step::Create(state),
        Step::Insert(no_change_yet),
        Step::Create(setup),
        Step::Create(operator),
    ]
}

fn audit_tables(dialect: Dialect) -> Vec<Step> {
    let records = Table::create()
        .table(AuditRecords::Table)
        .col(number(AuditRecords::Seq).primary_key())
        .col(number(AuditRecords::Time))
        .col(text(AuditRecords::TeamId, 64))
        .col(text(AuditRecords::Subject, 190))
        .col(text(AuditRecords::Name, 190))
        .col(text(AuditRecords::Face, 16))
        .col(text_or_none(AuditRecords::Address, 64))
        .col(text(AuditRecords::Operation, 64))
        .col(text(AuditRecords::Effect, 16))
        .col(dialect.long_text(AuditRecords::Input).not_null())
        .col(text(AuditRecords::Outcome, 32))
        .col(dialect.long_text(AuditRecords::Message).null())
        .col(text_or_none(AuditRecords::JobId, 64))
        .col(text_or_none(AuditRecords::RequestId, 190))
        .col(text(AuditRecords::PrevHash, 64))
        .col(text(AuditRecords::Hash, 64))
        .to_owned();
    let by_team = Index::create()
        .name("audit_records_team")
        .table(AuditRecords::Table)
        .col(AuditRecords::TeamId)
        .col(AuditRecords::Seq)
        .to_owned();
    let head = Table::create()
        .table(AuditHead::Table)
        .col(number(AuditHead::Id).primary_key())
        .col(number(AuditHead::Seq))
        .col(text(AuditHead::Hash, 64))
        .to_owned();
    let empty = Query::insert()
        .into_table(AuditHead::Table)
        .columns([AuditHead::Id, AuditHead::Seq, AuditHead::Hash])
        .values_panic([1i64.into(), 0i64.into(), super::audit::GENESIS.into()])
        .to_owned();
    vec![Step::Create(records), Step::Index(by_team), Step::Create(head), Step::Insert(empty)]
}

fn call_table() -> TableCreateStatement {
    Table::create()
        .table(CallRecords::Table)
        .col(text(CallRecords::Id, 36).primary_key())
        .col(number(CallRecords::Time))
        .col(text(CallRecords::TeamId, 64))
        .col(text(CallRecords::Subject, 190))
        .col(text(CallRecords::Name, 190))
        .col(text(CallRecords::Face, 16))
        .col(text_or_none(CallRecords::Address, 64))
        .col(text(CallRecords::Operation, 190))
        .col(text(CallRecords::Outcome, 32))
        .col(number(CallRecords::TookUs))
        .col(text_or_none(CallRecords::RequestId, 190))
        .to_owned()
}
