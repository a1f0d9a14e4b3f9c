//! The metrics in somebody else's database: one table of the older system's shape, `metric_history`, with
//! a service, a metric, a time and a value. Only read.
//!
//! It is opened when it is first asked, so that a server starts while it is down.

use std::path::Path;
use std::sync::Arc;

use opsroom_core::db::{Db, DbConfig, Dialect, Row};
use opsroom_core::error::{Error, Kind, Result};
use sea_query::{Alias, Expr, ExprTrait, Order, Query, SimpleExpr};
use tokio::sync::OnceCell;

use super::points::{MOST_READ, Point, SeriesKey};

/// MySQL and MariaDB cast a text that is no number to 0: here it is NULL, which is no number to read.
const MYSQL_NUMBER: &str = "CASE WHEN CAST(value AS CHAR) REGEXP \
    '^ *[-+]{0,1}([0-9]+[.]{0,1}[0-9]*|[.][0-9]+)([eE][-+]{0,1}[0-9]+){0,1} *$' THEN CAST(value AS DOUBLE) END";

/// Somebody else's database. Cheap to clone.
#[derive(Clone)]
pub struct External {
    inner: Arc<Inner>,
}

struct Inner {
    config: DbConfig,
    table: String,
    service_column: String,
    open: OnceCell<Db>,
}

impl External {
    /// A database that is not opened yet. `table` may have a schema before a dot.
    pub fn new(config: DbConfig, table: &str, service_column: &str) -> Self {
        let (table, service_column) = (table.to_owned(), service_column.to_owned());
        Self { inner: Arc::new(Inner { config, table, service_column, open: OnceCell::new() }) }
    }

    /// The points of a series from `from` to `until` (seconds since 1970, both included).
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer or has another table than this one.
    pub async fn points(&self, key: &SeriesKey, from: i64, until: i64) -> Result<Vec<Point>> {
        let inner = &self.inner;
        let open = async || inner.config.open(Path::new(".")).await;
        let db = inner.open.get_or_try_init(open).await.map_err(of_metrics)?;
        // Times of any type become whole seconds, so that no session's zone shifts them.
        let (seconds, value) = match db.dialect() {
            Dialect::MySql => ("CAST(UNIX_TIMESTAMP(ts) AS SIGNED)", MYSQL_NUMBER),
            Dialect::Postgres => {
                ("CAST(EXTRACT(EPOCH FROM ts) AS BIGINT)", "CAST(value AS DOUBLE PRECISION)")
            }
            Dialect::Sqlite => ("CAST(strftime('%s', ts) AS INTEGER)", "CAST(value AS REAL)"),
        };
        let column = |sql: &'static str| -> SimpleExpr { Expr::cust(sql) };
        let mut query = Query::select()
            .expr_as(column(seconds), "seconds")
            .expr_as(column(value), "number")
            .and_where(Expr::col(Alias::new(&inner.service_column)).eq(key.service.as_str()))
            .and_where(Expr::col(Alias::new("metric_name")).eq(key.metric.as_str()))
            .and_where(column(seconds).gte(from))
            .and_where(column(seconds).lte(until))
            .and_where(Expr::col(Alias::new("value")).is_not_null())
            .order_by_expr(column(seconds), Order::Desc)
            .limit(MOST_READ)
            .to_owned();
        match inner.table.split_once('.') {
            Some((schema, table)) => query.from((Alias::new(schema), Alias::new(table))),
            None => query.from(Alias::new(&inner.table)),
        };
        let point = |row: &Row| Ok(Point { at: row.get("seconds")?, value: row.get("number")? });
        let rows = db.all(&query).await.map_err(of_metrics)?;
        rows.iter().rev().map(point).collect::<Result<_>>().map_err(of_metrics)
    }
}

/// Says which database it was: ours is another one.
fn of_metrics(error: Error) -> Error {
    if error.kind == Kind::Internal {
        let text = "the database of metrics has no table as `planning.database` describes it: the columns are the \
                    service's, metric_name, ts and value";
        return Error { kind: Kind::Unavailable, message: text.to_owned(), ..error };
    }
    Error { kind: Kind::Unavailable, message: format!("the database of metrics: {}", error.message), ..error }
}
