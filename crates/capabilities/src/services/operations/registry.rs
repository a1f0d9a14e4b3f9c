//! `register_service`, `heartbeat_service`, `deregister_service` and `discover_services`.

use opsroom_core::{Call, Effect, Error, Operation, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Services;
use super::super::discovery::Found;
use super::super::store::Registration;

pub fn all(services: &Services) -> Vec<Operation> {
    vec![
        services
            .operation("register_service", Effect::Write, "POST /registry/services", register_service)
            .idempotent()
            .success(201),
        services
            .operation(
                "heartbeat_service",
                Effect::Write,
                "POST /registry/services/{service_id}/heartbeat",
                heartbeat_service,
            )
            .idempotent(),
        services
            .operation(
                "deregister_service",
                Effect::Write,
                "DELETE /registry/services/{service_id}",
                deregister_service,
            )
            .idempotent(),
        services.operation("discover_services", Effect::Read, "GET /registry/services", discover_services),
    ]
}

/// Registers a service that somebody else runs, so that it is found; one of type `mcp` is served through the
/// gateway, too. It falls out of the list `ttl` seconds after its last heartbeat.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterService {
    /// Its id, unique: 1 to 100 letters, digits, `.`, `_` and `-`.
    #[schemars(length(min = 1, max = 100))]
    service_id: String,
    /// Its name; its id unless named.
    #[serde(default)]
    #[schemars(length(max = 100))]
    name: String,
    /// Where it is, such as `https://mcp.example.com/mcp`.
    #[schemars(length(min = 1, max = 2000))]
    url: String,
    /// What it is; `mcp` is served through the gateway.
    #[serde(default = "mcp", rename = "type")]
    #[schemars(length(max = 32))]
    service_type: String,
    /// Its version.
    #[serde(default)]
    #[schemars(length(max = 64))]
    version: String,
    /// Words to find it by.
    #[serde(default)]
    #[schemars(length(max = 32))]
    tags: Vec<String>,
    /// Anything it says about itself.
    #[serde(default)]
    metadata: Map<String, Value>,
    /// Where its health is asked for; nowhere unless named.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    health_check_url: String,
    /// How often its health is asked for, in seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 5, max = 86400))]
    interval: u32,
    /// For how long it counts as there after its last heartbeat, in seconds.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 5, max = 86400))]
    ttl: u32,
}

fn mcp() -> String {
    "mcp".to_owned()
}

fn thirty() -> u32 {
    30
}

fn five_minutes() -> u32 {
    300
}

/// A registration.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Registered {
    /// Its id.
    pub service_id: String,
    /// When it was first registered.
    pub registered_at: String,
    /// When it falls out of the list unless it is heard of.
    pub expires_at: String,
}

fn registered(it: &Registration) -> Registered {
    Registered {
        service_id: it.service_id.clone(),
        registered_at: Time(it.registered_at).to_rfc3339(),
        expires_at: it.expires_at().to_rfc3339(),
    }
}

async fn register_service(services: Services, call: Call, input: RegisterService) -> Result<Registered> {
    let inner = &services.inner;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !input.service_id.chars().all(plain) {
        return Err(Error::invalid(format!(
            "service_id: `{}` is not of letters, digits, `.`, `_` and `-`",
            input.service_id.escape_debug()
        )));
    }
    inner
        .egress
        .check(&input.url)
        .map_err(|error| Error::new(error.kind, format!("url: {}", error.message)))?;
    if !input.health_check_url.is_empty() {
        let checked = inner.egress.check(&input.health_check_url);
        checked.map_err(|error| Error::new(error.kind, format!("health_check_url: {}", error.message)))?;
    }
    let now = inner.clock.now();
    let known = inner.store.registration(&input.service_id).await?.filter(|known| known.expires_at() > now);
    // A name belongs to the team that took it: another cannot put its own address in its place.
    if known.as_ref().is_some_and(|known| !call.caller.teams.contains(&known.team)) {
        return Err(Error::conflict(format!("service_id: `{}` belongs to another team", input.service_id)));
    }
    let it = Registration {
        name: if input.name.is_empty() { input.service_id.clone() } else { input.name },
        service_id: input.service_id,
        team: call.caller.team().to_owned(),
        created_by: call.caller.subject.clone(),
        url: input.url,
        service_type: input.service_type,
        version: input.version,
        tags: input.tags,
        metadata: input.metadata,
        health_check_url: input.health_check_url,
        interval: input.interval,
        ttl: input.ttl,
        status: "unknown".to_owned(),
        registered_at: known.map_or(now.0, |known| known.registered_at),
        last_heartbeat: now.0,
        notes: Default::default(),
    };
    inner.store.put_registration(&it).await?;
    inner.wake.notify_one();
    Ok(registered(&it))
}

