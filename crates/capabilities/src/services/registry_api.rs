//! The API of the official MCP registry (v0.1), served: clients and other gateways find here what they can
//! reach through us. And consumed: `search_mcp_registry` looks for servers elsewhere.
//!
//! Source: the registry's aggregator guide and the `server.json` schema of 2025-12-11.

use std::time::Duration;

use opsroom_core::egress::{Limits, Request};
use opsroom_core::{Call, Effect, Error, Operation, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Services;
use super::discovery::Found;

/// The schema that each `server` follows.
const SCHEMA: &str = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json";
/// What our servers' names begin with: names are `namespace/name`.
const NAMESPACE: &str = "opsroom.local";

pub fn all(services: &Services) -> Vec<Operation> {
    vec![
        services.operation("list_registry_servers", Effect::Read, "GET /v0.1/servers", list_servers),
        services.operation(
            "list_registry_versions",
            Effect::Read,
            "GET /v0.1/servers/{server_name}/versions",
            list_versions,
        ),
        services.operation(
            "get_registry_server",
            Effect::Read,
            "GET /v0.1/servers/{server_name}/versions/{version}",
            get_version,
        ),
        services.operation("search_mcp_registry", Effect::Read, "GET /registry/search", search),
    ]
}

/// Lists the MCP servers that can be reached through this gateway, in the form of the official MCP
/// registry's API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListServers {
    /// The most entries, from 1 to 100.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 100))]
    limit: usize,
    /// Where to go on: `nextCursor` of the answer before.
    #[serde(default)]
    #[schemars(length(max = 200))]
    cursor: Option<String>,
    /// Only those that changed after this moment (RFC 3339).
    #[serde(default)]
    updated_since: Option<String>,
    /// Only those whose name holds this text.
    #[serde(default)]
    #[schemars(length(max = 100))]
    search: Option<String>,
    /// `latest`, or a version. Each server has one version here.
    #[serde(default)]
    #[schemars(length(max = 64))]
    version: Option<String>,
}

fn thirty() -> usize {
    30
}

/// A list in the form of the registry's API.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServerList {
    /// The servers, by name.
    pub servers: Vec<ServerEntry>,
    /// Where the list goes on.
    pub metadata: ListMetadata,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListMetadata {
    /// Give it as `cursor` for the next entries; left out at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How many entries this answer has.
    pub count: usize,
}

/// A server in the form of the registry's API.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServerEntry {
    /// The `server.json`.
    pub server: Map<String, Value>,
    /// What the registry says about it.
    #[serde(rename = "_meta")]
    pub meta: Map<String, Value>,
}

fn entry(found: &Found) -> ServerEntry {
    let version = if found.version.is_empty() { "0.0.0" } else { &found.version };
    let description: String = found.description.chars().take(100).collect();
    let server = json!({
        "$schema": SCHEMA,
        "name": format!("{NAMESPACE}/{}", found.service_id),
        "title": found.name,
        "description": if description.is_empty() { format!("{} behind this gateway", found.name) } else { description },
        "version": version,
        "remotes": [{ "type": "streamable-http", "url": format!("/mcp/services/{}", super::slug(&found.service_id)) }],
    });
    let meta = json!({
        "io.modelcontextprotocol.registry/official": {
            "status": "active",
            "publishedAt": found.registered_at,
            "updatedAt": found.updated_at,
            "isLatest": true,
        },
        "opsroom/health": { "status": found.status, "tools": found.tools_count },
    });
    let object = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
    ServerEntry { server: object(server), meta: object(meta) }
}

async fn servers(services: &Services, call: &Call) -> Result<Vec<Found>> {
    let found = services.discover(&call.caller.teams).await?;
    Ok(found.into_iter().filter(|found| found.service_type == "mcp").collect())
}

async fn list_servers(services: Services, call: Call, input: ListServers) -> Result<ServerList> {
    let since = match &input.updated_since {
        None => None,
        Some(text) => Some(text.parse::<jiff::Timestamp>().map_err(|_| {
            Error::invalid(format!("updated_since: `{}` is no moment (RFC 3339)", text.escape_debug()))
        })?),
    };
    let search = input.search.map(|text| text.to_lowercase());
    let wanted = |found: &Found| {
        let name = format!("{NAMESPACE}/{}", found.service_id).to_lowercase();
        search.as_ref().is_none_or(|text| name.contains(text))
            && since
                .is_none_or(|since| found.updated_at.parse::<jiff::Timestamp>().is_ok_and(|at| at >= since))
            && input.version.as_deref().is_none_or(|version| version == "latest" || version == found.version)
            && input.cursor.as_ref().is_none_or(|cursor| found.service_id > *cursor)
    };
    let mut found: Vec<Found> = servers(&services, &call).await?.into_iter().filter(wanted).collect();
    let more = found.len() > input.limit;
    found.truncate(input.limit);
    let next_cursor = found.last().filter(|_| more).map(|last| last.service_id.clone());
    let entries: Vec<ServerEntry> = found.iter().map(entry).collect();
    let metadata = ListMetadata { next_cursor, count: entries.len() };
    Ok(ServerList { servers: entries, metadata })
}

