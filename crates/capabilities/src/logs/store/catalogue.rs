//! The catalogue: the table of segments. A database may serve several stores, so each has its own name.

use opsroom_core::Result;
use opsroom_core::clock::Time;
use opsroom_core::db::{Db, Dialect, Migration, Step};
use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, OnConflict, Order, Query, Table};

/// The tables, oldest first.
pub const MIGRATIONS: [Migration; 3] = [
    Migration { version: 1, name: "the catalogue of log segments", steps: segments },
    Migration { version: 2, name: "log sources", steps: crate::logs::sources::tables },
    Migration { version: 3, name: "log batches", steps: crate::logs::batches::tables },
];

#[derive(Clone, Copy, Iden)]
enum LogSegments {
    Table,
    Store,
    Id,
    RowCount,
    FromTime,
    ToTime,
    PlainBytes,
    StoredBytes,
    CreatedAt,
}

fn segments(_: Dialect) -> Vec<Step> {
    let number = |column| ColumnDef::new(column).big_integer().not_null().to_owned();
    vec![Step::Create(
        Table::create()
            .table(LogSegments::Table)
            .col(ColumnDef::new(LogSegments::Store).string_len(64).not_null())
            .col(number(LogSegments::Id))
            .col(number(LogSegments::RowCount))
            .col(number(LogSegments::FromTime))
            .col(number(LogSegments::ToTime))
            .col(number(LogSegments::PlainBytes))
            .col(number(LogSegments::StoredBytes))
            .col(number(LogSegments::CreatedAt))
            .primary_key(Index::create().col(LogSegments::Store).col(LogSegments::Id))
            .to_owned(),
    )]
}

/// What the catalogue says of a segment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub id: u64,
    pub rows: u64,
    pub times: (i64, i64),
    pub plain_bytes: u64,
    pub stored_bytes: u64,
    pub created_at: Time,
}

/// The segments of one store, as the database knows them.
#[derive(Clone)]
pub(super) struct Catalogue {
    pub db: Db,
    pub store: String,
}

impl Catalogue {
    pub async fn all(&self) -> Result<Vec<Entry>> {
        let query = Query::select()
            .columns([
                LogSegments::Id,
                LogSegments::RowCount,
                LogSegments::FromTime,
                LogSegments::ToTime,
                LogSegments::PlainBytes,
                LogSegments::StoredBytes,
                LogSegments::CreatedAt,
            ])
            .from(LogSegments::Table)
            .and_where(Expr::col(LogSegments::Store).eq(self.store.as_str()))
            .order_by(LogSegments::Id, Order::Asc)
            .to_owned();
        let rows = self.db.all(&query).await?;
        let entry = |row: &opsroom_core::db::Row| {
            let number = |column: &str| row.get::<i64>(column).map(|value| value as u64);
            Ok(Entry {
                id: number("id")?,
                rows: number("row_count")?,
                times: (row.get("from_time")?, row.get("to_time")?),
                plain_bytes: number("plain_bytes")?,
                stored_bytes: number("stored_bytes")?,
                created_at: row.time("created_at")?,
            })
        };
        rows.iter().map(entry).collect()
    }

    /// Adds a segment; one of the same number is replaced, because it was made of the same lines.
    pub async fn put(&self, entry: &Entry) -> Result<()> {
        let columns = [
            LogSegments::RowCount,
            LogSegments::FromTime,
            LogSegments::ToTime,
            LogSegments::PlainBytes,
            LogSegments::StoredBytes,
            LogSegments::CreatedAt,
        ];
        let insert = Query::insert()
            .into_table(LogSegments::Table)
            .columns([LogSegments::Store, LogSegments::Id].into_iter().chain(columns))
            .values_panic([
                self.store.as_str().into(),
                (entry.id as i64).into(),
                (entry.rows as i64).into(),
                entry.times.0.into(),
                entry.times.1.into(),
                (entry.plain_bytes as i64).into(),
                (entry.stored_bytes as i64).into(),
                entry.created_at.0.into(),
            ])
            .on_conflict(
                OnConflict::columns([LogSegments::Store, LogSegments::Id]).update_columns(columns).to_owned(),
            )
            .to_owned();
        self.db.run(&insert).await.map(drop)
    }

    pub async fn remove(&self, id: u64) -> Result<()> {
        let delete = Query::delete()
            .from_table(LogSegments::Table)
            .and_where(Expr::col(LogSegments::Store).eq(self.store.as_str()))
            .and_where(Expr::col(LogSegments::Id).eq(id as i64))
            .to_owned();
        self.db.run(&delete).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::Clock;
    use opsroom_core::testing::each_database;

    use super::*;

    #[tokio::test]
    async fn each_store_has_its_own_segments_on_every_database() {
        for test in each_database().await {
            let clock = Clock::manual(Time(1_763_719_200_000_000));
            test.db.migrate(&clock, &[("logs", &MIGRATIONS)]).await.unwrap();
            let mine = Catalogue { db: test.db.clone(), store: "mine".to_owned() };
            let other = Catalogue { db: test.db.clone(), store: "other".to_owned() };
            let entry = Entry {
                id: 7,
                rows: 3,
                times: (-5, 9),
                plain_bytes: 100,
                stored_bytes: 10,
                created_at: clock.now(),
            };
            mine.put(&entry).await.unwrap();
            mine.put(&Entry { rows: 4, ..entry.clone() }).await.unwrap();
            assert_eq!(mine.all().await.unwrap(), [Entry { rows: 4, ..entry }]);
            assert!(other.all().await.unwrap().is_empty());
            mine.remove(7).await.unwrap();
            assert!(mine.all().await.unwrap().is_empty());
        }
    }
}
