//! Series and their points.

use std::collections::BTreeMap;

use opsroom_core::clock::Time;
use opsroom_core::error::{Error, Result};
use opsroom_core::id::new_id;
use sea_query::{Expr, ExprTrait, Func, OnConflict, Order, Query};

use super::{PlanningPoints, PlanningSeries, Store, digest};

/// The most points of one series that a plan looks at.
pub(super) const MOST_READ: u64 = 200_000;
/// Rows of one statement: three values each, within every database's bound.
const CHUNK: usize = 5_000;

/// Whose values they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// The service, as its callers name it.
    pub service: String,
    /// The metric.
    pub metric: String,
}

/// One value of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub at: i64,
    /// In the metric's own unit; finite.
    pub value: f64,
}

/// A series that has points.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRow {
    /// Whose values they are.
    pub key: SeriesKey,
    /// When its first points arrived.
    pub created_at: Time,
}

impl Store {
    /// Writes points; a point with the time of an earlier one replaces it. All or nothing, and durable
    /// when it answers.
    ///
    /// # Errors
    /// `Invalid` when the team would have more than `most` series.
    pub async fn write(
        &self,
        team: &str,
        points: BTreeMap<SeriesKey, BTreeMap<i64, f64>>,
        most: i64,
        now: Time,
    ) -> Result<()> {
        let mut on = self.db.begin().await?;
        for (key, values) in points {
            let id = digest(&[team, &key.service, &key.metric]);
            let series = Query::insert()
                .into_table(PlanningSeries::Table)
                .columns([
                    PlanningSeries::Id,
                    PlanningSeries::TeamId,
                    PlanningSeries::Service,
                    PlanningSeries::Metric,
                    PlanningSeries::CreatedAt,
                    PlanningSeries::Version,
                ])
                .values_panic([
                    id.as_str().into(),
                    team.into(),
                    key.service.into(),
                    key.metric.into(),
                    now.0.into(),
                    new_id().into(),
                ])
                .on_conflict(
                    OnConflict::column(PlanningSeries::Id).update_column(PlanningSeries::Version).to_owned(),
                )
                .to_owned();
            on.run(&series).await?;
            if let (Some((first, _)), Some((last, _))) = (values.first_key_value(), values.last_key_value()) {
                Self::remember(&mut on, &id, *first, *last).await?;
            }
            let values: Vec<(i64, f64)> = values.into_iter().collect();
            for chunk in values.chunks(CHUNK) {
                let mut insert = Query::insert()
                    .into_table(PlanningPoints::Table)
                    .columns([PlanningPoints::SeriesId, PlanningPoints::At, PlanningPoints::Value])
                    .on_conflict(
                        OnConflict::columns([PlanningPoints::SeriesId, PlanningPoints::At])
                            .update_column(PlanningPoints::Value)
                            .to_owned(),
                    )
                    .to_owned();
                for (at, value) in chunk {
                    insert.values_panic([id.as_str().into(), (*at).into(), (*value).into()]);
                }
                on.run(&insert).await?;
            }
        }
        let count = Query::select()
            .expr_as(Func::count(Expr::col(PlanningSeries::Id)), "number")
            .from(PlanningSeries::Table)
            .and_where(Expr::col(PlanningSeries::TeamId).eq(team))
            .to_owned();
        let number: i64 = on.first(&count).await?.map_or(Ok(0), |row| row.get("number"))?;
        if number > most {
            return Err(Error::invalid(format!(
                "there would be {number} series; at most {most} are kept (`planning.max_series`)"
            )));
        }
        on.commit().await
    }

    /// The points of a series from `from` to `until` (seconds since 1970, both included), oldest first.
    pub async fn points(&self, team: &str, key: &SeriesKey, from: i64, until: i64) -> Result<Vec<Point>> {
        let query = Query::select()
            .columns([PlanningPoints::At, PlanningPoints::Value])
            .from(PlanningPoints::Table)
            .and_where(Expr::col(PlanningPoints::SeriesId).eq(digest(&[team, &key.service, &key.metric])))
            .and_where(Expr::col(PlanningPoints::At).gte(from))
            .and_where(Expr::col(PlanningPoints::At).lte(until))
            .order_by(PlanningPoints::At, Order::Desc)
            .limit(MOST_READ)
            .to_owned();
        let rows = self.db.all(&query).await?;
        let point = |row: &opsroom_core::db::Row| Ok(Point { at: row.get("at")?, value: row.get("value")? });
        rows.iter().rev().map(point).collect()
    }

    /// What changes whenever the points of a series or its choices do; `None` for a series without points.
    pub async fn version(&self, team: &str, key: &SeriesKey) -> Result<Option<String>> {
        let query = Query::select()
            .column(PlanningSeries::Version)
            .from(PlanningSeries::Table)
            .and_where(Expr::col(PlanningSeries::Id).eq(digest(&[team, &key.service, &key.metric])))
            .to_owned();
        self.db.first(&query).await?.map(|row| row.get("version")).transpose()
    }

    /// The time of the first point after `now` (seconds since 1970), when there is one.
    pub async fn next(&self, team: &str, key: &SeriesKey, now: i64) -> Result<Option<i64>> {
        let query = Query::select()
            .column(PlanningPoints::At)
            .from(PlanningPoints::Table)
            .and_where(Expr::col(PlanningPoints::SeriesId).eq(digest(&[team, &key.service, &key.metric])))
            .and_where(Expr::col(PlanningPoints::At).gt(now))
            .order_by(PlanningPoints::At, Order::Asc)
            .limit(1)
            .to_owned();
        self.db.first(&query).await?.map(|row| row.get("at")).transpose()
    }

    /// The series of a team, in order of service and metric after `after`.
    pub async fn series(&self, team: &str, service: Option<&str>, limit: u64) -> Result<Vec<SeriesRow>> {
        let mut query = Query::select()
            .columns([PlanningSeries::Service, PlanningSeries::Metric, PlanningSeries::CreatedAt])
            .from(PlanningSeries::Table)
            .and_where(Expr::col(PlanningSeries::TeamId).eq(team))
            .order_by(PlanningSeries::Service, Order::Asc)
            .order_by(PlanningSeries::Metric, Order::Asc)
            .limit(limit)
            .to_owned();
        if let Some(service) = service {
            query.and_where(Expr::col(PlanningSeries::Service).eq(service));
        }
        let row = |row: &opsroom_core::db::Row| {
            let key = SeriesKey { service: row.get("service")?, metric: row.get("metric")? };
            Ok(SeriesRow { key, created_at: row.time("created_at")? })
        };
        self.db.all(&query).await?.iter().map(row).collect()
    }
}
