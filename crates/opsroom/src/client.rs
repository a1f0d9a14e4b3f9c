//! A client of a running server: over the socket in the data folder, or over HTTP when `--server` names
//! one. The operator key goes only through the socket, so that whoever squats on the port never sees it.

use std::path::Path;
use std::time::Duration;

use opsroom_core::{Error, Kind, Operation, Result};
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value};

/// Speaks with one server, with one key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    /// The server of a data folder, over its socket, as its owner.
    pub fn of_folder(data_dir: &Path) -> Result<Self> {
        let key = std::fs::read_to_string(data_dir.join("operator.key")).map_err(|error| {
            Error::unavailable(format!("cannot read the operator key in {}: {error}", data_dir.display()))
        })?;
        let http = builder().unix_socket(data_dir.join("opsroom.sock"));
        Ok(Self {
            http: http.build().map_err(Error::internal)?,
            base: "http://localhost".to_owned(),
            key: key.trim().to_owned(),
        })
    }

    /// A server by its URL, with a key.
    pub fn of_url(url: &str, key: &str) -> Result<Self> {
        let http = builder().build().map_err(Error::internal)?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// Whether a server listens there.
    pub async fn answers(&self) -> bool {
        let probe = self.http.get(format!("{}/health/live", self.base)).timeout(Duration::from_secs(2));
        probe.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.key)
            .header("x-opsroom-face", "cli")
    }

    /// Calls an operation at its route.
    pub async fn call(&self, operation: &Operation, mut input: Map<String, Value>) -> Result<Value> {
        let mut path = operation.route.path.to_owned();
        for name in operation.route.parameters() {
            let value = input.remove(name).unwrap_or_default();
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            path = path.replace(&format!("{{{name}}}"), &encode(&text));
        }
        let method = Method::from_bytes(operation.route.method.as_bytes()).map_err(Error::internal)?;
        let request = self.request(method, &path);
        let request = if crate::faces::rest::has_body(operation) {
            request.json(&input)
        } else {
            request.query(&pairs(input))
        };
        let mut answer = self.answer(request).await?;
        Ok(if operation.envelope { answer["data"].take() } else { answer })
    }

    /// What is at a path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// The bytes at a path.
    pub async fn bytes(&self, path: &str) -> Result<bytes::Bytes> {
        let unread = |error| {
            Error::unavailable(format!("the server at {} does not answer in full", self.base)).because(error)
        };
        let answer = self.request(Method::GET, path).send().await.map_err(unread)?;
        if !answer.status().is_success() {
            return Err(Error::unavailable(format!("the server answered {} at {path}", answer.status())));
        }
        answer.bytes().await.map_err(unread)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value> {
        let answer = request.send().await.map_err(|error| {
            Error::unavailable(format!("the server at {} does not answer", self.base)).because(error)
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| {
            Error::unavailable(format!("the server answered {status} with something that is not JSON"))
                .because(error)
        })?;
        if status.is_success() {
            return Ok(body);
        }
        let kind = body["error"]["kind"].as_str().and_then(Kind::parse).unwrap_or(Kind::Internal);
        let message = body["error"]["message"].as_str().unwrap_or("the server did not say why");
        Err(Error::new(kind, message))
    }
}

fn builder() -> reqwest::ClientBuilder {
    #[expect(clippy::disallowed_methods, reason = "it speaks only with our own server, which the user named")]
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).user_agent("opsroom")
}

/// Query pairs; an array is one pair for each of its items.
fn pairs(input: Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of_field = |(name, value): (String, Value)| match value {
        Value::Array(items) => items.into_iter().map(|item| (name.clone(), text(item))).collect(),
        Value::Null => Vec::new(),
        one => vec![(name, text(one))],
    };
    input.into_iter().flat_map(of_field).collect()
}

/// Percent-encodes what is not unreserved in a path segment (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
