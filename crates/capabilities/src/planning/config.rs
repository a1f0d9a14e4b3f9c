//! The configuration of planning.

use std::path::PathBuf;

use opsroom_analytics::forecast::flavor::{MAX_FLAVORS, default_flavors};
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// From how many deviations on a forecast is abnormal, above 0. Also read from `ANOMALY_Z`.
    pub anomaly_z: f64,
    /// The most series of one team, from 1 to 1000000.
    pub max_series: u32,
    /// The sizes that can be had, cheapest first, and their prices.
    pub flavors: Vec<FlavorConfig>,
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
}

impl Backend {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Store => "store",
            Backend::Csv => "csv",
        }
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
            anomaly_z: 3.0,
            max_series: 100_000,
            flavors: flavors.collect(),
            hourly_small_max: 300.0,
            hourly_medium_max: 900.0,
        }
    }
}

impl PlanningConfig {
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
        if !(self.anomaly_z > 0.0 && self.anomaly_z.is_finite()) {
            return wrong("anomaly_z", "it is a number above 0");
        }
        if !(0.0 <= self.hourly_small_max && self.hourly_small_max <= self.hourly_medium_max) {
            return wrong("hourly_medium_max", "it is at least hourly_small_max, and both are 0 or more");
        }
        if self.source == Backend::Csv && self.csv_path.is_none() {
            return wrong("csv_path", "the source `csv` needs the path of a file");
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
