//! Alerts: received, understood, told to the right people once, and answered.
//!
//! # Words
//!
//! - A *receiver* is an address with a secret of its own, at which one *sender* posts *deliveries*; those that are
//!   believed are kept in the *inbox* before they are answered, and read after.
//! - An *alert* is what deliveries tell of with the same *fingerprint*: it *fires* until it is *resolved*; between,
//!   somebody may *acknowledge* it, or a *silence* keep it quiet.
//! - The *routing* says which channel is told of an alert, together with which others (its *group*).
//!
//! # Invariants
//!
//! - A delivery that was answered is in the database. Reading it twice changes nothing more.
//! - Of a delivery that is not believed only a number is kept.
//! - Every decision about an alert is a line of its history, which `explain_alert` tells.

mod dispatch;
mod evidence;
mod import;
mod inbox;
pub mod links;
mod matchers;
mod model;
mod oncall;
mod operations;
mod overheard;
mod overrides;
mod payload;
mod quiet;
mod raised;
mod receive;
mod receivers;
mod related;
mod routing;
mod signature;
mod silences;
mod simulate;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_house;
mod times;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use opsroom_core::db::Db;
use opsroom_core::events::Events;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::seal::Sealer;
use opsroom_core::{Capability, Clock, Effect, Error, Operation, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::notifications::Notifications;

pub use evidence::EvidenceRule;
pub use oncall::Rotation;
pub use quiet::Inhibition;
pub use routing::Route;
pub use store::MIGRATIONS;
pub use times::QuietTime;

/// How alerts are routed and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsConfig {
    /// Who is told of what. Without routes, the channel `default` is told of every alert.
    pub routing: Route,
    /// Who is on call: rotations by name. A route's channel `oncall:NAME` is whoever is on call then.
    pub rotations: BTreeMap<String, Rotation>,
    /// Parts of the week, by name, at which routes can be quiet.
    pub times: BTreeMap<String, QuietTime>,
    /// Which alerts keep which others quiet.
    pub inhibit: Vec<Inhibition>,
    /// What is looked at when an alert begins, such as a picture of its dashboard.
    pub evidence: Vec<EvidenceRule>,
    /// For how many days deliveries are kept, from 1 to 365.
    pub keep_deliveries_days: u32,
    /// How many MiB of deliveries are kept at most, from 1 to 65536; the oldest go first.
    pub keep_deliveries_mib: u32,
    /// For how many days alerts that are over are kept, with their history, from 1 to 3650.
    pub keep_alerts_days: u32,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            routing: Route::default(),
            rotations: BTreeMap::new(),
            times: BTreeMap::new(),
            inhibit: Vec::new(),
            evidence: Vec::new(),
            keep_deliveries_days: 14,
            keep_deliveries_mib: 256,
            keep_alerts_days: 90,
        }
    }
}

impl AlertsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        for (key, value, most) in [
            ("keep_deliveries_days", self.keep_deliveries_days, 365),
            ("keep_deliveries_mib", self.keep_deliveries_mib, 65_536),
            ("keep_alerts_days", self.keep_alerts_days, 3650),
        ] {
            if !(1..=most).contains(&value) {
                return Err(Error::invalid(format!("alerts.{key}: it is from 1 to {most}")));
            }
        }
        for (name, rotation) in &self.rotations {
            rotation.validate(&format!("alerts.rotations.{name}"))?;
        }
        for (number, rule) in self.inhibit.iter().enumerate() {
            rule.validate(&format!("alerts.inhibit.{number}"))?;
        }
        EvidenceRule::validate(&self.evidence)?;
        for (name, time) in &self.times {
            time.validate(&format!("alerts.times.{name}"))?;
        }
        let rotations: Vec<&str> = self.rotations.keys().map(String::as_str).collect();
        let times: Vec<&str> = self.times.keys().map(String::as_str).collect();
        self.routing.check_names("alerts.routing", &rotations, &times)?;
        self.routing.validate("alerts.routing")
    }
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    store: store::Store,
    clock: Clock,
    events: Events,
    lifecycle: Lifecycle,
    notifications: Notifications,
    sealer: Sealer,
    config: Arc<AlertsConfig>,
    /// The address by which people reach this server, for links.
    public_url: String,
    /// Something is to be read or told.
    arrived: Arc<Notify>,
    /// Deliveries by receiver, accepted and refused, that are not written yet.
    counts: Arc<Mutex<HashMap<String, (i64, i64)>>>,
    /// Who looks at what alerts want looked at.
    call: Arc<OnceLock<evidence::CallOperation>>,
}

