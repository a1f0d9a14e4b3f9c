//! Rows of dashboard sources and of captures.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step};
use opsroom_core::{Error, Kind, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, SelectStatement, Table};

use super::model::Place;
use super::operations::Seen;

/// Our tables.
pub const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "sources and captures", steps: tables }];

/// Rows that are looked through at a time.
const PAGE: u64 = 500;

#[derive(Clone, Copy, Iden)]
enum DashboardsSources {
    Table,
    Id,
    TeamId,
    Name,
    Place,
    CreatedBy,
    CreatedAt,
}

#[derive(Clone, Copy, Iden)]
enum DashboardsCaptures {
    Table,
    Id,
    TeamId,
    CreatedBy,
    CreatedAt,
    Source,
    Target,
    Bytes,
    Seen,
}

use DashboardsCaptures as C;
use DashboardsSources as S;

fn tables(dialect: Dialect) -> Vec<Step> {
    let sources = Table::create()
        .table(S::Table)
        .col(ColumnDef::new(S::Id).string_len(36).not_null().primary_key())
        .col(ColumnDef::new(S::TeamId).string_len(64).not_null())
        .col(ColumnDef::new(S::Name).string_len(64).not_null())
        .col(dialect.long_text(S::Place).not_null())
        .col(ColumnDef::new(S::CreatedBy).string_len(190).not_null())
        .col(ColumnDef::new(S::CreatedAt).big_integer().not_null())
        .to_owned();
    let captures = Table::create()
        .table(C::Table)
        .col(ColumnDef::new(C::Id).string_len(36).not_null().primary_key())
        .col(ColumnDef::new(C::TeamId).string_len(64).not_null())
        .col(ColumnDef::new(C::CreatedBy).string_len(190).not_null())
        .col(ColumnDef::new(C::CreatedAt).big_integer().not_null())
        .col(ColumnDef::new(C::Source).string_len(64).not_null())
        .col(ColumnDef::new(C::Target).string_len(64).not_null())
        .col(ColumnDef::new(C::Bytes).big_integer().not_null())
        .col(dialect.long_text(C::Seen).not_null())
        .to_owned();
    let named = Index::create()
        .name("dashboards_sources_name")
        .table(S::Table)
        .col(S::TeamId)
        .col(S::Name)
        .unique()
        .to_owned();
    let before = Index::create()
        .name("dashboards_captures_target")
        .table(C::Table)
        .col(C::TeamId)
        .col(C::Target)
        .col(C::Id)
        .to_owned();
    vec![Step::Create(sources), Step::Create(captures), Step::Index(named), Step::Index(before)]
}

/// A source that is known.
#[derive(Clone, Debug)]
pub struct SourceRow {
    pub id: String,
    pub team: String,
    pub name: String,
    pub place: Place,
    pub created_by: String,
    pub created_at: Time,
}

/// A capture that is kept.
#[derive(Clone, Debug)]
pub struct CaptureRow {
    pub id: String,
    pub team: String,
    pub created_by: String,
    pub created_at: Time,
    /// The source's name; empty for a page of none.
    pub source: String,
    /// What two captures of the same thing have in common.
    pub target: String,
    pub bytes: i64,
    pub seen: Seen,
}

/// The tables.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

fn sources() -> SelectStatement {
    Query::select()
        .columns([S::Id, S::TeamId, S::Name, S::Place, S::CreatedBy, S::CreatedAt])
        .from(S::Table)
        .order_by(S::Name, Order::Asc)
        .to_owned()
}

fn source(row: &Row) -> Result<SourceRow> {
    Ok(SourceRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        name: row.get("name")?,
        place: row.json("place")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
    })
}

/// Newest first: an id begins with its time.
fn captures() -> SelectStatement {
    Query::select()
        .columns([C::Id, C::TeamId, C::CreatedBy, C::CreatedAt, C::Source, C::Target, C::Bytes, C::Seen])
        .from(C::Table)
        .order_by(C::Id, Order::Desc)
        .to_owned()
}

fn capture(row: &Row) -> Result<CaptureRow> {
    Ok(CaptureRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        source: row.get("source")?,
        target: row.get("target")?,
        bytes: row.get("bytes")?,
        seen: row.json("seen")?,
    })
}

