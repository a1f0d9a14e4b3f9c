//! Rows of alerts and their history.

use std::collections::HashMap;

use opsroom_core::db::{Row, Transaction};
use opsroom_core::id::new_id;
use opsroom_core::{Error, Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};

use super::super::model::{Incoming, Severity, Status};
use super::{AlertsAlerts as A, AlertsHistory as H, Store, json_text};

/// An alert as the database has it.
#[derive(Clone, Debug)]
pub struct AlertRow {
    pub id: String,
    pub team: String,
    pub receiver: String,
    pub status: Status,
    /// What was told last.
    pub told: Incoming,
    /// Who acknowledged or resolved it.
    pub handler: Option<String>,
    /// Who muted it until it is over.
    pub muted_by: Option<String>,
    /// How often it was told while it goes on.
    pub count: i64,
    pub starts_at: Time,
    pub ends_at: Option<Time>,
    pub first_seen: Time,
    pub last_seen: Time,
    /// When it is over unless it is told again.
    pub expires_at: Option<Time>,
    /// Grows with every change, so that nobody overwrites what he has not read.
    pub version: i64,
}

/// One line of an alert's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub at: Time,
    /// `received`, `acknowledged`, `silenced`, `told`, ...
    pub what: &'static str,
    pub by: String,
    pub words: String,
    /// The message that was handed to a channel.
    pub notification: Option<String>,
}

/// A line of history that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct PastEntry {
    pub at: Time,
    pub what: String,
    pub by: String,
    pub words: String,
    pub notification: Option<String>,
}

/// Which alerts are wanted.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    pub status: Option<Status>,
    pub severity: Option<Severity>,
    pub after: Option<String>,
}

pub(super) const COLUMNS: [A; 16] = [
    A::Id,
    A::TeamId,
    A::ReceiverId,
    A::Fingerprint,
    A::Status,
    A::Severity,
    A::Detail,
    A::Handler,
    A::MutedBy,
    A::Count,
    A::StartsAt,
    A::EndsAt,
    A::FirstSeen,
    A::LastSeen,
    A::ExpiresAt,
    A::Version,
];

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(A::Table).to_owned()
}

pub(super) fn read(row: &Row) -> Result<AlertRow> {
    let status: String = row.get("status")?;
    let status =
        Status::parse(&status).ok_or_else(|| Error::internal(format!("unknown status {status:?}")))?;
    Ok(AlertRow {
        id: row.get("id")?,
        team: row.get("team_id")?,
        receiver: row.get("receiver_id")?,
        status,
        told: row.json("detail")?,
        handler: row.get("handler")?,
        muted_by: row.get("muted_by")?,
        count: row.get("count")?,
        starts_at: row.time("starts_at")?,
        ends_at: row.time_or_none("ends_at")?,
        first_seen: row.time("first_seen")?,
        last_seen: row.time("last_seen")?,
        expires_at: row.time_or_none("expires_at")?,
        version: row.get("version")?,
    })
}

