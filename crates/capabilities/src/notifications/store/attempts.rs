//! Rows of attempts: every try to deliver a message, with how it ended.

use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step, Transaction};
use opsroom_core::error::Result;
use opsroom_core::id::new_id;
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, Table};

use super::Store;

#[derive(Clone, Copy, Iden)]
enum NotificationsAttempts {
    Table,
    Id,
    OutboxId,
    TeamId,
    Channel,
    BeganAt,
    TookMs,
    Requests,
    Outcome,
    Words,
}

use NotificationsAttempts as A;

/// A try to deliver a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub began_at: Time,
    pub took_ms: i64,
    /// How many requests it took.
    pub requests: i64,
    /// `sent`, `later`, `failed` or `unknown`.
    pub outcome: String,
    /// Why it was not sent.
    pub words: String,
}

pub(in crate::notifications) fn tables(_: Dialect) -> Vec<Step> {
    let text = |column: A, longest: u32| ColumnDef::new(column).string_len(longest).not_null().to_owned();
    let number = |column: A| ColumnDef::new(column).big_integer().not_null().to_owned();
    let table = Table::create()
        .table(A::Table)
        .col(text(A::Id, 36).primary_key())
        .col(text(A::OutboxId, 36))
        .col(text(A::TeamId, 64))
        .col(text(A::Channel, 64))
        .col(number(A::BeganAt))
        .col(number(A::TookMs))
        .col(number(A::Requests))
        .col(text(A::Outcome, 16))
        .col(text(A::Words, 256))
        .to_owned();
    let of_message = Index::create()
        .name("notifications_attempts_of")
        .table(A::Table)
        .col(A::OutboxId)
        .col(A::Id)
        .to_owned();
    let of_channel = Index::create()
        .name("notifications_attempts_channel")
        .table(A::Table)
        .col(A::TeamId)
        .col(A::Channel)
        .col(A::BeganAt)
        .to_owned();
    vec![Step::Create(table), Step::Index(of_message), Step::Index(of_channel)]
}

/// Adds an attempt of a message of a team's channel.
pub async fn add(on: &mut Transaction, message: &str, team: &str, channel: &str, it: &Attempt) -> Result<()> {
    let words: String = it.words.chars().take(256).collect();
    let insert = Query::insert()
        .into_table(A::Table)
        .columns([
            A::Id,
            A::OutboxId,
            A::TeamId,
            A::Channel,
            A::BeganAt,
            A::TookMs,
            A::Requests,
            A::Outcome,
            A::Words,
        ])
        .values_panic([
            new_id().into(),
            message.into(),
            team.into(),
            channel.into(),
            it.began_at.0.into(),
            it.took_ms.into(),
            it.requests.into(),
            it.outcome.as_str().into(),
            words.into(),
        ])
        .to_owned();
    on.run(&insert).await.map(drop)
}

impl Store {
    /// How many requests a channel was sent after `after`.
    pub async fn requests_since(&self, team: &str, channel: &str, after: Time) -> Result<i64> {
        let query = Query::select()
            .column(A::Requests)
            .from(A::Table)
            .and_where(Expr::col(A::TeamId).eq(team))
            .and_where(Expr::col(A::Channel).eq(channel))
            .and_where(Expr::col(A::BeganAt).gt(after.0))
            .to_owned();
        let rows = self.db.all(&query).await?;
        rows.iter().map(|row| row.get::<i64>("requests")).sum()
    }

    /// The attempts of a message, oldest first.
    pub async fn attempts(&self, message: &str) -> Result<Vec<Attempt>> {
        let query = Query::select()
            .columns([A::BeganAt, A::TookMs, A::Requests, A::Outcome, A::Words])
            .from(A::Table)
            .and_where(Expr::col(A::OutboxId).eq(message))
            .order_by(A::Id, Order::Asc)
            .limit(200)
            .to_owned();
        let read = |row: &Row| {
            Ok(Attempt {
                began_at: row.time("began_at")?,
                took_ms: row.get("took_ms")?,
                requests: row.get("requests")?,
                outcome: row.get("outcome")?,
                words: row.get("words")?,
            })
        };
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Removes attempts that began before `before`.
    pub async fn remove_attempts(&self, before: Time) -> Result<()> {
        let delete =
            Query::delete().from_table(A::Table).and_where(Expr::col(A::BeganAt).lt(before.0)).to_owned();
        self.db.run(&delete).await.map(drop)
    }
}
