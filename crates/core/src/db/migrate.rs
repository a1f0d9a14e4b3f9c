//! The tables of each capability, made step by step, and recorded as they are made.
//!
//! A migration is written once, for every database, in sea-query's builder. Each step is one statement.
//! SQLite and PostgreSQL make all that is missing in one transaction; MySQL cannot roll a change of the
//! schema back, so there a step is recorded as soon as it is done, and a migration that was cut short
//! goes on where it was. Several servers may start at once: one migrates,
//! the others wait.

use sea_query::{
    ColumnDef, Expr, ExprTrait, Iden, Index, IndexCreateStatement, IndexDropStatement, MysqlQueryBuilder,
    PostgresQueryBuilder, Query, SqliteQueryBuilder, Table, TableAlterStatement, TableCreateStatement,
    TableDropStatement,
};

use super::{Db, Dialect, Transaction, failed};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// One step: one change of the schema.
pub enum Step {
    /// A new table.
    Create(TableCreateStatement),
    /// A changed table.
    Alter(TableAlterStatement),
    /// A table that goes.
    Drop(TableDropStatement),
    /// A new index.
    Index(IndexCreateStatement),
    /// An index that goes.
    DropIndex(IndexDropStatement),
    /// A row that must be there.
    Insert(sea_query::InsertStatement),
}

/// A change of one capability's tables.
pub struct Migration {
    /// From 1, without gaps, in the order of their making.
    pub version: i32,
    /// What it does, in a few words.
    pub name: &'static str,
    /// The steps, for a dialect.
    pub steps: fn(Dialect) -> Vec<Step>,
}

/// A migration that has just been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The capability whose tables changed.
    pub capability: &'static str,
    /// The migration's version.
    pub version: i32,
    /// What it did.
    pub name: &'static str,
}

#[derive(Iden)]
enum SchemaMigrations {
    Table,
    Capability,
    Version,
    Step,
    Name,
    AppliedAt,
}

/// Serves as the lock of PostgreSQL (`pg_advisory_lock`); any number that only Opsroom uses.
const LOCK: i64 = 0x6f70_7372_6f6f_6d01;

