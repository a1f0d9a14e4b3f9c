//! The outbox, and which keys were raised lately.
//!
//! A delivery is claimed by one statement that compares the lease with what was read: of several servers,
//! one touches the row. A claim whose server died runs out.

pub mod attempts;
pub mod channels;
pub mod mail;

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step, Transaction};
use opsroom_core::error::{Error, Result};
use opsroom_core::id::new_id;
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, OnConflict, Order, Query, Table};

use super::channels::Content;
use attempts::Attempt;

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, name: "the outbox", steps: tables },
    Migration { version: 2, name: "mail that waits", steps: mail::tables },
    Migration { version: 3, name: "channels and attempts", steps: many_channels },
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
    Channel,
    Part,
    FlyingAt,
    IsFallback,
    MergedInto,
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

/// Messages go to one of many channels, in parts, and every attempt is kept.
fn many_channels(dialect: Dialect) -> Vec<Step> {
    use NotificationsOutbox as O;
    let add = |mut column: ColumnDef| {
        Step::Alter(Table::alter().table(O::Table).add_column(&mut column).to_owned())
    };
    let number = |column: O| ColumnDef::new(column).big_integer().not_null().default(0).to_owned();
    let mut steps = vec![
        add(ColumnDef::new(O::Channel).string_len(64).not_null().default("default").to_owned()),
        add(number(O::Part)),
        add(ColumnDef::new(O::FlyingAt).big_integer().null().to_owned()),
        add(number(O::IsFallback)),
        add(ColumnDef::new(O::MergedInto).string_len(36).null().to_owned()),
    ];
    steps.extend(channels::tables(dialect));
    steps.extend(attempts::tables(dialect));
    steps
}

/// A message in the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub team: String,
    /// Where it goes.
    pub channel: String,
    /// How many of its parts were taken.
    pub part: i64,
    /// When the attempt began of which nobody knows how it ended.
    pub flying_at: Option<Time>,
    /// Whether another channel refused it.
    pub is_fallback: bool,
    /// The message that it is told with.
    pub merged_into: Option<String>,
    /// Its title.
    pub title: String,
    /// What is sent.
    pub payload: String,
    /// `waiting`, `sent`, `failed`, `held` or `merged`.
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

impl Queued {
    /// What it says; `None` when it has its provider's form already.
    pub fn content(&self) -> Option<Content> {
        serde_json::from_str(&self.payload).ok()
    }
}

/// How an attempt ended.
pub struct Noted<'a> {
    /// `waiting`, `sent` or `failed`.
    pub state: &'static str,
    /// Why it was not sent.
    pub reason: Option<&'a str>,
    /// The time.
    pub now: Time,
    /// When it is tried again.
    pub due_at: Time,
    /// The attempt, when there was one.
    pub attempt: Option<Attempt>,
    /// The channel that is told instead.
    pub fallback: Option<&'a str>,
}

/// A message that is new in the outbox.
pub struct New<'a> {
    /// Whose it is.
    pub team: &'a str,
    /// Where it goes.
    pub channel: &'a str,
    /// One line.
    pub title: &'a str,
    /// What is sent, or what it says.
    pub payload: &'a str,
    /// Whether another channel refused it.
    pub is_fallback: bool,
}

/// The rows of notifications in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

impl Store {
    /// Remembers the key until `until`, within a transaction; `false` when it is remembered already.
    pub async fn remember(on: &mut Transaction, key: &str, now: Time, until: Time) -> Result<bool> {
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
        Ok(on.run(&take).await? > 0)
    }

