//! Rows of receivers.

use opsroom_core::db::Row;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::super::receivers::Settings;
use super::{AlertsReceivers as R, Store, json_text};

/// A receiver as the database has it.
#[derive(Clone, Debug)]
pub struct ReceiverRow {
    pub id: String,
    pub team: String,
    pub created_by: String,
    pub created_at: Time,
    pub name: String,
    pub settings: Settings,
    /// The key of signatures, sealed.
    pub sealed: Option<String>,
    /// The SHA-256 of a token that is compared as it is.
    pub hash: Option<String>,
    pub accepted: i64,
    pub refused: i64,
    pub last_at: Option<Time>,
}

fn select() -> SelectStatement {
    Query::select()
        .columns([
            R::Id,
            R::TeamId,
            R::CreatedBy,
            R::CreatedAt,
            R::Name,
            R::Settings,
            R::SecretSealed,
            R::SecretHash,
            R::Accepted,
            R::Refused,
            R::LastAt,
        ])
        .from(R::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<ReceiverRow> {
    Ok(ReceiverRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        name: row.get("name")?,
        settings: row.json("settings")?,
        sealed: row.get("secret_sealed")?,
        hash: row.get("secret_hash")?,
        accepted: row.get("accepted")?,
        refused: row.get("refused")?,
        last_at: row.time_or_none("last_at")?,
    })
}

impl Store {
    /// Adds one; `Conflict` when the name is taken.
    pub async fn add_receiver(&self, it: &ReceiverRow) -> Result<()> {
        let insert = Query::insert()
            .into_table(R::Table)
            .columns([
                R::Id,
                R::TeamId,
                R::CreatedBy,
                R::CreatedAt,
                R::Name,
                R::Settings,
                R::SecretSealed,
                R::SecretHash,
                R::Accepted,
                R::Refused,
            ])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                it.created_at.0.into(),
                it.name.as_str().into(),
                json_text(&it.settings)?.into(),
                it.sealed.clone().into(),
                it.hash.clone().into(),
                0_i64.into(),
                0_i64.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// The one of that name, of whatever team: a sender has no team yet.
    pub async fn receiver_by_name(&self, name: &str) -> Result<Option<ReceiverRow>> {
        let query = select().and_where(Expr::col(R::Name).eq(name)).to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// The one of that name, when it is of these teams.
    pub async fn receiver(&self, teams: &[String], name: &str) -> Result<Option<ReceiverRow>> {
        Ok(self.receiver_by_name(name).await?.filter(|it| teams.contains(&it.team)))
    }

    /// The receivers of these teams, by name.
    pub async fn receivers(&self, teams: &[String]) -> Result<Vec<ReceiverRow>> {
        let query =
            select().and_where(Expr::col(R::TeamId).is_in(teams)).order_by(R::Name, Order::Asc).to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Every receiver, by id.
    pub async fn every_receiver(&self) -> Result<Vec<ReceiverRow>> {
        self.db.all(&select()).await?.iter().map(read).collect()
    }

    /// Changes how deliveries are read.
    pub async fn set_receiver_settings(&self, id: &str, settings: &Settings) -> Result<()> {
        let update = Query::update()
            .table(R::Table)
            .value(R::Settings, json_text(settings)?)
            .and_where(Expr::col(R::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Replaces how the key of a receiver's signatures is sealed.
    pub async fn set_receiver_sealed(&self, id: &str, sealed: &str) -> Result<()> {
        let update = Query::update()
            .table(R::Table)
            .value(R::SecretSealed, sealed)
            .and_where(Expr::col(R::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Removes one; `false` when there was none.
    pub async fn remove_receiver(&self, id: &str) -> Result<bool> {
        let delete = Query::delete().from_table(R::Table).and_where(Expr::col(R::Id).eq(id)).to_owned();
        Ok(self.db.run(&delete).await? > 0)
    }

    /// Adds to the counters of one.
    pub async fn count_receiver(&self, id: &str, accepted: i64, refused: i64, now: Time) -> Result<()> {
        let update = Query::update()
            .table(R::Table)
            .value(R::Accepted, Expr::col(R::Accepted).add(accepted))
            .value(R::Refused, Expr::col(R::Refused).add(refused))
            .value(R::LastAt, now.0)
            .and_where(Expr::col(R::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }
}
