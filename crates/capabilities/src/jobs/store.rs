//! The table of jobs.
//!
//! A row belongs to the server that accepted it: `server_id` is new with every start, so it also serves
//! as the fencing token. Every change of an active row names it, and touches nothing when another server
//! has taken the row away.

use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Row, Step};
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::job::State;
use sea_query::{
    ColumnDef, Cond, Expr, ExprTrait, Iden, Index, IndexCreateStatement, Order, Query, SelectStatement, Table,
};
use serde_json::Value;

use super::end::End;
use super::model::{Failure, Job, LogLine, Standing};
use super::schedules::schedules_table;

/// The tables of this folder, oldest change first.
pub const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, name: "jobs", steps: jobs_table },
    Migration { version: 2, name: "schedules", steps: schedules_table },
];

#[derive(Clone, Copy, Iden)]
enum Jobs {
    Table,
    Id,
    Operation,
    State,
    Input,
    OwnerName,
    TeamId,
    CreatedBy,
    CreatedAt,
    StartedAt,
    EndedAt,
    Fraction,
    Message,
    Log,
    Result,
    ResultNote,
    ErrorKind,
    ErrorMessage,
    CancelledBy,
    ServerId,
    LeaseUntil,
}

fn jobs_table(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(Jobs::Table)
                .col(ColumnDef::new(Jobs::Id).string_len(36).not_null().primary_key())
                .col(ColumnDef::new(Jobs::Operation).string_len(64).not_null())
                .col(ColumnDef::new(Jobs::State).string_len(16).not_null())
                .col(dialect.long_text(Jobs::Input).not_null())
                .col(ColumnDef::new(Jobs::OwnerName).string_len(190).not_null())
                .col(ColumnDef::new(Jobs::TeamId).string_len(64).not_null())
                .col(ColumnDef::new(Jobs::CreatedBy).string_len(190).not_null())
                .col(ColumnDef::new(Jobs::CreatedAt).big_integer().not_null())
                .col(ColumnDef::new(Jobs::StartedAt).big_integer().null())
                .col(ColumnDef::new(Jobs::EndedAt).big_integer().null())
                .col(ColumnDef::new(Jobs::Fraction).double().null())
                .col(dialect.long_text(Jobs::Message).not_null())
                .col(dialect.long_text(Jobs::Log).not_null())
                .col(dialect.long_text(Jobs::Result).null())
                .col(dialect.long_text(Jobs::ResultNote).null())
                .col(ColumnDef::new(Jobs::ErrorKind).string_len(32).null())
                .col(dialect.long_text(Jobs::ErrorMessage).null())
                .col(ColumnDef::new(Jobs::CancelledBy).string_len(190).null())
                .col(ColumnDef::new(Jobs::ServerId).string_len(36).not_null())
                .col(ColumnDef::new(Jobs::LeaseUntil).big_integer().not_null())
                .to_owned(),
        ),
        index("jobs_team_id", &[Jobs::TeamId, Jobs::Id]),
        index("jobs_state", &[Jobs::State, Jobs::LeaseUntil]),
        index("jobs_ended_at", &[Jobs::EndedAt]),
    ]
}

fn index(name: &'static str, columns: &[Jobs]) -> Step {
    let mut index: IndexCreateStatement = Index::create().name(name).table(Jobs::Table).to_owned();
    for column in columns {
        index.col(*column);
    }
    Step::Index(index)
}

/// A job that has just been accepted.
pub struct NewJob<'a> {
    pub id: &'a str,
    pub operation: &'a str,
    pub state: State,
    pub input: &'a Value,
    pub subject: &'a str,
    pub owner_name: &'a str,
    pub team: &'a str,
    pub now: Time,
    pub server: &'a str,
    pub lease_until: Time,
}

/// A row with all that is kept of a job.
pub struct Stored {
    pub job: Job,
    pub input: Value,
    pub result: Option<Value>,
    pub result_note: Option<String>,
    pub log: Vec<LogLine>,
}

/// Which jobs to list.
#[derive(Default)]
pub struct Filter<'a> {
    pub state: Option<State>,
    pub operation: Option<&'a str>,
    /// Only those older than this id.
    pub after: Option<&'a str>,
    pub limit: u64,
}

/// The rows of jobs in a database.
#[derive(Clone)]
pub struct Store {
    pub db: Db,
}

