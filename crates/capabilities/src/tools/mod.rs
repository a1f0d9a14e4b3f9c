//! Tools: every tool there is, built in or from a service; what is allowed for each, and how it is used.
//!
//! # Words
//!
//! - A *tool* of a service is known as `{service}__{tool}`, a built-in one by its operation's name.
//! - A *pin* is the hash of a definition that was approved. It is set when a tool is first seen; when the
//!   definition changes, the tool is *quarantined*: neither listed nor callable, until `approve_tool`.
//! - A *profile* is a chosen set of tools, served at `/mcp/profiles/{name}`.
//!
//! # Invariants
//!
//! - The *world* that the gateway serves is made here, of the services there are, of what is configured
//!   for their tools and of the pins; nothing else sends it.
//! - A call of a tool is authorised where it is called: by the gateway for a service's, by the room for a
//!   built-in one; this folder never stands in for either.
//! - Calls are counted in memory and written in batches: none of them waits for the database.

mod calls;
mod listing;
mod model;
mod operations;
mod redis;
mod store;
#[cfg(test)]
mod tests;
mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use opsroom_core::db::Db;
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Capability, Clock, Operation, Result};
use opsroom_gateway::catalogue::Catalogue;
use opsroom_gateway::world::{Upstream, World};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::watch;

pub use redis::{RedisConfig, RedisShared};
pub use store::MIGRATIONS;

use crate::services::Services;
use model::Count;
use store::Kept;

/// Calls a tool of a service: caller, service, tool, arguments, deadline. The answer is a
/// `CallToolResult` as JSON.
pub type CallUpstream = Arc<
    dyn Fn(
            Caller,
            String,
            String,
            Option<Box<RawValue>>,
            Option<Duration>,
        ) -> BoxFuture<'static, Result<Box<RawValue>>>
        + Send
        + Sync,
>;

/// Calls an operation of the room, which authorises and records it.
pub type CallBuiltIn = Arc<dyn Fn(Call, String, Value) -> BoxFuture<'static, Result<Value>> + Send + Sync>;

/// What tools need of the house.
pub struct Parts {
    /// The database, migrated.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// Where what happens is told.
    pub events: Events,
    /// The services whose tools there are.
    pub services: Services,
    /// Where the gateway reads what it serves.
    pub world: watch::Sender<Arc<World>>,
    /// Services that the configuration names, besides those of the database.
    pub configured: Vec<Arc<Upstream>>,
}

/// The tools. Cheap to clone.
#[derive(Clone)]
pub struct Tools {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::Store,
    clock: Clock,
    lifecycle: Lifecycle,
    events: Events,
    services: Services,
    world: watch::Sender<Arc<World>>,
    configured: Vec<Arc<Upstream>>,
    node: String,
    kept: RwLock<Arc<HashMap<String, Kept>>>,
    builtin: OnceLock<Vec<Operation>>,
    call_builtin: OnceLock<CallBuiltIn>,
    call_upstream: OnceLock<CallUpstream>,
    catalogue: OnceLock<watch::Receiver<Arc<Catalogue>>>,
    /// Counted and not yet written, by tool.
    fresh: Mutex<HashMap<String, Count>>,
    changed: tokio::sync::Notify,
    /// One at a time changes what is kept.
    keeping: tokio::sync::Mutex<()>,
}

impl Tools {
    /// Tools over a database that has been migrated.
    pub fn open(parts: Parts) -> Self {
        let node = parts.services.node().to_owned();
        let inner = Inner {
            store: store::Store { db: parts.db },
            clock: parts.clock,
            lifecycle: parts.lifecycle,
            events: parts.events,
            services: parts.services,
            world: parts.world,
            configured: parts.configured,
            node,
            kept: RwLock::default(),
            builtin: OnceLock::new(),
            call_builtin: OnceLock::new(),
            call_upstream: OnceLock::new(),
            catalogue: OnceLock::new(),
            fresh: Mutex::default(),
            changed: tokio::sync::Notify::new(),
            keeping: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("tools");
        capability.operations = operations::all(self);
        capability.migrations = MIGRATIONS.into();
        capability
    }

    /// The built-in tools, and how they are called.
    pub fn set_builtin(&self, operations: Vec<Operation>, call: CallBuiltIn) {
        // Twice in one process would be a fault of the wiring; the first ones stay.
        let _second = (self.inner.builtin.set(operations), self.inner.call_builtin.set(call));
    }

    /// The gateway: what its services offer, and how their tools are called.
    pub fn attach(&self, catalogue: watch::Receiver<Arc<Catalogue>>, call: CallUpstream) {
        self.inner.services.attach(catalogue.clone());
        let _second = (self.inner.catalogue.set(catalogue), self.inner.call_upstream.set(call));
        self.inner.changed.notify_one();
    }

    /// Makes the world, and goes on as services, tools and settings change, until the lifecycle stops.
    pub fn start(&self) {
        world::start(self);
        calls::start(self);
    }
}
