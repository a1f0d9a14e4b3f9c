//! Rows of the inbox: every delivery that was believed, as it came.

use std::collections::HashMap;

use opsroom_core::db::{Row, Transaction};
use opsroom_core::{Kind, Result, Time};
use schemars::JsonSchema;
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use serde::{Deserialize, Serialize};

use super::alerts::{self, AlertRow, Entry};
use super::evidence::{self, Wanted};
use super::groups::{self, Placed};
use super::{AlertsInbox as I, Store};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is stored, and not yet read.
    Waiting,
    /// Its alerts are known.
    Read,
    /// It could not be read; `error` says why. A mapping may help, then it can be replayed.
    Unreadable,
}

impl DeliveryState {
    /// The word of the database and the answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Read => "read",
            Self::Unreadable => "unreadable",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "read" => Self::Read,
            "unreadable" => Self::Unreadable,
            _ => Self::Waiting,
        }
    }
}

/// What a delivery changed.
#[derive(Debug, Default)]
pub struct Taken {
    /// Alerts that were not known.
    pub new: Vec<AlertRow>,
    /// Alerts that were, as they are now.
    pub known: Vec<AlertRow>,
    pub history: Vec<(String, Entry)>,
    /// Where those belong of which people may have to be told.
    pub placed: Vec<(String, Placed)>,
    /// Which are to be looked at, each by the rule of a number.
    pub wanted: Vec<Wanted>,
}

/// One delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub team: String,
    pub receiver: String,
    /// What makes it the same delivery when it comes twice.
    pub key: String,
    /// What the sender calls it, such as GitHub's event.
    pub event: String,
    /// The JSON that came.
    pub body: String,
    pub state: DeliveryState,
    pub error: Option<String>,
    pub alerts: i64,
    pub received_at: Time,
}

