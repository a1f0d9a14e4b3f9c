//! Rows of what is looked at when an alert begins.

use opsroom_core::db::{Row, Transaction};
use opsroom_core::id::new_id;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::{AlertsEvidence as V, Store};

/// What is to be looked at, of which alert, by which rule.
#[derive(Clone, Debug)]
pub struct EvidenceRow {
    pub id: String,
    pub alert: String,
    pub rule: i64,
    pub operation: String,
    /// `waiting`, `running`, `done`, `failed` or `skipped`.
    pub state: String,
    /// The JSON of the answer, or why there is none.
    pub answer: Option<String>,
    pub created_at: Time,
}

const COLUMNS: [V; 7] = [V::Id, V::AlertId, V::Rule, V::Operation, V::State, V::Answer, V::CreatedAt];

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(V::Table).to_owned()
}

fn read(row: &Row) -> Result<EvidenceRow> {
    Ok(EvidenceRow {
        id: row.get("id")?,
        alert: row.get("alert_id")?,
        rule: row.get("rule")?,
        operation: row.get("operation")?,
        state: row.get("state")?,
        answer: row.get("answer")?,
        created_at: row.time("created_at")?,
    })
}

/// An alert that is to be looked at, by the rule of a number.
#[derive(Debug)]
pub struct Wanted {
    pub alert: String,
    pub rule: usize,
    pub operation: String,
}

/// Notes what is to be looked at.
pub(super) async fn want(on: &mut Transaction, wanted: &[Wanted], now: Time) -> Result<()> {
    for it in wanted {
        let insert = Query::insert()
            .into_table(V::Table)
            .columns(COLUMNS)
            .values_panic([
                new_id().into(),
                it.alert.as_str().into(),
                (it.rule as i64).into(),
                it.operation.as_str().into(),
                "waiting".into(),
                Option::<String>::None.into(),
                now.0.into(),
            ])
            .to_owned();
        on.run(&insert).await?;
    }
    Ok(())
}

impl Store {
    /// What waits, the oldest first.
    pub async fn wanted_evidence(&self, limit: u64) -> Result<Vec<EvidenceRow>> {
        let query = select()
            .and_where(Expr::col(V::State).eq("waiting"))
            .order_by(V::Id, Order::Asc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Of an alert, the newest first.
    pub async fn evidence(&self, alert: &str, limit: u64) -> Result<Vec<EvidenceRow>> {
        let query = select()
            .and_where(Expr::col(V::AlertId).eq(alert))
            .order_by(V::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Changes a row from one state to another; `false` when it is in another one by now.
    pub async fn move_evidence(&self, id: &str, from: &str, to: &str, answer: Option<&str>) -> Result<bool> {
        let update = Query::update()
            .table(V::Table)
            .values([(V::State, to.into()), (V::Answer, answer.map(str::to_owned).into())])
            .and_where(Expr::col(V::Id).eq(id))
            .and_where(Expr::col(V::State).eq(from))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Gives up what was begun before, which a crash cut short, and removes what is older than `oldest`.
    pub async fn tidy_evidence(&self, begun_before: Time, oldest: Time) -> Result<()> {
        let cut_short = Query::update()
            .table(V::Table)
            .values([(V::State, "failed".into()), (V::Answer, "the server stopped meanwhile".into())])
            .and_where(Expr::col(V::State).eq("running"))
            .and_where(Expr::col(V::CreatedAt).lt(begun_before.0))
            .to_owned();
        self.db.run(&cut_short).await?;
        let old =
            Query::delete().from_table(V::Table).and_where(Expr::col(V::CreatedAt).lt(oldest.0)).to_owned();
        self.db.run(&old).await.map(drop)
    }
}
