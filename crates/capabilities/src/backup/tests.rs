//! What backup and restore promise, on every database that is at hand.

mod hostile;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::caller::{Caller, Face};
use opsroom_core::clock::{Clock, Time};
use opsroom_core::db::{Cell, Db, Shape, Snapshot};
use opsroom_core::job::Progress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::secret::Secret;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Kind, Result};
use serde_json::{Value, json};

use super::*;
use crate::room::{Answer, Room, RoomConfig, migrations};

const NOW: i64 = 1_763_719_200_000_000;
const VALUE: &str = "correct horse battery staple";

/// A room over a database, in a data folder of its own.
struct House {
    config: RoomConfig,
    room: Arc<Room>,
}

fn config_of(test: &TestDb) -> RoomConfig {
    let database = test.config.clone();
    RoomConfig { data_dir: test.folder.path().to_owned(), database, ..RoomConfig::default() }
}

impl House {
    async fn open(config: RoomConfig) -> Self {
        let room = Room::open(&config, Clock::manual(Time(NOW)), Lifecycle::new()).await.unwrap();
        Self { config, room }
    }

    /// With something of every kind in it.
    async fn furnished(test: &TestDb) -> Self {
        let house = Self::open(config_of(test)).await;
        house.ok("put_secret", json!({ "path": "db", "value": VALUE })).await;
        house.ok("create_api_key", json!({ "name": "naïve 🙂 \" \\ key", "role": "viewer" })).await;
        let schedule = json!({ "name": "daily", "cron": "@daily", "operation": "list_jobs" });
        house.ok("create_schedule", schedule).await;
        let csv = "timestamp,load\n2025-11-21T09:00:00Z,0.1\n2025-11-21T10:00:00Z,1e-300\n";
        house.ok("ingest_metrics", json!({ "service_id": "web", "csv": csv })).await;
        house.ok("ingest_logs", json!({ "text": "the disk is full\nall is well\n", "service": "web" })).await;
        let files = house.config.data_dir.join("files/deep/er");
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("a.log"), "a line\n").unwrap();
        // Longer than the header of an entry has room for.
        std::fs::write(files.join("x".repeat(200)), "long").unwrap();
        house
    }

    async fn call(&self, operation: &str, input: Value) -> Result<Value> {
        let call = Call::new(Caller::operator(Face::Cli));
        self.room.call(operation, call, input).await.map(Answer::into_value)
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(operation, input).await.unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    async fn close(self) {
        self.room.lifecycle.finish(Duration::from_secs(10)).await.unwrap();
        self.room.database.close().await;
    }

    async fn save(&self, file: &Path) -> Result<Saved> {
        save(&self.config, &Clock::manual(Time(NOW)), &[], file, &Progress::silent()).await
    }
}

async fn back(config: &RoomConfig, file: &Path) -> Result<Restored> {
    restore(config, &Clock::manual(Time(NOW)), file, &Progress::silent()).await
}

/// Every row of every table, as lines, in an order that is the same on every database.
async fn dump(db: &Db) -> Vec<String> {
    let mut snapshot = Snapshot::begin(db).await.unwrap();
    let mut lines = Vec::new();
    for shape in Shape::all(&migrations()).await.unwrap() {
        let mut given: Vec<Vec<Cell>> = Vec::new();
        snapshot
            .rows(&shape, async |rows| {
                given.extend(rows);
                Ok(())
            })
            .await
            .unwrap();
        let mut own: Vec<String> = given.iter().map(|row| format!("{}: {row:?}", shape.name)).collect();
        own.sort_unstable();
        lines.extend(own);
    }
    lines
}

/// What is in a data folder of a room that was never opened, without what the one who restores put there.
fn left_in(config: &RoomConfig) -> Vec<String> {
    let before = ["opsroom.lock", "master.key"];
    let entries = std::fs::read_dir(&config.data_dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !before.contains(&name.as_str()) && !name.starts_with("opsroom.db")).collect()
}

