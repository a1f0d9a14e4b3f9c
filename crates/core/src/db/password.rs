//! Setting the password of a database's user: a statement that takes no parameters, so the server itself
//! quotes them first.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Db, failed};
use crate::error::{Error, Result};
use crate::secret::Secret;

impl Db {
    /// Sets the password of a user who exists. The connection belongs to an administrator of the database.
    ///
    /// # Errors
    /// `Invalid` on SQLite, which has no users; `Forbidden` when the server refuses.
    pub async fn set_password(&self, user: &str, password: &Secret) -> Result<()> {
        let refused = |error: sqlx::Error| match failed(error) {
            // What the server says may repeat the statement.
            error if error.kind == crate::error::Kind::Internal => Error::forbidden(format!(
                "the database refused to set the password of {user:?}: does the user exist, and may the administrator's \
                 account change it?"
            )),
            error => error,
        };
        match self {
            Db::Sqlite { .. } => Err(Error::invalid("SQLite has no users whose password could be set")),
            Db::Postgres(pool) => {
                let quote = "SELECT format('ALTER ROLE %I WITH PASSWORD %L', $1::text, $2::text) AS line";
                let row = sqlx::query(quote).bind(user).bind(password.expose()).fetch_one(pool).await;
                let line: String = row.and_then(|row| row.try_get("line")).map_err(refused)?;
                sqlx::query(AssertSqlSafe(line)).execute(pool).await.map(drop).map_err(refused)
            }
            Db::MySql(pool) => {
                // Every host from which the user may come.
                let hosts = sqlx::query("SELECT CAST(Host AS CHAR) AS host FROM mysql.user WHERE User = ?")
                    .bind(user)
                    .fetch_all(pool)
                    .await
                    .map_err(refused)?;
                if hosts.is_empty() {
                    return Err(Error::not_found(format!("the database has no user {user:?}")));
                }
                for host in hosts {
                    let host: String = host.try_get("host").map_err(refused)?;
                    let quote = "SELECT CONCAT('ALTER USER ', QUOTE(?), '@', QUOTE(?), ' IDENTIFIED BY ', QUOTE(?)) AS line";
                    let row = sqlx::query(quote)
                        .bind(user)
                        .bind(host)
                        .bind(password.expose())
                        .fetch_one(pool)
                        .await;
                    let line: String = row.and_then(|row| row.try_get("line")).map_err(refused)?;
                    sqlx::query(AssertSqlSafe(line)).execute(pool).await.map_err(refused)?;
                }
                Ok(())
            }
        }
    }
}
