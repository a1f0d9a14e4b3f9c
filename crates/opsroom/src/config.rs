//! The configuration of the server: each part's section, and the server's own.

use opsroom_capabilities::jobs::JobsConfig;
use opsroom_core::db::DbConfig;
use opsroom_core::egress::EgressConfig;
use opsroom_core::files::FilesConfig;
use opsroom_core::telemetry::TelemetryConfig;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Variables of other names that set a key; `OPSROOM__SECTION__KEY` sets any.
pub const NAMES: &[(&str, &str)] = &[("DATABASE_URL", "database.url"), ("SERVICE_PORT", "server.port")];

/// Opsroom's configuration. Every key can also be set by a variable `OPSROOM__SECTION__KEY`, or by
/// `OPSROOM__SECTION__KEY_FILE`, which names a file that holds the value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How the server is reached.
    pub server: ServerConfig,
    /// Where the database is.
    pub database: DbConfig,
    /// Which folders callers may name files in.
    pub files: FilesConfig,
    /// Where requests to the outside may go.
    pub egress: EgressConfig,
    /// The server's own log.
    pub log: TelemetryConfig,
    /// How long work runs.
    pub jobs: JobsConfig,
}

impl Config {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value that cannot be used.
    pub fn validate(&self) -> Result<()> {
        self.server.validate()?;
        self.files.validate()?;
        self.egress.validate()?;
        self.log.validate()
    }
}

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address to listen on. Anything but a loopback address needs an administrator first.
    pub host: String,
    /// The port to listen on. Also read from `SERVICE_PORT`.
    pub port: u16,
    /// The URL by which people reach the server, when it is another one than `http://host:port`.
    pub public_url: String,
    /// Further names that a request's `Host` header may have, such as `ops.example.com`.
    pub allowed_hosts: Vec<String>,
    /// Further origins whose pages may call the server, such as `https://grafana.example.com`.
    pub allowed_origins: Vec<String>,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long a request's body may take to arrive, in seconds.
    pub request_timeout_seconds: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8008,
            public_url: String::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_body_bytes: 8 << 20,
            request_timeout_seconds: 30,
        }
    }
}

impl ServerConfig {
    fn validate(&self) -> Result<()> {
        let url = self.public_url.as_str();
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Error::invalid("server.public_url: it begins with http:// or https://"));
        }
        if self.max_body_bytes < 1024 {
            return Err(Error::invalid("server.max_body_bytes: at least 1024, or no request fits"));
        }
        if self.request_timeout_seconds == 0 {
            return Err(Error::invalid("server.request_timeout_seconds: at least 1"));
        }
        Ok(())
    }
}
