//! Discovery: what runs here and what is registered, in one list.

use opsroom_core::{Result, Time};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Services;
use super::model::{Desired, Service, Status};
use super::store::{Listing, Registration};

/// A service that can be found.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Found {
    /// Its id: of one that runs here, its name in tools.
    pub service_id: String,
    /// Its name.
    pub name: String,
    /// `here` for one that runs here, `registered` for one that was registered.
    pub source: String,
    /// Where it is reached: of one that runs here, the gateway's path.
    pub url: String,
    /// What it is, such as `mcp`.
    #[serde(rename = "type")]
    pub service_type: String,
    /// Its version; empty when it does not say.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Anything it says about itself.
    pub metadata: Map<String, Value>,
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    pub status: String,
    /// How many tools it offers; null when that is not known.
    pub tools_count: Option<usize>,
    /// When it was made or registered.
    pub registered_at: String,
    /// When it was last changed or heard of.
    pub updated_at: String,
    /// When it falls out of the list unless it is heard of; null for one that runs here.
    pub expires_at: Option<String>,
}

impl Services {
    /// Everything that these teams can find, by id.
    pub(super) async fn discover(&self, teams: &[String]) -> Result<Vec<Found>> {
        let inner = &self.inner;
        let listing = Listing { limit: 10_000, ..Listing::default() };
        let (here, _) = inner.store.list(teams, &listing).await?;
        let mut found: Vec<Found> =
            here.iter().filter(|it| it.desired != Desired::Removed).map(|it| self.here(it)).collect();
        for it in inner.store.registrations(Some(teams), inner.clock.now()).await? {
            if !found.iter().any(|known| known.service_id == it.service_id) {
                found.push(self.registered(it));
            }
        }
        found.sort_by(|a, b| a.service_id.cmp(&b.service_id));
        Ok(found)
    }

    fn here(&self, it: &Service) -> Found {
        let health = it.seen.health.as_ref().map(|health| health.status.as_str());
        let status = match it.status {
            Status::Running => health.unwrap_or("unknown"),
            Status::Pending | Status::Restarting => "unknown",
            Status::Stopped | Status::Error | Status::Terminating => "unhealthy",
        };
        let known = self.connection(&it.slug);
        let info: Option<Value> =
            known.as_ref().and_then(|service| serde_json::from_str(service.info.as_ref()?.get()).ok());
        Found {
            service_id: it.slug.clone(),
            name: it.name.clone(),
            source: "here".to_owned(),
            url: format!("/mcp/services/{}", it.slug),
            service_type: "mcp".to_owned(),
            version: info.and_then(|info| Some(info["version"].as_str()?.to_owned())).unwrap_or_default(),
            description: it.spec.description.clone(),
            tags: Vec::new(),
            metadata: it.spec.settings.clone(),
            status: status.to_owned(),
            tools_count: known.map(|service| service.tools.len()),
            registered_at: it.created_at.to_rfc3339(),
            updated_at: it.updated_at.to_rfc3339(),
            expires_at: None,
        }
    }

    fn registered(&self, it: Registration) -> Found {
        let known = self.connection(&super::slug(&it.service_id));
        Found {
            source: "registered".to_owned(),
            description: it
                .metadata
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            status: it.status.clone(),
            tools_count: known.map(|service| service.tools.len()),
            registered_at: Time(it.registered_at).to_rfc3339(),
            updated_at: Time(it.last_heartbeat).to_rfc3339(),
            expires_at: Some(it.expires_at().to_rfc3339()),
            service_id: it.service_id,
            name: it.name,
            url: it.url,
            service_type: it.service_type,
            version: it.version,
            tags: it.tags,
            metadata: it.metadata,
        }
    }
}