fn give_key(from: &RoomConfig, to: &RoomConfig) {
    std::fs::copy(from.data_dir.join("master.key"), to.data_dir.join("master.key")).unwrap();
}

fn archive(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[tokio::test]
async fn a_room_moves_from_each_kind_of_database_to_the_next_and_back() {
    let archives = tempfile::tempdir().unwrap();
    let first = sqlite().await;
    let house = House::furnished(&first).await;
    let mut chain = each_database().await;
    chain.rotate_left(1);
    let file = archive(&archives, "0.tar.gz");
    let saved = house.save(&file).await.unwrap();
    assert_eq!(saved.left, Vec::<String>::new(), "a room's folder has what no backup knows");
    // Without a server nothing changes any more.
    let config = house.config.clone();
    house.close().await;
    std::fs::remove_file(&file).unwrap();
    let saved = save(&config, &Clock::manual(Time(NOW)), &[], &file, &Progress::silent()).await.unwrap();
    let rows = dump(&first.db).await;
    assert_eq!(saved.rows, rows.len() as u64);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut before = (config, file);
    for (number, test) in chain.iter().enumerate() {
        let config = config_of(test);
        give_key(&before.0, &config);
        let restored = back(&config, &before.1).await.unwrap();
        assert_eq!((restored.rows, restored.files), (saved.rows, saved.files), "{}", test.config.url);
        assert_eq!(dump(&test.db).await, rows, "{:?}", test.db.dialect());
        let next = archive(&archives, &format!("{}.tar.gz", number + 1));
        save(&config, &Clock::manual(Time(NOW)), &[], &next, &Progress::silent()).await.unwrap();
        before = (config, next);
    }
    let house = House::open(before.0).await;
    assert_eq!(house.ok("get_secret", json!({ "path": "db" })).await["fields"]["value"], VALUE);
    assert_eq!(house.ok("verify_audit", json!({})).await["intact"], true);
    assert_eq!(house.ok("count_logs", json!({ "query": "disk" })).await["count"], 1);
    let log = house.config.data_dir.join("files/deep/er/a.log");
    assert_eq!(std::fs::read_to_string(log).unwrap(), "a line\n");
    assert!(house.config.data_dir.join("files/deep/er").join("x".repeat(200)).is_file());
    house.close().await;
}

#[tokio::test]
async fn no_key_and_no_secret_is_in_an_archive() {
    let test = sqlite().await;
    let house = House::furnished(&test).await;
    let folder = &house.config.data_dir;
    std::fs::create_dir(folder.join("secrets.d")).unwrap();
    std::fs::write(folder.join("secrets.d/token"), "of a neighbour").unwrap();
    std::fs::write(folder.join("opsroom.yaml"), "log:\n  level: info\n").unwrap();
    let archives = tempfile::tempdir().unwrap();
    let file = archive(&archives, "a.tar.gz");
    house.room.identity.ensure_operator_key().await.unwrap();
    house.save(&file).await.unwrap();
    let mut plain = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(std::fs::File::open(&file).unwrap());
    std::io::copy(&mut { unpacked }, &mut plain).unwrap();
    let has = |text: &str| plain.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("the disk is full") && has("naïve"), "the archive is not what is searched");
    let master = std::fs::read_to_string(folder.join("master.key")).unwrap();
    let operator = std::fs::read_to_string(folder.join("operator.key")).unwrap();
    for secret in [master.trim(), operator.trim(), VALUE, "of a neighbour", "level: info"] {
        assert!(!has(secret), "it has {}", &secret[..4]);
    }
    house.close().await;
}