/// Lists the versions of one MCP server, in the form of the official MCP registry's API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListVersions {
    /// Its name, such as `opsroom.local/weather` (in a path, `opsroom.local%2Fweather`), or
    /// `weather` alone.
    #[schemars(length(min = 1, max = 200))]
    server_name: String,
}

async fn list_versions(services: Services, call: Call, input: ListVersions) -> Result<ServerList> {
    let found = named(&services, &call, &input.server_name).await?;
    Ok(ServerList { servers: vec![entry(&found)], metadata: ListMetadata { next_cursor: None, count: 1 } })
}

/// Shows one version of one MCP server, in the form of the official MCP registry's API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetVersion {
    /// Its name, such as `opsroom.local/weather` (in a path, `opsroom.local%2Fweather`), or
    /// `weather` alone.
    #[schemars(length(min = 1, max = 200))]
    server_name: String,
    /// The version, or `latest`.
    #[schemars(length(min = 1, max = 64))]
    version: String,
}

async fn get_version(services: Services, call: Call, input: GetVersion) -> Result<ServerEntry> {
    let found = named(&services, &call, &input.server_name).await?;
    let entry = entry(&found);
    if input.version == "latest"
        || entry.server.get("version").and_then(Value::as_str) == Some(&*input.version)
    {
        return Ok(entry);
    }
    Err(Error::not_found(format!(
        "`{}` has no version `{}`",
        input.server_name,
        input.version.escape_debug()
    )))
}

async fn named(services: &Services, call: &Call, name: &str) -> Result<Found> {
    // The namespace may be left out: a slash in a path is awkward to write.
    let id = name.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
    let found = servers(services, call).await?.into_iter().find(|found| found.service_id == id);
    found.ok_or_else(|| Error::not_found(format!("there is no server `{}`", name.escape_debug())))
}

/// Looks for MCP servers in the official registry, or in another that speaks its API. What is found can be
/// created with `create_service`; nothing is installed by looking.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchRegistry {
    /// What to look for in names.
    #[serde(default)]
    #[schemars(length(max = 100))]
    search: String,
    /// The registry.
    #[serde(default = "official")]
    #[schemars(length(min = 1, max = 2000))]
    registry: String,
    /// The most entries, from 1 to 100.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 100))]
    limit: usize,
    /// Where to go on: `nextCursor` of the answer before.
    #[serde(default)]
    #[schemars(length(max = 500))]
    cursor: Option<String>,
}

fn official() -> String {
    "https://registry.modelcontextprotocol.io".to_owned()
}

/// Servers of another registry: data of strangers.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct RegistryPage {
    /// The servers.
    pub items: Vec<RegistryServer>,
    /// Give it as `cursor` for the next entries; null at the end.
    pub next: Option<String>,
}

/// A server of another registry.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct RegistryServer {
    /// Its name.
    pub name: String,
    /// What it says it is for.
    pub description: String,
    /// Its version.
    pub version: String,
    /// URLs at which it can be reached: each can be the `url` of a service of type `cloud`.
    pub urls: Vec<String>,
    /// Packages from which it can be run, as `registry:identifier`.
    pub packages: Vec<String>,
}

async fn search(services: Services, _: Call, input: SearchRegistry) -> Result<RegistryPage> {
    let mut url = services.inner.egress.check(input.registry.trim_end_matches('/'))?;
    url.set_path(&format!("{}/v0.1/servers", url.path().trim_end_matches('/')));
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &input.limit.to_string()).append_pair("version", "latest");
        if !input.search.is_empty() {
            query.append_pair("search", &input.search);
        }
        if let Some(cursor) = &input.cursor {
            query.append_pair("cursor", cursor);
        }
    }
    let limits = Limits { max_bytes: 8 << 20, timeout: Duration::from_secs(20), redirects: 3 };
    let answer = services.inner.egress.send(Request::get(url), limits).await?;
    if !answer.status.is_success() {
        return Err(Error::unavailable(format!("the registry answered {}", answer.status.as_u16())));
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| Error::unavailable("the registry answered with something that is not JSON"))?;
    let next = body["metadata"]["nextCursor"].as_str().filter(|next| !next.is_empty()).map(str::to_owned);
    let entries = body["servers"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(RegistryPage { items: entries.iter().take(100).map(read).collect(), next })
}

/// What a stranger wrote, without what could steer a terminal.
fn read(entry: &Value) -> RegistryServer {
    let server = if entry["server"].is_object() { &entry["server"] } else { entry };
    let text = |value: &Value| super::runtime::plain(value.as_str().unwrap_or_default());
    let items = |name: &str| server[name].as_array().map_or(&[][..], Vec::as_slice);
    RegistryServer {
        name: text(&server["name"]),
        description: text(&server["description"]),
        version: text(&server["version"]),
        urls: items("remotes")
            .iter()
            .map(|remote| text(&remote["url"]))
            .filter(|url| !url.is_empty())
            .collect(),
        packages: items("packages")
            .iter()
            .map(|package| format!("{}:{}", text(&package["registryType"]), text(&package["identifier"])))
            .collect(),
    }
}
