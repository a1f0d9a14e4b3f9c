//! Rows of the audit trail and its head.

use opsroom_core::db::{Db, Dialect, Row, Step, Transaction};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Func, Index, OnConflict, Order, Query, SelectStatement, Table};

use super::{AuditBase, AuditBegun, AuditHead, AuditRecords, AuditSinks, CallRecords};
use crate::identity::audit::{Begun, GENESIS, Head, Record};

/// The only row of the head.
const THE_HEAD: i64 = 1;

const COLUMNS: [AuditRecords; 16] = [
    AuditRecords::Seq,
    AuditRecords::Time,
    AuditRecords::TeamId,
    AuditRecords::Subject,
    AuditRecords::Name,
    AuditRecords::Face,
    AuditRecords::Address,
    AuditRecords::Operation,
    AuditRecords::Effect,
    AuditRecords::Input,
    AuditRecords::Outcome,
    AuditRecords::Message,
    AuditRecords::JobId,
    AuditRecords::RequestId,
    AuditRecords::PrevHash,
    AuditRecords::Hash,
];

/// Which records a list shows.
pub struct Filter<'a> {
    /// Of these teams.
    pub teams: &'a [String],
    /// Of this operation.
    pub operation: Option<&'a str>,
    /// By this subject.
    pub subject: Option<&'a str>,
    /// That ended so.
    pub outcome: Option<&'a str>,
    /// From this moment on.
    pub since: Option<Time>,
    /// Before this moment.
    pub until: Option<Time>,
    /// With a smaller number.
    pub before: Option<i64>,
}

/// The head row, locked until the transaction ends: nobody else extends the chain meanwhile.
pub async fn lock_head(on: &mut Transaction) -> Result<Option<Head>> {
    let query = head_query().lock_exclusive().to_owned();
    on.first(&query).await?.map(|row| read_head(&row)).transpose()
}

/// The head row as it is.
pub async fn head(db: &Db) -> Result<Option<Head>> {
    db.first(&head_query()).await?.map(|row| read_head(&row)).transpose()
}

