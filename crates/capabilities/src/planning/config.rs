//! The configuration of planning.

use std::path::PathBuf;

use opsroom_analytics::forecast::flavor::{MAX_FLAVORS, default_flavors};
use opsroom_core::config::{ConfigFile, Sources, load};
use opsroom_core::db::DbConfig;
use opsroom_core::{Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::remote_write::RemoteWriteConfig;
use super::sources::prometheus::{PrometheusConfig, encoded};

/// Where metrics come from, and how plans are made of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlanningConfig {
    /// Where the history of metrics is. Also read from `DATA_SOURCE_BACKEND`.
    pub source: Backend,
    /// How many hours of history a plan looks at, from 48 to 8760.
    pub history_hours: u32,
    /// The file of `csv`: one column a metric, or one value a line. Also read from `CSV_DATA_PATH`.
    pub csv_path: Option<PathBuf>,
    /// The table of `mysql` or `postgres`.
    pub database: DatabaseConfig,
    /// The server of `prometheus`.
    pub prometheus: PrometheusConfig,
    /// How series that Prometheus sends become metrics of services.
    pub remote_write: RemoteWriteConfig,
    /// The site of repositories for `analyze_repository`.
    pub github: GithubConfig,
    /// From how many deviations on a forecast is abnormal, above 0. Also read from `ANOMALY_Z`.
    pub anomaly_z: f64,
    /// The most series of one team, from 1 to 1000000.
    pub max_series: u32,
    /// After so many days stored values are removed, from 14 to 36500; 0 keeps them for good.
    pub keep_days: u32,
    /// The sizes that can be had, cheapest first, and their prices.
    pub flavors: Vec<FlavorConfig>,
    /// A file, such as `flavors.yaml`, whose key `flavors` holds them in place of the list here.
    pub flavors_file: Option<PathBuf>,
    /// An hour with at most this many events needs the smallest flavor of an hourly plan. Also read
    /// from `HOURLY_FLAVOR_SMALL_MAX`.
    pub hourly_small_max: f64,
    /// An hour with at most this many events needs the middle flavor of an hourly plan. Also read
    /// from `HOURLY_FLAVOR_MEDIUM_MAX`.
    pub hourly_medium_max: f64,
}

/// Where the history of metrics is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// What `ingest_metrics` stored.
    #[default]
    Store,
    /// A CSV file.
    Csv,
    /// A table in MySQL or MariaDB.
    Mysql,
    /// A table in PostgreSQL.
    Postgres,
    /// A Prometheus server.
    Prometheus,
}

impl Backend {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Store => "store",
            Backend::Csv => "csv",
            Backend::Mysql => "mysql",
            Backend::Postgres => "postgres",
            Backend::Prometheus => "prometheus",
        }
    }
}

/// A table of metrics in another database, by the older system's schema: a column for the service,
/// `metric_name`, `ts` and `value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The whole URL, in place of the keys below: `mysql://USER:PASSWORD@HOST/NAME` or `postgres://...`.
    #[schemars(extend("writeOnly" = true))]
    pub url: String,
    /// Its host. Also read from `MYSQL_HOST`.
    pub host: String,
    /// Its port; 0 is the usual one. Also read from `MYSQL_PORT`.
    pub port: u16,
    /// The user. Also read from `MYSQL_USER`.
    pub user: String,
    /// The user's password. Also read from `MYSQL_PASSWORD`.
    pub password: Secret,
    /// The database's name. Also read from `MYSQL_DATABASE`.
    pub name: String,
    /// The table, with its schema before a dot where that is needed. Also read from `MYSQL_TABLE`.
    pub table: String,
    /// The column of the service: `service_id` or `github_url`.
    pub service_column: String,
    /// A file of certificates by which the server's is checked. Also read from `MYSQL_SSL_CA`.
    pub ssl_ca: Option<PathBuf>,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            host: "localhost".to_owned(),
            port: 0,
            user: String::new(),
            password: Secret::default(),
            name: "mcp_core".to_owned(),
            table: "metric_history".to_owned(),
            service_column: "service_id".to_owned(),
            ssl_ca: None,
        }
    }
}

impl DatabaseConfig {
    /// How the database of this kind is opened.
    pub fn connection(&self, backend: Backend) -> DbConfig {
        let url = if self.url.is_empty() { self.composed(backend) } else { self.url.clone() };
        DbConfig { url, max_connections: 5, ..DbConfig::default() }
    }

    fn composed(&self, backend: Backend) -> String {
        let (scheme, port, ca) = match backend {
            Backend::Postgres => ("postgres", 5432, "sslmode=verify-ca&sslrootcert"),
            _ => ("mysql", 3306, "ssl-mode=VERIFY_CA&ssl-ca"),
        };
        let port = if self.port == 0 { port } else { self.port };
        let password = match self.password.expose() {
            "" => String::new(),
            password => format!(":{}", encoded(password)),
        };
        let who =
            if self.user.is_empty() { String::new() } else { format!("{}{password}@", encoded(&self.user)) };
        let checked = self.ssl_ca.as_ref().map(|path| format!("?{ca}={}", encoded(&path.to_string_lossy())));
        format!("{scheme}://{who}{}:{port}/{}{}", self.host, encoded(&self.name), checked.unwrap_or_default())
    }

