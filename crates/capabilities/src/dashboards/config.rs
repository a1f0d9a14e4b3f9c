//! How pictures are taken and kept.

use std::path::PathBuf;

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether the browser's own sandbox holds its pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// It does. Where the machine does not let it, there are no captures.
    #[default]
    On,
    /// It does not: a page that breaks out of its process has the rights of the browser's user.
    Off,
}

/// How dashboards are captured, and how long captures are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DashboardsConfig {
    /// The program that takes pictures. Empty: `chromium`, `chromium-headless-shell` or `google-chrome` is looked
    /// for where programs are.
    pub chromium: PathBuf,
    /// `on`, or `off`: without its sandbox, a page that breaks out of the browser has the rights of its user.
    /// Every capture says which it was.
    pub sandbox: Sandbox,
    /// The user that the browser runs as where the server runs as root.
    pub user: String,
    /// How many pages are open at once, from 1 to 16. Further captures wait.
    pub at_once: usize,
    /// After how many captures the browser is started anew, from 1 to 10000.
    pub restart_after: u32,
    /// For how many seconds a browser without work is kept, from 0 to 3600.
    pub idle_seconds: u64,
    /// The most memory for one page's scripts, in MiB, from 64 to 8192.
    pub page_mib: u32,
    /// The most MiB that one page may load, from 1 to 4096.
    pub traffic_mib: u64,
    /// For how many days captures are kept, from 1 to 3650.
    pub keep_days: u32,
    /// How many MiB of captures are kept at most, from 1 to 1048576; the oldest go first.
    pub keep_mib: u64,
}

impl Default for DashboardsConfig {
    fn default() -> Self {
        Self {
            chromium: PathBuf::new(),
            sandbox: Sandbox::On,
            user: "nobody".to_owned(),
            at_once: 2,
            restart_after: 100,
            idle_seconds: 60,
            page_mib: 1024,
            traffic_mib: 256,
            keep_days: 30,
            keep_mib: 1024,
        }
    }
}

impl DashboardsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let ranges = [
            ("at_once", self.at_once as u64, 1, 16),
            ("restart_after", self.restart_after.into(), 1, 10_000),
            ("idle_seconds", self.idle_seconds, 0, 3600),
            ("page_mib", self.page_mib.into(), 64, 8192),
            ("traffic_mib", self.traffic_mib, 1, 4096),
            ("keep_days", self.keep_days.into(), 1, 3650),
            ("keep_mib", self.keep_mib, 1, 1 << 20),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let text = format!("dashboards.{key}: {value} is not from {least} to {most}");
                return Err(Error::invalid(text));
            }
        }
        if self.user.is_empty() || self.user.contains([':', '/', '\n']) {
            return Err(Error::invalid("dashboards.user: it is the name of a user, such as `nobody`"));
        }
        Ok(())
    }
}
