//! What a source is, and what lies in it.

use opsroom_core::resolver::SCHEME;
use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pattern::KeyPattern;

/// Where logs lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Tencent Cloud Object Storage.
    Cos,
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage by its HMAC keys. Built as documented, and not yet tried against Google.
    Gcs,
    /// Azure Blob Storage by an account's key.
    Azure,
    /// Files below a URL, found by the links of its index pages.
    Http,
    /// Files of an SSH server (SFTP).
    Sftp,
    /// A folder below the server's configured roots.
    Folder,
    /// What containers of the server's Docker engine write, of those that the configuration allows.
    Docker,
    /// What services that this server runs write.
    Service,
}

/// How a source is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What it is.
    pub kind: SourceKind,
    /// The bucket; of COS with the account's number (`logs-1250000000`); of Azure the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub bucket: Option<String>,
    /// The region, such as `ap-beijing` or `eu-central-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// The URL, where it is not the provider's own: of a compatible store, of the files of `http`, or
    /// `sftp://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoint: Option<String>,
    /// The folder, of `folder` and of `sftp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub path: Option<String>,
    /// What the keys of all its objects begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub prefix: Option<String>,
    /// How keys tell the time (UTC), so that only what a range needs is listed: `app/%Y/%m/%d/%H/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub key_pattern: Option<String>,
    /// The SecretId, the access key id, the account's or the user's name: as it is, or `secret://MOUNT/PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub access_key_id: Option<String>,
    /// The key, as a reference: `secret://MOUNT/PATH`, such as `secret://env/COS_KEY`. Of `sftp` the password or
    /// the private key (Ed25519 or ECDSA).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), extend("x-secret-reference" = true))]
    pub secret_access_key: Option<String>,
    /// The token of temporary credentials, or the passphrase of a private key, as a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), extend("x-secret-reference" = true))]
    pub session_token: Option<String>,
    /// Of `sftp` the server's key, which it must show: `SHA256:...` or `ssh-ed25519 AAAA...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub host_key: Option<String>,
    /// Of `docker` the container's name, in which `*` stands for any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub container: Option<String>,
    /// Of `docker` labels that each of the containers has: `name` or `name=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub labels: Vec<String>,
    /// Of `service` the name or number of one; without it all services of the team are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub service: Option<String>,
    /// What a gibibyte costs to read, in your currency, for `estimate_logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub price_per_gib: Option<f64>,
}

impl SourceConfig {
    /// # Errors
    /// `Invalid`, beginning with the field, for what cannot be used.
    pub fn validate(&self) -> Result<()> {
        let missing = |field: &str, what: &str| Err(Error::invalid(format!("{field}: {what}")));
        for (field, value) in
            [("secret_access_key", &self.secret_access_key), ("session_token", &self.session_token)]
        {
            if value.as_ref().is_some_and(|value| !value.starts_with(SCHEME)) {
                return missing(
                    field,
                    "it is a reference such as secret://env/NAME or secret://file/name; keys are not kept as they are",
                );
            }
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return missing(
                "access_key_id",
                "it and secret_access_key are given together, or neither for what is public",
            );
        }
        if let Some(pattern) = &self.key_pattern {
            KeyPattern::parse(pattern)?;
        }
        let bucket = self.bucket.as_deref().unwrap_or_default();
        let plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        match self.kind {
            SourceKind::Folder if self.path.as_deref().unwrap_or_default().is_empty() => {
                missing("path", "a folder is needed, below the server's configured roots")
            }
            SourceKind::Http if self.endpoint.is_none() => {
                missing("endpoint", "the URL of the files is needed")
            }
            SourceKind::Sftp => super::sftp::validate(self),
            SourceKind::Docker | SourceKind::Service => super::programs::validate(self),
            SourceKind::Folder | SourceKind::Http => Ok(()),
            _ if !plain(bucket) => {
                missing("bucket", "a bucket's name is needed, of letters, digits, `-`, `_` and `.`")
            }
            SourceKind::Cos | SourceKind::S3
                if self.endpoint.is_none() && !self.region.as_deref().is_some_and(plain) =>
            {
                missing("region", "the bucket's region is needed, or an endpoint")
            }
            SourceKind::Azure if self.access_key_id.is_none() => {
                missing("access_key_id", "the account's name and key are needed")
            }
            _ => Ok(()),
        }
    }
}

/// One thing in a source.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Object {
    /// Its key, or its path.
    pub key: String,
    /// Its size in bytes, packed as it lies there.
    pub bytes: u64,
    /// When it was last written, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// What it was when it was listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The class of storage, where the store states it; archived ones cannot be read at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

impl Object {
    /// Whether it must be restored before it can be read.
    pub fn is_archived(&self) -> bool {
        self.storage_class.as_deref().is_some_and(|class| {
            let class = class.to_ascii_uppercase();
            (class.contains("ARCHIVE") || class.contains("GLACIER")) && class != "GLACIER_IR"
        })
    }
}

/// Refuses a key by which nothing could be asked for, or that a file could not be named by.
///
/// # Errors
/// `Invalid`, with what is wrong with it.
pub fn check_key(key: &str) -> Result<()> {
    let shown = || super::super::shown::shown(key.as_bytes(), 120);
    let wrong = |what: &str| Err(Error::invalid(format!("the key `{}` {what}", shown())));
    if key.is_empty() || key.len() > 1024 {
        return wrong("has no or more than 1024 bytes");
    }
    if key.chars().any(char::is_control) {
        return wrong("has control characters and cannot be asked for");
    }
    if key.split(['/', '\\']).any(|part| part == ".." || part == ".") {
        return wrong("has a part `.` or `..`, which would lead elsewhere; it is not read");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lead_elsewhere_are_refused() {
        for key in ["../x", "a/../../b", "a/./b", "a\\..\\b", "a\0b", "", "a\nb", &"x".repeat(1025)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        for key in ["a/b.gz", "..a/b..", "日志/2025.log", "a b+c%20", &"x".repeat(1024)] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn keys_of_accounts_are_references_and_what_is_missing_is_said() {
        let config =
            |json: serde_json::Value| serde_json::from_value::<SourceConfig>(json).unwrap().validate();
        let cos = |key: &str| serde_json::json!({ "kind": "cos", "bucket": "b-1", "region": "r", "access_key_id": "A", "secret_access_key": key });
        assert!(config(cos("secret://env/KEY")).is_ok());
        assert!(config(cos("hunter2")).unwrap_err().message.contains("secret://"));
        for (json, field) in [
            (serde_json::json!({ "kind": "cos", "bucket": "b" }), "region"),
            (serde_json::json!({ "kind": "s3", "region": "r" }), "bucket"),
            (serde_json::json!({ "kind": "s3", "bucket": "a/b", "region": "r" }), "bucket"),
            (serde_json::json!({ "kind": "folder" }), "path"),
            (serde_json::json!({ "kind": "docker" }), "container"),
            (serde_json::json!({ "kind": "http" }), "endpoint"),
            (serde_json::json!({ "kind": "azure", "bucket": "c" }), "access_key_id"),
            (serde_json::json!({ "kind": "sftp", "endpoint": "ssh://x" }), "endpoint"),
            (serde_json::json!({ "kind": "sftp", "endpoint": "sftp://x" }), "access_key_id"),
            (
                serde_json::json!({ "kind": "sftp", "endpoint": "sftp://x", "access_key_id": "u", "secret_access_key": "secret://env/K" }),
                "host_key",
            ),
        ] {
            assert!(config(json).unwrap_err().message.starts_with(field), "{field}");
        }
    }
}
