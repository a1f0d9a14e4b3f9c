//! The table of schedules.
//!
//! A run is claimed by one statement that compares `next_run_at` (or the free lease) with what was read,
//! and sets it: of several servers, one touches the row. The claim is a token of its own, and what a run
//! writes later names it, so that a run that was taken for dead writes nothing.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Row, Step};
use opsroom_core::error::{Error, Result};
use opsroom_core::job::State;
use sea_query::{
    ColumnDef, Cond, Expr, ExprTrait, Func, Iden, Index, Order, Query, SelectStatement, SimpleExpr, Table,
};
use serde_json::Value;

use super::model::{Missed, Owner, Schedule, Timing};

#[derive(Clone, Copy, Iden)]
enum Schedules {
    Table,
    Id,
    Name,
    Cron,
    Zone,
    Operation,
    Input,
    Missed,
    Enabled,
    CreatedBy,
    OwnerName,
    OwnerRights,
    TeamId,
    CreatedAt,
    UpdatedAt,
    NextRunAt,
    LastRunAt,
    LastOutcome,
    LastMessage,
    LastJobId,
    Claim,
    LeaseUntil,
}

/// The table and its indexes.
pub fn schedules_table(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(Schedules::Table)
                .col(ColumnDef::new(Schedules::Id).string_len(36).not_null().primary_key())
                .col(ColumnDef::new(Schedules::Name).string_len(100).not_null())
                .col(ColumnDef::new(Schedules::Cron).string_len(100).not_null())
                .col(ColumnDef::new(Schedules::Zone).string_len(64).not_null())
                .col(ColumnDef::new(Schedules::Operation).string_len(64).not_null())
                .col(dialect.long_text(Schedules::Input).not_null())
                .col(ColumnDef::new(Schedules::Missed).string_len(16).not_null())
                .col(ColumnDef::new(Schedules::Enabled).boolean().not_null())
                .col(ColumnDef::new(Schedules::CreatedBy).string_len(190).not_null())
                .col(ColumnDef::new(Schedules::OwnerName).string_len(190).not_null())
                .col(dialect.long_text(Schedules::OwnerRights).not_null())
                .col(ColumnDef::new(Schedules::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(Schedules::CreatedAt).big_integer().not_null())
                .col(ColumnDef::new(Schedules::UpdatedAt).big_integer().not_null())
                .col(ColumnDef::new(Schedules::NextRunAt).big_integer().null())
                .col(ColumnDef::new(Schedules::LastRunAt).big_integer().null())
                .col(ColumnDef::new(Schedules::LastOutcome).string_len(16).null())
                .col(dialect.long_text(Schedules::LastMessage).null())
                .col(ColumnDef::new(Schedules::LastJobId).string_len(36).null())
                .col(ColumnDef::new(Schedules::Claim).string_len(36).null())
                .col(ColumnDef::new(Schedules::LeaseUntil).big_integer().null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .unique()
                .name("schedules_name")
                .table(Schedules::Table)
                .col(Schedules::TeamId)
                .col(Schedules::Name)
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .name("schedules_next_run_at")
                .table(Schedules::Table)
                .col(Schedules::NextRunAt)
                .to_owned(),
        ),
    ]
}

/// A schedule as its row has it.
#[derive(Clone)]
pub struct Stored {
    pub id: String,
    pub name: String,
    pub cron: String,
    pub zone: String,
    pub operation: String,
    pub input: Value,
    pub missed: Missed,
    pub enabled: bool,
    pub created_by: String,
    pub owner_name: String,
    pub owner: Owner,
    pub team: String,
    pub created_at: Time,
    pub updated_at: Time,
    pub next_run_at: Option<Time>,
    pub last_run_at: Option<Time>,
    pub last_outcome: Option<State>,
    pub last_message: Option<String>,
    pub last_job_id: Option<String>,
    pub lease_until: Option<Time>,
}

