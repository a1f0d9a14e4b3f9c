//! The tables of alerts: receivers, the inbox of their deliveries, alerts with their history, silences.

mod alerts;
mod evidence;
mod groups;
mod inbox;
mod links;
mod overrides;
mod receivers;
mod silences;

use opsroom_core::db::{Db, Dialect, Migration, Step};
use opsroom_core::{Error, Result};
use sea_query::{ColumnDef, Iden, Index, IntoIden, Table};

pub use alerts::{AlertFilter, AlertRow, Entry, PastEntry};
pub use evidence::{EvidenceRow, Wanted};
pub use groups::{GroupRow, Looked, Member, Placed, Told};
pub use inbox::{Delivery, DeliveryState, Taken};
pub use links::LinkRow;
pub use overrides::OverrideRow;
pub use receivers::ReceiverRow;
pub use silences::SilenceRow;

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 5] = [
    Migration { version: 1, name: "receivers, deliveries, alerts and silences", steps: tables },
    Migration { version: 2, name: "links in messages", steps: linking },
    Migration { version: 3, name: "alerts that are over when nobody tells of them", steps: expiring },
    Migration { version: 4, name: "who is on call instead", steps: overriding },
    Migration { version: 5, name: "what was looked at when alerts began", steps: looking },
];

#[derive(Clone, Copy, Iden)]
enum AlertsReceivers {
    Table,
    Id,
    TeamId,
    CreatedBy,
    CreatedAt,
    Name,
    Settings,
    SecretSealed,
    SecretHash,
    Accepted,
    Refused,
    LastAt,
}

#[derive(Clone, Copy, Iden)]
enum AlertsInbox {
    Table,
    Id,
    TeamId,
    ReceiverId,
    DeliveryKey,
    Event,
    Body,
    State,
    Error,
    Alerts,
    Size,
    ReceivedAt,
}

#[derive(Clone, Copy, Iden)]
enum AlertsAlerts {
    Table,
    Id,
    TeamId,
    ReceiverId,
    Fingerprint,
    Status,
    Severity,
    Detail,
    Handler,
    MutedBy,
    Count,
    StartsAt,
    EndsAt,
    FirstSeen,
    LastSeen,
    ExpiresAt,
    Version,
}

#[derive(Clone, Copy, Iden)]
enum AlertsGroups {
    Table,
    Id,
    TeamId,
    Route,
    Name,
    DueAt,
    ToldAt,
    Version,
}

#[derive(Clone, Copy, Iden)]
enum AlertsMembers {
    Table,
    Id,
    GroupId,
    AlertId,
    Told,
    ToldAt,
    FirstAt,
    Level,
    Quiet,
}

#[derive(Clone, Copy, Iden)]
enum AlertsHistory {
    Table,
    Id,
    AlertId,
    At,
    What,
    ByWhom,
    Words,
    NotificationId,
}

#[derive(Clone, Copy, Iden)]
enum AlertsSilences {
    Table,
    Id,
    TeamId,
    CreatedBy,
    Matchers,
    Comment,
    StartsAt,
    EndsAt,
}

#[derive(Clone, Copy, Iden)]
enum AlertsLinks {
    Table,
    Id,
    TeamId,
    Alerts,
    Action,
    ExpiresAt,
    UsedAt,
}

#[derive(Clone, Copy, Iden)]
enum AlertsEvidence {
    Table,
    Id,
    AlertId,
    Rule,
    Operation,
    State,
    Answer,
    CreatedAt,
}

fn looking(dialect: Dialect) -> Vec<Step> {
    use AlertsEvidence as V;
    let evidence = Table::create()
        .table(V::Table)
        .col(key(V::Id))
        .col(word(V::AlertId, 36))
        .col(number(V::Rule))
        .col(word(V::Operation, 64))
        .col(word(V::State, 16))
        .col(dialect.long_text(V::Answer).null())
        .col(number(V::CreatedAt))
        .to_owned();
    let of_alert =
        Index::create().name("alerts_evidence_alert").table(V::Table).col(V::AlertId).col(V::Id).to_owned();
    let waiting =
        Index::create().name("alerts_evidence_state").table(V::Table).col(V::State).col(V::Id).to_owned();
    vec![Step::Create(evidence), Step::Index(of_alert), Step::Index(waiting)]
}