/// Moves the head.
pub async fn set_head(on: &mut Transaction, head: &Head) -> Result<()> {
    let update = Query::update()
        .table(AuditHead::Table)
        .values([(AuditHead::Seq, head.seq.into()), (AuditHead::Hash, head.hash.as_str().into())])
        .and_where(Expr::col(AuditHead::Id).eq(THE_HEAD))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// Adds records; the caller holds the head.
pub async fn insert(on: &mut Transaction, records: &[Record]) -> Result<()> {
    let mut insert = Query::insert().into_table(AuditRecords::Table).columns(COLUMNS).to_owned();
    for record in records {
        insert.values_panic([
            record.seq.into(),
            record.time.0.into(),
            record.team_id.as_str().into(),
            record.subject.as_str().into(),
            record.name.as_str().into(),
            record.face.as_str().into(),
            record.address.as_deref().into(),
            record.operation.as_str().into(),
            record.effect.as_str().into(),
            record.input.as_str().into(),
            record.outcome.as_str().into(),
            record.message.as_deref().into(),
            record.job_id.as_deref().into(),
            record.request_id.as_deref().into(),
            record.prev_hash.as_str().into(),
            record.hash.as_str().into(),
        ]);
    }
    on.run(&insert).await.map(drop)
}

/// The tables of what was begun and has no record yet, and of what went.
pub fn later_tables(dialect: Dialect) -> Vec<Step> {
    let begun = Table::create()
        .table(AuditBegun::Table)
        .col(super::text(AuditBegun::Id, 36).primary_key())
        .col(super::number(AuditBegun::BegunAt))
        .col(dialect.long_text(AuditBegun::Entry).not_null())
        .to_owned();
    let base = Table::create()
        .table(AuditBase::Table)
        .col(super::number(AuditBase::Id).primary_key())
        .col(super::number(AuditBase::Seq))
        .col(super::text(AuditBase::Hash, 64))
        .to_owned();
    let nothing_went = Query::insert()
        .into_table(AuditBase::Table)
        .columns([AuditBase::Id, AuditBase::Seq, AuditBase::Hash])
        .values_panic([THE_HEAD.into(), 0i64.into(), GENESIS.into()])
        .to_owned();
    let index = |name: &str| Index::create().name(name).to_owned();
    let calls = index("call_records_time").table(CallRecords::Table).col(CallRecords::Time).to_owned();
    let records = index("audit_records_time").table(AuditRecords::Table).col(AuditRecords::Time).to_owned();
    vec![
        Step::Create(begun),
        Step::Create(base),
        Step::Insert(nothing_went),
        Step::Index(calls),
        Step::Index(records),
    ]
}

/// The table of how far the trail was sent.
pub fn sink_table(_: Dialect) -> Vec<Step> {
    let sinks = Table::create()
        .table(AuditSinks::Table)
        .col(super::text(AuditSinks::Name, 64).primary_key())
        .col(super::number(AuditSinks::Seq))
        .col(super::number(AuditSinks::TakenUntil))
        .to_owned();
    vec![Step::Create(sinks)]
}

/// The number of the last record that was sent to a sink, 0 before the first.
pub async fn sent_until(db: &Db, name: &str) -> Result<i64> {
    let seq = Query::select()
        .column(AuditSinks::Seq)
        .from(AuditSinks::Table)
        .and_where(Expr::col(AuditSinks::Name).eq(name))
        .to_owned();
    Ok(db.first(&seq).await?.map(|row| row.get("seq")).transpose()?.unwrap_or(0))
}

/// Takes a sink for this server until a moment, and answers the number of the last record that was sent
/// there; `None` while another server has it.
pub async fn take_sink(db: &Db, name: &str, now: Time, until: Time) -> Result<Option<i64>> {
    let mut on = db.begin().await?;
    let insert = Query::insert()
        .into_table(AuditSinks::Table)
        .columns([AuditSinks::Name, AuditSinks::Seq, AuditSinks::TakenUntil])
        .values_panic([name.into(), 0i64.into(), 0i64.into()])
        // Setting what is there already is how every database leaves a row as it is.
        .on_conflict(OnConflict::column(AuditSinks::Name).update_column(AuditSinks::Name).to_owned())
        .to_owned();
    on.run(&insert).await?;
    let take = Query::update()
        .table(AuditSinks::Table)
        .value(AuditSinks::TakenUntil, until.0)
        .and_where(Expr::col(AuditSinks::Name).eq(name))
        .and_where(Expr::col(AuditSinks::TakenUntil).lt(now.0))
        .to_owned();
    let taken = on.run(&take).await? > 0;
    on.commit().await?;
    match taken {
        true => sent_until(db, name).await.map(Some),
        false => Ok(None),
    }
}

/// Leaves a sink to whoever comes next, with the number of the last record that was sent there.
pub async fn leave_sink(db: &Db, name: &str, seq: i64) -> Result<()> {
    let update = Query::update()
        .table(AuditSinks::Table)
        .values([(AuditSinks::Seq, seq.into()), (AuditSinks::TakenUntil, 0i64.into())])
        .and_where(Expr::col(AuditSinks::Name).eq(name))
        .to_owned();
    db.run(&update).await.map(drop)
}

/// The last record that went, number 0 when none did.
pub async fn base(db: &Db) -> Result<Head> {
    let query = Query::select()
        .columns([AuditBase::Seq, AuditBase::Hash])
        .from(AuditBase::Table)
        .and_where(Expr::col(AuditBase::Id).eq(THE_HEAD))
        .to_owned();
    let found = db.first(&query).await?.map(|row| read_head(&row)).transpose()?;
    Ok(found.unwrap_or_else(|| Head { seq: 0, hash: GENESIS.to_owned() }))
}

/// Notes the last record that goes.
pub async fn set_base(on: &mut Transaction, base: &Head) -> Result<()> {
    let update = Query::update()
        .table(AuditBase::Table)
        .values([(AuditBase::Seq, base.seq.into()), (AuditBase::Hash, base.hash.as_str().into())])
        .and_where(Expr::col(AuditBase::Id).eq(THE_HEAD))
        .to_owned();
    on.run(&update).await.map(drop)
}

/// The newest record that is older than a moment.
pub async fn newest_before(on: &mut Transaction, time: Time) -> Result<Option<Head>> {
    let query = Query::select()
        .columns([AuditRecords::Seq, AuditRecords::Hash])
        .from(AuditRecords::Table)
        .and_where(Expr::col(AuditRecords::Time).lt(time.0))
        .order_by(AuditRecords::Seq, Order::Desc)
        .limit(1)
        .to_owned();
    on.first(&query).await?.map(|row| read_head(&row)).transpose()
}

/// Removes the records up to a number.
pub async fn remove_until(on: &mut Transaction, seq: i64) -> Result<()> {
    let delete = Query::delete()
        .from_table(AuditRecords::Table)
        .and_where(Expr::col(AuditRecords::Seq).lte(seq))
        .to_owned();
    on.run(&delete).await.map(drop)
}

/// Notes what is about to be done.
pub async fn begin(on: &mut Transaction, rows: &[Begun]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [AuditBegun::Id, AuditBegun::BegunAt, AuditBegun::Entry];
    let mut insert = Query::insert().into_table(AuditBegun::Table).columns(columns).to_owned();
    for row in rows {
        insert.values_panic([row.id.as_str().into(), row.at.0.into(), row.entry.as_str().into()]);
    }
    on.run(&insert).await.map(drop)
}

/// Removes what has its record now.
pub async fn end(on: &mut Transaction, ids: &[&str]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = ids.iter().copied();
    let delete = Query::delete()
        .from_table(AuditBegun::Table)
        .and_where(Expr::col(AuditBegun::Id).is_in(ids))
        .to_owned();
    on.run(&delete).await.map(drop)
}

/// What was begun before a moment, in its order.
pub async fn begun_before(on: &mut Transaction, until: Time, limit: u64) -> Result<Vec<Begun>> {
    let query = Query::select()
        .columns([AuditBegun::Id, AuditBegun::BegunAt, AuditBegun::Entry])
        .from(AuditBegun::Table)
        .and_where(Expr::col(AuditBegun::BegunAt).lt(until.0))
        .order_by(AuditBegun::Id, Order::Asc)
        .limit(limit)
        .to_owned();
    let read =
        |row: &Row| Ok(Begun { id: row.get("id")?, at: row.time("begun_at")?, entry: row.get("entry")? });
    on.all(&query).await?.iter().map(read).collect()
}

/// The largest number of any record, 0 without records.
pub async fn newest_seq(db: &Db) -> Result<i64> {
    let query = Query::select()
        .expr_as(Func::max(Expr::col(AuditRecords::Seq)), "newest")
        .from(AuditRecords::Table)
        .to_owned();
    let newest = db.first(&query).await?.map(|row| row.get::<Option<i64>>("newest")).transpose()?;
    Ok(newest.flatten().unwrap_or(0))
}

/// The rows after a number, in order, of every team: the chain is one. Rows, and not records, because
/// a row that was tampered with may not be one.
pub async fn rows_after(db: &Db, after: i64, limit: u64) -> Result<Vec<Row>> {
    let query = select()
        .and_where(Expr::col(AuditRecords::Seq).gt(after))
        .order_by(AuditRecords::Seq, Order::Asc)
        .limit(limit)
        .to_owned();
    db.all(&query).await
}

/// Records that a filter lets through, newest first.
pub async fn list(db: &Db, filter: &Filter<'_>, limit: u64) -> Result<Vec<Record>> {
    let mut query = select();
    query.and_where(Expr::col(AuditRecords::TeamId).is_in(filter.teams));
    let texts = [
        (AuditRecords::Operation, filter.operation),
        (AuditRecords::Subject, filter.subject),
        (AuditRecords::Outcome, filter.outcome),
    ];
    for (column, wanted) in texts {
        if let Some(wanted) = wanted {
            query.and_where(Expr::col(column).eq(wanted));
        }
    }
    if let Some(since) = filter.since {
        query.and_where(Expr::col(AuditRecords::Time).gte(since.0));
    }
    if let Some(until) = filter.until {
        query.and_where(Expr::col(AuditRecords::Time).lt(until.0));
    }
    if let Some(before) = filter.before {
        query.and_where(Expr::col(AuditRecords::Seq).lt(before));
    }
    query.order_by(AuditRecords::Seq, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

/// A row as a record.
pub fn read(row: &Row) -> Result<Record> {
    Ok(Record {
        seq: row.get("seq")?,
        time: row.time("time")?,
        team_id: row.get("team_id")?,
        subject: row.get("subject")?,
        name: row.get("name")?,
        face: row.get("face")?,
        address: row.get("address")?,
        operation: row.get("operation")?,
        effect: row.get("effect")?,
        input: row.get("input")?,
        outcome: row.get("outcome")?,
        message: row.get("message")?,
        job_id: row.get("job_id")?,
        request_id: row.get("request_id")?,
        prev_hash: row.get("prev_hash")?,
        hash: row.get("hash")?,
    })
}

fn select() -> SelectStatement {
    Query::select().columns(COLUMNS).from(AuditRecords::Table).to_owned()
}

fn head_query() -> SelectStatement {
    Query::select()
        .columns([AuditHead::Seq, AuditHead::Hash])
        .from(AuditHead::Table)
        .and_where(Expr::col(AuditHead::Id).eq(THE_HEAD))
        .to_owned()
}

fn read_head(row: &Row) -> Result<Head> {
    Ok(Head { seq: row.get("seq")?, hash: row.get("hash")? })
}