impl Stored {
    /// Whether a run goes on that is not given up.
    pub fn busy(&self, now: Time) -> bool {
        self.lease_until.is_some_and(|until| until >= now)
    }

    /// The schedule as callers see it.
    pub fn shown(self, now: Time) -> Schedule {
        let died = self.last_outcome == Some(State::Running) && !self.busy(now);
        let meaning = Timing::parse(&self.cron, &self.zone).map(|timing| timing.meaning());
        Schedule {
            id: self.id,
            name: self.name,
            meaning: meaning.unwrap_or_default(),
            cron: self.cron,
            zone: self.zone,
            operation: self.operation,
            input: self.input,
            missed: self.missed,
            enabled: self.enabled,
            owner: self.owner_name,
            created_by: self.created_by,
            team: self.team,
            created_at: self.created_at.to_rfc3339(),
            updated_at: self.updated_at.to_rfc3339(),
            next_run_at: self.next_run_at.map(Time::to_rfc3339),
            last_run_at: self.last_run_at.map(Time::to_rfc3339),
            last_outcome: if died { Some(State::Interrupted) } else { self.last_outcome },
            last_message: if died {
                Some("the server ended while it ran".to_owned())
            } else {
                self.last_message
            },
            last_job_id: self.last_job_id,
        }
    }
}

/// How a run ended.
pub struct Ended<'a> {
    pub outcome: State,
    pub message: &'a str,
}

