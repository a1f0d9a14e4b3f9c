//! `list_services`, `get_service`, `get_service_health`, `get_service_logs` and `get_service_stats`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::model::{HealthSeen, Kind, Status};
use super::super::runtime::{LogLine, Usage};
use super::super::store::Listing;
use super::super::{Services, connected};
use super::answers::{ServiceDetail, ServiceLine, hidden, line, some};

/// Lists services, with filters, page by page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListServices {
    /// The page, from 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    page: u64,
    /// How many a page, from 1 to 100.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 100))]
    size: u64,
    /// Only those with this status.
    #[serde(default)]
    status_filter: Option<Status>,
    /// Only those of this type.
    #[serde(default)]
    service_type: Option<Kind>,
    /// Only those whose name holds this text.
    #[serde(default)]
    #[schemars(length(max = 100))]
    search: Option<String>,
}

fn one() -> u64 {
    1
}

fn twenty() -> u64 {
    20
}

/// Services.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServicePage {
    /// The services of this page.
    pub items: Vec<ServiceLine>,
    /// Where the page is among the others.
    pub pagination: Pagination,
}

/// Where a page is among the others.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Pagination {
    /// How many there are in all.
    pub total: u64,
    /// This page, from 1.
    pub page: u64,
    /// How many a page.
    pub size: u64,
    /// How many pages.
    pub pages: u64,
}

pub async fn list_services(services: Services, call: Call, input: ListServices) -> Result<ServicePage> {
    let listing = Listing {
        status: input.status_filter,
        kind: input.service_type,
        search: input.search,
        offset: (input.page - 1) * input.size,
        limit: input.size,
    };
    let (found, total) = services.inner.store.list(&call.caller.teams, &listing).await?;
    let mut items = Vec::with_capacity(found.len());
    for it in &found {
        let newest = services.inner.store.deployments(it.id, 1).await?.into_iter().next();
        items.push(line(it, newest.map(|deployment| deployment.id)));
    }
    let pagination =
        Pagination { total, page: input.page, size: input.size, pages: total.div_ceil(input.size) };
    Ok(ServicePage { items, pagination })
}

/// Shows one service with everything about it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetService {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
}

pub async fn get_service(services: Services, call: Call, input: GetService) -> Result<ServiceDetail> {
    let it = services.find(&call.caller, &input.id).await?;
    let history = services.inner.store.deployments(it.id, 5).await?;
    let time = |micros: Option<i64>| micros.map(|micros| opsroom_core::Time(micros).to_rfc3339());
    let spec = &it.spec;
    Ok(ServiceDetail {
        line: line(&it, history.first().map(|deployment| deployment.id.clone())),
        team: it.team.clone(),
        created_by: it.created_by.clone(),
        pinned_image: some(&spec.pinned_image),
        command: spec.command.clone(),
        url: some(&spec.url),
        transport: spec.transport,
        path: spec.path.clone(),
        network_name: some(&spec.network_name),
        settings: spec.settings.clone(),
        environment_vars: hidden(&spec.environment_vars),
        headers: hidden(&spec.headers),
        cpu_limit: spec.cpu_limit.clone(),
        memory_limit: spec.memory_limit.clone(),
        disk_limit: spec.disk_limit.clone(),
        allow_egress: spec.allow_egress.clone(),
        health_check: spec.health_check,
        health_check_url: some(&spec.health_check_url),
        health_check_interval: spec.health_check_interval,
        health_check_timeout: spec.health_check_timeout,
        health_check_retries: spec.health_check_retries,
        container_id: it.seen.container_id.clone(),
        restarts: it.seen.restarts,
        last_started_at: time(it.seen.started_at),
        last_stopped_at: time(it.seen.stopped_at),
        tools_count: services.connection(&it.slug).map(|service| service.tools.len()),
        latest_health_check: it.seen.health.clone(),
        deployment_history: history.into_iter().map(Into::into).collect(),
    })
}

/// Asks a service how it is, now.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetServiceHealth {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
}

/// How a service is.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceHealth {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its status, as its engine says.
    pub status: Status,
    /// Its health, asked for now.
    pub health: HealthSeen,
}

pub async fn get_service_health(
    services: Services,
    call: Call,
    input: GetServiceHealth,
) -> Result<ServiceHealth> {
    let it = services.find(&call.caller, &input.id).await?;
    let health = services.ask(&it).await;
    Ok(ServiceHealth { id: it.id, name: it.name, status: it.status, health })
}

/// Shows the last lines that a service wrote: of a container its output, of a local service its errors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetServiceLogs {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
    /// How many lines, from 1 to 1000.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    lines: u32,
    /// Only lines after this moment (RFC 3339).
    #[serde(default)]
    since: Option<String>,
}

fn hundred() -> u32 {
    100
}

/// What a service wrote.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceLogs {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The lines, oldest first.
    pub items: Vec<LogLine>,
}

pub async fn get_service_logs(services: Services, call: Call, input: GetServiceLogs) -> Result<ServiceLogs> {
    let it = services.find(&call.caller, &input.id).await?;
    let since = match &input.since {
        None => 0,
        Some(text) => {
            let moment: jiff::Timestamp = text.parse().map_err(|_| {
                Error::invalid(format!(
                    "since: `{}` is no moment such as 2026-01-05T10:00:00Z",
                    text.escape_debug()
                ))
            })?;
            moment.as_second().max(0)
        }
    };
    let items = match it.kind {
        Kind::Docker => services.inner.engine.logs(&it, input.lines, since).await?,
        Kind::Local => connected::local_logs(&services.inner.folder(it.id)?, input.lines as usize),
        _ => return Err(Error::conflict("a service at a URL keeps its own log; there is none here")),
    };
    Ok(ServiceLogs { id: it.id, name: it.name, items })
}

/// Shows what a service uses now: processor, memory, network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetServiceStats {
    /// Its number or name.
    #[schemars(length(min = 1, max = 100))]
    id: String,
}

/// What a service uses.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceStats {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its status, as its engine says.
    pub status: Status,
    /// What it uses; null when it does not run on this machine.
    pub usage: Option<Usage>,
}

pub async fn get_service_stats(
    services: Services,
    call: Call,
    input: GetServiceStats,
) -> Result<ServiceStats> {
    let it = services.find(&call.caller, &input.id).await?;
    let mut usage = match it.kind {
        Kind::Docker => services.inner.engine.usage(&it).await?,
        Kind::Local => connected::local_usage(&services.inner.folder(it.id)?),
        _ => None,
    };
    if let (Some(usage), Some(started)) = (&mut usage, it.seen.started_at) {
        usage.uptime_seconds = (services.inner.clock.now().0 - started).max(0) as f64 / 1e6;
    }
    Ok(ServiceStats { id: it.id, name: it.name, status: it.status, usage })
}