impl Store {
    pub async fn insert(&self, job: NewJob<'_>) -> Result<()> {
        let began = (job.state == State::Running).then_some(job.now.0);
        let insert = Query::insert()
            .into_table(Jobs::Table)
            .columns([
                Jobs::Id,
                Jobs::Operation,
                Jobs::State,
                Jobs::Input,
                Jobs::OwnerName,
                Jobs::TeamId,
                Jobs::CreatedBy,
                Jobs::CreatedAt,
                Jobs::StartedAt,
                Jobs::Message,
                Jobs::Log,
                Jobs::ServerId,
                Jobs::LeaseUntil,
            ])
            .values_panic([
                job.id.into(),
                job.operation.into(),
                job.state.as_str().into(),
                job.input.to_string().into(),
                job.owner_name.into(),
                job.team.into(),
                job.subject.into(),
                job.now.0.into(),
                began.into(),
                "".into(),
                "[]".into(),
                job.server.into(),
                job.lease_until.0.into(),
            ])
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    /// A queued job begins; `false` when the row is no longer this server's.
    pub async fn begin(&self, id: &str, server: &str, now: Time, lease_until: Time) -> Result<bool> {
        let update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::State, State::Running.as_str())
            .value(Jobs::StartedAt, now.0)
            .value(Jobs::LeaseUntil, lease_until.0)
            .cond_where(owned(id, server))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Writes how far a job is; `false` when the row is no longer this server's.
    pub async fn progress(
        &self,
        id: &str,
        server: &str,
        fraction: Option<f64>,
        message: &str,
        log: &[LogLine],
    ) -> Result<bool> {
        let update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::Fraction, fraction)
            .value(Jobs::Message, message)
            .value(Jobs::Log, json_text(&log)?)
            .cond_where(owned(id, server))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// Writes how a job ended; `false` when the row is no longer this server's.
    pub async fn end(&self, id: &str, server: &str, ended: &End) -> Result<bool> {
        let update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::State, ended.state.as_str())
            .value(Jobs::EndedAt, ended.at.0)
            .value(Jobs::Fraction, ended.fraction)
            .value(Jobs::Message, ended.message.as_str())
            .value(Jobs::Log, json_text(&ended.log)?)
            .value(Jobs::Result, ended.result.clone())
            .value(Jobs::ResultNote, ended.result_note.clone())
            .value(Jobs::ErrorKind, ended.error.as_ref().map(|error| error.kind.as_str()))
            .value(Jobs::ErrorMessage, ended.error.as_ref().map(|error| error.message.clone()))
            .cond_where(owned(id, server))
            .to_owned();
        Ok(self.db.run(&update).await? == 1)
    }

