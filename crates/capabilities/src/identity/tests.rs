//! What this folder promises, through its operations and its service, on every database at hand.

use std::path::Path;

use opsroom_core::caller::Face;
use opsroom_core::db::Db;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Caller, Clock, Error, Kind, Result, Role, Scope, Time};
use serde_json::{Value, json};

use super::*;

mod access;
mod audit_trail;
mod call_record;
mod key_rules;
mod opening;
mod setup_and_operator;

const START: Time = Time(1_790_000_000_000_000);

/// A service on a fresh database, with a clock that stands still.
struct Room {
    identity: Identity,
    clock: Clock,
    life: Lifecycle,
    test: TestDb,
}

impl Room {
    async fn new(test: TestDb) -> Self {
        let clock = Clock::manual(START);
        test.db.migrate(&clock, &[("identity", &MIGRATIONS)]).await.unwrap();
        let life = Lifecycle::new();
        let data_dir = private_folder(&test);
        let identity = Identity::open(test.db.clone(), clock.clone(), life.clone(), &data_dir).await.unwrap();
        Self { identity, clock, life, test }
    }

    /// Another server on the same database.
    async fn replica(&self) -> Identity {
        let db = self.other_connection().await;
        let folder = private_folder(&self.test);
        Identity::open(db, self.clock.clone(), self.life.clone(), &folder).await.unwrap()
    }

    /// SQLite has one server, and so one writer; the others get connections of their own.
    async fn other_connection(&self) -> Db {
        match &self.test.db {
            Db::Sqlite { .. } => self.test.db.clone(),
            _ => self.test.config.open(self.test.folder.path()).await.unwrap(),
        }
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        call(&self.identity, caller, operation, input).await
    }

    /// A key, and the caller that it makes.
    async fn key(&self, maker: &Caller, input: Value) -> (String, String, Caller) {
        let created = self.call(maker, "create_api_key", input).await.unwrap();
        let key = created["key"].as_str().unwrap().to_owned();
        let id = created["api_key"]["id"].as_str().unwrap().to_owned();
        let caller = self.identity.authenticate(&key, Face::Rest, None).await.unwrap();
        (key, id, caller)
    }
}

async fn rooms() -> Vec<Room> {
    let mut rooms = Vec::new();
    for test in each_database().await {
        rooms.push(Room::new(test).await);
    }
    rooms
}

fn private_folder(test: &TestDb) -> PathBuf {
    let folder = test.folder.path().join("data");
    set_mode_of_new(&folder, 0o700);
    folder
}

fn set_mode_of_new(folder: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Calls an operation as a face does: authorised first.
async fn call(identity: &Identity, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
    let operations = identity.capability().operations;
    let operation = operations.iter().find(|found| found.name == operation).unwrap();
    caller.authorise(operation)?;
    operation.run(Call::new(caller.clone()), input).await
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}

fn scopes(texts: &[&str]) -> Option<Vec<Scope>> {
    Some(texts.iter().map(|text| Scope::try_from((*text).to_owned()).unwrap()).collect())
}

#[test]
fn operations_have_a_description_and_describe_each_field() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let room = Room::new(sqlite().await).await;
        let capability = room.identity.capability();
        assert_eq!(capability.operations.len(), 12);
        for operation in capability.operations {
            assert!(operation.open || operation.role == Role::Administrator, "{}", operation.name);
            assert!(operation.summary().len() > 10, "{}", operation.name);
            for (field, schema) in operation.fields() {
                assert!(schema.get("description").is_some(), "{}.{field}", operation.name);
            }
        }
    });
}

#[tokio::test]
async fn the_checks_say_that_the_trail_and_the_call_record_are_well() {
    let room = Room::new(sqlite().await).await;
    for check in room.identity.capability().checks {
        assert_eq!((check.run)().await.status, Status::Healthy, "{}", check.name);
    }
}