/// The rows of schedules in a database.
#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    pub async fn insert(&self, it: &Stored) -> Result<()> {
        let (columns, values): (Vec<_>, Vec<_>) = written(it)?.into_iter().unzip();
        let insert =
            Query::insert().into_table(Schedules::Table).columns(columns).values_panic(values).to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// Writes what a person may change; the last run and a claim stay as they are.
    pub async fn update(&self, it: &Stored) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .values(written(it)?)
            .and_where(Expr::col(Schedules::Id).eq(it.id.as_str()))
            .and_where(Expr::col(Schedules::TeamId).eq(it.team.as_str()))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    pub async fn delete(&self, teams: &[String], id: &str) -> Result<bool> {
        let delete = Query::delete()
            .from_table(Schedules::Table)
            .and_where(Expr::col(Schedules::Id).eq(id))
            .and_where(Expr::col(Schedules::TeamId).is_in(teams))
            .to_owned();
        Ok(self.db.run(&delete).await? == 1)
    }

    pub async fn get(&self, teams: &[String], id: &str) -> Result<Option<Stored>> {
        let query = select()
            .and_where(Expr::col(Schedules::Id).eq(id))
            .and_where(Expr::col(Schedules::TeamId).is_in(teams))
            .to_owned();
        self.db.first(&query).await?.as_ref().map(stored).transpose()
    }

    /// Schedules of these teams by id, newest first, older than `after`.
    pub async fn list(&self, teams: &[String], after: Option<&str>, limit: u64) -> Result<Vec<Stored>> {
        let mut query = select()
            .and_where(Expr::col(Schedules::TeamId).is_in(teams))
            .order_by(Schedules::Id, Order::Desc)
            .limit(limit)
            .to_owned();
        if let Some(after) = after {
            query.and_where(Expr::col(Schedules::Id).lt(after));
        }
        self.db.all(&query).await?.iter().map(stored).collect()
    }

    /// How many schedules a team has.
    pub async fn count(&self, team: &str) -> Result<i64> {
        let query = Query::select()
            .expr_as(Func::count(Expr::col(Schedules::Id)), "number")
            .from(Schedules::Table)
            .and_where(Expr::col(Schedules::TeamId).eq(team))
            .to_owned();
        self.db.first(&query).await?.map_or(Ok(0), |row| row.get("number"))
    }

    /// Those whose time has come, the longest due first, except those that wait for the run before.
    pub async fn due(&self, now: Time, limit: u64) -> Result<Vec<Stored>> {
        let query = select()
            .and_where(Expr::col(Schedules::NextRunAt).lte(now.0))
            .and_where(Expr::col(Schedules::Enabled).eq(true))
            .cond_where(free(now).add(Expr::col(Schedules::Missed).eq(Missed::Skip.as_str())))
            .order_by(Schedules::NextRunAt, Order::Asc)
            .limit(limit)
            .to_owned();
        self.db.all(&query).await?.iter().map(stored).collect()
    }

    /// When the next one is due.
    pub async fn next_due(&self) -> Result<Option<Time>> {
        let query = Query::select()
            .column(Schedules::NextRunAt)
            .from(Schedules::Table)
            .and_where(Expr::col(Schedules::NextRunAt).is_not_null())
            .and_where(Expr::col(Schedules::Enabled).eq(true))
            .order_by(Schedules::NextRunAt, Order::Asc)
            .limit(1)
            .to_owned();
        self.db.first(&query).await?.map(|row| row.time("next_run_at")).transpose()
    }

    /// Moves a due schedule on to `next` without running it; `false` when another server was first.
    pub async fn skip(&self, it: &Stored, next: Option<Time>) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .value(Schedules::NextRunAt, next.map(|next| next.0))
            .cond_where(unchanged(it))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Takes a due schedule to run it, and moves it on to `next`; `false` when another server was first.
    pub async fn claim(
        &self,
        it: &Stored,
        next: Option<Time>,
        claim: &str,
        now: Time,
        until: Time,
    ) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .value(Schedules::NextRunAt, next.map(|next| next.0))
            .values(claimed(claim, now, until))
            .cond_where(unchanged(it))
            .cond_where(free(now))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Takes a schedule to run it out of turn; `false` when it runs already or is gone.
    pub async fn claim_now(&self, id: &str, claim: &str, now: Time, until: Time) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .values(claimed(claim, now, until))
            .and_where(Expr::col(Schedules::Id).eq(id))
            .cond_where(free(now))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Keeps a claim; `false` when it was lost.
    pub async fn renew(&self, id: &str, claim: &str, until: Time) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .value(Schedules::LeaseUntil, until.0)
            .cond_where(held(id, claim))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Whether somebody else holds, or held, the claim since; a schedule that was deleted was not taken.
    pub async fn taken(&self, id: &str, claim: &str) -> Result<bool> {
        let query = Query::select()
            .column(Schedules::Claim)
            .from(Schedules::Table)
            .and_where(Expr::col(Schedules::Id).eq(id))
            .to_owned();
        let Some(row) = self.db.first(&query).await? else { return Ok(false) };
        Ok(row.get::<Option<String>>("claim")?.as_deref() != Some(claim))
    }

    /// Notes the job of a run that goes on.
    pub async fn note_job(&self, id: &str, claim: &str, job: &str) -> Result<()> {
        let update = Query::update()
            .table(Schedules::Table)
            .value(Schedules::LastJobId, job)
            .cond_where(held(id, claim))
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Ends a run and gives the claim back; `false` when it was lost.
    pub async fn finish(&self, id: &str, claim: &str, ended: &Ended<'_>) -> Result<bool> {
        let update = Query::update()
            .table(Schedules::Table)
            .value(Schedules::LastOutcome, ended.outcome.as_str())
            .value(Schedules::LastMessage, ended.message)
            .value(Schedules::Claim, Option::<String>::None)
            .value(Schedules::LeaseUntil, Option::<i64>::None)
            .cond_where(held(id, claim))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }
}

