//! Which series got values that nobody has looked at yet, and the removal of what is too old to be kept.

use opsroom_core::db::{Row, Transaction};
use opsroom_core::error::Result;
use sea_query::{Expr, ExprTrait, OnConflict, Order, Query};

use super::points::SeriesKey;
use super::{PlanningArrivals, PlanningChoices, PlanningPoints, PlanningSeries, Store};

/// Rows that one statement removes at most: a long one would hold up every other writer.
const REMOVED_AT_ONCE: u64 = 5_000;

/// Values of a series that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// The series' id.
    pub id: String,
    /// Whose they are.
    pub team: String,
    /// Which series.
    pub key: SeriesKey,
    /// Seconds since 1970 of the first of them.
    pub first: i64,
    /// Of the last of them.
    pub last: i64,
}

impl Store {
    /// Remembers that a series got values, in the transaction that writes them. What arrived before and is
    /// not looked at yet keeps its beginning.
    pub(super) async fn remember(on: &mut Transaction, id: &str, first: i64, last: i64) -> Result<()> {
        let insert = Query::insert()
            .into_table(PlanningArrivals::Table)
            .columns([PlanningArrivals::SeriesId, PlanningArrivals::FirstAt, PlanningArrivals::LastAt])
            .values_panic([id.into(), first.into(), last.into()])
            .on_conflict(
                OnConflict::column(PlanningArrivals::SeriesId)
                    .update_column(PlanningArrivals::LastAt)
                    .to_owned(),
            )
            .to_owned();
        on.run(&insert).await.map(drop)
    }

    /// What arrived and is not looked at yet.
    pub async fn arrivals(&self, limit: u64) -> Result<Vec<Arrived>> {
        let query = Query::select()
            .columns([
                (PlanningSeries::Table, PlanningSeries::Id),
                (PlanningSeries::Table, PlanningSeries::TeamId),
                (PlanningSeries::Table, PlanningSeries::Service),
                (PlanningSeries::Table, PlanningSeries::Metric),
            ])
            .columns([
                (PlanningArrivals::Table, PlanningArrivals::FirstAt),
                (PlanningArrivals::Table, PlanningArrivals::LastAt),
            ])
            .from(PlanningArrivals::Table)
            .inner_join(
                PlanningSeries::Table,
                Expr::col((PlanningSeries::Table, PlanningSeries::Id))
                    .equals((PlanningArrivals::Table, PlanningArrivals::SeriesId)),
            )
            .order_by((PlanningArrivals::Table, PlanningArrivals::SeriesId), Order::Asc)
            .limit(limit)
            .to_owned();
        let row = |row: &Row| {
            Ok(Arrived {
                id: row.get("id")?,
                team: row.get("team_id")?,
                key: SeriesKey { service: row.get("service")?, metric: row.get("metric")? },
                first: row.get("first_at")?,
                last: row.get("last_at")?,
            })
        };
        self.db.all(&query).await?.iter().map(row).collect()
    }

    /// What arrived was looked at; if more of it came meanwhile, it stays.
    pub async fn looked_at(&self, arrived: &Arrived) -> Result<()> {
        let delete = Query::delete()
            .from_table(PlanningArrivals::Table)
            .and_where(Expr::col(PlanningArrivals::SeriesId).eq(arrived.id.as_str()))
            .and_where(Expr::col(PlanningArrivals::LastAt).eq(arrived.last))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }

    /// Removes points before `oldest` (seconds since 1970), choices made from what ended before it, and
    /// series that have no point left. Answers how many points went.
    pub async fn remove_before(&self, oldest: i64) -> Result<u64> {
        let mut removed = 0;
        // Series by series: every statement then works along the primary key.
        let mut after = String::new();
        loop {
            let query = Query::select()
                .column(PlanningSeries::Id)
                .from(PlanningSeries::Table)
                .and_where(Expr::col(PlanningSeries::Id).gt(after.as_str()))
                .order_by(PlanningSeries::Id, Order::Asc)
                .limit(500)
                .to_owned();
            let ids: Vec<String> =
                self.db.all(&query).await?.iter().map(|row| row.get("id")).collect::<Result<_>>()?;
            let Some(last) = ids.last() else { return Ok(removed) };
            after.clone_from(last);
            for id in &ids {
                removed += self.remove_of(id, oldest).await?;
            }
        }
    }

    async fn remove_of(&self, id: &str, oldest: i64) -> Result<u64> {
        let mut removed = 0;
        while let Some(bound) = self.bound(id, oldest).await? {
            let delete = Query::delete()
                .from_table(PlanningPoints::Table)
                .and_where(Expr::col(PlanningPoints::SeriesId).eq(id))
                .and_where(Expr::col(PlanningPoints::At).lte(bound))
                .to_owned();
            removed += self.db.run(&delete).await?;
        }
        let choices = Query::delete()
            .from_table(PlanningChoices::Table)
            .and_where(Expr::col(PlanningChoices::SeriesId).eq(id))
            .and_where(Expr::col(PlanningChoices::EndHour).lt(oldest.div_euclid(3600)))
            .to_owned();
        self.db.run(&choices).await?;
        if removed > 0 {
            let has_points = Query::select()
                .expr(Expr::val(1))
                .from(PlanningPoints::Table)
                .and_where(Expr::col(PlanningPoints::SeriesId).eq(id))
                .to_owned();
            let empty = Query::delete()
                .from_table(PlanningSeries::Table)
                .and_where(Expr::col(PlanningSeries::Id).eq(id))
                .and_where(Expr::exists(has_points).not())
                .to_owned();
            self.db.run(&empty).await?;
        }
        Ok(removed)
    }

    /// The time up to which the next statement removes; `None` when nothing old is left.
    async fn bound(&self, id: &str, oldest: i64) -> Result<Option<i64>> {
        let old = Query::select()
            .column(PlanningPoints::At)
            .from(PlanningPoints::Table)
            .and_where(Expr::col(PlanningPoints::SeriesId).eq(id))
            .and_where(Expr::col(PlanningPoints::At).lt(oldest))
            .order_by(PlanningPoints::At, Order::Asc)
            .limit(REMOVED_AT_ONCE)
            .to_owned();
        let rows = self.db.all(&old).await?;
        rows.last().map(|row| row.get("at")).transpose()
    }
}