#[derive(Clone, Copy, Iden)]
enum AlertsOverrides {
    Table,
    Id,
    TeamId,
    CreatedBy,
    Rotation,
    Channel,
    StartsAt,
    EndsAt,
}

fn overriding(_: Dialect) -> Vec<Step> {
    use AlertsOverrides as O;
    let overrides = Table::create()
        .table(O::Table)
        .col(key(O::Id))
        .col(word(O::TeamId, 64))
        .col(word(O::CreatedBy, 190))
        .col(word(O::Rotation, 64))
        .col(word(O::Channel, 64))
        .col(number(O::StartsAt))
        .col(number(O::EndsAt))
        .to_owned();
    let begun = Index::create()
        .name("alerts_alerts_starts")
        .table(AlertsAlerts::Table)
        .col(AlertsAlerts::TeamId)
        .col(AlertsAlerts::StartsAt)
        .to_owned();
    vec![Step::Create(overrides), Step::Index(begun)]
}

fn expiring(_: Dialect) -> Vec<Step> {
    let column = ColumnDef::new(AlertsAlerts::ExpiresAt).big_integer().null().to_owned();
    vec![
        Step::Alter(Table::alter().table(AlertsAlerts::Table).add_column(column).to_owned()),
        Step::Index(
            Index::create()
                .name("alerts_alerts_expires")
                .table(AlertsAlerts::Table)
                .col(AlertsAlerts::ExpiresAt)
                .to_owned(),
        ),
    ]
}

fn linking(dialect: Dialect) -> Vec<Step> {
    use AlertsLinks as L;
    let links = Table::create()
        .table(L::Table)
        .col(ColumnDef::new(L::Id).string_len(64).not_null().primary_key())
        .col(word(L::TeamId, 64))
        .col(dialect.long_text(L::Alerts).not_null())
        .col(word(L::Action, 16))
        .col(number(L::ExpiresAt))
        .col(number_or_none(L::UsedAt))
        .to_owned();
    vec![Step::Create(links)]
}

fn key<T: IntoIden>(column: T) -> ColumnDef {
    ColumnDef::new(column).string_len(36).not_null().primary_key().to_owned()
}

fn word<T: IntoIden>(column: T, longest: u32) -> ColumnDef {
    ColumnDef::new(column).string_len(longest).not_null().to_owned()
}

fn number<T: IntoIden>(column: T) -> ColumnDef {
    ColumnDef::new(column).big_integer().not_null().to_owned()
}

fn number_or_none<T: IntoIden>(column: T) -> ColumnDef {
    ColumnDef::new(column).big_integer().null().to_owned()
}

fn tables(dialect: Dialect) -> Vec<Step> {
    let mut steps = receiving(dialect);
    steps.extend(alerting(dialect));
    steps.extend(grouping(dialect));
    steps
}

fn grouping(dialect: Dialect) -> Vec<Step> {
    use AlertsGroups as G;
    use AlertsMembers as M;
    let groups = Table::create()
        .table(G::Table)
        .col(ColumnDef::new(G::Id).string_len(32).not_null().primary_key())
        .col(word(G::TeamId, 64))
        .col(word(G::Route, 190))
        .col(dialect.long_text(G::Name).not_null())
        .col(number_or_none(G::DueAt))
        .col(number_or_none(G::ToldAt))
        .col(number(G::Version))
        .to_owned();
    let due = Index::create().name("alerts_groups_due").table(G::Table).col(G::DueAt).to_owned();
    let members = Table::create()
        .table(M::Table)
        .col(ColumnDef::new(M::Id).string_len(32).not_null().primary_key())
        .col(word(M::GroupId, 32))
        .col(word(M::AlertId, 36))
        .col(word(M::Told, 16))
        .col(number_or_none(M::ToldAt))
        .col(number_or_none(M::FirstAt))
        .col(number(M::Level))
        .col(ColumnDef::new(M::Quiet).string_len(255).null())
        .to_owned();
    let of_group = Index::create().name("alerts_members_group").table(M::Table).col(M::GroupId).to_owned();
    let of_alert = Index::create().name("alerts_members_alert").table(M::Table).col(M::AlertId).to_owned();
    vec![
        Step::Create(groups),
        Step::Index(due),
        Step::Create(members),
        Step::Index(of_group),
        Step::Index(of_alert),
    ]
}

