//! The section `secrets` of the configuration.

use opsroom_core::seal::SealConfig;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vault::VaultMount;

/// How secrets are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// The master key, which seals every secret.
    pub master_key: SealConfig,
    /// Places in Vault or OpenBao that references lead to, besides our own.
    pub vaults: Vec<VaultMount>,
    /// For how many days a deleted secret can be restored, from 1 to 365.
    pub restore_days: u32,
    /// For how many seconds the version before still works after a rotation, from 0 to 2592000.
    pub overlap_seconds: u32,
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self {
            master_key: SealConfig::default(),
            vaults: Vec::new(),
            restore_days: 30,
            overlap_seconds: 86_400,
        }
    }
}

impl SecretsConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        if !(1..=365).contains(&self.restore_days) {
            return Err(Error::invalid("secrets.restore_days: it is from 1 to 365"));
        }
        if self.overlap_seconds > 2_592_000 {
            return Err(Error::invalid("secrets.overlap_seconds: it is from 0 to 2592000"));
        }
        VaultMount::validate(&self.vaults)?;
        self.master_key.validate()
    }
}
