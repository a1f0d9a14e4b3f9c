//! Rows of links in messages: the hash of each, what it is for, and whether it was used.

use opsroom_core::db::Transaction;
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Query};

use super::super::links::LinkAction;
use super::{AlertsLinks as L, Store, json_text};

/// A link as the database has it.
#[derive(Clone, Debug)]
pub struct LinkRow {
    /// The SHA-256 of its token.
    pub id: String,
    pub team: String,
    pub alerts: Vec<String>,
    pub action: LinkAction,
    pub expires_at: Time,
}

impl Store {
    /// Adds one, within a transaction.
    pub async fn add_link(on: &mut Transaction, it: &LinkRow) -> Result<()> {
        let insert = Query::insert()
            .into_table(L::Table)
            .columns([L::Id, L::TeamId, L::Alerts, L::Action, L::ExpiresAt])
            .values_panic([
                it.id.as_str().into(),
                it.team.as_str().into(),
                json_text(&it.alerts)?.into(),
                it.action.as_str().into(),
                it.expires_at.0.into(),
            ])
            .to_owned();
        on.run(&insert).await.map(drop)
    }

    /// One that works.
    pub async fn link(&self, id: &str, now: Time) -> Result<Option<LinkRow>> {
        let query = Query::select()
            .columns([L::Id, L::TeamId, L::Alerts, L::Action, L::ExpiresAt])
            .from(L::Table)
            .and_where(Expr::col(L::Id).eq(id))
            .and_where(Expr::col(L::ExpiresAt).gt(now.0))
            .and_where(Expr::col(L::UsedAt).is_null())
            .to_owned();
        let Some(row) = self.db.first(&query).await? else { return Ok(None) };
        let action: String = row.get("action")?;
        Ok(Some(LinkRow {
            id: row.get("id")?,
            team: row.get("team_id")?,
            alerts: row.json("alerts")?,
            action: LinkAction::parse(&action),
            expires_at: row.time("expires_at")?,
        }))
    }

    /// Uses one up; `false` when it does not work any more.
    pub async fn use_link(&self, id: &str, now: Time) -> Result<bool> {
        let update = Query::update()
            .table(L::Table)
            .value(L::UsedAt, now.0)
            .and_where(Expr::col(L::Id).eq(id))
            .and_where(Expr::col(L::ExpiresAt).gt(now.0))
            .and_where(Expr::col(L::UsedAt).is_null())
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Removes those whose time is over.
    pub async fn remove_links(&self, now: Time) -> Result<()> {
        let delete =
            Query::delete().from_table(L::Table).and_where(Expr::col(L::ExpiresAt).lte(now.0)).to_owned();
        self.db.run(&delete).await.map(drop)
    }
}
