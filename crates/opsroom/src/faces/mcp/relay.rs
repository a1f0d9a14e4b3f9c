//! Messages of one client, carried to a running server's `/mcp` and back, byte for byte: for clients that
//! start `opsroom mcp`, and for those at the other end of a pipe.

use std::sync::Arc;

use bytes::Bytes;
use opsroom_core::{Error, Result};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::client::Client;

/// The way to the server, and the client's session there.
pub struct Relay {
    client: Client,
    session: Mutex<Option<(String, String)>>,
    out: mpsc::Sender<Bytes>,
}

impl Relay {
    /// A client without a session yet; what the server says goes to `out`.
    pub fn new(client: Client, out: mpsc::Sender<Bytes>) -> Arc<Self> {
        Arc::new(Self { client, session: Mutex::new(None), out })
    }

    /// Takes a message of the client. Requests overlap, in `requests`.
    pub async fn receive(self: &Arc<Self>, line: Vec<u8>, requests: &mut JoinSet<()>) {
        while requests.try_join_next().is_some() {}
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            let error = json!({ "code": -32700, "message": "the message is not JSON" });
            return self.say(&json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string()).await;
        };
        // The handshake comes first and sets the session; the rest may overlap.
        if message["method"] == "initialize" {
            self.send(message, line).await;
            let relay = self.clone();
            requests.spawn(async move { relay.listen().await });
        } else {
            let relay = self.clone();
            requests.spawn(async move { relay.send(message, line).await });
        }
    }

    async fn say(&self, message: &str) {
        // A client that has gone needs no answer.
        let _gone = self.out.send(Bytes::copy_from_slice(message.trim().as_bytes())).await;
    }

    async fn send(&self, message: Value, line: Vec<u8>) {
        if let Err(error) = self.exchange(&message, line).await {
            let Some(id) = message.get("id").filter(|id| !id.is_null()) else { return };
            let error = json!({ "code": -32603, "message": error.message });
            self.say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()).await;
        }
    }

    async fn exchange(&self, message: &Value, line: Vec<u8>) -> Result<()> {
        let mut request = self.client.request(reqwest::Method::POST, "/mcp").body(line);
        request = request.header("content-type", "application/json");
        request = request.header("accept", "application/json, text/event-stream");
        for (name, value) in self.headers(message).await {
            request = request.header(name, value);
        }
        let mut answer = request.send().await.map_err(|error| {
            Error::unavailable("the server that this command speaks for does not answer").because(error)
        })?;
        let text =
            |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let kind = text("content-type").unwrap_or_default();
        if let Some(session) = text("mcp-session-id") {
            *self.session.lock().await = Some((session, String::new()));
        }
        if kind.starts_with("text/event-stream") {
            return self.stream(&mut answer).await;
        }
        let status = answer.status();
        let body = answer.bytes().await.map_err(Error::internal)?;
        if body.is_empty() {
            return Ok(());
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value.get("jsonrpc").is_some() => {
                self.remember_version(&value).await;
                self.say(&String::from_utf8_lossy(&body)).await;
                Ok(())
            }
            _ => Err(Error::unavailable(format!("the server answered {status}"))),
        }
    }

    /// What the transport's headers must repeat of the message.
    async fn headers(&self, message: &Value) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let method = message["method"].as_str().unwrap_or_default();
        let modern = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
        if let Some(version) = modern {
            headers.push(("mcp-protocol-version", version.to_owned()));
            headers.push(("mcp-method", method.to_owned()));
            if let Some(name) = message["params"]["name"].as_str().or(message["params"]["uri"].as_str()) {
                headers.push(("mcp-name", opsroom_gateway::header_value(name).into_owned()));
            }
        } else if let Some((session, version)) = &*self.session.lock().await {
            headers.push(("mcp-session-id", session.clone()));
            if !version.is_empty() {
                headers.push(("mcp-protocol-version", version.clone()));
            }
        }
        headers
    }

    async fn stream(&self, answer: &mut reqwest::Response) -> Result<()> {
        let mut pending: Vec<u8> = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(Error::internal)? {
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data:") else { continue };
                let data = data.trim_ascii();
                if !data.is_empty() {
                    if let Ok(value) = serde_json::from_slice(data) {
                        self.remember_version(&value).await;
                    }
                    self.say(&String::from_utf8_lossy(data)).await;
                }
            }
        }
        Ok(())
    }

    async fn remember_version(&self, message: &Value) {
        if let Some(version) = message["result"]["protocolVersion"].as_str()
            && let Some((_, of_session)) = &mut *self.session.lock().await
        {
            version.clone_into(of_session);
        }
    }

    /// Follows what belongs to no request, for as long as the session lasts.
    async fn listen(&self) {
        let headers = self.headers(&Value::Null).await;
        if headers.is_empty() {
            return;
        }
        let mut request =
            self.client.request(reqwest::Method::GET, "/mcp").header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Ok(mut answer) = request.send().await
            && answer.status().is_success()
        {
            // It ends with the session or with the server; requests will say so.
            let _ended = self.stream(&mut answer).await;
        }
    }

    /// Waits for the answers that are still to come, and ends the client's session, which ends the stream.
    pub async fn finish(&self, requests: &mut JoinSet<()>) {
        let streams = usize::from(self.session.lock().await.is_some());
        while requests.len() > streams && requests.join_next().await.is_some() {}
        self.end().await;
        requests.abort_all();
    }

    async fn end(&self) {
        if let Some((session, _)) = &*self.session.lock().await {
            let request =
                self.client.request(reqwest::Method::DELETE, "/mcp").header("mcp-session-id", session);
            // The server forgets an abandoned session by itself.
            let _ended = request.send().await;
        }
    }
}
