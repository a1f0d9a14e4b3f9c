//! The words of services: what one is to be, what it is, and the pure rules between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use opsroom_core::clock::Time;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What runs a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A container of a Docker engine.
    #[default]
    Docker,
    /// A deployment of a Kubernetes cluster.
    Kubernetes,
    /// A server somewhere else, at a URL.
    Cloud,
    /// A process of this machine that speaks over its standard input and output.
    Local,
    /// The same as `cloud`.
    Remote,
}

impl Kind {
    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Kubernetes => "kubernetes",
            Kind::Cloud => "cloud",
            Kind::Local => "local",
            Kind::Remote => "remote",
        }
    }

    /// The kind that [`Kind::as_str`] names.
    pub fn parse(word: &str) -> Option<Kind> {
        [Kind::Docker, Kind::Kubernetes, Kind::Cloud, Kind::Local, Kind::Remote]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is to run, and does not yet.
    Pending,
    /// Its engine says that it runs.
    Running,
    /// It is not to run, and does not.
    Stopped,
    /// It is to run, and cannot; `reason` says why.
    Error,
    /// It ended by itself, or was asked to begin anew, and is started again.
    Restarting,
    /// It is being removed.
    Terminating,
}

impl Status {
    /// The word used in answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Error => "error",
            Status::Restarting => "restarting",
            Status::Terminating => "terminating",
        }
    }

    /// The status that [`Status::as_str`] names.
    pub fn parse(word: &str) -> Option<Status> {
        use Status::*;
        [Pending, Running, Stopped, Error, Restarting, Terminating].into_iter().find(|it| it.as_str() == word)
    }
}

/// What somebody wants a service to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desired {
    /// Running.
    Running,
    /// There, and not running.
    Stopped,
    /// Gone.
    Removed,
}

impl Desired {
    /// The word used in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Desired::Running => "running",
            Desired::Stopped => "stopped",
            Desired::Removed => "removed",
        }
    }

    /// The wish that [`Desired::as_str`] names.
    pub fn parse(word: &str) -> Option<Desired> {
        [Desired::Running, Desired::Stopped, Desired::Removed].into_iter().find(|it| it.as_str() == word)
    }
}

/// How a service's health is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// By the protocol itself: whether it answers the gateway.
    #[default]
    Mcp,
    /// By a GET of `health_check_url`, which answers 2xx or 3xx.
    Http,
    /// By a connection to its port.
    Tcp,
}

/// How a service is spoken to over HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// Streamable HTTP; a server that has only the older HTTP+SSE at its URL is found, too.
    #[default]
    Http,
    /// HTTP with server-sent events, of 2024-11-05.
    Sse,
}

/// What a service is to be: what `create_service` was given, without its name and type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// What it is for.
    pub description: String,
    /// The image, as it was named.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The URL of a server somewhere else.
    pub url: String,
    /// How it is spoken to.
    pub transport: Wire,
    /// The path of its MCP endpoint.
    pub path: String,
    /// Headers of requests to it: values or references to secrets.
    pub headers: BTreeMap<String, String>,
    /// The port on which it listens in its container.
    pub service_port: Option<u16>,
    /// The user in the container.
    pub user: String,
    /// The network that it is in, by name.
    pub network_name: String,
    /// Its address in that network, when it was asked for.
    pub ip_address: Option<String>,
    /// Anything that its owner notes about it.
    pub settings: Map<String, Value>,
    /// Its environment: values or references to secrets.
    pub environment_vars: BTreeMap<String, String>,
    /// Processors.
    pub cpu_limit: String,
    /// Memory.
    pub memory_limit: String,
    /// Space for what it writes below `/tmp`.
    pub disk_limit: String,
    /// Places outside that it may reach: `host:port`.
    pub allow_egress: Vec<String>,
    /// How its health is asked for.
    pub health_check: HealthCheck,
    /// Where, for `http`.
    pub health_check_url: String,
    /// How often, in seconds.
    pub health_check_interval: u32,
    /// How long to wait, in seconds.
    pub health_check_timeout: u32,
    /// After how many failures in a row it is unhealthy.
    pub health_check_retries: u32,
    /// The longest time for one request, in seconds.
    pub timeout_seconds: u32,
    /// The most requests at work at once.
    pub max_concurrency: u32,
    /// The image's id or digest, as it was when the service was made or changed.
    pub pinned_image: String,
}

/// What was seen of a service the last time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The container, while there is one.
    pub container_id: Option<String>,
    /// Where the gateway reaches it.
    pub address: Option<SocketAddr>,
    /// When it last began, in microseconds since 1970.
    pub started_at: Option<i64>,
    /// When it last ended, in microseconds since 1970.
    pub stopped_at: Option<i64>,
    /// How often it was started again because it had ended by itself.
    pub restarts: u32,
    /// The last look at its health.
    pub health: Option<HealthSeen>,
}

