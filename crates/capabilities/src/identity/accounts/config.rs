//! The section `accounts` of the configuration.

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may have an account, and how long a session lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    /// Whether anybody may sign up, as a viewer of the team `default`. Otherwise an administrator invites.
    pub signup: bool,
    /// After how many minutes without a request a session ends, from 5 to 43200.
    pub session_idle_minutes: u32,
    /// After how many hours a session ends in any case, from 1 to 2160.
    pub session_hours: u32,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self { signup: false, session_idle_minutes: 720, session_hours: 168 }
    }
}

impl AccountsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if !(5..=43_200).contains(&self.session_idle_minutes) {
            return Err(Error::invalid("accounts.session_idle_minutes: it is from 5 to 43200"));
        }
        if !(1..=2160).contains(&self.session_hours) {
            return Err(Error::invalid("accounts.session_hours: it is from 1 to 2160"));
        }
        Ok(())
    }
}
