//! The gateway itself: what it is made of, and the task that lays world and services together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Caller, Clock, Error, Kind, Result};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc, watch};

use crate::bridge::Parked;
use crate::catalogue::{Catalogue, Service};
use crate::client::{Client, Out};
use crate::dispatch;
use crate::message::{self, Members, raw, raw_text};
use crate::routes::{Routes, Served, View};
use crate::seal::Seal;
use crate::seam::{BuiltIn, Calls, Shared};
use crate::session::Sessions;
use crate::upstream::watch::{List, Update};
use crate::upstream::{Connection, Link, Means, watch as watcher};
use crate::world::World;

/// What a gateway is made of.
pub struct Parts {
    /// What is served.
    pub world: watch::Receiver<Arc<World>>,
    /// The tools of the house.
    pub builtin: Arc<dyn BuiltIn>,
    /// Who is told of calls.
    pub calls: Arc<dyn Calls>,
    /// What replicas share.
    pub shared: Arc<dyn Shared>,
    /// The way out.
    pub egress: Egress,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// The time.
    pub clock: Clock,
    /// The bounds of requests.
    pub limits: Limits,
}

/// The bounds of requests from clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message, in bytes.
    pub max_body_bytes: usize,
    /// How long a message may take to arrive.
    pub body_time: Duration,
    /// How long a stream is quiet before a comment keeps it open.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 << 20,
            body_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub builtin: Arc<dyn BuiltIn>,
    pub calls: Arc<dyn Calls>,
    pub shared: Arc<dyn Shared>,
    pub lifecycle: Lifecycle,
    pub clock: Clock,
    pub limits: Limits,
    pub seal: Seal,
    pub sessions: Sessions,
    pub parked: Parked,
    pub routes: watch::Receiver<Arc<Routes>>,
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    pub changes: broadcast::Sender<Change>,
}

/// A list of a service changed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The service; `None` when the world changed.
    pub service: Option<Arc<str>>,
    /// Which list.
    pub list: List,
}

impl Gateway {
    /// Starts the gateway: it connects to every service of the world, and goes on until the process stops.
    ///
    /// # Errors
    /// `Internal` when there are no random bytes.
    pub fn new(parts: Parts) -> Result<Self> {
        let (routes, routes_of) = watch::channel(Arc::new(Routes::default()));
        let (catalogue, catalogue_of) = watch::channel(Arc::new(Catalogue::default()));
        let changes = broadcast::channel(256).0;
        let inner = Arc::new(Inner {
            builtin: parts.builtin,
            calls: parts.calls,
            shared: parts.shared,
            lifecycle: parts.lifecycle.clone(),
            seal: Seal::new(parts.clock.clone())?,
            sessions: Sessions::new(parts.clock.clone()),
            parked: Parked::default(),
            clock: parts.clock.clone(),
            limits: parts.limits,
            routes: routes_of,
            catalogue: catalogue_of,
            changes: changes.clone(),
        });
        let means = Means {
            egress: parts.egress,
            lifecycle: parts.lifecycle.clone(),
            clock: parts.clock.clone(),
            refresh: parts.world.borrow().refresh,
        };
        let mut keeper = Keeper {
            means,
            routes,
            catalogue,
            changes,
            links: BTreeMap::new(),
            services: BTreeMap::new(),
            world: Arc::default(),
            updates: mpsc::channel(64).0,
        };
        // What the world holds now is served from the first request on.
        let (updates, heard) = mpsc::channel(64);
        keeper.updates = updates;
        let mut world = parts.world;
        let now = world.borrow_and_update().clone();
        keeper.take(now);
        let upkeep = Arc::downgrade(&inner);
        parts.lifecycle.spawn("mcp gateway", keeper.run(world, heard));
        parts.lifecycle.spawn("mcp sessions", sweep(upkeep, parts.lifecycle.clone()));
        Ok(Self(inner))
    }

    /// What the services offer.
    pub fn catalogue(&self) -> watch::Receiver<Arc<Catalogue>> {
        self.0.catalogue.clone()
    }

    /// How many sessions legacy clients have.
    pub fn sessions(&self) -> usize {
        self.0.sessions.count()
    }

    /// Calls a tool of a service, by the name that the service's own endpoint has for it. The answer is a
    /// `CallToolResult` as JSON.
    ///
    /// # Errors
    /// `NotFound` for a tool that is not there for this caller, `Busy` at a limit, `Unavailable` when the
    /// service does not answer, `Invalid` for what the service refuses.
    pub async fn call_tool(
        &self,
        caller: &Caller,
        service: &str,
        tool: &str,
        arguments: Option<Box<RawValue>>,
        deadline: Option<Duration>,
    ) -> Result<Box<RawValue>> {
        let client = Client::of_house(caller.clone(), View::Service(service.to_owned()), deadline);
        let mut params = Members::default();
        params.set("name", raw_text(tool));
        params.set("arguments", arguments.unwrap_or_else(|| raw(&json!({}))));
        let id = raw(&json!(1));
        let body = message::request(Some(&id), "tools/call", Some(&params.to_raw()));
        let (sink, mut unheard) = mpsc::channel(16);
        let out = Out::new(sink);
        let answer = dispatch::request(&self.0, &client, &body, &out);
        let listen = async { while unheard.recv().await.is_some() {} };
        let answer = tokio::select! {
            answer = answer => answer,
            () = async { listen.await; std::future::pending().await } => return Err(Error::internal("no answer")),
        };
        let envelope = message::parse(&answer.message).map_err(|(_, what)| Error::internal(what))?;
        if let Some(result) = envelope.result {
            return Ok(result.to_owned());
        }
        let error = envelope.error.and_then(Members::of).unwrap_or_default();
        let message = error.text("message").unwrap_or_default().into_owned();
        let code = error.get("code").and_then(|code| code.get().parse::<i64>().ok());
        Err(Error::new(answer.kind.unwrap_or(kind(code)), message))
    }
}