fn receiving(dialect: Dialect) -> Vec<Step> {
    use AlertsInbox as I;
    use AlertsReceivers as R;
    let receivers = Table::create()
        .table(R::Table)
        .col(key(R::Id))
        .col(word(R::TeamId, 64))
        .col(word(R::CreatedBy, 190))
        .col(number(R::CreatedAt))
        .col(ColumnDef::new(R::Name).string_len(64).not_null().unique_key())
        .col(dialect.long_text(R::Settings).not_null())
        .col(dialect.long_text(R::SecretSealed).null())
        .col(ColumnDef::new(R::SecretHash).string_len(64).null())
        .col(number(R::Accepted))
        .col(number(R::Refused))
        .col(number_or_none(R::LastAt))
        .to_owned();
    let inbox = Table::create()
        .table(I::Table)
        .col(key(I::Id))
        .col(word(I::TeamId, 64))
        .col(word(I::ReceiverId, 36))
        .col(ColumnDef::new(I::DeliveryKey).string_len(64).not_null().unique_key())
        .col(word(I::Event, 64))
        .col(dialect.long_text(I::Body).not_null())
        .col(word(I::State, 16))
        .col(ColumnDef::new(I::Error).string_len(512).null())
        .col(number(I::Alerts))
        .col(number(I::Size))
        .col(number(I::ReceivedAt))
        .to_owned();
    let waiting =
        Index::create().name("alerts_inbox_state").table(I::Table).col(I::State).col(I::Id).to_owned();
    vec![Step::Create(receivers), Step::Create(inbox), Step::Index(waiting)]
}

fn alerting(dialect: Dialect) -> Vec<Step> {
    use AlertsAlerts as A;
    use AlertsHistory as H;
    use AlertsSilences as S;
    let alerts = Table::create()
        .table(A::Table)
        .col(key(A::Id))
        .col(word(A::TeamId, 64))
        .col(word(A::ReceiverId, 36))
        .col(word(A::Fingerprint, 64))
        .col(word(A::Status, 16))
        .col(word(A::Severity, 16))
        .col(dialect.long_text(A::Detail).not_null())
        .col(ColumnDef::new(A::Handler).string_len(190).null())
        .col(ColumnDef::new(A::MutedBy).string_len(190).null())
        .col(number(A::Count))
        .col(number(A::StartsAt))
        .col(number_or_none(A::EndsAt))
        .col(number(A::FirstSeen))
        .col(number(A::LastSeen))
        .col(number(A::Version))
        .to_owned();
    let same = Index::create()
        .name("alerts_alerts_fingerprint")
        .table(A::Table)
        .col(A::TeamId)
        .col(A::Fingerprint)
        .unique()
        .to_owned();
    let status = Index::create()
        .name("alerts_alerts_status")
        .table(A::Table)
        .col(A::TeamId)
        .col(A::Status)
        .col(A::Id)
        .to_owned();
    let history = Table::create()
        .table(H::Table)
        .col(key(H::Id))
        .col(word(H::AlertId, 36))
        .col(number(H::At))
        .col(word(H::What, 16))
        .col(word(H::ByWhom, 190))
        .col(dialect.long_text(H::Words).not_null())
        .col(ColumnDef::new(H::NotificationId).string_len(36).null())
        .to_owned();
    let of_alert =
        Index::create().name("alerts_history_alert").table(H::Table).col(H::AlertId).col(H::Id).to_owned();
    let silences = Table::create()
        .table(S::Table)
        .col(key(S::Id))
        .col(word(S::TeamId, 64))
        .col(word(S::CreatedBy, 190))
        .col(dialect.long_text(S::Matchers).not_null())
        .col(dialect.long_text(S::Comment).not_null())
        .col(number(S::StartsAt))
        .col(number(S::EndsAt))
        .to_owned();
    vec![
        Step::Create(alerts),
        Step::Index(same),
        Step::Index(status),
        Step::Create(history),
        Step::Index(of_alert),
        Step::Create(silences),
    ]
}

/// The rows of alerts in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}
