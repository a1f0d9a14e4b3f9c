//! Dashboards: pictures of them, taken when all their charts are drawn, kept, and compared.
//!
//! # Words
//!
//! - A *source* is a place where dashboards are, with the login that is used there.
//! - A *capture* is one picture of one page at one time, with what was seen while it was taken.
//! - A page is *done* when several signals agree (see `chromium::settle`).
//!
//! # Invariants
//!
//! - Every page has a profile of its own, which goes with it, and no way out but a proxy of its own, which dials
//!   by the rules of `core::egress`.
//! - A login's secret goes to its source's exact origin and to no other, and is in no answer, log or picture of ours.
//! - A page is bounded in time, memory and traffic; it saves no files, asks nothing, and opens no windows.
//! - No browser runs before the first capture, nor long after the last.

mod capture;
mod chromium;
mod config;
mod grafana;
mod kept;
mod model;
mod operations;
mod picture;
mod proxy;
mod sources;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use opsroom_core::capability::Status;
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::{Capability, Check, Clock, Component, Effect, Operation, Result};
use tokio::sync::Semaphore;

pub use config::{DashboardsConfig, Sandbox};
pub use store::MIGRATIONS;

use chromium::Chromium;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Dashboards {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::Store,
    files: kept::Files,
    clock: Clock,
    events: Events,
    lifecycle: Lifecycle,
    egress: Egress,
    secrets: Resolver,
    config: DashboardsConfig,
    chromium: Chromium,
    /// Pages that may be open at once.
    places: Semaphore,
}

/// What dashboards are made of.
pub struct Parts {
    /// The database, which has been migrated.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Where it is told what happens.
    pub events: Events,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// The way out.
    pub egress: Egress,
    /// Where references to secrets lead.
    pub secrets: Resolver,
    /// Where pictures are kept.
    pub data_dir: PathBuf,
    /// How they are taken.
    pub config: DashboardsConfig,
}

impl Dashboards {
    /// Dashboards over a database that has been migrated. No browser is started.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(parts: Parts) -> Result<Self> {
        parts.config.validate()?;
        let inner = Inner {
            store: store::Store { db: parts.db },
            files: kept::Files::new(&parts.data_dir),
            clock: parts.clock,
            events: parts.events,
            chromium: Chromium::new(parts.lifecycle.clone(), parts.config.clone()),
            places: Semaphore::new(parts.config.at_once),
            lifecycle: parts.lifecycle,
            egress: parts.egress,
            secrets: parts.secrets,
            config: parts.config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("dashboards");
        capability.operations = self.operations();
        capability.migrations = MIGRATIONS.into();
        let dashboards = self.clone();
        capability.checks = vec![Check {
            name: "captures",
            critical: false,
            run: Arc::new(move || {
                let component = dashboards.component();
                Box::pin(async move { component })
            }),
        }];
        capability
    }

    /// A browser is not needed for anything else.
    fn component(&self) -> Component {
        let message = match self.inner.chromium.program() {
            Some(_) if self.inner.config.sandbox == Sandbox::Off => {
                "a browser is there; its sandbox is off".to_owned()
            }
            Some(_) => "a browser is there".to_owned(),
            None => "no browser is installed; dashboards are captured by Grafana's renderer alone".to_owned(),
        };
        Component { status: Status::Healthy, message }
    }

    fn operations(&self) -> Vec<Operation> {
        use Effect::{Destroy, Read, Write};
        macro_rules! operation {
            ($function:path, $effect:expr, $route:literal) => {{
                let path = stringify!($function);
                let name = path.rsplit_once("::").map_or(path, |(_, name)| name.trim());
                Operation::new("dashboards", name, $effect, $route, self, $function)
            }};
        }
        vec![
            operation!(operations::capture_dashboard, Write, "POST /captures")
                .long()
                .on("source")
                .pictured(self, operations::pictured),
            operation!(operations::list_captures, Read, "GET /captures"),
            operation!(operations::get_capture, Read, "GET /captures/{id}")
                .pictured(self, operations::pictured),
            operation!(operations::delete_capture, Destroy, "DELETE /captures/{id}"),
            operation!(sources::add_dashboard_source, Write, "POST /dashboards/sources"),
            operation!(sources::list_dashboard_sources, Read, "GET /dashboards/sources"),
            operation!(sources::delete_dashboard_source, Destroy, "DELETE /dashboards/sources/{name}"),
        ]
    }
}
