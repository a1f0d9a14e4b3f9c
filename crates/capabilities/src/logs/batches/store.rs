//! The tables of batches and their items.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Row, Step};
use opsroom_core::{Error, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Func, Iden, Index, Order, Query, Table};
use serde_json::Value;

use super::{BatchState, ItemState};

#[derive(Clone, Copy, Iden)]
enum LogBatches {
    Table,
    Id,
    TeamId,
    Subject,
    Operation,
    State,
    Total,
    Concurrency,
    Stops,
    Retries,
    CreatedAt,
    EndedAt,
}

#[derive(Clone, Copy, Iden)]
enum LogBatchItems {
    Table,
    BatchId,
    Place,
    State,
    Attempts,
    Input,
    Answer,
}

pub(crate) fn tables(dialect: Dialect) -> Vec<Step> {
    let number = |column| ColumnDef::new(column).big_integer().not_null().to_owned();
    vec![
        Step::Create(
            Table::create()
                .table(LogBatches::Table)
                .col(ColumnDef::new(LogBatches::Id).string_len(64).not_null().primary_key())
                .col(ColumnDef::new(LogBatches::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(LogBatches::Subject).string_len(128).not_null())
                .col(ColumnDef::new(LogBatches::Operation).string_len(64).not_null())
                .col(ColumnDef::new(LogBatches::State).string_len(16).not_null())
                .col(number(LogBatches::Total))
                .col(number(LogBatches::Concurrency))
                .col(number(LogBatches::Stops))
                .col(number(LogBatches::Retries))
                .col(number(LogBatches::CreatedAt))
                .col(ColumnDef::new(LogBatches::EndedAt).big_integer())
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(LogBatchItems::Table)
                .col(ColumnDef::new(LogBatchItems::BatchId).string_len(64).not_null())
                .col(ColumnDef::new(LogBatchItems::Place).big_integer().not_null())
                .col(ColumnDef::new(LogBatchItems::State).string_len(16).not_null())
                .col(ColumnDef::new(LogBatchItems::Attempts).big_integer().not_null())
                .col(dialect.long_text(LogBatchItems::Input).not_null())
                .col(dialect.long_text(LogBatchItems::Answer).not_null())
                .primary_key(Index::create().col(LogBatchItems::BatchId).col(LogBatchItems::Place))
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("log_batches_state")
                .table(LogBatches::Table)
                .col(LogBatches::State)
                .to_owned(),
        ),
    ]
}

/// A batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchRow {
    pub id: String,
    pub team: String,
    /// On whose behalf its items are called.
    pub subject: String,
    pub operation: String,
    pub state: BatchState,
    pub total: i64,
    pub concurrency: i64,
    /// Whether a failure ends it.
    pub stops: bool,
    pub retries: i64,
    pub created_at: Time,
    pub ended_at: Option<Time>,
}

/// One of its items.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRow {
    pub place: i64,
    pub state: ItemState,
    pub attempts: i64,
    pub input: Value,
    /// The answer, or the error.
    pub answer: Value,
}

/// Batches in a database.
#[derive(Clone)]
pub struct BatchStore {
    pub db: Db,
}

/// Items of one statement.
const CHUNK: usize = 500;

impl BatchStore {
    /// Keeps a batch with all its items, or nothing of it.
    pub async fn add(&self, batch: &BatchRow, inputs: &[Value]) -> Result<()> {
        let mut on = self.db.begin().await?;
        let insert = Query::insert()
            .into_table(LogBatches::Table)
            .columns([
                LogBatches::Id,
                LogBatches::TeamId,
                LogBatches::Subject,
                LogBatches::Operation,
                LogBatches::State,
                LogBatches::Total,
                LogBatches::Concurrency,
                LogBatches::Stops,
                LogBatches::Retries,
                LogBatches::CreatedAt,
            ])
            .values_panic([
                batch.id.as_str().into(),
                batch.team.as_str().into(),
                batch.subject.as_str().into(),
                batch.operation.as_str().into(),
                batch.state.as_str().into(),
                batch.total.into(),
                batch.concurrency.into(),
                i64::from(batch.stops).into(),
                batch.retries.into(),
                batch.created_at.0.into(),
            ])
            .to_owned();
        on.run(&insert).await?;
        for (chunk, inputs) in inputs.chunks(CHUNK).enumerate() {
            let mut insert = Query::insert()
                .into_table(LogBatchItems::Table)
                .columns([
                    LogBatchItems::BatchId,
                    LogBatchItems::Place,
                    LogBatchItems::State,
                    LogBatchItems::Attempts,
                    LogBatchItems::Input,
                    LogBatchItems::Answer,
                ])
                .to_owned();
            for (at, input) in inputs.iter().enumerate() {
                insert.values_panic([
                    batch.id.as_str().into(),
                    ((chunk * CHUNK + at) as i64).into(),
                    ItemState::Waiting.as_str().into(),
                    0i64.into(),
                    input.to_string().into(),
                    "null".into(),
                ]);
            }
            on.run(&insert).await?;
        }
        on.commit().await
    }