    /// A job that one of these teams owns.
    pub async fn get(&self, teams: &[String], id: &str) -> Result<Option<Stored>> {
        let query = Query::select()
            .columns(SUMMARY)
            .columns([Jobs::Input, Jobs::Log, Jobs::Result, Jobs::ResultNote])
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::Id).eq(id))
            .and_where(Expr::col(Jobs::TeamId).is_in(teams))
            .to_owned();
        let Some(row) = self.db.first(&query).await? else { return Ok(None) };
        Ok(Some(Stored {
            job: job(&row)?,
            input: row.json("input")?,
            result: row.json_or_none("result")?,
            result_note: row.get("result_note")?,
            log: row.json("log")?,
        }))
    }

    /// Where a job of these teams stands.
    pub async fn standing(&self, teams: &[String], id: &str) -> Result<Option<Standing>> {
        let query = Query::select()
            .columns([Jobs::Operation, Jobs::State, Jobs::ErrorMessage, Jobs::CreatedAt])
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::Id).eq(id))
            .and_where(Expr::col(Jobs::TeamId).is_in(teams))
            .to_owned();
        let Some(row) = self.db.first(&query).await? else { return Ok(None) };
        let word: String = row.get("state")?;
        let state = State::parse(&word);
        Ok(Some(Standing {
            operation: row.get("operation")?,
            state: state.ok_or_else(|| Error::internal(format!("jobs.state holds {word:?}")))?,
            error: row.get("error_message")?,
            created_at: row.time("created_at")?,
        }))
    }

    /// The jobs of these teams, newest first.
    pub async fn list(&self, teams: &[String], filter: &Filter<'_>) -> Result<Vec<Job>> {
        let mut query: SelectStatement = Query::select()
            .columns(SUMMARY)
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::TeamId).is_in(teams))
            .order_by(Jobs::Id, Order::Desc)
            .limit(filter.limit)
            .to_owned();
        if let Some(state) = filter.state {
            query.and_where(Expr::col(Jobs::State).eq(state.as_str()));
        }
        if let Some(operation) = filter.operation {
            query.and_where(Expr::col(Jobs::Operation).eq(operation));
        }
        if let Some(after) = filter.after {
            query.and_where(Expr::col(Jobs::Id).lt(after));
        }
        self.db.all(&query).await?.iter().map(job).collect()
    }

    /// Records who asked an active job to stop; the first name stays.
    pub async fn ask_to_stop(&self, id: &str, by: &str) -> Result<()> {
        let update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::CancelledBy, by)
            .and_where(Expr::col(Jobs::Id).eq(id))
            .and_where(active())
            .and_where(Expr::col(Jobs::CancelledBy).is_null())
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// Renews the lease of these jobs of this server.
    pub async fn renew(&self, server: &str, ids: &[String], until: Time) -> Result<()> {
        let update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::LeaseUntil, until.0)
            .and_where(Expr::col(Jobs::ServerId).eq(server))
            .and_where(Expr::col(Jobs::Id).is_in(ids))
            .and_where(active())
            .to_owned();
        self.db.run(&update).await.map(drop)
    }

    /// This server's active jobs, each with who asked it to stop.
    pub async fn active_of(&self, server: &str) -> Result<Vec<(String, Option<String>)>> {
        let query = Query::select()
            .columns([Jobs::Id, Jobs::CancelledBy])
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::ServerId).eq(server))
            .and_where(active())
            .to_owned();
        let rows = self.db.all(&query).await?;
        rows.iter().map(|row| Ok((row.get("id")?, row.get("cancelled_by")?))).collect()
    }

    /// The active jobs of other servers: all of them, or those whose lease has run out by `expired_at`.
    pub async fn abandoned(&self, server: &str, expired_at: Option<Time>) -> Result<Vec<Job>> {
        let mut query: SelectStatement = Query::select()
            .columns(SUMMARY)
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::ServerId).ne(server))
            .and_where(active())
            .limit(1000)
            .to_owned();
        if let Some(now) = expired_at {
            query.and_where(Expr::col(Jobs::LeaseUntil).lt(now.0));
        }
        self.db.all(&query).await?.iter().map(job).collect()
    }

    /// Marks an abandoned job as interrupted; `false` when its server renewed the lease after all, or
    /// somebody else was first.
    pub async fn interrupt(
        &self,
        id: &str,
        server: &str,
        now: Time,
        expired_at: Option<Time>,
        message: &str,
    ) -> Result<bool> {
        let mut update = Query::update()
            .table(Jobs::Table)
            .value(Jobs::State, State::Interrupted.as_str())
            .value(Jobs::EndedAt, now.0)
            .value(Jobs::Message, message)
            .value(Jobs::ErrorKind, Kind::Unavailable.as_str())
            .value(Jobs::ErrorMessage, message)
            .and_where(Expr::col(Jobs::Id).eq(id))
            .and_where(Expr::col(Jobs::ServerId).ne(server))
            .and_where(active())
            .to_owned();
        if let Some(at) = expired_at {
            update.and_where(Expr::col(Jobs::LeaseUntil).lt(at.0));
        }
        Ok(self.db.run(&update).await? == 1)
    }

    /// Removes some of the jobs that ended before; answers how many.
    pub async fn remove_ended(&self, before: Time) -> Result<u64> {
        let old = Query::select()
            .column(Jobs::Id)
            .from(Jobs::Table)
            .and_where(Expr::col(Jobs::EndedAt).lt(before.0))
            .limit(500)
            .to_owned();
        let rows = self.db.all(&old).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let ids = rows.iter().map(|row| row.get::<String>("id")).collect::<Result<Vec<_>>>()?;
        let delete =
            Query::delete().from_table(Jobs::Table).and_where(Expr::col(Jobs::Id).is_in(ids)).to_owned();
        self.db.run(&delete).await
    }
}

const SUMMARY: [Jobs; 14] = [
    Jobs::Id,
    Jobs::Operation,
    Jobs::State,
    Jobs::Fraction,
    Jobs::Message,
    Jobs::OwnerName,
    Jobs::CreatedBy,
    Jobs::TeamId,
    Jobs::CreatedAt,
    Jobs::StartedAt,
    Jobs::EndedAt,
    Jobs::ErrorKind,
    Jobs::ErrorMessage,
    Jobs::CancelledBy,
];

fn job(row: &Row) -> Result<Job> {
    let kind: Option<String> = row.get("error_kind")?;
    let message: Option<String> = row.get("error_message")?;
    let error = kind
        .zip(message)
        .map(|(kind, message)| Failure { kind: Kind::parse(&kind).unwrap_or(Kind::Internal), message });
    let time = |column| Ok::<_, opsroom_core::Error>(row.time_or_none(column)?.map(Time::to_rfc3339));
    Ok(Job {
        id: row.get("id")?,
        operation: row.get("operation")?,
        // A state that a newer server wrote is at least not one that goes on.
        state: State::parse(&row.get::<String>("state")?).unwrap_or(State::Interrupted),
        fraction: row.get("fraction")?,
        message: row.get("message")?,
        owner: row.get("owner_name")?,
        created_by: row.get("created_by")?,
        team: row.get("team_id")?,
        created_at: row.time("created_at")?.to_rfc3339(),
        started_at: time("started_at")?,
        ended_at: time("ended_at")?,
        error,
        cancelled_by: row.get("cancelled_by")?,
    })
}

fn active() -> Expr {
    Expr::col(Jobs::State).is_in([State::Queued.as_str(), State::Running.as_str()])
}

fn owned(id: &str, server: &str) -> Cond {
    Cond::all().add(Expr::col(Jobs::Id).eq(id)).add(Expr::col(Jobs::ServerId).eq(server)).add(active())
}

fn json_text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(opsroom_core::Error::internal)
}
