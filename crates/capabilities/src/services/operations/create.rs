//! `create_service`, and the plan of one.

use std::collections::BTreeMap;

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::model::{Desired, HealthCheck, Kind, Spec, Wire, check_name, slug};
use super::super::store::{Driver, Network, NewService};
use super::super::{Services, networks, policy};

/// Creates an MCP service and starts it. Its tools can then be called through the gateway as
/// `{name}__{tool}`. With `dry_run` nothing is made: the answer is the plan, and what policy refuses of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateService {
    /// Its name, unique: 1 to 100 letters, digits, spaces, `.`, `_` and `-`.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// What it is for.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    description: String,
    /// What runs it: `docker` (a container), `local` (a listed command of this machine, administrators
    /// only), `cloud` or `remote` (a server at a URL).
    #[serde(default)]
    service_type: Kind,
    /// For `docker`: the image, such as `weather:1.0`. It means from now on what it means now.
    #[serde(default)]
    #[schemars(length(max = 255))]
    image: String,
    /// The program and its arguments: for `local` a whole command as the configuration lists it, for
    /// `docker` in place of the image's own.
    #[serde(default)]
    #[schemars(length(max = 64))]
    command: Vec<String>,
    /// For `cloud`: the URL of its MCP endpoint, such as `https://mcp.example.com/mcp`.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    url: String,
    /// How it is spoken to: `http` (Streamable HTTP), or `sse` (HTTP+SSE of 2024-11-05).
    #[serde(default)]
    transport: Wire,
    /// For `docker`: the path of its MCP endpoint.
    #[serde(default = "mcp_path")]
    #[schemars(length(max = 200))]
    path: String,
    /// Headers of requests to it. A credential is a reference such as `secret://file/github`.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    headers: BTreeMap<String, String>,
    /// For `docker`: the port on which it listens in its container, from 1 to 65535; 8080 unless named.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    service_port: Option<u16>,
    /// Not supported: services publish no port of this machine, the gateway reaches them.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65535))]
    host_port: Option<u16>,
    /// Not supported: services see no folder of this machine.
    #[serde(default)]
    deploy_directory: Option<String>,
    /// For `docker`: the user in the container, not root; the image's own unless named.
    #[serde(default)]
    #[schemars(length(max = 64))]
    user: String,
    /// For `docker`: the VLAN that it is in, from 1 to 4094. Services of one VLAN reach one another; those
    /// of two do not. Without a VLAN or network it is in a network of its own.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4094))]
    vlan_id: Option<u16>,
    /// For `docker`: the network that it is in, by name, in place of `vlan_id`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    network_name: String,
    /// For `docker`: its address in that network; a free one unless named.
    #[serde(default)]
    ip_address: Option<String>,
    /// Anything that you want to note about it.
    #[serde(default)]
    settings: Map<String, Value>,
    /// Its environment. A value may be a reference such as `secret://env/TOKEN`.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    environment_vars: BTreeMap<String, String>,
    /// For `docker`: processors, such as `0.5` or `500m`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    cpu_limit: String,
    /// Memory, such as `512m` or `512Mi`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    memory_limit: String,
    /// For `docker`: space for what it writes below `/tmp`, the only place where it can, such as `64Mi`.
    #[serde(default)]
    #[schemars(length(max = 32))]
    disk_limit: String,
    /// For `docker`: places outside that it may reach through our proxy, such as `api.example.com:443`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    allow_egress: Vec<String>,
    /// How its health is asked for: `mcp`, `http` or `tcp`.
    #[serde(default)]
    health_check: Option<HealthCheck>,
    /// For `http`: where, such as `/health`.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    health_check_url: String,
    /// How often its health is asked for, in seconds, at least 5.
    #[serde(default = "thirty")]
    #[schemars(range(min = 5, max = 86400))]
    health_check_interval: u32,
    /// How long to wait for an answer to that, in seconds.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 300))]
    health_check_timeout: u32,
    /// After how many failures in a row it is called unhealthy.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    health_check_retries: u32,
    /// The longest time for one request to it, in seconds.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 3600))]
    timeout_seconds: u32,
    /// The most requests to it at once.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 4096))]
    max_concurrency: u32,
    /// Whether it is started at once.
    #[serde(default = "yes")]
    start: bool,
    /// Only say what would be made, and what policy refuses.
    #[serde(default)]
    dry_run: bool,
    /// How long to wait until it runs, in seconds, from 0 to 120.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 120))]
    wait_seconds: u32,
}

fn mcp_path() -> String {
    "/mcp".to_owned()
}

fn three() -> u32 {
    3
}

fn ten() -> u32 {
    10
}