    /// A batch of these teams.
    pub async fn batch(&self, teams: &[String], id: &str) -> Result<Option<BatchRow>> {
        let query = select()
            .and_where(Expr::col(LogBatches::Id).eq(id))
            .and_where(Expr::col(LogBatches::TeamId).is_in(teams.iter().map(String::as_str)))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Batches that are to go on.
    pub async fn running(&self) -> Result<Vec<BatchRow>> {
        let query = select()
            .and_where(Expr::col(LogBatches::State).eq(BatchState::Running.as_str()))
            .order_by(LogBatches::CreatedAt, Order::Asc)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// The state of a batch now.
    pub async fn state(&self, id: &str) -> Result<Option<BatchState>> {
        let query = select().and_where(Expr::col(LogBatches::Id).eq(id)).to_owned();
        Ok(self.db.first(&query).await?.as_ref().map(read).transpose()?.map(|batch| batch.state))
    }

    /// Ends a batch that runs; one that ended stays as it is.
    pub async fn end(&self, id: &str, state: BatchState, now: Time) -> Result<bool> {
        let update = Query::update()
            .table(LogBatches::Table)
            .value(LogBatches::State, state.as_str())
            .value(LogBatches::EndedAt, now.0)
            .and_where(Expr::col(LogBatches::Id).eq(id))
            .and_where(Expr::col(LogBatches::State).eq(BatchState::Running.as_str()))
            .to_owned();
        self.db.run(&update).await.map(|rows| rows > 0)
    }

    /// Items from a place on; of this state alone, if one is given.
    pub async fn items(
        &self,
        id: &str,
        from: i64,
        state: Option<ItemState>,
        limit: u64,
    ) -> Result<Vec<ItemRow>> {
        let mut query = Query::select()
            .columns([
                LogBatchItems::Place,
                LogBatchItems::State,
                LogBatchItems::Attempts,
                LogBatchItems::Input,
                LogBatchItems::Answer,
            ])
            .from(LogBatchItems::Table)
            .and_where(Expr::col(LogBatchItems::BatchId).eq(id))
            .and_where(Expr::col(LogBatchItems::Place).gte(from))
            .order_by(LogBatchItems::Place, Order::Asc)
            .limit(limit)
            .to_owned();
        if let Some(state) = state {
            query.and_where(Expr::col(LogBatchItems::State).eq(state.as_str()));
        }
        let item = |row: &Row| {
            Ok(ItemRow {
                place: row.get("place")?,
                state: ItemState::parse(&row.get::<String>("state")?)?,
                attempts: row.get("attempts")?,
                input: row.json("input")?,
                answer: row.json("answer")?,
            })
        };
        self.db.all(&query).await?.iter().map(item).collect()
    }

    /// Keeps what came of an item.
    pub async fn done(
        &self,
        id: &str,
        place: i64,
        state: ItemState,
        attempts: i64,
        answer: &Value,
    ) -> Result<()> {
        let update = Query::update()
            .table(LogBatchItems::Table)
            .value(LogBatchItems::State, state.as_str())
            .value(LogBatchItems::Attempts, attempts)
            .value(LogBatchItems::Answer, answer.to_string())
            .and_where(Expr::col(LogBatchItems::BatchId).eq(id))
            .and_where(Expr::col(LogBatchItems::Place).eq(place))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// How many items have a state.
    pub async fn count(&self, id: &str, state: ItemState) -> Result<i64> {
        let query = Query::select()
            .expr_as(Func::count(Expr::col(LogBatchItems::Place)), "number")
            .from(LogBatchItems::Table)
            .and_where(Expr::col(LogBatchItems::BatchId).eq(id))
            .and_where(Expr::col(LogBatchItems::State).eq(state.as_str()))
            .to_owned();
        self.db.first(&query).await?.map_or(Ok(0), |row| row.get("number"))
    }
}

fn select() -> sea_query::SelectStatement {
    Query::select()
        .columns([
            LogBatches::Id,
            LogBatches::TeamId,
            LogBatches::Subject,
            LogBatches::Operation,
            LogBatches::State,
            LogBatches::Total,
            LogBatches::Concurrency,
            LogBatches::Stops,
            LogBatches::Retries,
            LogBatches::CreatedAt,
            LogBatches::EndedAt,
        ])
        .from(LogBatches::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<BatchRow> {
    let state: String = row.get("state")?;
    Ok(BatchRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        subject: row.get("subject")?,
        operation: row.get("operation")?,
        state: BatchState::parse(&state)
            .ok_or_else(|| Error::internal(format!("a batch in the state {state}")))?,
        total: row.get("total")?,
        concurrency: row.get("concurrency")?,
        stops: row.get::<i64>("stops")? != 0,
        retries: row.get("retries")?,
        created_at: row.time("created_at")?,
        ended_at: row.time_or_none("ended_at")?,
    })
}