/// One look at a service's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthSeen {
    /// `healthy`, `degraded` (some of the last looks failed), `unhealthy` or `unknown`.
    pub status: String,
    /// What was asked: `mcp`, `http` or `tcp`.
    pub check_type: String,
    /// When, RFC 3339.
    pub checked_at: String,
    /// How long the answer took, in milliseconds.
    pub response_time_ms: f64,
    /// What was seen.
    pub message: String,
    /// How many looks in a row failed.
    pub failures: u32,
}

/// A service as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its number.
    pub id: i64,
    /// Its team.
    pub team: String,
    /// Who made it.
    pub created_by: String,
    /// Its name.
    pub name: String,
    /// Its name in tools and addresses: short and plain.
    pub slug: String,
    /// What runs it.
    pub kind: Kind,
    /// The Opsroom (its data folder) that runs it.
    pub node: String,
    /// What it is to be.
    pub spec: Spec,
    /// Counts the changes of what it is to be.
    pub generation: i64,
    /// What somebody wants it to be.
    pub desired: Desired,
    /// How it is.
    pub status: Status,
    /// Why it is so, when that is not plain.
    pub reason: Option<String>,
    /// What was seen of it.
    pub seen: Seen,
    /// When it was made.
    pub created_at: Time,
    /// When somebody last changed it.
    pub updated_at: Time,
}

impl Service {
    /// What events and secrets know it by.
    pub fn subject(&self) -> String {
        self.id.to_string()
    }
}

/// A service's name in tools and addresses: what the gateway takes (`a-z`, `0-9`, `_`, `-`, at most 40,
/// no two underscores in a row). A name that has to be changed for that ends in six digits of its hash.
pub fn slug(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.len() <= 40 && name.chars().all(plain) && !name.contains("__") {
        return name.to_owned();
    }
    let mut short = String::new();
    for c in name.to_lowercase().chars() {
        let c = if plain(c) { c } else { '-' };
        if !(short.ends_with(['-', '_']) && matches!(c, '-' | '_')) && short.len() < 33 {
            short.push(c);
        }
    }
    let hash = opsroom_core::id::hex(&Sha256::digest(name.as_bytes())[..3]);
    format!("{}-{hash}", short.trim_matches(['-', '_']))
}

/// # Errors
/// `Invalid` for a name that cannot be one.
pub fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_alphanumeric() || " ._-".contains(c);
    let digits = name.chars().all(|c| c.is_ascii_digit());
    if (1..=100).contains(&name.chars().count())
        && name.starts_with(char::is_alphanumeric)
        && name.chars().all(good)
        && !digits
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "name: `{}` is not 1 to 100 letters, digits, spaces, `.`, `_` and `-`, that begin with a letter or digit and are \
         not digits alone",
        name.escape_debug()
    )))
}

/// A place that a service may reach: a host (or `*.` and what it ends in) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: String,
    port: u16,
}

impl Place {
    /// # Errors
    /// `Invalid` for anything but `host:port` or `*.domain:port`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!(
                "allow_egress: `{}` is not `host:port` such as `api.example.com:443` or `*.example.com:443`",
                text.escape_debug()
            ))
        };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(wrong)?;
        let host = host.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let port: u16 = port.parse().map_err(|_| wrong())?;
        if name.is_empty() || port == 0 || !name.chars().all(plain) || name.starts_with('.') {
            return Err(wrong());
        }
        Ok(Self { host, port })
    }

    /// Whether it is this place. `*.example.com` is every name below it, and not `example.com` itself.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.port == port
            && match self.host.strip_prefix('*') {
                Some(ending) => host.len() > ending.len() && host.ends_with(ending),
                None => self.host == host,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_what_the_gateway_takes() {
        assert_eq!(slug("weather"), "weather");
        assert_eq!(slug("my_service-2"), "my_service-2");
        for name in ["Weather Map", "a__b", "Ünïcode", &"x".repeat(100), "a. .b", "-x-"] {
            let slug = slug(name);
            assert!(slug.len() <= 40 && !slug.contains("__") && !slug.is_empty(), "{slug}");
            assert!(
                slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)),
                "{slug}"
            );
        }
        assert_ne!(slug("Weather"), slug("weather"));
        assert_ne!(slug("a b"), slug("a.b"));
    }

    #[test]
    fn names_that_could_be_numbers_or_worse_are_refused() {
        for name in ["", "12", " x", "-x", "a/b", "a\u{200b}b", "a\nb", "\u{1b}[31m", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["weather", "Weather Map 2.0", "7zip"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn a_place_is_a_host_and_a_port() {
        let star = Place::parse("*.example.com:443").unwrap();
        assert!(star.matches("api.example.com", 443) && star.matches("API.Example.com.", 443));
        assert!(!star.matches("example.com", 443) && !star.matches("evilexample.com", 443));
        assert!(!star.matches("api.example.com", 80));
        for text in ["example.com", "example.com:0", "*:443", "a b:1", ":443", "http://x:1", "*.:443"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
