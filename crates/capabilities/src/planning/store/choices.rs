//! The choices of engines that backtests made.

use opsroom_analytics::forecast::choice::Choice;
use opsroom_core::clock::Time;
use opsroom_core::error::{Error, Result};
use opsroom_core::id::new_id;
use sea_query::{Expr, ExprTrait, OnConflict, Order, Query};

use super::points::SeriesKey;
use super::{PlanningChoices, PlanningSeries, Store, digest};

impl Store {
    /// Keeps a choice that was made from the history before the hour `end` (hours since 1970).
    pub async fn keep_choice(
        &self,
        team: &str,
        key: &SeriesKey,
        end: i64,
        choice: &Choice,
        now: Time,
    ) -> Result<()> {
        let text = serde_json::to_string(choice).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(PlanningChoices::Table)
            .columns([
                PlanningChoices::SeriesId,
                PlanningChoices::EndHour,
                PlanningChoices::Choice,
                PlanningChoices::MadeAt,
            ])
            .values_panic([
                digest(&[team, &key.service, &key.metric]).into(),
                end.into(),
                text.into(),
                now.0.into(),
            ])
            .on_conflict(
                OnConflict::columns([PlanningChoices::SeriesId, PlanningChoices::EndHour])
                    .update_columns([PlanningChoices::Choice, PlanningChoices::MadeAt])
                    .to_owned(),
            )
            .to_owned();
        let changed = Query::update()
            .table(PlanningSeries::Table)
            .value(PlanningSeries::Version, new_id())
            .and_where(Expr::col(PlanningSeries::Id).eq(digest(&[team, &key.service, &key.metric])))
            .to_owned();
        let mut on = self.db.begin().await?;
        on.run(&insert).await?;
        on.run(&changed).await?;
        on.commit().await
    }

    /// The latest choice made from nothing later than before the hour `end`: a plan for a time in the past
    /// must not know what came after it. `oldest` is the earliest that still counts.
    pub async fn choice(&self, team: &str, key: &SeriesKey, oldest: i64, end: i64) -> Result<Option<Choice>> {
        let query = Query::select()
            .column(PlanningChoices::Choice)
            .from(PlanningChoices::Table)
            .and_where(Expr::col(PlanningChoices::SeriesId).eq(digest(&[team, &key.service, &key.metric])))
            .and_where(Expr::col(PlanningChoices::EndHour).lte(end))
            .and_where(Expr::col(PlanningChoices::EndHour).gte(oldest))
            .order_by(PlanningChoices::EndHour, Order::Desc)
            .limit(1)
            .to_owned();
        match self.db.first(&query).await? {
            // A choice that this version cannot read is made again.
            Some(row) => Ok(serde_json::from_str(&row.get::<String>("choice")?).ok()),
            None => Ok(None),
        }
    }
}
