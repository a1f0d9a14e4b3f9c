//! What the database layer promises, checked on every database that is at hand: SQLite always, the
//! others where `OPSROOM_TEST_POSTGRES_URL` and `OPSROOM_TEST_MYSQL_URL` name a server.

use sea_query::{ColumnDef, Expr, ExprTrait, Iden, Index, OnConflict, Order, Query, Table};

use super::*;
use crate::clock::{Clock, Time};
use crate::error::Kind;
use crate::testing::{TestDb, each_database};

#[derive(Iden)]
enum Things {
    #[iden = "test_things"]
    Table,
    Id,
    Name,
    Weight,
    Open,
    Note,
}

fn steps(dialect: Dialect) -> Vec<Step> {
    vec![
        Step::Create(
            Table::create()
                .table(Things::Table)
                .col(ColumnDef::new(Things::Id).big_integer().not_null().primary_key())
                .col(ColumnDef::new(Things::Name).string_len(64).not_null())
                .col(ColumnDef::new(Things::Weight).double())
                .col(ColumnDef::new(Things::Open).boolean().not_null())
                .col(dialect.long_text(Things::Note).null())
                .to_owned(),
        ),
        Step::Index(
            Index::create()
                .unique()
                .name("test_things_name")
                .table(Things::Table)
                .col(Things::Name)
                .to_owned(),
        ),
    ]
}

const MIGRATIONS: [Migration; 1] = [Migration { version: 1, name: "things", steps }];

async fn migrated(test: &TestDb) -> &Db {
    let clock = Clock::manual(Time(1));
    test.db.migrate(&clock, &[("things", &MIGRATIONS)]).await.unwrap();
    &test.db
}

fn insert(id: i64, name: &str, note: Option<&str>) -> sea_query::InsertStatement {
    Query::insert()
        .into_table(Things::Table)
        .columns([Things::Id, Things::Name, Things::Weight, Things::Open, Things::Note])
        .values_panic([id.into(), name.into(), 0.5.into(), true.into(), note.into()])
        .to_owned()
}

fn select() -> sea_query::SelectStatement {
    Query::select()
        .columns([Things::Id, Things::Name, Things::Weight, Things::Open, Things::Note])
        .from(Things::Table)
        .order_by(Things::Id, Order::Asc)
        .to_owned()
}

#[tokio::test]
async fn what_is_written_is_read_back_the_same_on_every_database() {
    for test in each_database().await {
        let db = migrated(&test).await;
        let long = "é".repeat(100_000);
        db.run(&insert(1, "naïve 🙂", Some(&long))).await.unwrap();
        db.run(&insert(2, "b", None)).await.unwrap();
        let rows = db.all(&select()).await.unwrap();
        assert_eq!(rows.len(), 2, "{:?}", db.dialect());
        assert_eq!(rows[0].get::<String>("name").unwrap(), "naïve 🙂");
        assert_eq!(rows[0].get::<f64>("weight").unwrap(), 0.5);
        assert!(rows[0].get::<bool>("open").unwrap());
        assert_eq!(rows[0].get::<Option<String>>("note").unwrap(), Some(long));
        assert_eq!(rows[1].get::<Option<String>>("note").unwrap(), None);
    }
}

