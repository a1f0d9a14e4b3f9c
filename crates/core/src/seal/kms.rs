//! The key management service of AWS: it seals and opens, and its key never leaves it.
//! <https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html>

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::SealConfig;
use crate::aws::{Credentials, post};
use crate::clock::Clock;
use crate::egress::{Egress, Limits};
use crate::error::{Error, Result};
use crate::secret::Secret;

const LIMITS: Limits = Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(10), redirects: 0 };

/// A key of the service.
pub struct Kms {
    egress: Egress,
    clock: Clock,
    endpoint: String,
    region: String,
    key: String,
    credentials: Credentials,
}

impl Kms {
    /// The key that the configuration names.
    pub fn new(config: &SealConfig, egress: Egress, clock: Clock) -> Self {
        let endpoint = match config.kms_endpoint.trim_end_matches('/') {
            "" => format!("https://kms.{}.amazonaws.com", config.kms_region),
            endpoint => endpoint.to_owned(),
        };
        let token = Some(config.kms_session_token.clone()).filter(|token: &Secret| !token.is_empty());
        Self {
            egress,
            clock,
            endpoint,
            region: config.kms_region.clone(),
            key: config.kms_key_id.clone(),
            credentials: Credentials {
                id: config.kms_access_key_id.clone(),
                key: config.kms_secret_access_key.clone(),
                token,
            },
        }
    }

    /// Seals a few bytes for an id: they open for no other.
    ///
    /// # Errors
    /// `Unavailable` when the service does not answer or refuses.
    pub async fn wrap(&self, id: &str, plain: &[u8]) -> Result<String> {
        let plain = Zeroizing::new(BASE64.encode(plain));
        let body = json!({ "KeyId": self.key, "Plaintext": *plain, "EncryptionContext": context(id) });
        let answer = self.ask("Encrypt", &body).await?;
        text(&answer, "CiphertextBlob").map(str::to_owned)
    }

    /// Opens what was sealed for an id.
    ///
    /// # Errors
    /// `Unavailable` when the service does not answer or refuses, such as for another id.
    pub async fn unwrap(&self, id: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let body = json!({ "KeyId": self.key, "CiphertextBlob": sealed, "EncryptionContext": context(id) });
        let answer = self.ask("Decrypt", &body).await?;
        let plain = BASE64.decode(text(&answer, "Plaintext")?.as_bytes());
        plain.map(Zeroizing::new).map_err(|_| trouble("its answer is not base64"))
    }

    async fn ask(&self, what: &str, body: &Value) -> Result<Value> {
        let target = format!("TrentService.{what}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let place = (self.region.as_str(), "kms");
        let request =
            post(&self.credentials, place, &self.endpoint, &headers, body.to_string(), self.clock.now())?;
        let answer = self.egress.send(request, LIMITS).await.map_err(|error| trouble(&error.message))?;
        let status = answer.status;
        let answer: Value =
            serde_json::from_slice(&answer.body).map_err(|_| trouble("its answer is not JSON"))?;
        if status.is_success() {
            return Ok(answer);
        }
        // Such as `AccessDeniedException`, `com.amazonaws.kms#NotFoundException`.
        let kind = answer["__type"].as_str().and_then(|kind| kind.rsplit('#').next()).unwrap_or_default();
        let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
        Err(trouble(&format!("it answered {} {kind}", status.as_u16())))
    }
}

/// What must be the same when it is opened; the service writes it into its own trail, and it is no secret.
fn context(id: &str) -> Value {
    json!({ "opsroom": "key-encryption key", "id": id })
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer[field].as_str().ok_or_else(|| trouble(&format!("its answer has no {field}")))
}

fn trouble(what: &str) -> Error {
    Error::unavailable(format!("the master key cannot be used, because AWS KMS failed: {}", what.trim()))
}