fn thirty() -> u32 {
    30
}

fn sixty_four() -> u32 {
    64
}

fn yes() -> bool {
    true
}

/// A service that was made, or the plan of one.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct CreatedService {
    /// Its number; null for a plan.
    pub id: Option<i64>,
    /// The deployment that makes it run; null when it is not started.
    pub deployment_id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its status; `planned` for a plan.
    pub status: String,
    /// Why it is so, when that is not plain.
    pub reason: Option<String>,
    /// What its tools' names begin with.
    pub mcp_name: String,
    /// When it was made; null for a plan.
    pub created_at: Option<String>,
    /// What would be made; null when it was made.
    pub plan: Option<Plan>,
}

/// What would be made.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    /// What would be done, step by step.
    pub steps: Vec<String>,
    /// What policy refuses; empty when it can be made.
    pub refused: Vec<String>,
}

pub async fn create_service(services: Services, call: Call, input: CreateService) -> Result<CreatedService> {
    let (name, kind, start, wait) = (input.name.clone(), input.service_type, input.start, input.wait_seconds);
    let (vlan, dry_run) = (input.vlan_id, input.dry_run);
    let mut refused: Vec<Error> = check_name(&name).err().into_iter().chain(input.unsupported()).collect();
    let mut spec = input.spec();
    refused.extend(policy::refusals(
        kind,
        &spec,
        &call.caller,
        &services.inner.config,
        &services.inner.secrets,
    ));
    if services.inner.store.find(&name, None).await?.is_some()
        || services.inner.store.find(&slug(&name), None).await?.is_some()
    {
        refused
            .push(Error::conflict(format!("there is a service named `{name}` already; choose another name")));
    }
    let network = match services.network_of(&call, vlan, &spec).await {
        Ok(network) => network,
        Err(error) => {
            refused.push(error);
            None
        }
    };
    if let (Some((network, _)), Some(text)) = (&network, &spec.ip_address) {
        refused.extend(networks::address(text, network.subnet).err());
    }
    // Nothing is pulled for what is refused anyway, nor for a plan.
    if kind == Kind::Docker && refused.is_empty() {
        match services.inner.engine.pin(&spec, &|_| ()).await {
            Ok(pinned) => spec.pinned_image = pinned,
            Err(error) => refused.push(error),
        }
    }
    if dry_run {
        let refused = refused.into_iter().map(|error| error.message).collect();
        let steps = steps(&name, kind, &spec, network.as_ref());
        return Ok(CreatedService {
            id: None,
            deployment_id: None,
            mcp_name: slug(&name),
            name,
            status: "planned".to_owned(),
            reason: None,
            created_at: None,
            plan: Some(Plan { steps, refused }),
        });
    }
    if let Some(first) = refused.into_iter().next() {
        return Err(first);
    }
    if let Some((network, new)) = network {
        spec.network_name = network.name.clone();
        if new {
            services.make_network(network, None).await?;
        }
    }
    services.insert(&call, name, kind, spec, start, wait).await
}

impl Services {
    async fn insert(
        &self,
        call: &Call,
        name: String,
        kind: Kind,
        spec: Spec,
        start: bool,
        wait: u32,
    ) -> Result<CreatedService> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let (caller, slug) = (&call.caller, slug(&name));
        let desired = if start { Desired::Running } else { Desired::Stopped };
        let new = NewService {
            team: caller.team(),
            created_by: &caller.subject,
            name: &name,
            slug: &slug,
            kind,
            node: &inner.node,
            spec: &spec,
            desired,
            now,
        };
        let id = inner.store.insert(&new).await?;
        let deployment_id = match start {
            true => Some(inner.store.begin_deployment(id, "create", now).await?),
            false => None,
        };
        inner.wake.notify_one();
        let made = self.settled(id, if start { wait } else { 0 }).await?;
        let made =
            made.ok_or_else(|| Error::not_found(format!("the service `{name}` was deleted meanwhile")))?;
        Ok(CreatedService {
            id: Some(id),
            deployment_id,
            name,
            status: made.status.as_str().to_owned(),
            reason: made.reason,
            mcp_name: slug,
            created_at: Some(now.to_rfc3339()),
            plan: None,
        })
    }

    /// The network that a service asks for, and whether it is to be made; `None` is one of its own.
    async fn network_of(
        &self,
        call: &Call,
        vlan: Option<u16>,
        spec: &Spec,
    ) -> Result<Option<(Network, bool)>> {
        let networks = self.inner.store.networks().await?;
        let mine = |network: &Network| call.caller.teams.contains(&network.team);
        match (vlan, spec.network_name.as_str()) {
            (None, "") => match spec.ip_address {
                None => Ok(None),
                Some(_) => {
                    Err(Error::invalid("ip_address: name the network too, with `vlan_id` or `network_name`"))
                }
            },
            (Some(_), name) if !name.is_empty() => {
                Err(Error::invalid("vlan_id and network_name: name one of them"))
            }
            (Some(vlan), _) => match networks.into_iter().find(|network| network.vlan_id == Some(vlan)) {
                Some(network) if mine(&network) => Ok(Some((network, false))),
                Some(_) => Err(Error::conflict(format!("vlan_id: VLAN {vlan} belongs to another team"))),
                None => Ok(Some((self.new_vlan(call, vlan)?, true))),
            },
            (None, name) => match networks.into_iter().find(|network| network.name == name) {
                Some(network) if mine(&network) && network.service.is_none() => Ok(Some((network, false))),
                _ => Err(Error::not_found(format!(
                    "network_name: there is no network `{}`; `create_network` makes one",
                    name.escape_debug()
                ))),
            },
        }
    }

    fn new_vlan(&self, call: &Call, vlan: u16) -> Result<Network> {
        Ok(Network {
            name: format!("vlan-{vlan}"),
            team: call.caller.team().to_owned(),
            created_by: call.caller.subject.clone(),
            vlan_id: Some(vlan),
            driver: Driver::Bridge,
            parent: String::new(),
            // Another is found when it is made.
            subnet: self.inner.config.pool()?,
            service: None,
            created_at: self.inner.clock.now(),
        })
    }
}