    fn validate(&self, backend: Backend) -> Result<()> {
        let wrong = |key: &str, want: &str| Err(Error::invalid(format!("planning.database.{key}: {want}")));
        let word = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !self.table.split('.').all(word) || self.table.split('.').count() > 2 {
            return wrong(
                "table",
                "it is a table's name, or a schema's and a table's with a dot between them",
            );
        }
        if self.service_column != "service_id" && self.service_column != "github_url" {
            return wrong("service_column", "it is `service_id` or `github_url`");
        }
        let scheme = self.url.split(':').next().unwrap_or_default();
        let fits = match backend {
            Backend::Postgres => ["", "postgres", "postgresql"].contains(&scheme),
            _ => ["", "mysql", "mariadb"].contains(&scheme),
        };
        if fits {
            Ok(())
        } else {
            wrong("url", "it begins with mysql:// or postgres://, as `planning.source` says")
        }
    }
}

/// Where repositories are looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GithubConfig {
    /// The API: `https://api.github.com`, or `https://HOST/api/v3` of GitHub Enterprise.
    pub api_url: String,
    /// Sent as a bearer token, when it is not empty. Also read from `GITHUB_TOKEN`.
    pub token: Secret,
}

impl Default for GithubConfig {
    fn default() -> Self {
        Self { api_url: "https://api.github.com".to_owned(), token: Secret::default() }
    }
}

/// One size that can be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlavorConfig {
    /// Its name, such as `small` or `m7g.large`.
    pub name: String,
    /// Virtual processors.
    pub cpus: f64,
    /// Memory in MiB.
    pub memory_mib: f64,
    /// Price of an hour in US dollars.
    pub hourly_usd: f64,
    /// Price of a whole day in US dollars; 24 hourly prices when absent.
    #[serde(default)]
    pub daily_usd: Option<f64>,
    /// How many events an hour one instance takes; absent when it takes as many as come.
    #[serde(default)]
    pub events_per_hour: Option<f64>,
}

impl Default for PlanningConfig {
    fn default() -> Self {
        let events = [Some(300.0), Some(900.0), None];
        let flavors =
            default_flavors().into_iter().zip(events).map(|(flavor, events_per_hour)| FlavorConfig {
                name: flavor.name,
                cpus: flavor.cpus,
                memory_mib: flavor.memory_mib,
                hourly_usd: flavor.hourly_usd,
                daily_usd: flavor.daily_usd,
                events_per_hour,
            });
        Self {
            source: Backend::Store,
            history_hours: 672,
            csv_path: None,
            database: DatabaseConfig::default(),
            prometheus: PrometheusConfig::default(),
            remote_write: RemoteWriteConfig::default(),
            github: GithubConfig::default(),
            anomaly_z: 3.0,
            max_series: 100_000,
            keep_days: 400,
            flavors: flavors.collect(),
            flavors_file: None,
            hourly_small_max: 300.0,
            hourly_medium_max: 900.0,
        }
    }
}

/// A price list in a file of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct PriceList {
    /// The sizes that can be had, cheapest first, and their prices.
    flavors: Vec<FlavorConfig>,
}

impl PlanningConfig {
    /// With the price list of `flavors_file`, where one is named.
    ///
    /// # Errors
    /// `Invalid` or `NotFound`, with the file's name and line.
    pub fn with_price_list(mut self) -> Result<Self> {
        if let Some(path) = &self.flavors_file {
            let sources = Sources { file: ConfigFile::Required(path.clone()), ..Sources::default() };
            self.flavors = load::<PriceList>(&sources)?.config.flavors;
        }
        Ok(self)
    }

    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, want: &str| Err(Error::invalid(format!("planning.{key}: {want}")));
        if !(48..=8760).contains(&self.history_hours) {
            return wrong("history_hours", "it is from 48 to 8760");
        }
        if !(1..=1_000_000).contains(&self.max_series) {
            return wrong("max_series", "it is from 1 to 1000000");
        }
        if self.keep_days != 0 && !(14..=36_500).contains(&self.keep_days) {
            return wrong("keep_days", "it is 0, or from 14 to 36500");
        }
        if !(self.anomaly_z > 0.0 && self.anomaly_z.is_finite()) {
            return wrong("anomaly_z", "it is a number above 0");
        }
        if !(0.0 <= self.hourly_small_max && self.hourly_small_max <= self.hourly_medium_max) {
            return wrong("hourly_medium_max", "it is at least hourly_small_max, and both are 0 or more");
        }
        self.remote_write.validate()?;
        if self.source == Backend::Csv && self.csv_path.is_none() {
            return wrong("csv_path", "the source `csv` needs the path of a file");
        }
        match self.source {
            Backend::Mysql | Backend::Postgres => self.database.validate(self.source)?,
            Backend::Prometheus => self.prometheus.validate()?,
            Backend::Store | Backend::Csv => {}
        }
        if self.flavors.is_empty() || self.flavors.len() > MAX_FLAVORS {
            return wrong("flavors", "there are 1 to 1000 of them");
        }
        for (at, flavor) in self.flavors.iter().enumerate() {
            let above = [flavor.cpus, flavor.memory_mib, flavor.events_per_hour.unwrap_or(1.0)];
            let prices = [flavor.hourly_usd, flavor.daily_usd.unwrap_or(0.0)];
            if above.iter().any(|v| !(*v > 0.0 && v.is_finite()))
                || prices.iter().any(|v| !(*v >= 0.0 && v.is_finite()))
            {
                return wrong(&format!("flavors[{at}]"), "sizes are above 0 and prices are 0 or more");
            }
        }
        Ok(())
    }
}
