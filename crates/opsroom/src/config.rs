//! The configuration of the server: each part's section, and the server's own.

use opsroom_capabilities::alerts::AlertsConfig;
use opsroom_capabilities::dashboards::DashboardsConfig;
use opsroom_capabilities::detection::learned::DetectionConfig;
use opsroom_capabilities::identity::AuditConfig;
use opsroom_capabilities::identity::accounts::config::AccountsConfig;
use opsroom_capabilities::identity::oauth::config::OAuthConfig;
use opsroom_capabilities::identity::oidc::config::OidcConfig;
use opsroom_capabilities::jobs::JobsConfig;
use opsroom_capabilities::logs::LogsConfig;
use opsroom_capabilities::notifications::NotificationsConfig;
use opsroom_capabilities::planning::config::PlanningConfig;
use opsroom_capabilities::secrets::config::SecretsConfig;
use opsroom_capabilities::services::ServicesConfig;
use opsroom_capabilities::tools::RedisConfig;
use opsroom_core::db::DbConfig;
use opsroom_core::egress::EgressConfig;
use opsroom_core::files::FilesConfig;
use opsroom_core::telemetry::TelemetryConfig;
use opsroom_core::{Error, Result, Secret};
use opsroom_gateway::config::GatewayConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipe::PipeConfig;

/// Variables of other names that set a key; `OPSROOM__SECTION__KEY` sets any.
pub const NAMES: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("SERVICE_PORT", "server.port"),
    ("DATA_SOURCE_BACKEND", "planning.source"),
    ("CSV_DATA_PATH", "planning.csv_path"),
    ("MYSQL_HOST", "planning.database.host"),
    ("MYSQL_PORT", "planning.database.port"),
    ("MYSQL_USER", "planning.database.user"),
    ("MYSQL_PASSWORD", "planning.database.password"),
    ("MYSQL_DATABASE", "planning.database.name"),
    ("MYSQL_TABLE", "planning.database.table"),
    ("MYSQL_SSL_CA", "planning.database.ssl_ca"),
    ("ANOMALY_Z", "planning.anomaly_z"),
    ("HOURLY_FLAVOR_SMALL_MAX", "planning.hourly_small_max"),
    ("HOURLY_FLAVOR_MEDIUM_MAX", "planning.hourly_medium_max"),
    ("GITHUB_TOKEN", "planning.github.token"),
    ("DISCORD_WEBHOOK_URL", "notifications.discord_webhook_url"),
    ("DISCORD_BOT_NAME", "notifications.discord_bot_name"),
    ("DISCORD_BOT_AVATAR", "notifications.discord_bot_avatar"),
    ("REDIS_URL", "redis.url"),
    ("DOCKER_SUBNET", "services.network_pool"),
    ("GATEWAY_URL", "services.gateway.url"),
    ("GATEWAY_API_KEY", "services.gateway.auth_token"),
    ("ALERT_DEDUP_TTL", "notifications.deduplicate_seconds"),
];

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
    /// MCP servers behind the gateway.
    pub gateway: GatewayConfig,
    /// Remote MCP clients that the server dials over WebSocket and serves for as long as it runs.
    pub pipes: Vec<PipeConfig>,
    /// How long work runs.
    pub jobs: JobsConfig,
    /// Where messages to people go.
    pub notifications: NotificationsConfig,
    /// How alerts are routed and kept.
    pub alerts: AlertsConfig,
    /// How dashboards are captured, and how long captures are kept.
    pub dashboards: DashboardsConfig,
    /// Where metrics come from, and how plans are made of them.
    pub planning: PlanningConfig,
    /// How secrets are kept.
    pub secrets: SecretsConfig,
    /// Where the data of learned detection are.
    pub detection: DetectionConfig,
    /// A listener for programs of the first LogRobust server.
    pub compatibility: CompatibilityConfig,
    /// How services are run, and which may be.
    pub services: ServicesConfig,
    /// Log lines that are kept, and how they come in.
    pub logs: LogsConfig,
    /// Who may have an account, and how long a session lasts.
    pub accounts: AccountsConfig,
    /// How MCP clients connect by a person's login instead of a key.
    pub oauth: OAuthConfig,
    /// How people log in with an account that they have elsewhere.
    pub oidc: OidcConfig,
    /// How long the audit trail and the call record are kept.
    pub audit: AuditConfig,
    /// Where replicas share kept answers and limits.
    pub redis: RedisConfig,
}

