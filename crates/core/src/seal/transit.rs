//! The transit engine of Vault and OpenBao: it seals and opens, and its key never leaves it.

use std::time::Duration;

use data_encoding::BASE64;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::SealConfig;
use crate::egress::{Egress, Limits, Request};
use crate::error::{Error, Result};
use crate::secret::Secret;

const LIMITS: Limits = Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(10), redirects: 0 };

/// A key of a transit engine.
pub struct Transit {
    egress: Egress,
    address: String,
    mount: String,
    key: String,
    token: Secret,
}

impl Transit {
    /// The engine that the configuration names.
    pub fn new(config: &SealConfig, egress: Egress) -> Self {
        Self {
            egress,
            address: config.transit_address.trim_end_matches('/').to_owned(),
            mount: config.transit_mount.trim_matches('/').to_owned(),
            key: config.transit_key.clone(),
            token: config.transit_token.clone(),
        }
    }

    /// Seals a few bytes.
    ///
    /// # Errors
    /// `Unavailable` when the engine does not answer or refuses.
    pub async fn wrap(&self, plain: &[u8]) -> Result<String> {
        let plain = Zeroizing::new(BASE64.encode(plain));
        let answer = self.ask("encrypt", &json!({ "plaintext": *plain })).await?;
        text(&answer, "ciphertext").map(str::to_owned)
    }

    /// Opens what was sealed.
    pub async fn unwrap(&self, sealed: &str) -> Result<Zeroizing<Vec<u8>>> {
        let answer = self.ask("decrypt", &json!({ "ciphertext": sealed })).await?;
        let plain = BASE64.decode(text(&answer, "plaintext")?.as_bytes());
        plain.map(Zeroizing::new).map_err(|_| trouble("its answer is not base64"))
    }

    async fn ask(&self, what: &str, body: &Value) -> Result<Value> {
        let url = format!("{}/v1/{}/{what}/{}", self.address, self.mount, self.key);
        let mut request = Request::post_json(url, body);
        request.method = Method::POST;
        let mut token = HeaderValue::from_str(self.token.expose())
            .map_err(|_| trouble("its token has characters that no header can have"))?;
        token.set_sensitive(true);
        request.headers.insert("x-vault-token", token);
        let answer = self.egress.send(request, LIMITS).await.map_err(|error| trouble(&error.message))?;
        if !answer.status.is_success() {
            return Err(trouble(&format!("it answered {}", answer.status.as_u16())));
        }
        serde_json::from_slice(&answer.body).map_err(|_| trouble("its answer is not JSON"))
    }
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer["data"][field].as_str().ok_or_else(|| trouble(&format!("its answer has no {field}")))
}

fn trouble(what: &str) -> Error {
    Error::unavailable(format!("the master key cannot be used, because the transit engine failed: {what}"))
}
