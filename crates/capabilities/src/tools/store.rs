//! What is configured for tools, which definitions were approved, profiles, and calls by the hour.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step};
use opsroom_core::{Error, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, Table};
use serde::{Deserialize, Serialize};

use super::model::{Count, Settings};

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 1] = [Migration {
    version: 1,
    name: "settings and pins of tools, profiles, calls by the hour",
    steps: tables,
}];

#[derive(Clone, Copy, Iden)]
enum ToolsTool {
    Table,
    Id,
    TeamId,
    CreatedBy,
    Record,
}

#[derive(Clone, Copy, Iden)]
enum ToolsProfile {
    Table,
    Name,
    TeamId,
    CreatedBy,
    Record,
    CreatedAt,
}

#[derive(Clone, Copy, Iden)]
enum ToolsHour {
    Table,
    Tool,
    Hour,
    Node,
    Counts,
}

fn tables(dialect: Dialect) -> Vec<Step> {
    let text = |column, length| {
        let mut column: ColumnDef = column;
        column.string_len(length).not_null().take()
    };
    vec![
        Step::Create(
            Table::create()
                .table(ToolsTool::Table)
                .col(text(ColumnDef::new(ToolsTool::Id), 190).primary_key())
                .col(text(ColumnDef::new(ToolsTool::TeamId), 64))
                .col(text(ColumnDef::new(ToolsTool::CreatedBy), 128))
                .col(dialect.long_text(ToolsTool::Record).not_null())
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(ToolsProfile::Table)
                .col(text(ColumnDef::new(ToolsProfile::Name), 40).primary_key())
                .col(text(ColumnDef::new(ToolsProfile::TeamId), 64))
                .col(text(ColumnDef::new(ToolsProfile::CreatedBy), 128))
                .col(dialect.long_text(ToolsProfile::Record).not_null())
                .col(ColumnDef::new(ToolsProfile::CreatedAt).big_integer().not_null())
                .to_owned(),
        ),
        Step::Create(
            Table::create()
                .table(ToolsHour::Table)
                .col(text(ColumnDef::new(ToolsHour::Tool), 190))
                .col(ColumnDef::new(ToolsHour::Hour).big_integer().not_null())
                .col(text(ColumnDef::new(ToolsHour::Node), 64))
                .col(dialect.long_text(ToolsHour::Counts).not_null())
                .primary_key(Index::create().col(ToolsHour::Tool).col(ToolsHour::Hour).col(ToolsHour::Node))
                .to_owned(),
        ),
        Step::Index(
            Index::create().name("tools_hour_hour").table(ToolsHour::Table).col(ToolsHour::Hour).to_owned(),
        ),
    ]
}

/// What is kept of one tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// What is configured.
    pub settings: Settings,
    /// The hash of the definition that was approved; `None` for a built-in tool.
    pub pin: Option<String>,
    /// The definition that was approved.
    pub approved: Option<serde_json::Value>,
    /// The hash of a definition that waits for approval.
    pub waiting_hash: Option<String>,
    /// The definition that waits for approval.
    pub waiting: Option<serde_json::Value>,
    /// When it was first seen, in microseconds since 1970.
    pub first_seen: i64,
    /// When its definition was last approved or seen to change.
    pub changed_at: i64,
    /// Who approved it last; empty for the first look.
    pub approved_by: String,
}

/// A profile as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptProfile {
    /// Its name.
    pub name: String,
    /// Its team.
    #[serde(skip)]
    pub team: String,
    /// What an agent is told before it sees the tools.
    pub instructions: String,
    /// What it holds: `SERVICE/TOOL`, `SERVICE/*`, or the name of a built-in tool.
    pub tools: Vec<String>,
}

/// Tools in a database.
#[derive(Clone)]
pub struct Store {
    /// The database.
    pub db: Db,
}