/// What a person writes of a schedule, column by column.
fn written(it: &Stored) -> Result<Vec<(Schedules, SimpleExpr)>> {
    let rights = serde_json::to_string(&it.owner).map_err(Error::internal)?;
    Ok(vec![
        (Schedules::Id, it.id.as_str().into()),
        (Schedules::Name, it.name.as_str().into()),
        (Schedules::Cron, it.cron.as_str().into()),
        (Schedules::Zone, it.zone.as_str().into()),
        (Schedules::Operation, it.operation.as_str().into()),
        (Schedules::Input, it.input.to_string().into()),
        (Schedules::Missed, it.missed.as_str().into()),
        (Schedules::Enabled, it.enabled.into()),
        (Schedules::CreatedBy, it.created_by.as_str().into()),
        (Schedules::OwnerName, it.owner_name.as_str().into()),
        (Schedules::OwnerRights, rights.into()),
        (Schedules::TeamId, it.team.as_str().into()),
        (Schedules::CreatedAt, it.created_at.0.into()),
        (Schedules::UpdatedAt, it.updated_at.0.into()),
        (Schedules::NextRunAt, it.next_run_at.map(|next| next.0).into()),
    ])
}

fn claimed(claim: &str, now: Time, until: Time) -> Vec<(Schedules, SimpleExpr)> {
    vec![
        (Schedules::Claim, claim.into()),
        (Schedules::LeaseUntil, until.0.into()),
        (Schedules::LastRunAt, now.0.into()),
        (Schedules::LastOutcome, State::Running.as_str().into()),
        (Schedules::LastMessage, Option::<String>::None.into()),
        (Schedules::LastJobId, Option::<String>::None.into()),
    ]
}

/// No run goes on, or the one that did is given up.
fn free(now: Time) -> Cond {
    Cond::any()
        .add(Expr::col(Schedules::LeaseUntil).is_null())
        .add(Expr::col(Schedules::LeaseUntil).lt(now.0))
}

/// Still as it was read: enabled, and due at the same moment.
fn unchanged(it: &Stored) -> Cond {
    Cond::all()
        .add(Expr::col(Schedules::Id).eq(it.id.as_str()))
        .add(Expr::col(Schedules::NextRunAt).eq(it.next_run_at.map(|next| next.0)))
        .add(Expr::col(Schedules::UpdatedAt).eq(it.updated_at.0))
        .add(Expr::col(Schedules::Enabled).eq(true))
}

fn held(id: &str, claim: &str) -> Cond {
    Cond::all().add(Expr::col(Schedules::Id).eq(id)).add(Expr::col(Schedules::Claim).eq(claim))
}

fn select() -> SelectStatement {
    Query::select()
        .columns([
            Schedules::Id,
            Schedules::Name,
            Schedules::Cron,
            Schedules::Zone,
            Schedules::Operation,
            Schedules::Input,
            Schedules::Missed,
            Schedules::Enabled,
            Schedules::CreatedBy,
            Schedules::OwnerName,
            Schedules::OwnerRights,
            Schedules::TeamId,
            Schedules::CreatedAt,
            Schedules::UpdatedAt,
            Schedules::NextRunAt,
            Schedules::LastRunAt,
            Schedules::LastOutcome,
            Schedules::LastMessage,
            Schedules::LastJobId,
            Schedules::LeaseUntil,
        ])
        .from(Schedules::Table)
        .to_owned()
}

fn stored(row: &Row) -> Result<Stored> {
    let missed: String = row.get("missed")?;
    let outcome: Option<String> = row.get("last_outcome")?;
    Ok(Stored {
        id: row.get("id")?,
        name: row.get("name")?,
        cron: row.get("cron")?,
        zone: row.get("zone")?,
        operation: row.get("operation")?,
        input: row.json("input")?,
        missed: if missed == Missed::RunOnce.as_str() { Missed::RunOnce } else { Missed::Skip },
        enabled: row.get("enabled")?,
        created_by: row.get("created_by")?,
        owner_name: row.get("owner_name")?,
        owner: row.json("owner_rights")?,
        team: row.get("team_id")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        next_run_at: row.time_or_none("next_run_at")?,
        last_run_at: row.time_or_none("last_run_at")?,
        last_outcome: outcome.as_deref().and_then(State::parse),
        last_message: row.get("last_message")?,
        last_job_id: row.get("last_job_id")?,
        lease_until: row.time_or_none("lease_until")?,
    })
}
