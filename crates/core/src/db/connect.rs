//! Opening a database by its URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::Db;
use crate::error::{Error, Result};

/// The embedded database's file in the data folder.
const SQLITE_FILE: &str = "opsroom.db";

/// Where the database is.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DbConfig {
    /// `sqlite://PATH`, `postgres://USER:PASSWORD@HOST/NAME` or `mysql://USER:PASSWORD@HOST/NAME`
    /// (MariaDB too). Empty: SQLite in the data folder. Also read from `DATABASE_URL`.
    #[schemars(extend("writeOnly" = true))]
    pub url: String,
    /// The most connections to keep, from 1 to 200.
    pub max_connections: u32,
    /// How long a request waits for a connection, in seconds, before it is told that the database does
    /// not answer.
    pub connect_timeout_seconds: u64,
}

/// The URL may hold a password: it is not shown.
impl fmt::Debug for DbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.url.split_once(':').map_or("", |(kind, _)| kind);
        f.debug_struct("DbConfig")
            .field("kind", &kind)
            .field("max_connections", &self.max_connections)
            .finish_non_exhaustive()
    }
}

impl Default for DbConfig {
    fn default() -> Self {
        Self { url: String::new(), max_connections: 10, connect_timeout_seconds: 5 }
    }
}

impl DbConfig {
    /// Opens the database; an SQLite file is made when it is missing, below `data_dir` when no URL is set.
    ///
    /// # Errors
    /// `Invalid` for a URL that is none of the three kinds, `Unavailable` for a database that does not answer.
    pub async fn open(&self, data_dir: &Path) -> Result<Db> {
        match self.url.split_once(':').map_or(self.url.as_str(), |(scheme, _)| scheme) {
            "" => self.sqlite(SqliteConnectOptions::new().filename(data_dir.join(SQLITE_FILE))).await,
            "sqlite" => {
                let options = SqliteConnectOptions::from_str(&self.url);
                self.sqlite(options.map_err(|error| self.wrong_url(error))?).await
            }
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(&self.url).map_err(|error| self.wrong_url(error))?;
                let place = format!("PostgreSQL at {}:{}", options.get_host(), options.get_port());
                let pool = PgPoolOptions::new()
                    .max_connections(self.max_connections)
                    .acquire_timeout(self.timeout())
                    .connect_with(options);
                Ok(Db::Postgres(pool.await.map_err(|error| no_answer(&place, error))?))
            }
            "mysql" | "mariadb" => {
                let url = self.url.replacen("mariadb:", "mysql:", 1);
                let options = MySqlConnectOptions::from_str(&url).map_err(|error| self.wrong_url(error))?;
                let place = format!("MySQL at {}:{}", options.get_host(), options.get_port());
                let pool = MySqlPoolOptions::new()
                    .max_connections(self.max_connections)
                    .acquire_timeout(self.timeout())
                    .connect_with(options.charset("utf8mb4").timezone(Some("+00:00".to_owned())));
                Ok(Db::MySql(pool.await.map_err(|error| no_answer(&place, error))?))
            }
            _ => Err(self.wrong_url("unknown scheme")),
        }
    }

    /// The file of the database, when it is one.
    pub fn file(&self, data_dir: &Path) -> Option<PathBuf> {
        if self.url.is_empty() {
            return Some(data_dir.join(SQLITE_FILE));
        }
        let options = self.url.starts_with("sqlite:").then(|| SqliteConnectOptions::from_str(&self.url).ok());
        options.flatten().map(|options| options.get_filename().to_owned())
    }

    async fn sqlite(&self, options: SqliteConnectOptions) -> Result<Db> {
        let place = format!("SQLite at {}", options.get_filename().display());
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(self.timeout());
        // When the disk is full SQLite rolls a transaction back by itself, and the driver goes on believing
        // in it: such a connection is replaced, or nothing could be written until the next start.
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.timeout())
            .before_acquire(|on, _| Box::pin(std::future::ready(Ok(!on.is_in_transaction()))));
        let writer = writer.connect_with(options.clone()).await.map_err(|error| no_answer(&place, error))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(self.timeout())
            .connect_lazy_with(options.pragma("query_only", "true"));
        Ok(Db::Sqlite { writer, readers })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds.clamp(1, 300))
    }

    /// The URL may hold a password, so it is not repeated.
    fn wrong_url(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::invalid(
            "the database URL is not one of `sqlite://PATH`, `postgres://USER:PASSWORD@HOST/NAME` or \
             `mysql://USER:PASSWORD@HOST/NAME`",
        )
        .because(error)
    }
}

fn no_answer(place: &str, error: sqlx::Error) -> Error {
    let reason = match &error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::PoolTimedOut => "no answer in time".to_owned(),
        other => failed_reason(other),
    };
    Error::unavailable(format!("cannot open the database, {place}: {reason}")).because(error)
}

fn failed_reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Tls(_) => "the encrypted connection failed".to_owned(),
        _ => "it cannot be used".to_owned(),
    }
}
