//! Rows of channels; what opens them is sealed.

use opsroom_core::clock::Time;
use opsroom_core::db::{Dialect, Row, Step, Transaction};
use opsroom_core::error::{Error, Result};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, Order, Query, SelectStatement, Table};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::notifications::channels::ChannelKind;

#[derive(Clone, Copy, Iden)]
enum NotificationsChannels {
    Table,
    Id,
    TeamId,
    CreatedBy,
    CreatedAt,
    Name,
    Settings,
    Sealed,
}

use NotificationsChannels as C;

/// What of a channel is no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelSettings {
    pub kind: ChannelKind,
    /// The part of its address that may be shown.
    pub place: String,
    pub per_minute: u32,
    /// Whether a message that was on its way when the server died waits for a person.
    pub hold_after_crash: bool,
    /// The channel that gets what this one refuses.
    pub fallback: Option<String>,
    /// What its messages say in the place of their title, and of their text.
    #[serde(default)]
    pub title_template: Option<String>,
    #[serde(default)]
    pub text_template: Option<String>,
}

/// A channel as the database has it.
#[derive(Clone, Debug)]
pub struct ChannelRow {
    pub id: String,
    pub team: String,
    pub created_by: String,
    pub created_at: Time,
    pub name: String,
    pub settings: ChannelSettings,
    pub sealed: String,
}

pub(in crate::notifications) fn tables(dialect: Dialect) -> Vec<Step> {
    let text = |column: C, longest: u32| ColumnDef::new(column).string_len(longest).not_null().to_owned();
    let table = Table::create()
        .table(C::Table)
        .col(text(C::Id, 36).primary_key())
        .col(text(C::TeamId, 64))
        .col(text(C::CreatedBy, 190))
        .col(ColumnDef::new(C::CreatedAt).big_integer().not_null())
        .col(text(C::Name, 64))
        .col(dialect.long_text(C::Settings).not_null())
        .col(dialect.long_text(C::Sealed).not_null())
        .to_owned();
    let named = Index::create()
        .name("notifications_channels_name")
        .table(C::Table)
        .col(C::TeamId)
        .col(C::Name)
        .unique()
        .to_owned();
    vec![Step::Create(table), Step::Index(named)]
}

fn select() -> SelectStatement {
    Query::select()
        .columns([C::Id, C::TeamId, C::CreatedBy, C::CreatedAt, C::Name, C::Settings, C::Sealed])
        .from(C::Table)
        .order_by(C::Name, Order::Asc)
        .to_owned()
}

fn read(row: &Row) -> Result<ChannelRow> {
    Ok(ChannelRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        created_by: row.get("created_by")?,
        created_at: row.time("created_at")?,
        name: row.get("name")?,
        settings: row.json("settings")?,
        sealed: row.get("sealed")?,
    })
}

impl Store {
    /// Adds a channel; `Conflict` when its team has one of this name.
    pub async fn add_channel(&self, it: &ChannelRow) -> Result<()> {
        let settings = serde_json::to_string(&it.settings).map_err(Error::internal)?;
        let insert = Query::insert()
            .into_table(C::Table)
            .columns([C::Id, C::TeamId, C::CreatedBy, C::CreatedAt, C::Name, C::Settings, C::Sealed])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                it.created_by.as_str().into(),
                it.created_at.0.into(),
                it.name.as_str().into(),
                settings.into(),
                it.sealed.as_str().into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// The channels of these teams, by name.
    pub async fn channels(&self, teams: &[String]) -> Result<Vec<ChannelRow>> {
        let query = select().and_where(Expr::col(C::TeamId).is_in(teams)).to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Every channel.
    pub async fn every_channel(&self) -> Result<Vec<ChannelRow>> {
        self.db.all(&select()).await?.iter().map(read).collect()
    }

    /// A team's channel of this name.
    pub async fn channel(&self, teams: &[String], name: &str) -> Result<Option<ChannelRow>> {
        let query = select()
            .and_where(Expr::col(C::TeamId).is_in(teams))
            .and_where(Expr::col(C::Name).eq(name))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Whether a team has a channel of this name, within a transaction.
    pub async fn has_channel(on: &mut Transaction, team: &str, name: &str) -> Result<bool> {
        let query = Query::select()
            .column(C::Id)
            .from(C::Table)
            .and_where(Expr::col(C::TeamId).eq(team))
            .and_where(Expr::col(C::Name).eq(name))
            .to_owned();
        Ok(on.first(&query).await?.is_some())
    }

    /// Replaces how a channel's target is sealed.
    pub async fn set_channel_sealed(&self, id: &str, sealed: &str) -> Result<()> {
        let update = Query::update()
            .table(C::Table)
            .value(C::Sealed, sealed)
            .and_where(Expr::col(C::Id).eq(id))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Removes a channel.
    pub async fn remove_channel(&self, id: &str) -> Result<()> {
        let delete = Query::delete().from_table(C::Table).and_where(Expr::col(C::Id).eq(id)).to_owned();
        self.db.run(&delete).await.map(drop)
    }
}
