//! The outbox, and which keys were raised lately.
//!
//! A delivery is claimed by one statement that compares the lease with what was read: of several servers,
//! one touches the row. A claim whose server died runs out.

pub mod mail;

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step, Transaction};
use opsroom_core::error::Result;
use opsroom_core::id::new_id;
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, OnConflict, Order, Query, Table};

use super::Message;

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "the outbox", steps: tables },
    Migration { version: 2, name: "mail that waits", steps: mail::tables },
];

#[derive(Clone, Copy, Iden)]
enum NotificationsOutbox {
    Table,
    Id,
    TeamId,
    Title,
    Payload,
    State,
    Attempts,
    Reason,
    CreatedAt,
    DueAt,
    EndedAt,
    LeaseUntil,
}

#[derive(Clone, Copy, Iden)]
enum NotificationsKeys {
    Table,
    Id,
    RaisedUntil,
}

fn tables(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(NotificationsOutbox::Table)
                .col(ColumnDef::new(NotificationsOutbox::Id).string_len(36).not_null().primary_key())
                .col(ColumnDef::new(NotificationsOutbox::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(NotificationsOutbox::Title).string_len(256).not_null())
                .col(dialect.long_text(NotificationsOutbox::Payload).not_null())
                .col(ColumnDef::new(NotificationsOutbox::State).string_len(16).not_null())
                .col(ColumnDef::new(NotificationsOutbox::Attempts).big_integer().not_null())
                .col(ColumnDef::new(NotificationsOutbox::Reason).string_len(256).null())
                .col(ColumnDef::new(NotificationsOutbox::CreatedAt).big_integer().not_null())
                .col(ColumnDef::new(NotificationsOutbox::DueAt).big_integer().not_null())
                .col(ColumnDef::new(NotificationsOutbox::EndedAt).big_integer().null())
                .col(ColumnDef::new(NotificationsOutbox::LeaseUntil).big_integer().not_null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("notifications_outbox_due")
                .table(NotificationsOutbox::Table)
                .col(NotificationsOutbox::State)
                .col(NotificationsOutbox::DueAt)
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(NotificationsKeys::Table)
                .col(ColumnDef::new(NotificationsKeys::Id).string_len(32).not_null().primary_key())
                .col(ColumnDef::new(NotificationsKeys::RaisedUntil).big_integer().not_null())
                .to_owned(),
        ),
    ]
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What is sent.
    pub payload: String,
    /// `waiting`, `sent` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When it was raised.
    pub created_at: Time,
    /// When it is to be tried.
    pub due_at: Time,
    /// When it was sent or given up.
    pub ended_at: Option<Time>,
}

/// The rows of notifications in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

impl Store {
    /// Remembers the key until `until` and queues the payload, if there is one; `false` when the key is
    /// remembered already. Both or neither.
    pub async fn queue(
        &self,
        message: &Message,
        key: &str,
        payload: Option<&str>,
        now: Time,
        until: Time,
    ) -> Result<bool> {
        let mut on = self.db.begin().await?;
        let known = Query::insert()
            .into_table(NotificationsKeys::Table)
            .columns([NotificationsKeys::Id, NotificationsKeys::RaisedUntil])
            .values_panic([key.into(), 0_i64.into()])
            // Setting what is there already is how every database leaves a row as it is.
            .on_conflict(
                OnConflict::column(NotificationsKeys::Id).update_column(NotificationsKeys::Id).to_owned(),
            )
            .to_owned();
        on.run(&known).await?;
        let take = Query::update()
            .table(NotificationsKeys::Table)
            .value(NotificationsKeys::RaisedUntil, until.0)
            .and_where(Expr::col(NotificationsKeys::Id).eq(key))
            .and_where(Expr::col(NotificationsKeys::RaisedUntil).lte(now.0))
            .to_owned();
        if on.run(&take).await? == 0 {
            return Ok(false);
        }
        if let Some(payload) = payload {
            Self::queue_in(&mut on, message, payload, now).await?;
        }
        on.commit().await?;
        Ok(true)
    }