    /// Queues a message within a transaction; answers its id.
    pub async fn queue_in(on: &mut Transaction, it: &New<'_>, now: Time) -> Result<String> {
        let id = new_id();
        let title: String = it.title.chars().take(256).collect();
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
                NotificationsOutbox::Channel,
                NotificationsOutbox::Part,
                NotificationsOutbox::IsFallback,
            ])
            .values_panic([
                id.as_str().into(),
                it.team.into(),
                title.into(),
                it.payload.into(),
                "waiting".into(),
                0_i64.into(),
                now.0.into(),
                now.0.into(),
                0_i64.into(),
                it.channel.into(),
                0_i64.into(),
                i64::from(it.is_fallback).into(),
            ])
            .to_owned();
        on.run(&insert).await?;
        Ok(id)
    }

    /// Puts several waiting messages together into one; answers that, or nothing when one of them is on its way
    /// already.
    pub async fn merge(
        &self,
        team: &str,
        channel: &str,
        ids: &[&str],
        content: &Content,
        now: Time,
    ) -> Result<Option<Queued>> {
        let payload = serde_json::to_string(content).map_err(Error::internal)?;
        let mut on = self.db.begin().await?;
        let new = New { team, channel, title: &content.title, payload: &payload, is_fallback: false };
        let id = Self::queue_in(&mut on, &new, now).await?;
        for ids in ids.chunks(200) {
            let update = Query::update()
                .table(NotificationsOutbox::Table)
                .value(NotificationsOutbox::State, "merged")
                .value(NotificationsOutbox::MergedInto, id.as_str())
                .value(NotificationsOutbox::EndedAt, now.0)
                .and_where(Expr::col(NotificationsOutbox::Id).is_in(ids.iter().copied()))
                .and_where(Expr::col(NotificationsOutbox::State).eq("waiting"))
                .and_where(Expr::col(NotificationsOutbox::LeaseUntil).lte(now.0))
                .to_owned();
            if on.run(&update).await? != ids.len() as u64 {
                return Ok(None);
            }
        }
        let query = select().and_where(Expr::col(NotificationsOutbox::Id).eq(id.as_str())).to_owned();
        let row = on.first(&query).await?;
        on.commit().await?;
        row.as_ref().map(queued).transpose()
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
            .value(NotificationsOutbox::FlyingAt, now.0)
            .and_where(Expr::col(NotificationsOutbox::Id).eq(id))
            .and_where(Expr::col(NotificationsOutbox::State).eq("waiting"))
            .and_where(Expr::col(NotificationsOutbox::LeaseUntil).lte(now.0))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Notes how an attempt went, and gives the claim back.
    pub async fn note(&self, it: &Queued, noted: &Noted<'_>) -> Result<()> {
        let reason: Option<String> = noted.reason.map(|reason| reason.chars().take(256).collect());
        let update = Query::update()
            .table(NotificationsOutbox::Table)
            .value(NotificationsOutbox::State, noted.state)
            .value(NotificationsOutbox::Attempts, it.attempts + 1)
            .value(NotificationsOutbox::Reason, reason)
            .value(NotificationsOutbox::DueAt, noted.due_at.0)
            .value(NotificationsOutbox::EndedAt, (noted.state != "waiting").then_some(noted.now.0))
            .value(NotificationsOutbox::LeaseUntil, 0_i64)
            .value(NotificationsOutbox::FlyingAt, Option::<i64>::None)
            .and_where(Expr::col(NotificationsOutbox::Id).eq(it.id.as_str()))
            .to_owned();
        let mut on = self.db.begin().await?;
        on.run(&update).await?;
        if let Some(attempt) = &noted.attempt {
            attempts::add(&mut on, &it.id, &it.team, &it.channel, attempt).await?;
        }
        if let Some(channel) = noted.fallback {
            let new =
                New { team: &it.team, channel, title: &it.title, payload: &it.payload, is_fallback: true };
            Self::queue_in(&mut on, &new, noted.now).await?;
        }
        on.commit().await
    }

    /// Notes an attempt of which nobody knows how it ended; with `hold`, the message waits for a person.
    pub async fn note_unknown(&self, it: &Queued, attempt: &Attempt, hold: bool, now: Time) -> Result<()> {
        let mut on = self.db.begin().await?;
        attempts::add(&mut on, &it.id, &it.team, &it.channel, attempt).await?;
        if hold {
            let update = Query::update()
                .table(NotificationsOutbox::Table)
                .value(NotificationsOutbox::State, "held")
                .value(NotificationsOutbox::Reason, attempt.words.as_str())
                .value(NotificationsOutbox::EndedAt, now.0)
                .value(NotificationsOutbox::LeaseUntil, 0_i64)
                .and_where(Expr::col(NotificationsOutbox::Id).eq(it.id.as_str()))
                .to_owned();
            on.run(&update).await?;
        }
        on.commit().await
    }

    /// Notes that so many parts of a message were taken.
    pub async fn part_sent(&self, id: &str, part: i64) -> Result<()> {
        let update = Query::update()
            .table(NotificationsOutbox::Table)
            .value(NotificationsOutbox::Part, part)
            .and_where(Expr::col(NotificationsOutbox::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// One message of these teams.
    pub async fn message(&self, teams: &[String], id: &str) -> Result<Option<Queued>> {
        let query = select()
            .and_where(Expr::col(NotificationsOutbox::Id).eq(id))
            .and_where(Expr::col(NotificationsOutbox::TeamId).is_in(teams))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(queued).transpose()
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
            NotificationsOutbox::TeamId,
            NotificationsOutbox::Channel,
            NotificationsOutbox::Part,
            NotificationsOutbox::FlyingAt,
            NotificationsOutbox::IsFallback,
            NotificationsOutbox::MergedInto,
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
        team: row.get("team_id")?,
        channel: row.get("channel")?,
        part: row.get("part")?,
        flying_at: row.time_or_none("flying_at")?,
        is_fallback: row.get::<i64>("is_fallback")? != 0,
        merged_into: row.get("merged_into")?,
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
