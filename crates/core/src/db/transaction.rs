//! A transaction that may write, on whichever database.

use sea_query::{MysqlQueryBuilder, PostgresQueryBuilder, SqliteQueryBuilder};
use sea_query_sqlx::SqlxBinder;
use sqlx::{AssertSqlSafe, MySql, Postgres, Sqlite};

use super::{Db, Dialect, Row, failed};
use crate::error::Result;

/// Changes that happen together or not at all. Dropped without [`Transaction::commit`], nothing happened.
pub enum Transaction {
    /// On SQLite's only writer: while it is open, no other change can begin.
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    /// On PostgreSQL, read committed.
    Postgres(sqlx::Transaction<'static, Postgres>),
    /// On MySQL or MariaDB.
    MySql(sqlx::Transaction<'static, MySql>),
}

impl Transaction {
    pub(super) async fn begin(db: &Db) -> Result<Self> {
        Ok(match db {
            Db::Sqlite { writer, .. } => {
                Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?)
            }
            Db::Postgres(pool) => Transaction::Postgres(pool.begin().await.map_err(failed)?),
            Db::MySql(pool) => Transaction::MySql(pool.begin().await.map_err(failed)?),
        })
    }

    /// Which kind of database it is on.
    pub fn dialect(&self) -> Dialect {
        match self {
            Transaction::Sqlite(_) => Dialect::Sqlite,
            Transaction::Postgres(_) => Dialect::Postgres,
            Transaction::MySql(_) => Dialect::MySql,
        }
    }

    /// All rows of a query, with what this transaction changed.
    pub async fn all(&mut self, query: &impl SqlxBinder) -> Result<Vec<Row>> {
        match self {
            Transaction::Sqlite(on) => {
                let (sql, values) = query.build_sqlx(SqliteQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(&mut **on).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::Sqlite).collect())
            }
            Transaction::Postgres(on) => {
                let (sql, values) = query.build_sqlx(PostgresQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(&mut **on).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::Postgres).collect())
            }
            Transaction::MySql(on) => {
                let (sql, values) = query.build_sqlx(MysqlQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(&mut **on).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::MySql).collect())
            }
        }
    }

    /// The first row of a query, if there is one.
    pub async fn first(&mut self, query: &impl SqlxBinder) -> Result<Option<Row>> {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// Runs a statement; answers how many rows it touched.
    pub async fn run(&mut self, statement: &impl SqlxBinder) -> Result<u64> {
        match self {
            Transaction::Sqlite(on) => {
                let (sql, values) = statement.build_sqlx(SqliteQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut **on).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
            Transaction::Postgres(on) => {
                let (sql, values) = statement.build_sqlx(PostgresQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut **on).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
            Transaction::MySql(on) => {
                let (sql, values) = statement.build_sqlx(MysqlQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut **on).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
        }
    }

    /// A change of the schema, as text made by sea-query for this dialect.
    pub(super) async fn schema(&mut self, sql: String) -> Result<()> {
        match self {
            Transaction::Sqlite(on) => sqlx::query(AssertSqlSafe(sql)).execute(&mut **on).await.map(drop),
            Transaction::Postgres(on) => sqlx::query(AssertSqlSafe(sql)).execute(&mut **on).await.map(drop),
            Transaction::MySql(on) => sqlx::query(AssertSqlSafe(sql)).execute(&mut **on).await.map(drop),
        }
        .map_err(failed)
    }

    /// Makes the changes last. When this answers `Ok`, they survive a crash.
    pub async fn commit(self) -> Result<()> {
        match self {
            Transaction::Sqlite(on) => on.commit().await,
            Transaction::Postgres(on) => on.commit().await,
            Transaction::MySql(on) => on.commit().await,
        }
        .map_err(failed)
    }
}
