//! A row of whichever database it came from.

use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, MySql, Postgres, Row as _, Sqlite, Type};

use crate::clock::Time;
use crate::error::{Error, Result};

/// One row of an answer.
pub enum Row {
    /// From SQLite.
    Sqlite(SqliteRow),
    /// From PostgreSQL.
    Postgres(PgRow),
    /// From MySQL or MariaDB.
    MySql(MySqlRow),
}

/// A type that every database can give: `i64`, `f64`, `bool`, `String`, `Vec<u8>` and their `Option`s.
pub trait Column:
    for<'r> Decode<'r, Sqlite>
    + for<'r> Decode<'r, Postgres>
    + for<'r> Decode<'r, MySql>
    + Type<Sqlite>
    + Type<Postgres>
    + Type<MySql>
{
}

impl<T> Column for T where
    T: for<'r> Decode<'r, Sqlite>
        + for<'r> Decode<'r, Postgres>
        + for<'r> Decode<'r, MySql>
        + Type<Sqlite>
        + Type<Postgres>
        + Type<MySql>
{
}

impl Row {
    /// The value of a column. `Internal` when the column is missing or holds something else: the table
    /// is not what the code expects.
    pub fn get<T: Column>(&self, column: &str) -> Result<T> {
        let value = match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
            Row::MySql(row) => row.try_get(column),
        };
        value.map_err(Error::internal)
    }

    /// A moment, kept as microseconds since 1970.
    pub fn time(&self, column: &str) -> Result<Time> {
        Ok(Time(self.get(column)?))
    }

    /// A moment that may be missing.
    pub fn time_or_none(&self, column: &str) -> Result<Option<Time>> {
        Ok(self.get::<Option<i64>>(column)?.map(Time))
    }

    /// A JSON text.
    pub fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(Error::internal)
    }

    /// A JSON text that may be missing.
    pub fn json_or_none<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(Error::internal)).transpose()
    }
}
