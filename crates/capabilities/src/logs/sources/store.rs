//! The table of sources.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Row, Step};
use opsroom_core::{Error, Kind, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, Table};

use super::model::SourceConfig;

#[derive(Clone, Copy, Iden)]
enum LogSources {
    Table,
    Id,
    TeamId,
    Name,
    Config,
    CreatedBy,
    CreatedAt,
    UpdatedAt,
}

pub(crate) fn tables(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(LogSources::Table)
                .col(ColumnDef::new(LogSources::Id).string_len(64).not_null().primary_key())
                .col(ColumnDef::new(LogSources::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(LogSources::Name).string_len(64).not_null())
                .col(dialect.long_text(LogSources::Config).not_null())
                .col(ColumnDef::new(LogSources::CreatedBy).string_len(128).not_null())
                .col(ColumnDef::new(LogSources::CreatedAt).big_integer().not_null())
                .col(ColumnDef::new(LogSources::UpdatedAt).big_integer().not_null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("log_sources_name")
                .table(LogSources::Table)
                .col(LogSources::TeamId)
                .col(LogSources::Name)
                .unique()
                .to_owned(),
        ),
    ]
}

/// A source that is known.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub team: String,
    /// What it is called.
    pub name: String,
    /// How it is reached.
    pub config: SourceConfig,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// The sources in a database.
#[derive(Clone)]
pub struct SourceStore {
    /// The database.
    pub db: Db,
}

impl SourceStore {
    pub(super) async fn add(&self, row: &SourceRow) -> Result<()> {
        let config = serde_json::to_string(&row.config).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(LogSources::Table)
            .columns([
                LogSources::Id,
                LogSources::TeamId,
                LogSources::Name,
                LogSources::Config,
                LogSources::CreatedBy,
                LogSources::CreatedAt,
                LogSources::UpdatedAt,
            ])
            .values_panic([
                row.id.as_str().into(),
                row.team.as_str().into(),
                row.name.as_str().into(),
                config.into(),
                row.created_by.as_str().into(),
                row.created_at.0.into(),
                row.updated_at.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop).map_err(|error| match error.kind {
            Kind::Conflict => Error::conflict(format!("there is a log source `{}` already", row.name)),
            _ => error,
        })
    }

    pub(super) async fn all(&self, teams: &[String]) -> Result<Vec<SourceRow>> {
        let query = select()
            .and_where(Expr::col(LogSources::TeamId).is_in(teams.iter().map(String::as_str)))
            .order_by(LogSources::Name, Order::Asc)
            .limit(10_000)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    pub(super) async fn named(&self, teams: &[String], name: &str) -> Result<Option<SourceRow>> {
        let query = select()
            .and_where(Expr::col(LogSources::TeamId).is_in(teams.iter().map(String::as_str)))
            .and_where(Expr::col(LogSources::Name).eq(name))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    pub(super) async fn update(&self, row: &SourceRow) -> Result<()> {
        let config = serde_json::to_string(&row.config).map_err(Error::internal)?;
        let update = Query::update()
            .table(LogSources::Table)
            .value(LogSources::Config, config)
            .value(LogSources::UpdatedAt, row.updated_at.0)
            .and_where(Expr::col(LogSources::Id).eq(row.id.as_str()))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    pub(super) async fn delete(&self, id: &str) -> Result<()> {
        let delete = Query::delete()
            .from_table(LogSources::Table)
            .and_where(Expr::col(LogSources::Id).eq(id))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}

fn select() -> sea_query::SelectStatement {
    Query::select()
        .columns([
            LogSources::Id,
            LogSources::TeamId,
            LogSources::Name,
            LogSources::Config,
            LogSources::CreatedBy,
            LogSources::CreatedAt,
            LogSources::UpdatedAt,
        ])
        .from(LogSources::Table)
        .to_owned()
}

fn read(row: &Row) -> Result<SourceRow> {
    Ok(SourceRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        name: row.get("name")?,
        config: row.json("config")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
