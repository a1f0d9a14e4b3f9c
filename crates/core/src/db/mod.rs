//! The database: one code path for SQLite, PostgreSQL and MySQL or MariaDB.
//!
//! Statements are built with sea-query and run by the pool that the URL chose. There are no repository
//! traits: the seam is the dialect. SQLite has one writer and several readers, in WAL mode with
//! `synchronous = FULL`, and every transaction begins `IMMEDIATE`, so that it waits for the lock
//! at its start and not in its middle.
//!
//! This is the only place where dynamic SQL is handed to the driver; every value is bound.

mod connect;
mod load;
mod migrate;
mod password;
mod row;
pub mod schema;
mod snapshot;
mod transaction;

use sea_query::{MysqlQueryBuilder, PostgresQueryBuilder, SqliteQueryBuilder};
use sea_query_sqlx::SqlxBinder;
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, MySqlPool, PgPool, SqlitePool};

use crate::error::{Error, Result};

pub use connect::DbConfig;
pub use migrate::{Applied, Migration, Step};
pub use row::{Column, Row};
pub use schema::{Cell, Shape};
pub use snapshot::Snapshot;
pub use transaction::Transaction;

/// The table of the records of migrations.
const RECORDS: &str = "schema_migrations";

/// A kind of database, where a statement must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL 13 or newer.
    Postgres,
    /// MySQL 8 or MariaDB 10.6, or newer.
    MySql,
}

impl Dialect {
    /// The name shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
            Dialect::MySql => "MySQL",
        }
    }
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub enum Db {
    /// One writer, several readers, one file.
    Sqlite {
        /// The only connection that writes.
        writer: SqlitePool,
        /// The connections that read.
        readers: SqlitePool,
    },
    /// A pool of connections to PostgreSQL.
    Postgres(PgPool),
    /// A pool of connections to MySQL or MariaDB.
    MySql(MySqlPool),
}

impl Db {
    /// Which kind it is.
    pub fn dialect(&self) -> Dialect {
        match self {
            Db::Sqlite { .. } => Dialect::Sqlite,
            Db::Postgres(_) => Dialect::Postgres,
            Db::MySql(_) => Dialect::MySql,
        }
    }

    /// All rows of a query.
    pub async fn all(&self, query: &impl SqlxBinder) -> Result<Vec<Row>> {
        match self {
            Db::Sqlite { readers, .. } => {
                let (sql, values) = query.build_sqlx(SqliteQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(readers).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::Sqlite).collect())
            }
            Db::Postgres(pool) => {
                let (sql, values) = query.build_sqlx(PostgresQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(pool).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::Postgres).collect())
            }
            Db::MySql(pool) => {
                let (sql, values) = query.build_sqlx(MysqlQueryBuilder);
                let rows = sqlx::query_with(AssertSqlSafe(sql), values).fetch_all(pool).await;
                Ok(rows.map_err(failed)?.into_iter().map(Row::MySql).collect())
            }
        }
    }

    /// The first row of a query, if there is one.
    pub async fn first(&self, query: &impl SqlxBinder) -> Result<Option<Row>> {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// Runs a statement; answers how many rows it touched.
    pub async fn run(&self, statement: &impl SqlxBinder) -> Result<u64> {
        match self {
            Db::Sqlite { writer, .. } => {
                let (sql, values) = statement.build_sqlx(SqliteQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(writer).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
            Db::Postgres(pool) => {
                let (sql, values) = statement.build_sqlx(PostgresQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(pool).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
            Db::MySql(pool) => {
                let (sql, values) = statement.build_sqlx(MysqlQueryBuilder);
                let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(pool).await;
                Ok(done.map_err(failed)?.rows_affected())
            }
        }
    }

    /// Begins a transaction that may write; it is rolled back when dropped without a commit.
    pub async fn begin(&self) -> Result<Transaction> {
        Transaction::begin(self).await
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let one = sea_query::Query::select().expr(sea_query::Expr::val(1)).to_owned();
        self.all(&one).await.map(drop)
    }

    /// Closes every connection; SQLite's log is folded into its file.
    pub async fn close(&self) {
        match self {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
            Db::MySql(pool) => pool.close().await,
        }
    }
}

/// What a failure of the database means to a caller.
fn failed(error: sqlx::Error) -> Error {
    use sqlx::Error::*;
    let trouble = match &error {
        Database(database) if database.is_unique_violation() => {
            return Error::conflict("something with the same name or id exists already").because(error);
        }
        Database(database) => trouble(database.as_ref()),
        Io(_) | Tls(_) | PoolTimedOut | PoolClosed | WorkerCrashed => Some(Trouble::Away),
        _ => None,
    };
    let message = match trouble {
        None => return Error::internal(error),
        Some(Trouble::Lock) => {
            return Error::busy("the database is busy with other changes; try again").because(error);
        }
        Some(Trouble::Away) => "the database does not answer; nothing was changed",
        Some(Trouble::Full) => {
            "the database's disk is full; nothing was changed, try again when there is space"
        }
        Some(Trouble::Unusable) => "the database's files cannot be read or written; nothing was changed",
    };
    Error::unavailable(message).because(error)
}

/// What is wrong with a database, and not with what it was asked.
enum Trouble {
    /// Others change the same.
    Lock,
    /// It stops, starts, or has too many connections.
    Away,
    /// There is no space left.
    Full,
    /// Its files cannot be read or written.
    Unusable,
}

/// Each kind of database has codes of its own.
fn trouble(error: &(dyn DatabaseError + 'static)) -> Option<Trouble> {
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return match error.number() {
            1205 | 1213 => Some(Trouble::Lock),
            1040 | 1053 | 1927 => Some(Trouble::Away),
            1021 | 1114 => Some(Trouble::Full),
            1290 | 1836 => Some(Trouble::Unusable),
            _ => None,
        };
    }
    let code = error.code()?;
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        return match &*code {
            "40001" | "40P01" => Some(Trouble::Lock),
            "57P01" | "57P02" | "57P03" | "53300" | "08004" => Some(Trouble::Away),
            "53100" => Some(Trouble::Full),
            "25006" | "58030" => Some(Trouble::Unusable),
            _ => None,
        };
    }
    // SQLite's last eight bits are the kind: BUSY and LOCKED, FULL, READONLY, IOERR and CANTOPEN.
    match code.parse::<u32>().ok()? & 0xff {
        5 | 6 => Some(Trouble::Lock),
        13 => Some(Trouble::Full),
        8 | 10 | 14 => Some(Trouble::Unusable),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