/// What alerts are made of.
pub struct Parts {
    /// The database, which has been migrated.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Where it is told what happens.
    pub events: Events,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// Who tells people.
    pub notifications: Notifications,
    /// How secrets are kept.
    pub sealer: Sealer,
    /// How alerts are routed and kept.
    pub config: AlertsConfig,
    /// The address by which people reach this server; empty when it is not known, then messages have no links.
    pub public_url: String,
}

impl Alerts {
    /// Alerts over a database that has been migrated. Nothing is read or told before [`Alerts::start`].
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn open(parts: Parts) -> Result<Self> {
        parts.config.validate()?;
        Ok(Self {
            store: store::Store { db: parts.db },
            clock: parts.clock,
            events: parts.events,
            lifecycle: parts.lifecycle,
            notifications: parts.notifications,
            sealer: parts.sealer,
            config: Arc::new(parts.config),
            public_url: parts.public_url,
            arrived: Arc::default(),
            counts: Arc::default(),
            call: Arc::default(),
        })
    }

    /// What this folder brings to the program.
    pub fn capability(&self) -> Capability {
        let mut capability = Capability::new("alerts");
        capability.operations = self.operations();
        capability.migrations = MIGRATIONS.into();
        capability
    }

    fn operations(&self) -> Vec<Operation> {
        use Effect::{Destroy, Read, Reveal, Write};
        macro_rules! operation {
            ($function:path, $effect:expr, $route:literal) => {{
                let path = stringify!($function);
                let name = path.rsplit_once("::").map_or(path, |(_, name)| name.trim());
                Operation::new("alerts", name, $effect, $route, self, $function)
            }};
        }
        vec![
            operation!(operations::list_alerts, Read, "GET /alerts"),
            operation!(operations::get_alert, Read, "GET /alerts/{id}"),
            operation!(operations::acknowledge_alert, Write, "POST /alerts/{id}/acknowledge").idempotent(),
            operation!(operations::resolve_alert, Write, "POST /alerts/{id}/resolve"),
            operation!(operations::mute_alert, Write, "POST /alerts/{id}/mute").idempotent(),
            operation!(operations::explain_alert, Read, "GET /alerts/{id}/explanation"),
            operation!(silences::silence_alerts, Write, "POST /silences"),
            operation!(silences::list_silences, Read, "GET /silences"),
            operation!(silences::end_silence, Write, "POST /silences/{id}/end"),
            operation!(oncall::list_on_call, Read, "GET /on-call"),
            operation!(overrides::override_on_call, Write, "POST /on-call/{rotation}/overrides"),
            operation!(overrides::end_on_call_override, Write, "POST /on-call/overrides/{id}/end"),
            operation!(simulate::simulate_routing, Read, "POST /routing/simulate"),
            operation!(import::import_alertmanager, Read, "POST /routing/import"),
            operation!(silences::import_silences, Write, "POST /silences/import"),
            // It shows the secret that it makes.
            operation!(receivers::create_receiver, Reveal, "POST /receivers"),
            operation!(receivers::list_receivers, Read, "GET /receivers"),
            operation!(receivers::delete_receiver, Destroy, "DELETE /receivers/{name}"),
            operation!(inbox::list_webhook_deliveries, Read, "GET /receivers/{name}/deliveries"),
            operation!(inbox::replay_webhook, Write, "POST /deliveries/{id}/replay"),
        ]
    }
}

/// A moment as the answers have it.
fn shown(time: Time) -> String {
    time.to_rfc3339()
}