impl Store {
    /// Adds a source; `Conflict` when its team has one of this name.
    pub async fn add_source(&self, it: &SourceRow) -> Result<()> {
        let place = serde_json::to_string(&it.place).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(S::Table)
            .columns([S::Id, S::TeamId, S::Name, S::Place, S::CreatedBy, S::CreatedAt])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.name.as_str().into(),
                place.into(),
                it.created_by.as_str().into(),
                it.created_at.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop).map_err(|error| match error.kind {
            Kind::Conflict => Error::conflict(format!("there is a dashboard source `{}` already", it.name)),
            _ => error,
        })
    }

    /// The sources of these teams, by name.
    pub async fn sources(&self, teams: &[String]) -> Result<Vec<SourceRow>> {
        let query = sources().and_where(Expr::col(S::TeamId).is_in(teams)).limit(10_000).to_owned();
        self.db.all(&query).await?.iter().map(source).collect()
    }

    /// The source of this name.
    pub async fn source(&self, teams: &[String], name: &str) -> Result<Option<SourceRow>> {
        let query = sources()
            .and_where(Expr::col(S::TeamId).is_in(teams))
            .and_where(Expr::col(S::Name).eq(name))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(source).transpose()
    }

    /// Forgets a source.
    pub async fn delete_source(&self, id: &str) -> Result<()> {
        let delete = Query::delete().from_table(S::Table).and_where(Expr::col(S::Id).eq(id)).to_owned();
        self.db.run(&delete).await.map(drop)
    }

    /// Keeps a capture.
    pub async fn add_capture(&self, it: &CaptureRow) -> Result<()> {
        let seen = serde_json::to_string(&it.seen).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(C::Table)
            .columns([C::Id, C::TeamId, C::CreatedBy, C::CreatedAt, C::Source, C::Target, C::Bytes, C::Seen])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                it.created_at.0.into(),
                it.source.as_str().into(),
                it.target.as_str().into(),
                it.bytes.into(),
                seen.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// Captures of these teams, newest first; `source` and `after` narrow them.
    pub async fn captures(
        &self,
        teams: &[String],
        source: Option<&str>,
        after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<CaptureRow>> {
        let mut query = captures();
        query.and_where(Expr::col(C::TeamId).is_in(teams)).limit(limit);
        if let Some(source) = source {
            query.and_where(Expr::col(C::Source).eq(source));
        }
        if let Some(after) = after {
            query.and_where(Expr::col(C::Id).lt(after));
        }
        self.db.all(&query).await?.iter().map(capture).collect()
    }

    /// A capture of these teams.
    pub async fn capture(&self, teams: &[String], id: &str) -> Result<Option<CaptureRow>> {
        let query = captures()
            .and_where(Expr::col(C::TeamId).is_in(teams))
            .and_where(Expr::col(C::Id).eq(id))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(capture).transpose()
    }

    /// The newest capture of the same thing.
    pub async fn newest(&self, team: &str, target: &str) -> Result<Option<CaptureRow>> {
        let query = captures()
            .and_where(Expr::col(C::TeamId).eq(team))
            .and_where(Expr::col(C::Target).eq(target))
            .limit(1)
            .to_owned();
        self.db.first(&query).await?.as_ref().map(capture).transpose()
    }

    /// Forgets a capture.
    pub async fn delete_capture(&self, id: &str) -> Result<()> {
        let delete = Query::delete().from_table(C::Table).and_where(Expr::col(C::Id).eq(id)).to_owned();
        self.db.run(&delete).await.map(drop)
    }

    /// What is older than `before`, and the oldest of what is more than `most_bytes`: ids and teams.
    pub async fn too_much(&self, before: Time, most_bytes: i64) -> Result<Vec<(String, String)>> {
        let (mut bytes, mut found, mut after) = (0i64, Vec::new(), None::<String>);
        loop {
            let mut query = Query::select()
                .columns([C::Id, C::TeamId, C::CreatedAt, C::Bytes])
                .from(C::Table)
                .order_by(C::Id, Order::Desc)
                .limit(PAGE)
                .to_owned();
            if let Some(after) = &after {
                query.and_where(Expr::col(C::Id).lt(after.as_str()));
            }
            let rows = self.db.all(&query).await?;
            for row in &rows {
                bytes = bytes.saturating_add(row.get::<i64>("bytes")?);
                if bytes > most_bytes || row.time("created_at")? < before {
                    found.push((row.get("id")?, row.get("team_id")?));
                }
            }
            match rows.last() {
                Some(last) if rows.len() as u64 == PAGE => after = Some(last.get("id")?),
                _ => return Ok(found),
            }
        }
    }
}
