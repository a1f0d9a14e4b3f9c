//! What the operator allows services to be.

use std::path::PathBuf;

use opsroom_core::{Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::addresses::Subnet;
use super::limits;

/// How services are run, and which may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServicesConfig {
    /// The socket of the Docker engine. It is used when a service needs it, and need not be there.
    pub docker_socket: PathBuf,
    /// The images that services may be made of, such as `ghcr.io/acme/weather`, or `ghcr.io/acme/*` for all
    /// below it. They are pulled when they are missing. Empty: only images that are already on the engine.
    pub allowed_images: Vec<String>,
    /// The commands that local services may be, each its program and all its arguments, compared exactly,
    /// such as `[uvx, mcp-server-time]`. Empty: none.
    pub local_commands: Vec<Vec<String>>,
    /// The addresses that networks of services are taken from. Also read from `DOCKER_SUBNET`.
    pub network_pool: String,
    /// How many addresses a network has, as the length of its prefix, from 16 to 29.
    pub network_prefix: u8,
    /// The processors of a service that names none. Docker's and Kubernetes' spellings are understood.
    pub default_cpu_limit: String,
    /// The memory of a service that names none. Docker's and Kubernetes' spellings are understood.
    pub default_memory_limit: String,
    /// The most processes and threads in a service's container.
    pub pids_limit: u32,
    /// How often a service that ends at once is started again before it is given up until somebody starts
    /// it by hand.
    pub restart_limit: u32,
    /// The URL of a metadata document that says who we are as an OAuth client of services. Empty: our own at
    /// `/oauth/client.json`, where `server.public_url` is https.
    pub oauth_client_id: String,
    /// The gateway where we register ourselves; empty: none. Also read from `GATEWAY_URL`.
    pub gateway: UpstreamGateway,
}

impl Default for ServicesConfig {
    fn default() -> Self {
        Self {
            docker_socket: PathBuf::from("/var/run/docker.sock"),
            allowed_images: Vec::new(),
            local_commands: Vec::new(),
            network_pool: "172.30.0.0/16".to_owned(),
            network_prefix: 24,
            default_cpu_limit: "1.0".to_owned(),
            default_memory_limit: "512Mi".to_owned(),
            pids_limit: 256,
            restart_limit: 5,
            oauth_client_id: String::new(),
            gateway: UpstreamGateway::default(),
        }
    }
}

/// A gateway where we register ourselves and report that we live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamGateway {
    /// The gateway's address, such as `https://gateway.example.com`; empty: none. Also read from
    /// `GATEWAY_URL`.
    pub url: String,
    /// Where to register, below the address.
    pub register_endpoint: String,
    /// Where to report that we live, below the address.
    pub heartbeat_endpoint: String,
    /// The token sent to the gateway. Also read from `GATEWAY_API_KEY`.
    pub auth_token: Secret,
    /// The name we register under.
    pub service_name: String,
    /// The host by which the gateway reaches us; empty: the server's own address.
    pub advertised_host: String,
    /// The port by which the gateway reaches us.
    pub advertised_port: u16,
    /// How often to report, in seconds, from 1 to 3600.
    pub heartbeat_interval: u64,
    /// How long to wait for the gateway, in seconds, from 1 to 300.
    pub timeout: u64,
}

impl Default for UpstreamGateway {
    fn default() -> Self {
        Self {
            url: String::new(),
            register_endpoint: "/gateway/services/register".to_owned(),
            heartbeat_endpoint: "/api/v1/services/heartbeat".to_owned(),
            auth_token: Secret::default(),
            service_name: "opsroom".to_owned(),
            advertised_host: String::new(),
            advertised_port: 8008,
            heartbeat_interval: 30,
            timeout: 10,
        }
    }
}

impl ServicesConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::invalid(format!("services.{key}: {what}")));
        if !self.oauth_client_id.is_empty() && !self.oauth_client_id.starts_with("https://") {
            return wrong("oauth_client_id", "it is an https URL".to_owned());
        }
        let pool = match self.network_pool.parse::<Subnet>() {
            Ok(pool) => pool,
            Err(error) => return wrong("network_pool", error.message),
        };
        if !pool.is_private() {
            return wrong("network_pool", format!("{pool} is not private; use such as 172.30.0.0/16"));
        }
        if !(16..=29).contains(&self.network_prefix) || self.network_prefix < pool.prefix() {
            let given = self.network_prefix;
            return wrong(
                "network_prefix",
                format!("{given} is not from 16 to 29, or is wider than the pool"),
            );
        }
        if let Err(error) = limits::nano_cpus(&self.default_cpu_limit) {
            return wrong("default_cpu_limit", error.message);
        }
        if let Err(error) = limits::memory(&self.default_memory_limit) {
            return wrong("default_memory_limit", error.message);
        }
        if self.local_commands.iter().any(|command| command.first().is_none_or(String::is_empty)) {
            return wrong("local_commands", "a command has no program".to_owned());
        }
        if self.pids_limit == 0 || self.restart_limit == 0 {
            return wrong("pids_limit", "it and restart_limit are at least 1".to_owned());
        }
        let gateway = &self.gateway;
        if !gateway.url.is_empty()
            && !gateway.url.starts_with("http://")
            && !gateway.url.starts_with("https://")
        {
            return wrong("gateway.url", "it begins with https:// or http://".to_owned());
        }
        if !(1..=3600).contains(&gateway.heartbeat_interval) || !(1..=300).contains(&gateway.timeout) {
            return wrong(
                "gateway.heartbeat_interval",
                "it is from 1 to 3600, and timeout from 1 to 300".to_owned(),
            );
        }
        Ok(())
    }

    /// The pool of addresses; `validate` has looked at it.
    ///
    /// # Errors
    /// `Invalid` for a pool that is none.
    pub fn pool(&self) -> Result<Subnet> {
        self.network_pool.parse()
    }
}
