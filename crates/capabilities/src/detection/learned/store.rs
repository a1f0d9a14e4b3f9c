//! The tables of runs of training and of registered datasets.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step};
use opsroom_core::{Error, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, Table};
use serde_json::Value;

use super::layout::Spec;
use super::runs::{Kind, State, Status, Stored};

/// This folder's tables, oldest change first.
pub const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "training runs and datasets", steps: first }];

#[derive(Clone, Copy, Iden)]
enum TrainingRuns {
    Table,
    Id,
    TeamId,
    CreatedBy,
    Kind,
    Status,
    State,
    Result,
    Error,
    CreatedAt,
    UpdatedAt,
}

#[derive(Clone, Copy, Iden)]
enum Datasets {
    Table,
    TeamId,
    Name,
    CreatedBy,
    CreatedAt,
    Spec,
}

fn first(dialect: Dialect) -> Vec<Step> {
    let text = |column, most| ColumnDef::new(column).string_len(most).not_null().take();
    let runs = Table::create()
        .table(TrainingRuns::Table)
        .col(ColumnDef::new(TrainingRuns::Id).string_len(36).not_null().primary_key())
        .col(text(TrainingRuns::TeamId, 64))
        .col(text(TrainingRuns::CreatedBy, 190))
        .col(text(TrainingRuns::Kind, 16))
        .col(text(TrainingRuns::Status, 16))
        .col(dialect.long_text(TrainingRuns::State).not_null())
        .col(dialect.long_text(TrainingRuns::Result).null())
        .col(dialect.long_text(TrainingRuns::Error).null())
        .col(ColumnDef::new(TrainingRuns::CreatedAt).big_integer().not_null())
        .col(ColumnDef::new(TrainingRuns::UpdatedAt).big_integer().not_null())
        .to_owned();
    let by_team = Index::create()
        .name("training_runs_team_id")
        .table(TrainingRuns::Table)
        .col(TrainingRuns::TeamId)
        .col(TrainingRuns::Kind)
        .col(TrainingRuns::Id)
        .to_owned();
    let datasets = Table::create()
        .table(Datasets::Table)
        .col(ColumnDef::new(Datasets::TeamId).string_len(64).not_null())
        .col(ColumnDef::new(Datasets::Name).string_len(64).not_null())
        .col(ColumnDef::new(Datasets::CreatedBy).string_len(190).not_null())
        .col(ColumnDef::new(Datasets::CreatedAt).big_integer().not_null())
        .col(dialect.long_text(Datasets::Spec).not_null())
        .primary_key(Index::create().col(Datasets::TeamId).col(Datasets::Name))
        .to_owned();
    vec![Step::Create(runs), Step::Index(by_team), Step::Create(datasets)]
}

