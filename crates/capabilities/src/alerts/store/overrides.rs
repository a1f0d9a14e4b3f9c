//! Rows of who is on call instead.

use opsroom_core::db::Row;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query};

use super::{AlertsOverrides as O, Store};

/// Somebody else on call for a time.
#[derive(Clone, Debug)]
pub struct OverrideRow {
    pub id: String,
    pub team: String,
    pub created_by: String,
    pub rotation: String,
    pub channel: String,
    pub starts_at: Time,
    pub ends_at: Time,
}

const COLUMNS: [O; 7] = [O::Id, O::TeamId, O::CreatedBy, O::Rotation, O::Channel, O::StartsAt, O::EndsAt];

fn read(row: &Row) -> Result<OverrideRow> {
    Ok(OverrideRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        rotation: row.get("rotation")?,
        channel: row.get("channel")?,
        starts_at: row.time("starts_at")?,
        ends_at: row.time("ends_at")?,
    })
}

impl Store {
    /// Adds one.
    pub async fn add_override(&self, it: &OverrideRow) -> Result<()> {
        let insert = Query::insert()
            .into_table(O::Table)
            .columns(COLUMNS)
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                it.rotation.as_str().into(),
                it.channel.as_str().into(),
                it.starts_at.0.into(),
                it.ends_at.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// Those of these teams that end after `after`, the newest first, which counts most.
    pub async fn overrides(&self, teams: &[String], after: Time) -> Result<Vec<OverrideRow>> {
        let query = Query::select()
            .columns(COLUMNS)
            .from(O::Table)
            .and_where(Expr::col(O::TeamId).is_in(teams))
            .and_where(Expr::col(O::EndsAt).gt(after.0))
            .order_by(O::Id, Order::Desc)
            .limit(1000)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Ends one now; `false` when there is none that goes on or is to come.
    pub async fn end_override(&self, teams: &[String], id: &str, now: Time) -> Result<bool> {
        let update = Query::update()
            .table(O::Table)
            .value(O::EndsAt, now.0)
            .and_where(Expr::col(O::Id).eq(id))
            .and_where(Expr::col(O::TeamId).is_in(teams))
            .and_where(Expr::col(O::EndsAt).gt(now.0))
            .to_owned();
        Ok(self.db.run(&update).await? > 0)
    }

    /// Removes what ended before.
    pub async fn remove_overrides(&self, before: Time) -> Result<()> {
        let delete =
            Query::delete().from_table(O::Table).and_where(Expr::col(O::EndsAt).lt(before.0)).to_owned();
        self.db.run(&delete).await.map(drop)
    }
}
