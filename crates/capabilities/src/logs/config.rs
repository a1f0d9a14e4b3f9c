//! The configuration of logs.

use opsroom_core::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::push::syslog::SyslogConfig;
use super::store::StoreConfig;

/// Log lines that are kept, and how they come in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// How lines are kept.
    pub store: StoreConfig,
    /// Where syslog is received. Nobody acknowledges syslog: what came in the last 200 ms before a crash may be
    /// lost.
    pub syslog: SyslogConfig,
    /// The containers of the Docker engine whose output may be read as a log source, by name, in which `*` stands
    /// for any text, such as `[web, shop-*]`. Empty: none. Those of services are read as `service` and not so.
    pub containers: Vec<String>,
}

impl LogsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key, for a value that cannot be used.
    pub fn validate(&self) -> Result<()> {
        self.store.validate()?;
        self.syslog.validate()
    }
}
