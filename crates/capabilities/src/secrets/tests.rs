//! What this folder promises, through the room as every face calls it, on every database at hand.

use std::path::PathBuf;
use std::sync::Arc;

use opsroom_core::caller::Face;
use opsroom_core::db::DbConfig;
use opsroom_core::resolver::{Purpose, Resolver};
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Caller, Clock, Kind, Result, Time};
use serde_json::{Value, json};

use super::*;
use crate::room::{Room, RoomConfig};

mod attacks;
mod giving;
mod rotating;
mod vaults;

const START: Time = Time(1_790_000_000_000_000);

/// A value that is nowhere else.
const VALUE: &str = "s3cr3t-correct-horse";

/// A room on a fresh database, with a clock that stands still.
struct House {
    room: Arc<Room>,
    clock: Clock,
    config: RoomConfig,
    /// Keeps the database's folder.
    _test: TestDb,
}

impl House {
    async fn new(test: TestDb) -> Self {
        let clock = Clock::manual(START);
        let data_dir = test.folder.path().join("data");
        private(&data_dir);
        let config = RoomConfig {
            data_dir: data_dir.clone(),
            database: DbConfig { url: test.config.url.clone(), ..test.config.clone() },
            secrets: Resolver::new(&data_dir, &Default::default()),
            ..RoomConfig::default()
        };
        let room = Room::open(&config, clock.clone(), Lifecycle::new()).await.unwrap();
        Self { room, clock, config, _test: test }
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        self.room.call(operation, Call::new(caller.clone()), input).await.map(crate::room::Answer::into_value)
    }

    async fn ok(&self, operation: &str, input: Value) -> Value {
        self.call(&operator(), operation, input).await.unwrap()
    }

    async fn fails(&self, caller: &Caller, operation: &str, input: Value) -> (Kind, String) {
        let error = self.call(caller, operation, input).await.expect_err(operation);
        (error.kind, error.message)
    }

    /// The caller of a new key, by that face.
    async fn key(&self, role: &str, scopes: Value, face: Face) -> Caller {
        let made = self.ok("create_api_key", json!({ "name": "app", "role": role, "scopes": scopes })).await;
        self.room.identity.authenticate(made["key"].as_str().unwrap(), face, None).await.unwrap()
    }

    async fn put(&self, path: &str, value: &str) {
        self.ok("put_secret", json!({ "path": path, "value": value })).await;
    }

    async fn value(&self, path: &str) -> String {
        let given = self.ok("get_secret", json!({ "path": path })).await;
        given["fields"]["value"].as_str().unwrap().to_owned()
    }

    async fn last_audit(&self, operation: &str) -> Value {
        self.ok("list_audit", json!({ "operation": operation, "limit": 1 })).await["items"][0].clone()
    }
}

async fn houses() -> Vec<House> {
    let mut houses = Vec::new();
    for test in each_database().await {
        houses.push(House::new(test).await);
    }
    houses
}

fn private(folder: &PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}