/// The rows of runs and datasets in a database.
#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    /// A run begins.
    pub async fn begin(&self, id: &str, team: &str, subject: &str, kind: Kind, now: Time) -> Result<()> {
        let insert = Query::insert()
            .into_table(TrainingRuns::Table)
            .columns([
                TrainingRuns::Id,
                TrainingRuns::TeamId,
                TrainingRuns::CreatedBy,
                TrainingRuns::Kind,
                TrainingRuns::Status,
                TrainingRuns::State,
                TrainingRuns::CreatedAt,
                TrainingRuns::UpdatedAt,
            ])
            .values_panic([
                id.into(),
                team.into(),
                subject.into(),
                kind.as_str().into(),
                Status::Training.as_str().into(),
                json_text(&State::default())?.into(),
                now.0.into(),
                now.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// How far a run is.
    pub async fn progress(&self, id: &str, state: &State, now: Time) -> Result<()> {
        let update = Query::update()
            .table(TrainingRuns::Table)
            .value(TrainingRuns::State, json_text(state)?)
            .value(TrainingRuns::UpdatedAt, now.0)
            .and_where(Expr::col(TrainingRuns::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// How a run ended.
    pub async fn end(
        &self,
        id: &str,
        state: &State,
        outcome: Result<&Value, &Error>,
        now: Time,
    ) -> Result<()> {
        let (status, result, error) = match outcome {
            Ok(result) => (Status::Completed, Some(json_text(result)?), None),
            Err(error) if error.kind == opsroom_core::Kind::Cancelled => {
                (Status::Cancelled, None, Some(error.message.clone()))
            }
            Err(error) => (Status::Error, None, Some(error.message.clone())),
        };
        let update = Query::update()
            .table(TrainingRuns::Table)
            .value(TrainingRuns::Status, status.as_str())
            .value(TrainingRuns::State, json_text(state)?)
            .value(TrainingRuns::Result, result)
            .value(TrainingRuns::Error, error)
            .value(TrainingRuns::UpdatedAt, now.0)
            .and_where(Expr::col(TrainingRuns::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// The newest run of a kind of these teams, or the one of this id.
    pub async fn newest(&self, teams: &[String], kind: Kind, id: Option<&str>) -> Result<Option<Stored>> {
        let mut query = Query::select()
            .columns([
                TrainingRuns::Id,
                TrainingRuns::Status,
                TrainingRuns::State,
                TrainingRuns::Result,
                TrainingRuns::Error,
                TrainingRuns::CreatedAt,
                TrainingRuns::UpdatedAt,
            ])
            .from(TrainingRuns::Table)
            .and_where(Expr::col(TrainingRuns::TeamId).is_in(teams))
            .and_where(Expr::col(TrainingRuns::Kind).eq(kind.as_str()))
            .order_by(TrainingRuns::Id, Order::Desc)
            .limit(1)
            .to_owned();
        if let Some(id) = id {
            query.and_where(Expr::col(TrainingRuns::Id).eq(id));
        }
        self.db.first(&query).await?.map(|row| run(&row)).transpose()
    }

    /// Registers a dataset, in place of an older one of its name.
    pub async fn put_dataset(&self, team: &str, subject: &str, spec: &Spec, now: Time) -> Result<()> {
        let delete = Query::delete()
            .from_table(Datasets::Table)
            .and_where(Expr::col(Datasets::TeamId).eq(team))
            .and_where(Expr::col(Datasets::Name).eq(spec.name.as_str()))
            .to_owned();
        let insert = Query::insert()
            .into_table(Datasets::Table)
            .columns([
                Datasets::TeamId,
                Datasets::Name,
                Datasets::CreatedBy,
                Datasets::CreatedAt,
                Datasets::Spec,
            ])
            .values_panic([
                team.into(),
                spec.name.as_str().into(),
                subject.into(),
                now.0.into(),
                json_text(spec)?.into(),
            ])
            .to_owned();
        let mut on = self.db.begin().await?;
        on.run(&delete).await?;
        on.run(&insert).await?;
        on.commit().await
    }

    /// The datasets of these teams by name, at most a thousand.
    pub async fn datasets(&self, teams: &[String]) -> Result<Vec<Spec>> {
        let query = Query::select()
            .column(Datasets::Spec)
            .from(Datasets::Table)
            .and_where(Expr::col(Datasets::TeamId).is_in(teams))
            .order_by(Datasets::Name, Order::Asc)
            .limit(1000)
            .to_owned();
        self.db.all(&query).await?.iter().map(|row| row.json("spec")).collect()
    }

    /// The dataset of a name.
    pub async fn dataset(&self, teams: &[String], name: &str) -> Result<Option<Spec>> {
        let query = Query::select()
            .column(Datasets::Spec)
            .from(Datasets::Table)
            .and_where(Expr::col(Datasets::TeamId).is_in(teams))
            .and_where(Expr::col(Datasets::Name).eq(name))
            .limit(1)
            .to_owned();
        self.db.first(&query).await?.map(|row| row.json("spec")).transpose()
    }
}

fn run(row: &Row) -> Result<Stored> {
    let status: String = row.get("status")?;
    Ok(Stored {
        id: row.get("id")?,
        status: Status::parse(&status)
            .ok_or_else(|| Error::internal(format!("training_runs.status holds {status:?}")))?,
        state: row.json("state")?,
        result: row.json_or_none("result")?,
        error: row.get("error")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}