    /// Queues a payload within a transaction; answers its id.
    pub async fn queue_in(
        on: &mut Transaction,
        message: &Message,
        payload: &str,
        now: Time,
    ) -> Result<String> {
        let id = new_id();
        let title: String = message.title.chars().take(256).collect();
        let insert = Query::insert()
            .into_table(NotificationsOutbox::Table)
            .columns([
                NotificationsOutbox::Id,
                NotificationsOutbox::TeamId,
                NotificationsOutbox::Title,
                NotificationsOutbox::Payload,
                NotificationsOutbox::State,
                NotificationsOutbox::Attempts,
                NotificationsOutbox::CreatedAt,
                NotificationsOutbox::DueAt,
                NotificationsOutbox::LeaseUntil,
            ])
            .values_panic([
                id.as_str().into(),
                message.team.as_str().into(),
                title.into(),
                payload.into(),
                "waiting".into(),
                0_i64.into(),
                now.0.into(),
                now.0.into(),
                0_i64.into(),
            ])
            .to_owned();
        on.run(&insert).await?;
        Ok(id)
    }

    /// Those that wait and whose time has come, the oldest first.
    pub async fn due(&self, now: Time, limit: u64) -> Result<Vec<Queued>> {
        let query = select()
            .and_where(Expr::col(NotificationsOutbox::State).eq("waiting"))
            .and_where(Expr::col(NotificationsOutbox::DueAt).lte(now.0))
            .and_where(Expr::col(NotificationsOutbox::LeaseUntil).lte(now.0))
            .order_by(NotificationsOutbox::DueAt, Order::Asc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(queued).collect()
    }

    /// Takes one to deliver it; `false` when another server was first.
    pub async fn claim(&self, id: &str, now: Time, until: Time) -> Result<bool> {
        let update = Query::update()
            .table(NotificationsOutbox::Table)
            .value(NotificationsOutbox::LeaseUntil, until.0)
            .and_where(Expr::col(NotificationsOutbox::Id).eq(id))
            .and_where(Expr::col(NotificationsOutbox::State).eq("waiting"))
            .and_where(Expr::col(NotificationsOutbox::LeaseUntil).lte(now.0))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Notes how an attempt went, and gives the claim back.
    pub async fn note(
        &self,
        it: &Queued,
        state: &str,
        reason: Option<&str>,
        now: Time,
        due: Time,
    ) -> Result<()> {
        let reason: Option<String> = reason.map(|reason| reason.chars().take(256).collect());
        let update = Query::update()
            .table(NotificationsOutbox::Table)
            .value(NotificationsOutbox::State, state)
            .value(NotificationsOutbox::Attempts, it.attempts + 1)
            .value(NotificationsOutbox::Reason, reason)
            .value(NotificationsOutbox::DueAt, due.0)
            .value(NotificationsOutbox::EndedAt, (state != "waiting").then_some(now.0))
            .value(NotificationsOutbox::LeaseUntil, 0_i64)
            .and_where(Expr::col(NotificationsOutbox::Id).eq(it.id.as_str()))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Removes what ended before `before`, and keys that were raised long ago.
    pub async fn remove_old(&self, before: Time) -> Result<()> {
        let ended = Query::delete()
            .from_table(NotificationsOutbox::Table)
            .and_where(Expr::col(NotificationsOutbox::EndedAt).lt(before.0))
            .to_owned();
        self.db.run(&ended).await?;
        let keys = Query::delete()
            .from_table(NotificationsKeys::Table)
            .and_where(Expr::col(NotificationsKeys::RaisedUntil).lt(before.0))
            .to_owned();
        self.db.run(&keys).await.map(drop)
    }

    /// The messages of these teams, newest first, older than `after`.
    pub async fn list(&self, teams: &[String], after: Option<&str>, limit: u64) -> Result<Vec<Queued>> {
        let mut query = select()
            .and_where(Expr::col(NotificationsOutbox::TeamId).is_in(teams))
            .order_by(NotificationsOutbox::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        if let Some(after) = after {
            query.and_where(Expr::col(NotificationsOutbox::Id).lt(after));
        }
        self.db.all(&query).await?.iter().map(queued).collect()
    }
}

fn select() -> sea_query::SelectStatement {
    Query::select()
        .columns([
            NotificationsOutbox::Id,
            NotificationsOutbox::Title,
            NotificationsOutbox::Payload,
            NotificationsOutbox::State,
            NotificationsOutbox::Attempts,
            NotificationsOutbox::Reason,
            NotificationsOutbox::CreatedAt,
            NotificationsOutbox::DueAt,
            NotificationsOutbox::EndedAt,
        ])
        .from(NotificationsOutbox::Table)
        .to_owned()
}

fn queued(row: &Row) -> Result<Queued> {
    Ok(Queued {
        id: row.get("id")?,
        title: row.get("title")?,
        payload: row.get("payload")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        reason: row.get("reason")?,
        created_at: row.time("created_at")?,
        due_at: row.time("due_at")?,
        ended_at: row.time_or_none("ended_at")?,
    })
}
