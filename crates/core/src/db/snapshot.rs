//! Reading every table as it was at one moment, while others go on writing.
//!
//! The snapshot is a connection of its own, in a transaction that only reads: SQLite's readers keep what they
//! first saw, PostgreSQL's and MySQL's `REPEATABLE READ` does. On none of them does a writer wait for it.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sea_query::{
    Alias, Expr, ExprTrait as _, MysqlQueryBuilder, PostgresQueryBuilder, Query, SqliteQueryBuilder,
};
use sqlx::{AssertSqlSafe, MySqlConnection, PgConnection, SqliteConnection};

use super::schema::{Cell, Shape};
use super::{Db, Dialect, RECORDS, Row, failed};
use crate::error::Result;

/// Rows that are handed on together, at most.
const ROWS: usize = 512;
/// Bytes that are handed on together, about.
const BYTES: usize = 1 << 20;

/// The database as it was when this began. Dropped, it ends.
pub struct Snapshot {
    on: On,
}

/// Out of its pool: nobody else is given a connection that is in a transaction.
enum On {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Snapshot {
    /// Begins now.
    ///
    /// # Errors
    /// `Unavailable` when the database does not answer.
    pub async fn begin(db: &Db) -> Result<Self> {
        let on = match db {
            Db::Sqlite { readers, .. } => {
                let mut on = readers.acquire().await.map_err(failed)?.detach();
                // A deferred transaction sees what there is at its first read, not at its beginning.
                let begin = sqlx::raw_sql("BEGIN DEFERRED; SELECT count(*) FROM sqlite_schema;");
                begin.execute(&mut on).await.map_err(failed)?;
                On::Sqlite(on)
            }
            Db::Postgres(pool) => {
                let mut on = pool.acquire().await.map_err(failed)?.detach();
                // Likewise the first statement's moment is the snapshot's.
                let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1;");
                begin.execute(&mut on).await.map_err(failed)?;
                On::Postgres(on)
            }
            Db::MySql(pool) => {
                let mut on = pool.acquire().await.map_err(failed)?.detach();
                for begin in [
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
                ] {
                    sqlx::raw_sql(begin).execute(&mut on).await.map_err(failed)?;
                }
                On::MySql(on)
            }
        };
        Ok(Self { on })
    }

    /// Which kind of database it is of.
    pub fn dialect(&self) -> Dialect {
        match self.on {
            On::Sqlite(_) => Dialect::Sqlite,
            On::Postgres(_) => Dialect::Postgres,
            On::MySql(_) => Dialect::MySql,
        }
    }

    /// The newest migration of each capability.
    pub async fn migrations(&mut self) -> Result<BTreeMap<String, i32>> {
        let query = Query::select()
            .column(Alias::new("capability"))
            .expr_as(Expr::col(Alias::new("version")).max(), Alias::new("newest"))
            .from(Alias::new(RECORDS))
            .group_by_col(Alias::new("capability"))
            .to_owned();
        let mut found = BTreeMap::new();
        self.each(&query, &mut async |row: Row| {
            found.insert(row.get("capability")?, row.get("newest")?);
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Hands on all rows of a table, some at a time; answers how many they are.
    pub async fn rows(
        &mut self,
        shape: &Shape,
        mut give: impl AsyncFnMut(Vec<Vec<Cell>>) -> Result<()>,
    ) -> Result<u64> {
        let (mut batch, mut bytes, mut count) = (Vec::new(), 0, 0);
        self.each(&shape.select(), &mut async |row: Row| {
            let cells = shape.cells(&row)?;
            bytes += cells.iter().map(Cell::weight).sum::<usize>();
            batch.push(cells);
            count += 1;
            if batch.len() == ROWS || bytes >= BYTES {
                bytes = 0;
                give(std::mem::take(&mut batch)).await?;
            }
            Ok(())
        })
        .await?;
        if !batch.is_empty() {
            give(batch).await?;
        }
        Ok(count)
    }

    async fn each(
        &mut self,
        query: &sea_query::SelectStatement,
        give: &mut impl AsyncFnMut(Row) -> Result<()>,
    ) -> Result<()> {
        match &mut self.on {
            On::Sqlite(on) => {
                let sql = AssertSqlSafe(query.to_string(SqliteQueryBuilder));
                let mut rows = sqlx::query(sql).fetch(on);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    give(Row::Sqlite(row)).await?;
                }
            }
            On::Postgres(on) => {
                let sql = AssertSqlSafe(query.to_string(PostgresQueryBuilder));
                let mut rows = sqlx::query(sql).fetch(on);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    give(Row::Postgres(row)).await?;
                }
            }
            On::MySql(on) => {
                let sql = AssertSqlSafe(query.to_string(MysqlQueryBuilder));
                let mut rows = sqlx::query(sql).fetch(on);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    give(Row::MySql(row)).await?;
                }
            }
        }
        Ok(())
    }
}
