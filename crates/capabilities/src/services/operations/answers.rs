//! What several operations of services answer with, and how they find and wait for a service.

use std::collections::BTreeMap;
use std::time::Duration;

use opsroom_core::resolver::SCHEME;
use opsroom_core::{Caller, Error, Result, Time};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::Services;
use super::super::model::{HealthCheck, HealthSeen, Kind, Service, Status, Wire};
use super::super::store::Deployment;

/// What an action on a service did.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceAction {
    /// The service's number.
    pub id: i64,
    /// The deployment that the action began; null when it began none.
    pub deployment_id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its status: `pending`, `running`, `stopped`, `error`, `restarting`, `terminating`, or `removed`.
    pub status: String,
    /// Why it is so, when that is not plain.
    pub reason: Option<String>,
}

/// A service in a list.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceLine {
    /// Its number.
    pub id: i64,
    /// The last deployment; null when there was none.
    pub deployment_id: Option<String>,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What runs it.
    pub service_type: Kind,
    /// How it is, as its engine says.
    pub status: Status,
    /// Why it is so, when that is not plain.
    pub reason: Option<String>,
    /// Its image, as it was named; null when it has none.
    pub image: Option<String>,
    /// The port on which it listens in its container.
    pub service_port: Option<u16>,
    /// The address by which the gateway reaches it; null when it does not run in a container.
    pub ip_address: Option<String>,
    /// What its tools' names begin with, and its name in `/mcp/services/{name}`.
    pub mcp_name: String,
    /// When it was made.
    pub created_at: String,
    /// When somebody last changed it.
    pub updated_at: String,
    /// When its health was last asked for; null when it never was.
    pub last_health_check: Option<String>,
}

/// A service with everything about it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub line: ServiceLine,
    /// Its team.
    pub team: String,
    /// Who made it.
    pub created_by: String,
    /// The digest or id that its image meant when the service was made or last changed.
    pub pinned_image: Option<String>,
    /// The program and its arguments, where they are not the image's own.
    pub command: Vec<String>,
    /// The URL of a server somewhere else.
    pub url: Option<String>,
    /// How it is spoken to.
    pub transport: Wire,
    /// The path of its MCP endpoint.
    pub path: String,
    /// The network that it is in; null is one of its own.
    pub network_name: Option<String>,
    /// Anything that its owner notes about it.
    pub settings: Map<String, Value>,
    /// Its variables: references to secrets as they are, other values hidden.
    pub environment_vars: BTreeMap<String, String>,
    /// Headers of requests to it: references to secrets as they are, other values hidden.
    pub headers: BTreeMap<String, String>,
    /// Processors; empty is the default.
    pub cpu_limit: String,
    /// Memory; empty is the default.
    pub memory_limit: String,
    /// Space below `/tmp`; empty is the default.
    pub disk_limit: String,
    /// Places outside that it may reach.
    pub allow_egress: Vec<String>,
    /// How its health is asked for.
    pub health_check: HealthCheck,
    /// Where, for `http`.
    pub health_check_url: Option<String>,
    /// How often, in seconds.
    pub health_check_interval: u32,
    /// How long to wait, in seconds.
    pub health_check_timeout: u32,
    /// After how many failures in a row it is unhealthy.
    pub health_check_retries: u32,
    /// The container; null when there is none.
    pub container_id: Option<String>,
    /// How often it was started again because it had ended by itself.
    pub restarts: u32,
    /// When it last began.
    pub last_started_at: Option<String>,
    /// When it last ended.
    pub last_stopped_at: Option<String>,
    /// How many tools it offers; null when it was never connected.
    pub tools_count: Option<usize>,
    /// The last look at its health.
    pub latest_health_check: Option<HealthSeen>,
    /// The newest deployments, at most five.
    pub deployment_history: Vec<DeploymentLine>,
}

/// A deployment.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct DeploymentLine {
    /// Its id.
    pub deployment_id: String,
    /// `pending`, `success`, `failed` or `superseded`.
    pub status: String,
    /// What led to it: `create`, `start`, `restart` or `update`.
    pub deployment_type: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// When it was asked for.
    pub started_at: String,
    /// When it was over; null while it is not.
    pub completed_at: Option<String>,
    /// How long it took; null while it is not over.
    pub duration_seconds: Option<f64>,
}

impl From<Deployment> for DeploymentLine {
    fn from(it: Deployment) -> Self {
        Self {
            deployment_id: it.id,
            status: it.status,
            deployment_type: it.kind,
            reason: it.reason,
            started_at: it.started_at.to_rfc3339(),
            duration_seconds: it.completed_at.map(|end| (end.0 - it.started_at.0) as f64 / 1e6),
            completed_at: it.completed_at.map(Time::to_rfc3339),
        }
    }
}

/// The line of a service.
pub fn line(it: &Service, deployment_id: Option<String>) -> ServiceLine {
    ServiceLine {
        id: it.id,
        deployment_id,
        name: it.name.clone(),
        description: it.spec.description.clone(),
        service_type: it.kind,
        status: it.status,
        reason: it.reason.clone(),
        image: some(&it.spec.image),
        service_port: it.spec.service_port,
        ip_address: it.seen.address.map(|address| address.ip().to_string()),
        mcp_name: it.slug.clone(),
        created_at: it.created_at.to_rfc3339(),
        updated_at: it.updated_at.to_rfc3339(),
        last_health_check: it.seen.health.as_ref().map(|health| health.checked_at.clone()),
    }
}

/// A text that is not empty.
pub fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Values as they may be shown: a reference is no secret, what it leads to is.
pub fn hidden(values: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown =
        |value: &String| if value.starts_with(SCHEME) { value.clone() } else { "[hidden]".to_owned() };
    values.iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}

impl Services {
    /// The service that a caller names by its number or name.
    pub(in crate::services) async fn find(&self, caller: &Caller, reference: &str) -> Result<Service> {
        let found = self.inner.store.find(reference, Some(&caller.teams)).await?;
        found.ok_or_else(|| {
            Error::not_found(format!(
                "there is no service `{}`; `list_services` shows those there are",
                reference.escape_debug()
            ))
        })
    }

    /// Waits until a service is no longer on its way, at most so long; `None` when it is gone.
    pub(in crate::services) async fn settled(&self, id: i64, seconds: u32) -> Result<Option<Service>> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds.into());
        loop {
            let found = self.inner.store.find(&id.to_string(), None).await?;
            let on_its_way = |it: &Service| {
                matches!(it.status, Status::Pending | Status::Restarting | Status::Terminating)
            };
            if !found.as_ref().is_some_and(on_its_way) || tokio::time::Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What an action did, after waiting for it.
    pub(in crate::services) async fn acted(
        &self,
        it: &Service,
        deployment_id: Option<String>,
        seconds: u32,
    ) -> Result<ServiceAction> {
        self.inner.keeper.renew(it.id);
        self.inner.wake.notify_one();
        let now = self.settled(it.id, seconds).await?;
        Ok(ServiceAction {
            id: it.id,
            deployment_id,
            name: it.name.clone(),
            status: now.as_ref().map_or("removed", |now| now.status.as_str()).to_owned(),
            reason: now.and_then(|now| now.reason),
        })
    }
}