impl Config {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value that cannot be used.
    pub fn validate(&self) -> Result<()> {
        self.server.validate()?;
        self.compatibility.validate()?;
        self.files.validate()?;
        self.egress.validate()?;
        self.gateway.validate()?;
        PipeConfig::validate(&self.pipes)?;
        self.notifications.validate()?;
        self.alerts.validate()?;
        self.dashboards.validate()?;
        self.planning.validate()?;
        self.secrets.validate()?;
        self.services.validate()?;
        self.logs.validate()?;
        self.accounts.validate()?;
        self.oauth.validate()?;
        self.oidc.validate()?;
        self.audit.validate()?;
        self.redis.shared()?;
        self.log.validate()?;
        self.jobs.validate()
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
        let invalid = |key: &str, what: String| Err(Error::invalid(format!("server.{key}: {what}")));
        if self.host != "localhost" && self.host.parse::<std::net::IpAddr>().is_err() {
            let host = self.host.escape_debug();
            return invalid(
                "host",
                format!("`{host}` is no address of this machine; use such as 127.0.0.1 or ::"),
            );
        }
        let url = self.public_url.as_str();
        if !url.is_empty() && !is_origin(url.trim_end_matches('/')) {
            return invalid(
                "public_url",
                format!("`{}` is not such as https://ops.example.com", url.escape_debug()),
            );
        }
        for host in &self.allowed_hosts {
            if host.is_empty() || host.contains(['/', '*', '@', ' ']) {
                let host = host.escape_debug();
                return invalid("allowed_hosts", format!("`{host}` is not a name such as ops.example.com"));
            }
        }
        // A browser sends an origin without a path; one with a path would never match.
        if let Some(origin) = self.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            let origin = origin.escape_debug();
            return invalid(
                "allowed_origins",
                format!("`{origin}` is not such as https://grafana.example.com"),
            );
        }
        if self.max_body_bytes < 1024 {
            return invalid(
                "max_body_bytes",
                format!("{} is too few; use at least 1024", self.max_body_bytes),
            );
        }
        if !(1..=3600).contains(&self.request_timeout_seconds) {
            let given = self.request_timeout_seconds;
            return invalid("request_timeout_seconds", format!("{given} is not from 1 to 3600"));
        }
        Ok(())
    }
}

/// A listener with the routes that the first LogRobust server had, for programs that were written for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompatibilityConfig {
    /// Whether it listens.
    pub enabled: bool,
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The key of requests that show none, because programs of the first server know of no keys. Empty: every
    /// request needs one of its own. Only for a loopback address, since whoever reaches the port has this key.
    pub api_key: Secret,
}

impl Default for CompatibilityConfig {
    fn default() -> Self {
        Self { enabled: false, host: "127.0.0.1".to_owned(), port: 4002, api_key: Secret::default() }
    }
}

impl CompatibilityConfig {
    fn validate(&self) -> Result<()> {
        let invalid = |key: &str, what: String| Err(Error::invalid(format!("compatibility.{key}: {what}")));
        let address = self.host.parse::<std::net::IpAddr>().ok();
        if self.host != "localhost" && address.is_none() {
            let host = self.host.escape_debug();
            return invalid("host", format!("`{host}` is no address of this machine; use such as 127.0.0.1"));
        }
        if !self.api_key.is_empty() && address.is_some_and(|address| !address.is_loopback()) {
            let what = "anybody who reaches the port would have it; leave it empty, or listen on 127.0.0.1";
            return invalid("api_key", what.to_owned());
        }
        Ok(())
    }
}

/// A scheme and a host, with a port where it is not the usual one, and nothing after.
fn is_origin(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}

#[cfg(test)]
mod tests {
    use opsroom_core::config::{ConfigFile, Loaded, Source, Sources, example, load};

    use super::*;

    fn load_yaml(yaml: &str) -> Result<Loaded<Config>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opsroom.yaml");
        std::fs::write(&path, yaml).unwrap();
        load(&Sources { file: ConfigFile::Required(path), names: NAMES, ..Sources::default() })
    }

    #[test]
    fn the_example_sets_every_section_and_loads_as_the_default() {
        let text = example::<Config>();
        let loaded = load_yaml(&text).unwrap();
        assert_eq!(loaded.config, Config::default());
        loaded.config.validate().unwrap();
        for key in ["server.port", "database.url", "files.roots", "egress.ports", "log.level"] {
            assert_ne!(loaded.source(key), Source::Default, "{key}");
        }
        for (line, next) in text.lines().zip(text.lines().skip(1)) {
            let is_key = |line: &str| line.contains(": ") && !line.trim_start().starts_with('#');
            let documented = line.trim_start().starts_with('#');
            assert!(!is_key(next) || documented, "a key without a comment: {next}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        let wrong = [
            ("server:\n  host: example.com\n", "server.host"),
            ("server:\n  public_url: ops.example.com\n", "server.public_url"),
            ("server:\n  allowed_hosts: [\"https://a\"]\n", "server.allowed_hosts"),
            ("server:\n  allowed_origins: [\"https://a.example/\"]\n", "server.allowed_origins"),
            ("server:\n  max_body_bytes: 1\n", "server.max_body_bytes"),
            ("server:\n  request_timeout_seconds: 0\n", "server.request_timeout_seconds"),
            ("compatibility:\n  host: example.com\n", "compatibility.host"),
            ("files:\n  roots: [/]\n", "files.roots"),
            ("egress:\n  allow_addresses: [10.0.0.0/99]\n", "egress.allow_addresses"),
            ("log:\n  level: inof\n", "log.level"),
        ];
        for (yaml, key) in wrong {
            let loaded = load_yaml(yaml).unwrap();
            let error = loaded.blame(loaded.config.validate().expect_err(yaml));
            assert!(error.message.starts_with(&format!("{key}: ")), "{error}");
            assert!(error.message.contains("opsroom.yaml:2"), "{error}");
        }
    }

    #[test]
    fn the_password_of_the_database_is_not_shown() {
        let loaded = load_yaml("database:\n  url: postgres://ada:hunter2@db/ops\n").unwrap();
        let shown = loaded.show().unwrap();
        assert!(!shown.contains("hunter2") && shown.contains("[hidden]"), "{shown}");
    }
}
