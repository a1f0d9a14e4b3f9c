//! `get_health`, `get_detailed_health`, `get_info`.

use opsroom_core::capability::Status;
use opsroom_core::{Call, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DetailedHealth, Health};

/// How many operations are defined here.
pub(super) const COUNT: usize = 3;

/// Say whether the server is up.
///
/// Needs no key. `get_detailed_health` says how each part is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetHealth {}

/// Whether the server is up.
#[derive(Serialize, JsonSchema)]
pub(super) struct HealthAnswer {
    /// `healthy`: the server answers.
    status: Status,
    /// The version of Opsroom.
    version: String,
    /// Now, RFC 3339 in UTC.
    timestamp: String,
}

pub(super) async fn get_health(health: Health, _: Call, _: GetHealth) -> Result<HealthAnswer> {
    Ok(HealthAnswer {
        status: Status::Healthy,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        timestamp: health.clock.now().to_rfc3339(),
    })
}

/// Say how each part of the server is: the database, the jobs, the folders, the backends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetDetailedHealth {}

pub(super) async fn get_detailed_health(
    health: Health,
    _: Call,
    _: GetDetailedHealth,
) -> Result<DetailedHealth> {
    Ok(health.detailed().await)
}

/// Say what this server is: its name, version, capabilities and where its documentation is.
///
/// Needs no key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GetInfo {}

/// What this server is.
#[derive(Serialize, JsonSchema)]
pub(super) struct Info {
    /// `opsroom`.
    name: String,
    /// The version of Opsroom.
    version: String,
    /// What it is, in a sentence.
    description: String,
    /// The kind of database it stands on.
    database: String,
    /// What it can do, by the names of its parts.
    capabilities: Vec<String>,
    /// How many operations it offers.
    operations: usize,
    /// Where the MCP endpoint is.
    mcp: String,
    /// Where the REST API is described.
    openapi: String,
    /// Where people read the documentation.
    docs: String,
    /// Seconds since the server started.
    uptime_seconds: f64,
}

pub(super) async fn get_info(health: Health, _: Call, _: GetInfo) -> Result<Info> {
    Ok(Info {
        name: "opsroom".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "An operations room for AI agents and the people they work for".to_owned(),
        database: health.database.to_owned(),
        capabilities: health.capabilities.iter().map(|name| (*name).to_owned()).collect(),
        operations: health.operations,
        mcp: "/mcp".to_owned(),
        openapi: "/openapi.json".to_owned(),
        docs: "/docs".to_owned(),
        uptime_seconds: health.uptime_seconds(),
    })
}