impl CreateService {
    fn unsupported(&self) -> Option<Error> {
        if self.host_port.is_some() {
            return Some(Error::invalid(
                "host_port: services publish no port of this machine; the gateway reaches them, leave it out",
            ));
        }
        if self.vlan_id.is_some() && self.service_type != Kind::Docker {
            return Some(Error::invalid(
                "vlan_id: only a service of type `docker` is in a VLAN; leave it out",
            ));
        }
        self.deploy_directory.as_ref().map(|_| {
            Error::invalid(
                "deploy_directory: services see no folder of this machine; build an image, leave it out",
            )
        })
    }

    fn spec(self) -> Spec {
        let docker = self.service_type == Kind::Docker;
        // A health URL without a kind of check means what it did in the older system.
        let usual = if self.health_check_url.is_empty() { HealthCheck::Mcp } else { HealthCheck::Http };
        Spec {
            description: self.description,
            image: self.image,
            command: self.command,
            url: self.url,
            transport: self.transport,
            path: self.path,
            headers: self.headers,
            service_port: self.service_port.or(docker.then_some(8080)),
            user: self.user,
            network_name: self.network_name,
            ip_address: self.ip_address,
            settings: self.settings,
            environment_vars: self.environment_vars,
            cpu_limit: self.cpu_limit,
            memory_limit: self.memory_limit,
            disk_limit: self.disk_limit,
            allow_egress: self.allow_egress,
            health_check: self.health_check.unwrap_or(usual),
            health_check_url: self.health_check_url,
            health_check_interval: self.health_check_interval,
            health_check_timeout: self.health_check_timeout,
            health_check_retries: self.health_check_retries,
            timeout_seconds: self.timeout_seconds,
            max_concurrency: self.max_concurrency,
            pinned_image: String::new(),
        }
    }
}

fn steps(name: &str, kind: Kind, spec: &Spec, network: Option<&(Network, bool)>) -> Vec<String> {
    let mut steps = Vec::new();
    match kind {
        Kind::Docker => {
            let pinned =
                if spec.pinned_image.is_empty() { "which is not known yet" } else { &spec.pinned_image };
            steps.push(format!("use the image `{}`, pinned as {pinned}", spec.image));
            steps.push(match network {
                None => "make a network of its own, without a way out".to_owned(),
                Some((network, true)) => format!("make the network `{}`, without a way out", network.name),
                Some((network, false)) => format!("join the network `{}` ({})", network.name, network.subnet),
            });
            steps.push(
                "make a container: read-only, without capabilities or new privileges, not as root, without the \
                 machine's namespaces, folders, devices and ports"
                    .to_owned(),
            );
            for place in &spec.allow_egress {
                steps.push(format!("let it reach {place} through the proxy"));
            }
            steps.push("start it".to_owned());
        }
        Kind::Local => steps.push(format!("start {} with an environment of its own", spec.command.join(" "))),
        Kind::Cloud | Kind::Remote => steps.push(format!("connect to {}", spec.url)),
        Kind::Kubernetes => {}
    }
    steps.push(format!("offer its tools as `{}__...`", slug(name)));
    steps
}