impl Db {
    /// Makes what is missing. `capabilities` are each capability's name and its migrations, oldest first.
    ///
    /// # Errors
    /// `Conflict` when the database was made by a newer Opsroom.
    pub async fn migrate(
        &self,
        clock: &Clock,
        capabilities: &[(&'static str, &[Migration])],
    ) -> Result<Vec<Applied>> {
        let guard = Guard::take(self).await?;
        let result = self.migrate_locked(clock, capabilities).await;
        guard.release().await;
        result
    }

    /// The names of the migrations that `migrate` would make.
    pub async fn pending(&self, capabilities: &[(&'static str, &[Migration])]) -> Result<Vec<Applied>> {
        let mut pending = Vec::new();
        for (capability, migrations) in capabilities {
            for migration in *migrations {
                let steps = (migration.steps)(self.dialect()).len();
                // Without the table of records nothing has been made.
                let done =
                    self.all(&steps_of(capability, migration.version)).await.map_or(0, |rows| rows.len());
                if done < steps {
                    pending.push(Applied { capability, version: migration.version, name: migration.name });
                }
            }
        }
        Ok(pending)
    }

    /// One transaction for all of it where the database can roll a change of the schema back, one for
    /// each step where it cannot.
    async fn migrate_locked(
        &self,
        clock: &Clock,
        capabilities: &[(&'static str, &[Migration])],
    ) -> Result<Vec<Applied>> {
        let mut on = self.begin().await?;
        on.schema(records_table(self.dialect())).await?;
        let mut applied = Vec::new();
        for (capability, migrations) in capabilities {
            let newest = migrations.last().map_or(0, |migration| migration.version);
            refuse_newer(&mut on, capability, newest).await?;
            for migration in *migrations {
                let done = steps_done(&mut on, capability, migration.version).await?;
                let steps = (migration.steps)(self.dialect());
                for (number, step) in steps.iter().enumerate().skip(done) {
                    make(&mut on, clock, capability, migration, number, step).await?;
                    if self.dialect() == Dialect::MySql {
                        on.commit().await?;
                        on = self.begin().await?;
                    }
                }
                if done < steps.len() {
                    applied.push(Applied { capability, version: migration.version, name: migration.name });
                }
            }
        }
        on.commit().await?;
        Ok(applied)
    }
}

async fn make(
    on: &mut Transaction,
    clock: &Clock,
    capability: &str,
    migration: &Migration,
    number: usize,
    step: &Step,
) -> Result<()> {
    step.run(on).await.map_err(|error| {
        let place = format!("{capability} {} ({}), step {}", migration.version, migration.name, number + 1);
        Error::new(error.kind, format!("the migration {place} failed: {error}")).because(error)
    })?;
    let record = Query::insert()
        .into_table(SchemaMigrations::Table)
        .columns([
            SchemaMigrations::Capability,
            SchemaMigrations::Version,
            SchemaMigrations::Step,
            SchemaMigrations::Name,
            SchemaMigrations::AppliedAt,
        ])
        .values_panic([
            capability.into(),
            migration.version.into(),
            i32::try_from(number).unwrap_or(i32::MAX).into(),
            migration.name.into(),
            clock.now().0.into(),
        ])
        .to_owned();
    on.run(&record).await.map(drop)
}

async fn steps_done(on: &mut Transaction, capability: &str, version: i32) -> Result<usize> {
    Ok(on.all(&steps_of(capability, version)).await?.len())
}

fn steps_of(capability: &str, version: i32) -> sea_query::SelectStatement {
    Query::select()
        .column(SchemaMigrations::Step)
        .from(SchemaMigrations::Table)
        .and_where(Expr::col(SchemaMigrations::Capability).eq(capability))
        .and_where(Expr::col(SchemaMigrations::Version).eq(version))
        .to_owned()
}

async fn refuse_newer(on: &mut Transaction, capability: &str, newest: i32) -> Result<()> {
    let query = Query::select()
        .column(SchemaMigrations::Version)
        .from(SchemaMigrations::Table)
        .and_where(Expr::col(SchemaMigrations::Capability).eq(capability))
        .and_where(Expr::col(SchemaMigrations::Version).gt(newest))
        .limit(1)
        .to_owned();
    match on.first(&query).await? {
        None => Ok(()),
        Some(_) => Err(Error::conflict(format!(
            "the database was made by a newer Opsroom: its tables of {capability} are beyond version {newest}; \
             use that version or a database of its own"
        ))),
    }
}

impl Step {
    async fn run(&self, on: &mut Transaction) -> Result<()> {
        if let Step::Insert(insert) = self {
            return on.run(insert).await.map(drop);
        }
        let sql = self.sql(on.dialect());
        on.schema(sql).await
    }

    pub(super) fn sql(&self, dialect: Dialect) -> String {
        macro_rules! text {
            ($statement:expr) => {
                match dialect {
                    Dialect::Sqlite => $statement.to_string(SqliteQueryBuilder),
                    Dialect::Postgres => $statement.to_string(PostgresQueryBuilder),
                    Dialect::MySql => $statement.to_string(MysqlQueryBuilder),
                }
            };
        }
        match self {
            Step::Create(create) => {
                let mut create = create.clone();
                if dialect == Dialect::MySql {
                    create.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
                }
                text!(create)
            }
            Step::Alter(alter) => text!(alter),
            Step::Drop(drop) => text!(drop),
            Step::Index(index) => text!(index),
            Step::DropIndex(index) => text!(index),
            Step::Insert(insert) => text!(insert),
        }
    }
}

impl Dialect {
    /// A column for texts of any length: MySQL's `text` ends at 64 KiB.
    pub fn long_text(self, column: impl sea_query::IntoIden) -> ColumnDef {
        let mut definition = ColumnDef::new(column);
        match self {
            Dialect::MySql => definition.custom("longtext"),
            Dialect::Sqlite | Dialect::Postgres => definition.text(),
        };
        definition
    }
}

fn records_table(dialect: Dialect) -> String {
    let table = Table::create()
        .table(SchemaMigrations::Table)
        .if_not_exists()
        .col(ColumnDef::new(SchemaMigrations::Capability).string_len(64).not_null())
        .col(ColumnDef::new(SchemaMigrations::Version).integer().not_null())
        .col(ColumnDef::new(SchemaMigrations::Step).integer().not_null())
        .col(ColumnDef::new(SchemaMigrations::Name).string_len(190).not_null())
        .col(ColumnDef::new(SchemaMigrations::AppliedAt).big_integer().not_null())
        .primary_key(
            Index::create()
                .col(SchemaMigrations::Capability)
                .col(SchemaMigrations::Version)
                .col(SchemaMigrations::Step),
        )
        .to_owned();
    Step::Create(table).sql(dialect)
}

/// Keeps other servers from migrating at the same time. SQLite's writer needs no such guard: the data
/// folder has one server.
enum Guard {
    None,
    Postgres(sqlx::pool::PoolConnection<sqlx::Postgres>),
    MySql(sqlx::pool::PoolConnection<sqlx::MySql>),
}

impl Guard {
    async fn take(db: &Db) -> Result<Self> {
        Ok(match db {
            Db::Sqlite { .. } => Guard::None,
            Db::Postgres(pool) => {
                let mut on = pool.acquire().await.map_err(failed)?;
                sqlx::query("SELECT pg_advisory_lock($1)")
                    .bind(LOCK)
                    .execute(&mut *on)
                    .await
                    .map_err(failed)?;
                Guard::Postgres(on)
            }
            Db::MySql(pool) => {
                let mut on = pool.acquire().await.map_err(failed)?;
                sqlx::query("SELECT GET_LOCK('opsroom_migrate', 60)")
                    .execute(&mut *on)
                    .await
                    .map_err(failed)?;
                Guard::MySql(on)
            }
        })
    }

    async fn release(self) {
        // A connection that fails here is closed by the pool, which releases the lock as well.
        let _released = match self {
            Guard::None => Ok(()),
            Guard::Postgres(mut on) => {
                sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&mut *on).await.map(drop)
            }
            Guard::MySql(mut on) => {
                sqlx::query("SELECT RELEASE_LOCK('opsroom_migrate')").execute(&mut *on).await.map(drop)
            }
        };
    }
}