impl Store {
    /// Those of these teams, the newest first.
    pub async fn alerts(&self, teams: &[String], filter: &AlertFilter, limit: u64) -> Result<Vec<AlertRow>> {
        let mut query = select()
            .and_where(Expr::col(A::TeamId).is_in(teams))
            .order_by(A::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        if let Some(status) = filter.status {
            query.and_where(Expr::col(A::Status).eq(status.as_str()));
        }
        if let Some(severity) = filter.severity {
            query.and_where(Expr::col(A::Severity).eq(severity.as_str()));
        }
        if let Some(after) = &filter.after {
            query.and_where(Expr::col(A::Id).lt(after.as_str()));
        }
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// One, of whichever team.
    pub async fn alert_by_id(&self, id: &str) -> Result<Option<AlertRow>> {
        let query = select().and_where(Expr::col(A::Id).eq(id)).to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Those of a team that began between, the newest first.
    pub async fn begun_between(
        &self,
        team: &str,
        from: Time,
        until: Time,
        limit: u64,
    ) -> Result<Vec<AlertRow>> {
        let query = select()
            .and_where(Expr::col(A::TeamId).eq(team))
            .and_where(Expr::col(A::StartsAt).gte(from.0))
            .and_where(Expr::col(A::StartsAt).lte(until.0))
            .order_by(A::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Those of a team that go on.
    pub async fn going_on(&self, team: &str, limit: u64) -> Result<Vec<AlertRow>> {
        let query = select()
            .and_where(Expr::col(A::TeamId).eq(team))
            .and_where(Expr::col(A::Status).ne(Status::Resolved.as_str()))
            .order_by(A::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// Those that go on and of which nobody told in time.
    pub async fn expired(&self, now: Time, limit: u64) -> Result<Vec<AlertRow>> {
        let query = select()
            .and_where(Expr::col(A::ExpiresAt).lte(now.0))
            .and_where(Expr::col(A::Status).ne(Status::Resolved.as_str()))
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(read).collect()
    }

    /// One of these teams.
    pub async fn alert(&self, teams: &[String], id: &str) -> Result<Option<AlertRow>> {
        let query = select()
            .and_where(Expr::col(A::Id).eq(id))
            .and_where(Expr::col(A::TeamId).is_in(teams))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(read).transpose()
    }

    /// Those of a team that have any of these fingerprints, by fingerprint, within a transaction.
    pub async fn known(
        on: &mut Transaction,
        team: &str,
        prints: &[&str],
    ) -> Result<HashMap<String, AlertRow>> {
        let query = select()
            .and_where(Expr::col(A::TeamId).eq(team))
            .and_where(Expr::col(A::Fingerprint).is_in(prints.iter().copied()))
            .to_owned();
        let rows = on.all(&query).await?;
        let read = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(read.into_iter().map(|row| (row.told.fingerprint.clone(), row)).collect())
    }

    /// Changes an alert by hand, with the line of its history that says why, and lets its groups be looked at
    /// by `now`. `Conflict` when it was changed since it was read.
    pub async fn change(&self, row: &AlertRow, entry: Entry) -> Result<()> {
        let mut on = self.db.begin().await?;
        update(&mut on, row).await?;
        let at = entry.at;
        write_history(&mut on, &[(row.id.clone(), entry)]).await?;
        super::groups::wake_of_alert(&mut on, &row.id, at).await?;
        on.commit().await
    }

    /// An alert's history, oldest first.
    pub async fn history(&self, alert: &str, limit: u64) -> Result<Vec<PastEntry>> {
        let query = Query::select()
            .columns([H::At, H::What, H::ByWhom, H::Words, H::NotificationId])
            .from(H::Table)
            .and_where(Expr::col(H::AlertId).eq(alert))
            .order_by(H::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        let rows = self.db.all(&query).await?;
        let entry = |row: &Row| {
            Ok(PastEntry {
                at: row.time("at")?,
                what: row.get("what")?,
                by: row.get("by_whom")?,
                words: row.get("words")?,
                notification: row.get("notification_id")?,
            })
        };
        let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>>>()?;
        entries.reverse();
        Ok(entries)
    }

    /// Removes alerts that ended before `before`, with their history: at most so many, answers how many.
    pub async fn remove_alerts(&self, before: Time, limit: u64) -> Result<usize> {
        let query = Query::select()
            .column(A::Id)
            .from(A::Table)
            .and_where(Expr::col(A::Status).eq(Status::Resolved.as_str()))
            .and_where(Expr::col(A::LastSeen).lt(before.0))
            .limit(limit)
            .to_owned();
        let rows = self.db.all(&query).await?;
        let ids = rows.iter().map(|row| row.get("id")).collect::<Result<Vec<String>>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut on = self.db.begin().await?;
        on.run(Query::delete().from_table(H::Table).and_where(Expr::col(H::AlertId).is_in(&ids))).await?;
        on.run(Query::delete().from_table(A::Table).and_where(Expr::col(A::Id).is_in(&ids))).await?;
        on.commit().await?;
        Ok(ids.len())
    }
}

/// Adds alerts.
pub(super) async fn insert(on: &mut Transaction, rows: &[AlertRow]) -> Result<()> {
    // The most values that one statement has is bounded in every database.
    for rows in rows.chunks(100) {
        let mut insert = Query::insert().into_table(A::Table).columns(COLUMNS).to_owned();
        for row in rows {
            insert.values_panic([
                row.id.as_str().into(),
                row.team.as_str().into(),
                row.receiver.as_str().into(),
                row.told.fingerprint.as_str().into(),
                row.status.as_str().into(),
                row.told.severity.as_str().into(),
                json_text(&row.told)?.into(),
                row.handler.clone().into(),
                row.muted_by.clone().into(),
                row.count.into(),
                row.starts_at.0.into(),
                row.ends_at.map(|at| at.0).into(),
                row.first_seen.0.into(),
                row.last_seen.0.into(),
                row.expires_at.map(|at| at.0).into(),
                row.version.into(),
            ]);
        }
        on.run(&insert).await?;
    }
    Ok(())
}

/// Writes an alert that has not changed since it was read.
pub(super) async fn update(on: &mut Transaction, row: &AlertRow) -> Result<()> {
    let update = Query::update()
        .table(A::Table)
        .value(A::ReceiverId, row.receiver.as_str())
        .value(A::Status, row.status.as_str())
        .value(A::Severity, row.told.severity.as_str())
        .value(A::Detail, json_text(&row.told)?)
        .value(A::Handler, row.handler.clone())
        .value(A::MutedBy, row.muted_by.clone())
        .value(A::Count, row.count)
        .value(A::StartsAt, row.starts_at.0)
        .value(A::EndsAt, row.ends_at.map(|at| at.0))
        .value(A::LastSeen, row.last_seen.0)
        .value(A::ExpiresAt, row.expires_at.map(|at| at.0))
        .value(A::Version, row.version + 1)
        .and_where(Expr::col(A::Id).eq(row.id.as_str()))
        .and_where(Expr::col(A::Version).eq(row.version))
        .to_owned();
    if on.run(&update).await? == 0 {
        return Err(Error::conflict(format!("alert {} was changed meanwhile; look at it again", row.id)));
    }
    Ok(())
}

/// Adds lines to histories.
pub(super) async fn write_history(on: &mut Transaction, entries: &[(String, Entry)]) -> Result<()> {
    for entries in entries.chunks(100) {
        let mut insert = Query::insert()
            .into_table(H::Table)
            .columns([H::Id, H::AlertId, H::At, H::What, H::ByWhom, H::Words, H::NotificationId])
            .to_owned();
        for (alert, entry) in entries {
            insert.values_panic([
                new_id().into(),
                alert.as_str().into(),
                entry.at.0.into(),
                entry.what.into(),
                entry.by.as_str().into(),
                entry.words.as_str().into(),
                entry.notification.clone().into(),
            ]);
        }
        on.run(&insert).await?;
    }
    Ok(())
}
