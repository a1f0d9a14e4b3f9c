//! Rows of silences.

use opsroom_core::db::Row;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::super::matchers::Matcher;
use super::{AlertsSilences as S, Store, json_text};

/// A silence as the database has it.
#[derive(Clone, Debug)]
pub struct SilenceRow {
    pub id: String,
    pub team: String,
    pub created_by: String,
    pub matchers: Vec<Matcher>,
    pub comment: String,
    pub starts_at: Time,
    pub ends_at: Time,
}

impl SilenceRow {
    /// Whether it holds now.
    pub fn holds(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

fn select() -> SelectStatement {
    Query::select()
        .columns([S::Id, S::TeamId, S::CreatedBy, S::Matchers, S::Comment, S::StartsAt, S::EndsAt])
        .from(S::Table)
        .order_by(S::Id, Order::Desc)
        .to_owned()
}

fn read(row: &Row) -> Result<SilenceRow> {
    Ok(SilenceRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        matchers: row.json("matchers")?,
        comment: row.get("comment")?,
        starts_at: row.time("starts_at")?,
        ends_at: row.time("ends_at")?,
    })
}

impl Store {
    /// Adds one.
    pub async fn add_silence(&self, it: &SilenceRow) -> Result<()> {
        let insert = Query::insert()
            .into_table(S::Table)
            .columns([S::Id, S::TeamId, S::CreatedBy, S::Matchers, S::Comment, S::StartsAt, S::EndsAt])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                json_text(&it.matchers)?.into(),
                it.comment.as_str().into(),
                it.starts_at.0.into(),
                it.ends_at.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// Those of these teams that end after `after`, newest first.
    pub async fn silences(&self, teams: &[String], after: Time) -> Result<Vec<SilenceRow>> {
        let query = select()
            .and_where(Expr::col(S::TeamId).is_in(teams))
            .and_where(Expr::col(S::EndsAt).gt(after.0))
            .limit(1000)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Ends one now; `false` when there is none that goes on.
    pub async fn end_silence(&self, teams: &[String], id: &str, now: Time) -> Result<bool> {
        let update = Query::update()
            .table(S::Table)
            .value(S::EndsAt, now.0)
            .and_where(Expr::col(S::Id).eq(id))
            .and_where(Expr::col(S::TeamId).is_in(teams))
            .and_where(Expr::col(S::EndsAt).gt(now.0))
            .to_owned();
        Ok(self.db.run(&update).await? > 0)
    }
}