impl Store {
    /// What is kept of each tool: `SERVICE/TOOL`, or a built-in tool's name.
    pub async fn tools(&self) -> Result<Vec<(String, Kept)>> {
        let query = Query::select()
            .columns([ToolsTool::Id, ToolsTool::Record])
            .from(ToolsTool::Table)
            .order_by(ToolsTool::Id, Order::Asc)
            .to_owned();
        let read = |row: &Row| Ok((row.get("id")?, row.json("record")?));
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Writes what is kept of a tool.
    pub async fn put(&self, id: &str, team: &str, by: &str, kept: &Kept) -> Result<()> {
        let record = serde_json::to_string(kept).map_err(Error::internal)?;
        let mut on = self.db.begin().await?;
        let delete = Query::delete()
            .from_table(ToolsTool::Table)
            .and_where(Expr::col(ToolsTool::Id).eq(id))
            .to_owned();
        on.run(&delete).await?;
        let insert = Query::insert()
            .into_table(ToolsTool::Table)
            .columns([ToolsTool::Id, ToolsTool::TeamId, ToolsTool::CreatedBy, ToolsTool::Record])
            .values_panic([id.into(), team.into(), by.into(), record.into()])
            .to_owned();
        on.run(&insert).await?;
        on.commit().await
    }

    /// Every profile, by name.
    pub async fn profiles(&self) -> Result<Vec<KeptProfile>> {
        let query = Query::select()
            .columns([ToolsProfile::TeamId, ToolsProfile::Record])
            .from(ToolsProfile::Table)
            .order_by(ToolsProfile::Name, Order::Asc)
            .to_owned();
        let read = |row: &Row| {
            let record: KeptProfile = row.json("record")?;
            Ok(KeptProfile { team: row.get("team_id")?, ..record })
        };
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Makes a profile.
    ///
    /// # Errors
    /// `Conflict` when its name is taken.
    pub async fn insert_profile(&self, profile: &KeptProfile, by: &str, now: Time) -> Result<()> {
        let record = serde_json::to_string(profile).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(ToolsProfile::Table)
            .columns([
                ToolsProfile::Name,
                ToolsProfile::TeamId,
                ToolsProfile::CreatedBy,
                ToolsProfile::Record,
                ToolsProfile::CreatedAt,
            ])
            .values_panic([
                profile.name.as_str().into(),
                profile.team.as_str().into(),
                by.into(),
                record.into(),
                now.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop).map_err(|error| match error.kind {
            opsroom_core::Kind::Conflict => {
                Error::conflict(format!("there is a profile `{}` already", profile.name))
            }
            _ => error,
        })
    }

    /// Removes a profile of these teams; `false` when there is none.
    pub async fn remove_profile(&self, name: &str, teams: &[String]) -> Result<bool> {
        let delete = Query::delete()
            .from_table(ToolsProfile::Table)
            .and_where(Expr::col(ToolsProfile::Name).eq(name))
            .and_where(Expr::col(ToolsProfile::TeamId).is_in(teams))
            .to_owned();
        Ok(self.db.run(&delete).await? > 0)
    }

    /// Adds what this node counted in an hour to what it had.
    pub async fn add_counts(&self, hour: i64, node: &str, counts: &[(String, Count)]) -> Result<()> {
        let mut on = self.db.begin().await?;
        for (tool, count) in counts {
            let same = |query: &mut sea_query::DeleteStatement| {
                query
                    .and_where(Expr::col(ToolsHour::Tool).eq(tool.as_str()))
                    .and_where(Expr::col(ToolsHour::Hour).eq(hour))
                    .and_where(Expr::col(ToolsHour::Node).eq(node))
                    .to_owned()
            };
            let known = Query::select()
                .column(ToolsHour::Counts)
                .from(ToolsHour::Table)
                .and_where(Expr::col(ToolsHour::Tool).eq(tool.as_str()))
                .and_where(Expr::col(ToolsHour::Hour).eq(hour))
                .and_where(Expr::col(ToolsHour::Node).eq(node))
                .to_owned();
            let mut all: Count = match on.first(&known).await? {
                Some(row) => row.json("counts")?,
                None => Count::default(),
            };
            all.merge(count);
            on.run(&same(Query::delete().from_table(ToolsHour::Table))).await?;
            let insert = Query::insert()
                .into_table(ToolsHour::Table)
                .columns([ToolsHour::Tool, ToolsHour::Hour, ToolsHour::Node, ToolsHour::Counts])
                .values_panic([
                    tool.as_str().into(),
                    hour.into(),
                    node.into(),
                    serde_json::to_string(&all).map_err(Error::internal)?.into(),
                ])
                .to_owned();
            on.run(&insert).await?;
        }
        on.commit().await
    }

    /// What was counted since an hour, of every node.
    pub async fn counts(&self, since_hour: i64) -> Result<Vec<(String, Count)>> {
        let query = Query::select()
            .columns([ToolsHour::Tool, ToolsHour::Counts])
            .from(ToolsHour::Table)
            .and_where(Expr::col(ToolsHour::Hour).gte(since_hour))
            .to_owned();
        let read = |row: &Row| Ok((row.get("tool")?, row.json("counts")?));
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Removes counts of hours before this one.
    pub async fn forget_counts(&self, before_hour: i64) -> Result<()> {
        let delete = Query::delete()
            .from_table(ToolsHour::Table)
            .and_where(Expr::col(ToolsHour::Hour).lt(before_hour))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}
