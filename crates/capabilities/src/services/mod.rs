//! Services: MCP servers that Opsroom runs, isolates and watches, and those that others run and it knows of.
//!
//! # Words
//!
//! - A *service* is to be `running`, `stopped` or removed: somebody's *wish*, a row. Its *status* is what
//!   its engine says of it, never what was written last.
//! - An *engine* runs services (Docker). Services that are only *connected* to, a URL or a child process,
//!   have none: the gateway holds their connection.
//! - The *keeper* compares wish and status again and again and does what is missing: each step may be cut
//!   short and done again.
//! - A *network* is a VLAN of its own, or one service's own; nothing joins two networks.
//! - A *node* is one Opsroom with its data folder; it keeps only what it made.
//!
//! # Invariants
//!
//! - What a service may not have (privileges, the host's namespaces, its files and devices) is no field of
//!   anything: it cannot be asked for.
//! - An image's name means, for a service, what it meant when the service was made.
//! - A value that is a secret is a reference until it is used, and is in no answer, event or log.
//! - What carries our label on an engine and belongs to no service is removed.

mod addresses;
mod config;
mod connected;
mod discovery;
mod health;
mod keeper;
mod limits;
mod login;
mod model;
mod networks;
mod operations;
mod output;
mod policy;
mod proxy;
mod registry_api;
pub mod runtime;
mod store;
#[cfg(test)]
mod tests;
mod upstream_gateway;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use opsroom_core::capability::{Check, Component, Status as Condition};
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::events::Events;
use opsroom_core::files::DataDir;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::seal::Sealer;
use opsroom_core::{Capability, Clock, Effect, Kind, Operation, Result};
use opsroom_gateway::catalogue::Catalogue;
use opsroom_gateway::world::Upstream;
use tokio::sync::{Notify, watch};

pub use config::{ServicesConfig, UpstreamGateway};
pub use model::slug;
pub use output::{Writer, Writers, Written};
pub use store::MIGRATIONS;

use runtime::Engine;
use runtime::docker::Docker;

/// What services need of the house.
pub struct Parts {
    /// The database, migrated.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// Where what happens is told.
    pub events: Events,
    /// The way out.
    pub egress: Egress,
    /// Where references to secrets lead.
    pub secrets: Resolver,
    /// Seals the logins at services.
    pub sealer: Sealer,
    /// The URL by which people reach the server, where their browsers come back to.
    pub public_url: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The program that starts local services in a cage: our own. Without it they are started plainly.
    pub launcher: Option<PathBuf>,
    /// What the operator allows.
    pub config: ServicesConfig,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::Store,
    clock: Clock,
    lifecycle: Lifecycle,
    events: Events,
    egress: Egress,
    secrets: Resolver,
    logins: login::Logins,
    data_dir: PathBuf,
    launcher: Option<PathBuf>,
    config: ServicesConfig,
    node: String,
    engine: Arc<dyn Engine>,
    catalogue: OnceLock<watch::Receiver<Arc<Catalogue>>>,
    upstreams: watch::Sender<Arc<Vec<Arc<Upstream>>>>,
    /// Held while the services are read and told.
    publishing: tokio::sync::Mutex<()>,
    wake: Notify,
    keeper: keeper::State,
    proxies: proxy::Proxies,
    /// One at a time looks for a free range of addresses.
    placing: tokio::sync::Mutex<()>,
}

impl Services {
    /// Services over a database that has been migrated. Nothing is run before [`Services::start`].
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(parts: Parts) -> Result<Self> {
        parts.config.validate()?;
        let node = node(&parts.data_dir)?;
        let engine = Arc::new(Docker::new(&parts.config, &node));
        Ok(Self::with_engine(parts, node, engine))
    }

    fn with_engine(parts: Parts, node: String, engine: Arc<dyn Engine>) -> Self {
        let inner = Inner {
            store: store::Store { db: parts.db },
            clock: parts.clock,
            lifecycle: parts.lifecycle,
            events: parts.events,
            egress: parts.egress,
            secrets: parts.secrets,
            logins: login::Logins::new(parts.sealer, &parts.public_url, &parts.config.oauth_client_id),
            data_dir: parts.data_dir,
            launcher: parts.launcher,
            config: parts.config,
            node,
            engine,
            catalogue: OnceLock::new(),
            upstreams: watch::Sender::new(Arc::default()),
            publishing: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            keeper: keeper::State::default(),
            proxies: proxy::Proxies::default(),
            placing: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This data folder's own name among those of one engine and one database.
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// The services that can be called now, for the gateway: without their tools' policies.
    pub fn upstreams(&self) -> watch::Receiver<Arc<Vec<Arc<Upstream>>>> {
        self.inner.upstreams.subscribe()
    }

    /// Says where the gateway tells how its connections are. Once.
    pub fn attach(&self, catalogue: watch::Receiver<Arc<Catalogue>>) {
        // A second gateway in one process would be a fault of the wiring; the first one stays.
        let _second = self.inner.catalogue.set(catalogue);
    }

    /// Keeps services as they are wished, until the lifecycle stops.
    pub fn start(&self) {
        keeper::start(self);
        upstream_gateway::start(self);
        self.start_logins();
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("services");
        capability.operations = operations::all(self);
        capability.migrations = MIGRATIONS.into();
        let engine = self.clone();
        capability.checks = vec![Check {
            name: "docker",
            critical: false,
            run: Arc::new(move || {
                let services = engine.clone();
                Box::pin(async move { services.engine_health().await })
            }),
        }];
        capability
    }

    /// The engine matters only to those who have services on it.
    async fn engine_health(&self) -> Component {
        let used = match self.inner.store.of_node(&self.inner.node).await {
            Ok(services) => services.iter().any(|it| it.kind == model::Kind::Docker),
            Err(_) => false,
        };
        match (self.inner.engine.ping().await, used) {
            (Ok(version), _) => {
                Component { status: Condition::Healthy, message: format!("Docker engine {version} answers") }
            }
            (Err(error), true) => Component { status: Condition::Degraded, message: error.message },
            (Err(_), false) => Component {
                status: Condition::Healthy,
                message: "no Docker engine answers, and no service needs one".to_owned(),
            },
        }
    }

    fn operation<I, O, F, R>(
        &self,
        name: &'static str,
        effect: Effect,
        route: &'static str,
        run: F,
    ) -> Operation
    where
        I: serde::de::DeserializeOwned + schemars::JsonSchema + Send + 'static,
        O: serde::Serialize + schemars::JsonSchema,
        F: Fn(Services, opsroom_core::Call, I) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<O>> + Send + 'static,
    {
        Operation::new("services", name, effect, route, self, run)
    }
}

/// This data folder's own name on an engine: made at the first start.
fn node(data_dir: &std::path::Path) -> Result<String> {
    let folder = DataDir::open(data_dir)?;
    match folder.read_private("node-id") {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
        Err(error) if error.kind == Kind::NotFound => {
            let id = opsroom_core::id::new_token("")[..16].to_owned();
            folder.write_private("node-id", id.as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}