fn kind(code: Option<i64>) -> Kind {
    match code {
        Some(message::INVALID_PARAMS | message::HEADER_MISMATCH | message::MISSING_CAPABILITY) => {
            Kind::Invalid
        }
        _ => Kind::Unavailable,
    }
}

async fn sweep(inner: std::sync::Weak<Inner>, lifecycle: Lifecycle) -> Result<()> {
    let stop = lifecycle.stopping();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let Some(inner) = inner.upgrade() else { return Ok(()) };
        for session in inner.sessions.sweep() {
            inner.forget(&session.id);
        }
        inner.parked.sweep();
    }
}

impl Inner {
    /// Ends what the services hold for a client's session.
    pub fn forget(&self, session: &str) {
        for served in &self.routes.borrow().services {
            if let Some(Connection::Legacy(legacy)) = served.link.connected() {
                legacy.end_sessions_of(session);
            }
        }
    }
}

/// Lays the world and the services together whenever either changes.
struct Keeper {
    means: Means,
    routes: watch::Sender<Arc<Routes>>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    changes: broadcast::Sender<Change>,
    links: BTreeMap<String, Arc<Link>>,
    services: BTreeMap<String, Arc<Service>>,
    world: Arc<World>,
    updates: mpsc::Sender<Update>,
}

impl Keeper {
    async fn run(
        mut self,
        mut world: watch::Receiver<Arc<World>>,
        mut heard: mpsc::Receiver<Update>,
    ) -> Result<()> {
        let stop = self.means.lifecycle.stopping();
        let mut open = true;
        loop {
            tokio::select! {
                changed = world.changed(), if open => match changed {
                    Ok(()) => {
                        let now = world.borrow_and_update().clone();
                        self.take(now);
                        self.tell(None, &List::ALL);
                    }
                    // Whoever knew the world has gone; what it was goes on being served.
                    Err(_) => open = false,
                },
                Some(update) = heard.recv() => {
                    let name = update.service.name.clone();
                    // A last word of a service that was taken out meanwhile is not heard.
                    if self.links.contains_key(&name) {
                        self.services.insert(name.clone(), Arc::new(update.service));
                        self.publish();
                        self.tell(Some(name.into()), &update.changed);
                    }
                }
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn tell(&self, service: Option<Arc<str>>, lists: &[List]) {
        for list in lists {
            // Nobody may be listening.
            let _nobody = self.changes.send(Change { service: service.clone(), list: *list });
        }
    }

    /// Takes a new world: connects to what is new or changed, leaves what is gone.
    fn take(&mut self, world: Arc<World>) {
        let mut links = BTreeMap::new();
        for upstream in &world.upstreams {
            if links.contains_key(&upstream.name) {
                tracing::warn!(service = upstream.name, "two services have one name; the first is served");
                continue;
            }
            let kept = self.links.remove(&upstream.name);
            let same = kept.as_ref().filter(|link| *link.upstream == **upstream);
            let link = match same {
                Some(link) => link.clone(),
                None => {
                    let link = Link::new(upstream.clone(), self.means.clone());
                    let work = watcher::run(link.clone(), self.updates.clone());
                    drop(self.means.lifecycle.spawn_work(async move {
                        work.await;
                        Ok(())
                    }));
                    if let Some(old) = kept {
                        // What it was says nothing of one that was started anew.
                        if old.upstream.generation != upstream.generation
                            && let Some(service) = self.services.get_mut(&upstream.name)
                        {
                            Arc::make_mut(service).health = crate::catalogue::Health::Unknown;
                        }
                        old.stop.cancel();
                    }
                    link
                }
            };
            links.insert(upstream.name.clone(), link);
        }
        for gone in self.links.values() {
            gone.stop.cancel();
        }
        self.links = links;
        self.services.retain(|name, _| self.links.contains_key(name));
        self.world = world;
        self.publish();
    }

    fn publish(&self) {
        let service = |name: &String, link: &Arc<Link>| {
            self.services
                .get(name)
                .cloned()
                .unwrap_or_else(|| Arc::new(Service::unknown(name, &link.upstream.team)))
        };
        let services: Vec<_> =
            self.links.iter().map(|(name, link)| (link.clone(), service(name, link))).collect();
        let catalogue = Catalogue { services: services.iter().map(|(_, service)| service.clone()).collect() };
        let served = services.into_iter().map(|(link, service)| Arc::new(Served::new(link, service)));
        let routes = Routes::new(served.collect(), self.world.profiles.clone(), self.world.builtin.clone());
        self.routes.send_replace(Arc::new(routes));
        self.catalogue.send_replace(Arc::new(catalogue));
    }
}