#[tokio::test]
async fn names_that_differ_only_in_case_are_two_names() {
    for test in each_database().await {
        let db = migrated(&test).await;
        db.run(&insert(1, "a", None)).await.unwrap();
        db.run(&insert(2, "A", None)).await.unwrap();
        let error = db.run(&insert(3, "a", None)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{:?}", db.dialect());
        let again = insert(2, "B", None)
            .on_conflict(OnConflict::column(Things::Id).update_column(Things::Name).to_owned())
            .to_owned();
        db.run(&again).await.unwrap();
        assert_eq!(db.all(&select()).await.unwrap()[1].get::<String>("name").unwrap(), "B");
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_changed_nothing() {
    for test in each_database().await {
        let db = migrated(&test).await;
        let mut on = db.begin().await.unwrap();
        on.run(&insert(1, "a", None)).await.unwrap();
        assert_eq!(on.all(&select()).await.unwrap().len(), 1);
        drop(on);
        assert!(db.all(&select()).await.unwrap().is_empty(), "{:?}", db.dialect());
        let mut on = db.begin().await.unwrap();
        on.run(&insert(1, "a", None)).await.unwrap();
        on.commit().await.unwrap();
        assert_eq!(db.all(&select()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_and_a_newer_database_is_refused() {
    for test in each_database().await {
        let db = migrated(&test).await;
        let clock = Clock::manual(Time(2));
        assert!(db.migrate(&clock, &[("things", &MIGRATIONS)]).await.unwrap().is_empty());
        assert!(db.pending(&[("things", &MIGRATIONS)]).await.unwrap().is_empty());
        let error = db.migrate(&clock, &[("things", &[])]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.message.contains("newer Opsroom"), "{}", error.message);
    }
}

#[tokio::test]
async fn hostile_text_is_only_text() {
    for test in each_database().await {
        let db = migrated(&test).await;
        let name = "x'); DROP TABLE test_things; --\\\"";
        db.run(&insert(1, name, None)).await.unwrap();
        let found = select().and_where(Expr::col(Things::Name).eq(name)).to_owned();
        assert_eq!(db.all(&found).await.unwrap().len(), 1, "{:?}", db.dialect());
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let config = DbConfig { url: "postgres://u:hunter2@127.0.0.1:1/x".to_owned(), ..DbConfig::default() };
    let error = config.open(folder.path()).await.err().unwrap();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("127.0.0.1:1") && !error.message.contains("hunter2"), "{}", error.message);
    let config = DbConfig { url: "oracle://u:hunter2@h/x".to_owned(), ..DbConfig::default() };
    let error = config.open(folder.path()).await.err().unwrap();
    assert!(error.message.contains("postgres://") && !error.message.contains("hunter2"), "{}", error.message);
}

#[tokio::test]
async fn a_full_disk_is_said_and_writing_goes_on_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let db = DbConfig::default().open(folder.path()).await.unwrap();
    let clock = Clock::manual(Time(1));
    db.migrate(&clock, &[("things", &MIGRATIONS)]).await.unwrap();
    let Db::Sqlite { writer, .. } = &db else { panic!("it is SQLite by default") };
    // As small as it is: the next page is one too many. A new connection has no such limit.
    sqlx::query("PRAGMA max_page_count = 1").execute(writer).await.unwrap();
    let large = "x".repeat(100_000);
    let mut on = db.begin().await.unwrap();
    let error = on.run(&insert(1, "one", Some(&large))).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(error.message.contains("full"), "{error}");
    drop(on);
    let mut on = db.begin().await.unwrap();
    on.run(&insert(2, "two", Some(&large))).await.unwrap();
    on.commit().await.unwrap();
    let rows = db.all(&Query::select().column(Things::Id).from(Things::Table).to_owned()).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn a_snapshot_sees_one_moment_and_keeps_nobody_from_writing() {
    for test in each_database().await {
        let db = migrated(&test).await;
        db.run(&insert(1, "before", Some("a note"))).await.unwrap();
        let shapes = Shape::all(&[("things", &MIGRATIONS)]).await.unwrap();
        let mut snapshot = Snapshot::begin(db).await.unwrap();
        db.run(&insert(2, "after", None)).await.unwrap();
        let mut rows = Vec::new();
        let count = snapshot.rows(&shapes[0], async |some| {
            rows.extend(some);
            Ok(())
        });
        assert_eq!(count.await.unwrap(), 1, "{:?}", db.dialect());
        let text = |text: &str| Cell::Text(text.to_owned());
        let row = vec![Cell::Integer(1), text("before"), Cell::Double(0.5), Cell::Bool(true), text("a note")];
        assert_eq!(rows, [row]);
        assert_eq!(snapshot.migrations().await.unwrap()["things"], 1);
        assert_eq!(db.count("test_things").await.unwrap(), 2);
    }
}

#[tokio::test]
async fn rows_are_put_back_as_they_were_and_rows_of_another_table_are_refused() {
    for test in each_database().await {
        let db = migrated(&test).await;
        let shapes = Shape::all(&[("things", &MIGRATIONS)]).await.unwrap();
        assert_eq!(db.used(&shapes).await.unwrap(), None);
        let row = |id: i64, weight: Cell| {
            let name = Cell::Text(format!("{id} 🙂 \\ \' \""));
            vec![Cell::Integer(id), name, weight, Cell::Bool(id % 2 == 0), Cell::Null]
        };
        let mut rows: Vec<_> = (0..5_000).map(|id| row(id, Cell::Double(id as f64 / 3.0))).collect();
        rows.push(row(i64::MAX, Cell::Null));
        rows.push(row(i64::MIN, Cell::Double(f64::MIN_POSITIVE)));
        let mut on = db.begin().await.unwrap();
        on.clear(&shapes[0]).await.unwrap();
        on.put(&shapes[0], rows.clone()).await.unwrap();
        for wrong in [vec![Cell::Null], row(1, Cell::Text("heavy".to_owned()))] {
            assert_eq!(on.put(&shapes[0], vec![wrong]).await.unwrap_err().kind, Kind::Invalid);
        }
        on.commit().await.unwrap();
        let mut found = Vec::new();
        let mut snapshot = Snapshot::begin(db).await.unwrap();
        snapshot
            .rows(&shapes[0], async |some| {
                found.extend(some);
                Ok(())
            })
            .await
            .unwrap();
        let id = |row: &Vec<Cell>| if let Cell::Integer(id) = row[0] { id } else { 0 };
        found.sort_by_key(id);
        rows.sort_by_key(id);
        assert!(found == rows, "{:?}", db.dialect());
        drop(snapshot);
        assert_eq!(db.used(&shapes).await.unwrap().as_deref(), Some("test_things"));
        db.unmake(&shapes).await.unwrap();
        assert!(db.tables().await.unwrap().is_empty());
    }
}
