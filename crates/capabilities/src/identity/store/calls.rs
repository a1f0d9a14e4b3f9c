//! Rows of the call record.

use opsroom_core::db::{Db, Row};
use opsroom_core::{Result, Time};
use sea_query::{Expr, ExprTrait, Order, Query};

use super::CallRecords;
use crate::identity::calls::{CallFilter, Recorded};

const COLUMNS: [CallRecords; 11] = [
    CallRecords::Id,
    CallRecords::Time,
    CallRecords::TeamId,
    CallRecords::Subject,
    CallRecords::Name,
    CallRecords::Face,
    CallRecords::Address,
    CallRecords::Operation,
    CallRecords::Outcome,
    CallRecords::TookUs,
    CallRecords::RequestId,
];

/// Adds calls, all or none.
pub async fn insert(db: &Db, calls: &[Recorded]) -> Result<()> {
    let mut insert = Query::insert().into_table(CallRecords::Table).columns(COLUMNS).to_owned();
    for call in calls {
        insert.values_panic([
            call.id.as_str().into(),
            call.time.0.into(),
            call.team_id.as_str().into(),
            call.subject.as_str().into(),
            call.name.as_str().into(),
            call.face.as_str().into(),
            call.address.as_deref().into(),
            call.operation.as_str().into(),
            call.outcome.as_str().into(),
            call.took_us.into(),
            call.request_id.as_deref().into(),
        ]);
    }
    db.run(&insert).await.map(drop)
}

/// Calls that a filter lets through, newest first.
pub async fn list(db: &Db, filter: &CallFilter<'_>, limit: u64) -> Result<Vec<Recorded>> {
    let mut query = Query::select().columns(COLUMNS).from(CallRecords::Table).to_owned();
    query.and_where(Expr::col(CallRecords::TeamId).is_in(filter.teams));
    let texts = [
        (CallRecords::Operation, filter.operation),
        (CallRecords::Subject, filter.subject),
        (CallRecords::Outcome, filter.outcome),
    ];
    for (column, wanted) in texts {
        if let Some(wanted) = wanted {
            query.and_where(Expr::col(column).eq(wanted));
        }
    }
    if let Some(since) = filter.since {
        query.and_where(Expr::col(CallRecords::Time).gte(since.0));
    }
    if let Some(until) = filter.until {
        query.and_where(Expr::col(CallRecords::Time).lt(until.0));
    }
    if let Some(before) = filter.before {
        query.and_where(Expr::col(CallRecords::Id).lt(before));
    }
    query.order_by(CallRecords::Id, Order::Desc).limit(limit);
    db.all(&query).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Recorded> {
    Ok(Recorded {
        id: row.get("id")?,
        time: row.time("time")?,
        team_id: row.get("team_id")?,
        subject: row.get("subject")?,
        name: row.get("name")?,
        face: row.get("face")?,
        address: row.get("address")?,
        operation: row.get("operation")?,
        outcome: row.get("outcome")?,
        took_us: row.get("took_us")?,
        request_id: row.get("request_id")?,
    })
}

/// Removes the calls before a moment.
pub async fn remove_before(db: &Db, time: Time) -> Result<()> {
    let delete = Query::delete()
        .from_table(CallRecords::Table)
        .and_where(Expr::col(CallRecords::Time).lt(time.0))
        .to_owned();
    db.run(&delete).await.map(drop)
}
