//! Where the master key is.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::secret::Secret;

/// The master key, which seals every secret. Without any of these it is in the file `master.key` of the
/// data folder, made at the first use. Keep a copy: without it no secret can be read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SealConfig {
    /// The key itself: 64 hexadecimal digits. Older ones after it, with a space between, still open what
    /// they sealed. Servers that share a database need the same.
    pub value: Secret,
    /// The file of the key, when it is not `master.key` in the data folder.
    pub file: PathBuf,
    /// The address of Vault or OpenBao, such as `https://vault.internal:8200`, whose transit engine seals
    /// instead of a key here.
    pub transit_address: String,
    /// The token for it.
    pub transit_token: Secret,
    /// The path of its transit engine.
    pub transit_mount: String,
    /// The name of its key.
    pub transit_key: String,
    /// The key of AWS KMS that seals instead of a key here: its id, its ARN, or an alias such as `alias/opsroom`.
    pub kms_key_id: String,
    /// The region of that key, such as `eu-central-1`.
    pub kms_region: String,
    /// The address of KMS, when it is not the region's public one.
    pub kms_endpoint: String,
    /// The access key's id; it needs `kms:Encrypt` and `kms:Decrypt` on the key, and nothing else.
    pub kms_access_key_id: String,
    /// The secret access key.
    pub kms_secret_access_key: Secret,
    /// The session token of credentials that end.
    pub kms_session_token: Secret,
}

impl Default for SealConfig {
    fn default() -> Self {
        Self {
            value: Secret::default(),
            file: PathBuf::new(),
            transit_address: String::new(),
            transit_token: Secret::default(),
            transit_mount: "transit".to_owned(),
            transit_key: "opsroom".to_owned(),
            kms_key_id: String::new(),
            kms_region: String::new(),
            kms_endpoint: String::new(),
            kms_access_key_id: String::new(),
            kms_secret_access_key: Secret::default(),
            kms_session_token: Secret::default(),
        }
    }
}

impl SealConfig {
    /// # Errors
    /// `Invalid`, beginning with the key.
    pub fn validate(&self) -> Result<()> {
        let invalid =
            |key: &str, what: &str| Err(Error::invalid(format!("secrets.master_key.{key}: {what}")));
        let transit = !self.transit_address.is_empty();
        if transit
            && !self.transit_address.starts_with("http://")
            && !self.transit_address.starts_with("https://")
        {
            return invalid("transit_address", "it begins with https://");
        }
        if transit && (!self.value.is_empty() || !self.file.as_os_str().is_empty()) {
            return invalid(
                "transit_address",
                "the master key is in one place; leave `value` and `file` empty",
            );
        }
        if !self.value.is_empty() && !self.file.as_os_str().is_empty() {
            return invalid("value", "the master key is in one place; leave `file` empty");
        }
        if !self.kms_key_id.is_empty() {
            if transit || !self.value.is_empty() || !self.file.as_os_str().is_empty() {
                return invalid("kms_key_id", "the master key is in one place; leave the others empty");
            }
            let plain =
                |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !plain(&self.kms_region) {
                return invalid("kms_region", "it is a region such as `eu-central-1`");
            }
            if self.kms_access_key_id.is_empty() || self.kms_secret_access_key.is_empty() {
                return invalid("kms_access_key_id", "it and kms_secret_access_key are given together");
            }
        }
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        if !word(&self.transit_key) || self.transit_key.contains('/') {
            return invalid("transit_key", "it is a name of letters, digits, - and _");
        }
        if !word(&self.transit_mount) || self.transit_mount.contains("..") {
            return invalid("transit_mount", "it is a path such as `transit`");
        }
        Ok(())
    }

    /// Whether the key is in a file of ours.
    pub(super) fn is_file(&self) -> bool {
        self.transit_address.is_empty() && self.kms_key_id.is_empty() && self.value.is_empty()
    }
}
