//! Secrets: values that programs need and nobody should see, kept sealed, given out to those who may have
//! them, and on record each time.
//!
//! # Words
//!
//! - A *secret* has a *path* in its team, and *versions*; one is *current*, the one before it is *previous*
//!   and still works for a while after a rotation.
//! - A *reference* `secret://opsroom/PATH#FIELD` stands in the place of a value; it is looked up at each use,
//!   with the rights that the owner of what uses it has then. Other places are those of [`vault`].
//! - A *lease* says who was given a version, and until when. A *grant* lets one caller be shown one secret
//!   over MCP, for a time. A *canary* is a secret that nobody should use: its use raises an event.
//!
//! # Invariants
//!
//! - A value is in the database only sealed, for its secret, path and version ([`opsroom_core::seal`]).
//! - No value is given out before its use is in the audit trail.
//! - A value that this process has seen is hidden in its log and in what it tells about logs and jobs.

pub mod config;
pub mod model;
mod mount;
mod operations;
mod rotation;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod vault;

use std::sync::Arc;

use opsroom_core::capability::{Check, Component, Status};
use opsroom_core::db::Db;
use opsroom_core::egress::Egress;
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::{Capability, Clock, Effect, Operation, Role};

use crate::identity::Identity;
use config::SecretsConfig;

pub use store::MIGRATIONS;

/// The name of our own place in references.
pub const MOUNT: &str = "opsroom";

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    clock: Clock,
    lifecycle: Lifecycle,
    events: Events,
    egress: Egress,
    sealer: Sealer,
    identity: Identity,
    resolver: Resolver,
    config: SecretsConfig,
    others: Vec<Reseal>,
}

/// What the service is made of.
pub struct Parts {
    /// A database that has the tables of [`MIGRATIONS`].
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// Where canaries are heard.
    pub events: Events,
    /// For hooks that call elsewhere.
    pub egress: Egress,
    /// What seals.
    pub sealer: Sealer,
    /// Who may do what, and the audit trail.
    pub identity: Identity,
    /// Where references lead; our own place is mounted there.
    pub resolver: Resolver,
    /// How secrets are kept.
    pub config: SecretsConfig,
    /// What other parts of the house keep sealed.
    pub others: Vec<Reseal>,
}

impl Secrets {
    /// The service, with its place among the references.
    pub fn open(parts: Parts) -> Self {
        let Parts { db, clock, lifecycle, events, egress, sealer, identity, resolver, config, others } =
            parts;
        let mounted = resolver.clone();
        let inner =
            Inner { db, clock, lifecycle, events, egress, sealer, identity, resolver, config, others };
        let secrets = Self { inner: Arc::new(inner) };
        mounted.mount(MOUNT, Arc::new(mount::Place(Arc::downgrade(&secrets.inner))));
        for config in secrets.inner.config.vaults.clone() {
            let inner = Arc::downgrade(&secrets.inner);
            mounted.mount(&config.name.clone(), Arc::new(vault::Place { inner, config }));
        }
        secrets
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        Capability {
            operations: self.operations(),
            migrations: MIGRATIONS.into(),
            checks: vec![self.check()],
            ..Capability::new("secrets")
        }
    }

    fn operations(&self) -> Vec<Operation> {
        macro_rules! operation {
            ($name:literal, $effect:ident, $route:literal, $run:path) => {
                Operation::new("secrets", $name, Effect::$effect, $route, self, $run).on("path")
            };
        }
        vec![
            operation!("put_secret", Write, "POST /secrets", operations::put),
            operation!("get_secret", Reveal, "GET /secrets/{path}", operations::get),
            operation!("list_secrets", Read, "GET /secrets", operations::list).on("").role(Role::Operator),
            operation!("list_secret_versions", Read, "GET /secrets/{path}/versions", operations::versions)
                .role(Role::Operator),
            operation!("rotate_secret", Write, "POST /secrets/{path}/rotate", operations::rotate),
            operation!("plan_secret_rotation", Write, "PUT /secrets/{path}/rotation", operations::plan),
            operation!("disable_secret", Write, "POST /secrets/{path}/disable", operations::disable)
                .idempotent(),
            operation!("restore_secret", Write, "POST /secrets/{path}/restore", operations::restore)
                .idempotent(),
            operation!("delete_secret", Destroy, "DELETE /secrets/{path}", operations::delete).idempotent(),
            operation!("list_secret_leases", Read, "GET /secrets/{path}/leases", operations::leases)
                .role(Role::Operator),
            operation!(
                "end_secret_lease",
                Write,
                "DELETE /secrets/{path}/leases/{id}",
                operations::end_lease
            )
            .idempotent(),
            // As withheld from models as what it opens to them.
            operation!("grant_secret", Reveal, "POST /secrets/{path}/grants", operations::grant),
            operation!("revoke_secret_grant", Write, "DELETE /secrets/{path}/grants", operations::revoke)
                .role(Role::Administrator)
                .idempotent(),
            Operation::new(
                "secrets",
                "rotate_master_key",
                Effect::Write,
                "POST /master-key/rotate",
                self,
                operations::rotate_master_key,
            )
            .role(Role::Administrator)
            .long(),
        ]
    }

    fn check(&self) -> Check {
        let secrets = self.clone();
        Check {
            name: "master_key",
            critical: false,
            run: Arc::new(move || {
                let sealer = secrets.inner.sealer.clone();
                Box::pin(async move {
                    match sealer.in_use().await {
                        Ok(false) => {
                            Component { status: Status::Healthy, message: "nothing is sealed yet".to_owned() }
                        }
                        Ok(true) => match sealer.check().await {
                            Ok(message) => Component { status: Status::Healthy, message },
                            Err(error) => Component { status: Status::Unhealthy, message: error.message },
                        },
                        Err(error) => Component { status: Status::Unhealthy, message: error.message },
                    }
                })
            }),
        }
    }
}