#[tokio::test]
async fn a_restore_without_the_master_key_is_refused_and_says_where_it_belongs() {
    let test = sqlite().await;
    let house = House::furnished(&test).await;
    let archives = tempfile::tempdir().unwrap();
    let file = archive(&archives, "a.tar.gz");
    house.save(&file).await.unwrap();
    house.close().await;
    for other in each_database().await {
        let config = config_of(&other);
        let error = back(&config, &file).await.unwrap_err();
        let place = config.data_dir.join("master.key");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains(place.to_str().unwrap()), "{error}");
        assert!(left_in(&config).is_empty() && other.db.tables().await.unwrap().is_empty());
        // Another key is as good as none.
        let mut wrong = config.clone();
        wrong.kept_secrets.master_key.value = Secret::new("ab".repeat(32));
        let error = back(&wrong, &file).await.unwrap_err();
        assert!(error.message.contains("not the one that sealed"), "{error}");
        give_key(&config_of(&test), &config);
        back(&config, &file).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_in_use_is_neither_overwritten_nor_restored_into() {
    let archives = tempfile::tempdir().unwrap();
    let file = archive(&archives, "a.tar.gz");
    for test in each_database().await {
        let house = House::furnished(&test).await;
        let _earlier = std::fs::remove_file(&file);
        house.save(&file).await.unwrap();
        let whole = std::fs::read(&file).unwrap();
        assert_eq!(house.save(&file).await.unwrap_err().kind, Kind::Conflict);
        assert_eq!(std::fs::read(&file).unwrap(), whole);
        house.close().await;
        let rows = dump(&test.db).await;
        let used_folder = back(&config_of(&test), &file).await.unwrap_err();
        assert_eq!(used_folder.kind, Kind::Conflict, "{used_folder}");
        // Another folder over the same database, which for SQLite is named then.
        let folder =
            tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o700)).tempdir().unwrap();
        let mut config = RoomConfig { data_dir: folder.path().to_owned(), ..config_of(&test) };
        give_key(&config_of(&test), &config);
        if config.database.url.is_empty() {
            config.database.url = format!("sqlite://{}", test.folder.path().join("opsroom.db").display());
        }
        let used_database = back(&config, &file).await.unwrap_err();
        assert_eq!(used_database.kind, Kind::Conflict, "{used_database}");
        assert!(used_database.message.contains("the database is in use"), "{used_database}");
        assert!(left_in(&config).is_empty());
        let again = config.database.open(folder.path()).await.unwrap();
        assert_eq!(dump(&again).await, rows);
        again.close().await;
    }
}

#[tokio::test]
async fn a_restore_that_was_cut_short_is_begun_anew() {
    let test = sqlite().await;
    let house = House::furnished(&test).await;
    let archives = tempfile::tempdir().unwrap();
    let file = archive(&archives, "a.tar.gz");
    house.save(&file).await.unwrap();
    house.close().await;
    for other in each_database().await {
        let config = config_of(&other);
        give_key(&config_of(&test), &config);
        // As if the process had ended after the tables were made and half of the files had been moved.
        other.db.migrate(&Clock::manual(Time(NOW)), &migrations()).await.unwrap();
        std::fs::create_dir_all(config.data_dir.join("files/half")).unwrap();
        assert_eq!(back(&config, &file).await.unwrap_err().kind, Kind::Conflict, "it is no restore's");
        std::fs::create_dir(config.data_dir.join(".restore")).unwrap();
        back(&config, &file).await.unwrap();
        assert!(!config.data_dir.join("files/half").exists());
        assert!(!config.data_dir.join(".restore").exists());
        let house = House::open(config).await;
        assert_eq!(house.ok("get_secret", json!({ "path": "db" })).await["fields"]["value"], VALUE);
        house.close().await;
    }
}

#[tokio::test]
async fn a_backup_of_nothing_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let file = folder.path().join("a.tar.gz");
    for made in [false, true] {
        if made {
            std::fs::create_dir(&data_dir).unwrap();
        }
        let config = RoomConfig { data_dir: data_dir.clone(), ..RoomConfig::default() };
        let saved = save(&config, &Clock::manual(Time(NOW)), &[], &file, &Progress::silent()).await;
        assert_eq!(saved.unwrap_err().kind, Kind::NotFound);
        assert!(!file.exists() && data_dir.exists() == made && !data_dir.join("opsroom.db").exists());
    }
}
