//! For tests, here and in the crates above: databases that are fresh and go away.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use crate::db::{Db, DbConfig};

/// A fresh database. SQLite lives in a folder of its own; a server's is made for the test and dropped
/// before the next one of the same name.
pub struct TestDb {
    /// The open database.
    pub db: Db,
    /// Its URL, to open it again.
    pub config: DbConfig,
    /// The folder of SQLite's file, kept while the test runs.
    pub folder: tempfile::TempDir,
}

/// A fresh SQLite database.
pub async fn sqlite() -> TestDb {
    open(DbConfig::default()).await
}

/// A fresh database of every kind that is at hand.
pub async fn each_database() -> Vec<TestDb> {
    let mut databases = vec![sqlite().await];
    for (variable, make) in [("OPSROOM_TEST_POSTGRES_URL", true), ("OPSROOM_TEST_MYSQL_URL", false)] {
        #[expect(clippy::disallowed_methods, reason = "a test learns from its environment which servers run")]
        let Ok(server) = std::env::var(variable) else { continue };
        let name = unique_name();
        let (base, _) = server.rsplit_once('/').expect("the URL ends with a database's name");
        let sql = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        if make {
            let mut on = PgConnection::connect(&server).await.expect("PostgreSQL answers");
            sqlx::query(sql).execute(&mut on).await.expect("a database can be made");
        } else {
            let mut on = MySqlConnection::connect(&server).await.expect("MariaDB answers");
            sqlx::query(sql).execute(&mut on).await.expect("a database can be made");
        }
        databases.push(open(DbConfig { url: format!("{base}/{name}"), ..DbConfig::default() }).await);
    }
    databases
}

/// Runs a statement of the test's own on a database server.
pub async fn run_sql(db: &Db, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    let done = match db {
        Db::Sqlite { writer, .. } => sqlx::query(sql).execute(writer).await.map(|_| ()),
        Db::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
        Db::MySql(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()),
    };
    done.expect("the statement runs");
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // A process id comes again; 64 random bits do not.
    let random = &crate::id::new_token("")[..16];
    format!("opsroom_{random}_{}", NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A temporary folder that is its owner's alone, as a data folder is.
fn private_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir().expect("a temporary folder can be made")
}

async fn open(config: DbConfig) -> TestDb {
    let folder = private_folder();
    let config = DbConfig { max_connections: 3, ..config };
    let db = config.open(folder.path()).await.expect("the database opens");
    TestDb { db, config, folder }
}