fn select() -> SelectStatement {
    Query::select()
        .columns([
            I::Id,
            I::TeamId,
            I::ReceiverId,
            I::DeliveryKey,
            I::Event,
            I::Body,
            I::State,
            I::Error,
            I::Alerts,
            I::ReceivedAt,
        ])
        .from(I::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<Delivery> {
    Ok(Delivery {
        id: row.get("id")?,
        team: row.get("team_id")?,
        receiver: row.get("receiver_id")?,
        key: row.get("delivery_key")?,
        event: row.get("event")?,
        body: row.get("body")?,
        state: DeliveryState::parse(&row.get::<String>("state")?),
        error: row.get("error")?,
        alerts: row.get("alerts")?,
        received_at: row.time("received_at")?,
    })
}

impl Store {
    /// Keeps a delivery. Durable when it answers; `false` when it is there already.
    pub async fn keep(&self, it: &Delivery) -> Result<bool> {
        let mut on = self.db.begin().await?;
        match Self::keep_in(&mut on, it).await {
            Ok(()) => on.commit().await.map(|()| true),
            Err(error) if error.kind == Kind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps a delivery within a transaction; `Conflict` when it is there already.
    pub async fn keep_in(on: &mut Transaction, it: &Delivery) -> Result<()> {
        let insert = Query::insert()
            .into_table(I::Table)
            .columns([
                I::Id,
                I::TeamId,
                I::ReceiverId,
                I::DeliveryKey,
                I::Event,
                I::Body,
                I::State,
                I::Alerts,
                I::Size,
                I::ReceivedAt,
            ])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.receiver.as_str().into(),
                it.key.as_str().into(),
                it.event.as_str().into(),
                it.body.as_str().into(),
                it.state.as_str().into(),
                0_i64.into(),
                (it.body.len() as i64).into(),
                it.received_at.0.into(),
            ])
            .to_owned();
        on.run(&insert).await.map(drop)
    }

    /// The oldest that wait to be read.
    pub async fn waiting(&self, limit: u64) -> Result<Vec<Delivery>> {
        let query = select()
            .and_where(Expr::col(I::State).eq(DeliveryState::Waiting.as_str()))
            .order_by(I::Id, Order::Asc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// One of these teams.
    pub async fn delivery(&self, teams: &[String], id: &str) -> Result<Option<Delivery>> {
        let query = select()
            .and_where(Expr::col(I::Id).eq(id))
            .and_where(Expr::col(I::TeamId).is_in(teams))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Those of a receiver, newest first.
    pub async fn deliveries(&self, receiver: &str, after: Option<&str>, limit: u64) -> Result<Vec<Delivery>> {
        let mut query = select()
            .and_where(Expr::col(I::ReceiverId).eq(receiver))
            .order_by(I::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        if let Some(after) = after {
            query.and_where(Expr::col(I::Id).lt(after));
        }
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Takes in what a delivery tells: all of it and the delivery's state, or nothing. `again` is for one that
    /// was read before; without it, one that another server reads is left to that. `merge` says what an
    /// alert that may be known becomes.
    pub async fn take_in(
        &self,
        delivery: &Delivery,
        prints: &[&str],
        again: bool,
        merge: impl FnOnce(HashMap<String, AlertRow>) -> Taken,
    ) -> Result<Option<Taken>> {
        let mut on = self.db.begin().await?;
        let mut done = Query::update()
            .table(I::Table)
            .value(I::State, DeliveryState::Read.as_str())
            .value(I::Error, Option::<String>::None)
            .value(I::Alerts, prints.len() as i64)
            .and_where(Expr::col(I::Id).eq(delivery.id.as_str()))
            .to_owned();
        if !again {
            done.and_where(Expr::col(I::State).eq(DeliveryState::Waiting.as_str()));
        }
        if on.run(&done).await? == 0 && !again {
            return Ok(None);
        }
        let mut known = HashMap::new();
        for prints in prints.chunks(200) {
            known.extend(Self::known(&mut on, &delivery.team, prints).await?);
        }
        let taken = merge(known);
        alerts::insert(&mut on, &taken.new).await?;
        for row in &taken.known {
            alerts::update(&mut on, row).await?;
        }
        alerts::write_history(&mut on, &taken.history).await?;
        groups::place(&mut on, &delivery.team, &taken.placed, delivery.received_at).await?;
        evidence::want(&mut on, &taken.wanted, delivery.received_at).await?;
        on.commit().await?;
        Ok(Some(taken))
    }

    /// Notes what of a delivery was left.
    pub async fn note_left(&self, id: &str, left: &str) -> Result<()> {
        let left: String = left.chars().take(512).collect();
        let update = Query::update()
            .table(I::Table)
            .value(I::Error, left)
            .and_where(Expr::col(I::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Notes that a delivery cannot be read.
    pub async fn unreadable(&self, id: &str, error: &str) -> Result<()> {
        let error: String = error.chars().take(512).collect();
        let update = Query::update()
            .table(I::Table)
            .value(I::State, DeliveryState::Unreadable.as_str())
            .value(I::Error, error)
            .and_where(Expr::col(I::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Removes what was read and came before `before`, and then the oldest until the others have at most
    /// `most_bytes`.
    pub async fn remove_deliveries(&self, before: Time, most_bytes: i64) -> Result<()> {
        let read = Expr::col(I::State).ne(DeliveryState::Waiting.as_str());
        let old = Query::delete()
            .from_table(I::Table)
            .and_where(read.clone())
            .and_where(Expr::col(I::ReceivedAt).lt(before.0))
            .to_owned();
        self.db.run(&old).await?;
        let mut bytes = 0;
        let mut after: Option<String> = None;
        loop {
            let mut sizes = Query::select()
                .columns([I::Id, I::Size])
                .from(I::Table)
                .order_by(I::Id, Order::Desc)
                .limit(1000)
                .to_owned();
            if let Some(after) = &after {
                sizes.and_where(Expr::col(I::Id).lt(after.as_str()));
            }
            let rows = self.db.all(&sizes).await?;
            for row in &rows {
                bytes += row.get::<i64>("size")?;
                let id: String = row.get("id")?;
                if bytes > most_bytes {
                    let rest = Query::delete()
                        .from_table(I::Table)
                        .and_where(read)
                        .and_where(Expr::col(I::Id).lte(id))
                        .to_owned();
                    return self.db.run(&rest).await.map(drop);
                }
                after = Some(id);
            }
            if rows.is_empty() {
                return Ok(());
            }
        }
    }
}