/// Says that a registered service is still there.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatService {
    /// Its id.
    #[schemars(length(min = 1, max = 100))]
    service_id: String,
    /// How it says it is: `healthy`, `degraded` or `unhealthy`.
    #[serde(default)]
    status: Option<Condition>,
}

/// How a service says it is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Condition {
    /// It works.
    Healthy,
    /// It works with limits.
    Degraded,
    /// It does not work.
    Unhealthy,
}

async fn heartbeat_service(services: Services, call: Call, input: HeartbeatService) -> Result<Registered> {
    let mut it = mine(&services, &call, &input.service_id).await?;
    let now = services.inner.clock.now();
    if it.expires_at() <= now {
        return Err(Error::not_found(format!("`{}` fell out of the list; register it again", it.service_id)));
    }
    it.last_heartbeat = now.0;
    if let Some(status) = input.status {
        let word = match status {
            Condition::Healthy => "healthy",
            Condition::Degraded => "degraded",
            Condition::Unhealthy => "unhealthy",
        };
        it.status = word.to_owned();
    }
    services.inner.store.put_registration(&it).await?;
    Ok(registered(&it))
}

/// Takes a registered service out of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeregisterService {
    /// Its id.
    #[schemars(length(min = 1, max = 100))]
    service_id: String,
}

/// A registration that was removed.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Deregistered {
    /// Its id.
    pub service_id: String,
}

async fn deregister_service(
    services: Services,
    call: Call,
    input: DeregisterService,
) -> Result<Deregistered> {
    let it = mine(&services, &call, &input.service_id).await?;
    services.inner.store.remove_registration(&it.service_id).await?;
    services.inner.wake.notify_one();
    Ok(Deregistered { service_id: it.service_id })
}

async fn mine(services: &Services, call: &Call, id: &str) -> Result<Registration> {
    let found = services.inner.store.registration(id).await?;
    found.filter(|it| call.caller.teams.contains(&it.team)).ok_or_else(|| {
        Error::not_found(format!("there is no registered service `{}`; register it first", id.escape_debug()))
    })
}

/// Finds services: those that run here and those that are registered, by name, type, tag and health.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoverServices {
    /// Only those whose id or name holds this text.
    #[serde(default)]
    #[schemars(length(max = 100))]
    search: Option<String>,
    /// Only those of this type, such as `mcp`.
    #[serde(default, rename = "type")]
    #[schemars(length(max = 32))]
    service_type: Option<String>,
    /// Only those with this tag.
    #[serde(default)]
    #[schemars(length(max = 64))]
    tag: Option<String>,
    /// Only those that are healthy.
    #[serde(default)]
    healthy: bool,
}

/// Services that were found.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Discovered {
    /// The services, by id.
    pub items: Vec<Found>,
}

async fn discover_services(services: Services, call: Call, input: DiscoverServices) -> Result<Discovered> {
    let search = input.search.map(|text| text.to_lowercase());
    let wanted = |found: &Found| {
        search.as_ref().is_none_or(|text| {
            found.service_id.to_lowercase().contains(text) || found.name.to_lowercase().contains(text)
        }) && input.service_type.as_ref().is_none_or(|kind| *kind == found.service_type)
            && input.tag.as_ref().is_none_or(|tag| found.tags.contains(tag))
            && (!input.healthy || found.status == "healthy")
    };
    let items = services.discover(&call.caller.teams).await?;
    Ok(Discovered { items: items.into_iter().filter(wanted).collect() })
}
