//! What services promise, with a fake engine in the place of Docker: the real one is in the end-to-end
//! tests.

mod engine;
mod keeping;
mod output;
mod registry;
mod teams;

use std::collections::BTreeMap;
use std::sync::Arc;

use opsroom_core::caller::{Caller, Face};
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::seal::Sealer;
use opsroom_core::testing::TestDb;
use opsroom_core::{Call, Clock, Result, Time};
use serde_json::{Value, json};

use super::{MIGRATIONS, Parts, Services, ServicesConfig};
use engine::Fake;

/// A room of services with a fake engine.
struct Here {
    services: Services,
    engine: Arc<Fake>,
    clock: Clock,
    caller: Caller,
}

impl Here {
    async fn open(test: &TestDb) -> Self {
        let clock = Clock::manual(Time(1_762_856_400_000_000));
        test.db.migrate(&clock, &[("services", &MIGRATIONS)]).await.unwrap();
        Self::again(test, clock, Arc::default())
    }

    /// Another Opsroom of the same data folder and database: as after a crash.
    fn again(test: &TestDb, clock: Clock, engine: Arc<Fake>) -> Self {
        let variables = BTreeMap::from([("OPSROOM_SECRET_TOKEN".to_owned(), "hunter2".to_owned())]);
        let parts = Parts {
            db: test.db.clone(),
            clock: clock.clone(),
            lifecycle: Lifecycle::new(),
            events: Events::new(clock.clone()),
            egress: Egress::new(&EgressConfig::default()).unwrap(),
            secrets: Resolver::new(test.folder.path(), &variables),
            sealer: Sealer::new(
                test.db.clone(),
                clock.clone(),
                Egress::new(&EgressConfig::default()).unwrap(),
                Default::default(),
                test.folder.path(),
            ),
            public_url: "http://127.0.0.1:8008".to_owned(),
            data_dir: test.folder.path().to_owned(),
            launcher: None,
            config: ServicesConfig {
                local_commands: vec![vec!["true".to_owned()]],
                ..ServicesConfig::default()
            },
        };
        let services = Services::with_engine(parts, "node".to_owned(), engine.clone());
        Self { services, engine, clock, caller: Caller::operator(Face::Rest) }
    }

    async fn call(&self, name: &str, input: Value) -> Result<Value> {
        let operations = self.services.capability().operations;
        let operation = operations.iter().find(|operation| operation.name == name).unwrap();
        operation.run(Call::new(self.caller.clone()), input).await
    }

    /// A service of the fake engine that is wished to run.
    async fn docker(&self, name: &str) -> Result<Value> {
        self.call("create_service", json!({ "name": name, "image": "weather:1", "wait_seconds": 0 })).await
    }

    /// One look at everything.
    async fn keep(&self) {
        for it in self.services.inner.store.of_node("node").await.unwrap() {
            self.services.keep(&it).await.unwrap();
        }
        self.services.publish_upstreams().await.unwrap();
    }

    async fn get(&self, id: &str) -> Value {
        self.call("get_service", json!({ "id": id })).await.unwrap()
    }
}
