//! MCP over standard input and output: for a client that starts `opsroom mcp`.
//!
//! With a running server the lines go to its socket in the data folder and back, byte for byte, so that
//! the client sees exactly what `/mcp` says. Without one, the room is opened here.

use std::sync::Arc;

use opsroom_capabilities::room::Room;
use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Result};
use rmcp::ServiceExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdout};
use tokio::sync::Mutex;

use super::McpServer;
use crate::client::Client;

/// The longest line of a client that is read.
const LONGEST_LINE: u64 = 64 << 20;

/// Serves the room on standard input and output, as the owner of the data folder, until it closes.
pub async fn serve(room: Arc<Room>) -> Result<()> {
    let server = McpServer::for_caller(room.clone(), Caller::operator(Face::Mcp));
    let running = server.serve(rmcp::transport::stdio()).await.map_err(Error::internal)?;
    let stop = room.lifecycle.stopping();
    tokio::select! {
        ended = running.waiting() => ended.map(drop).map_err(Error::internal),
        () = stop.cancelled() => Ok(()),
    }
}

/// Carries lines between standard input and output and a server's `/mcp`.
pub async fn relay(client: Client) -> Result<()> {
    let relay = Arc::new(Relay { client, session: Mutex::new(None), out: Mutex::new(tokio::io::stdout()) });
    let mut lines = BufReader::new(tokio::io::stdin());
    let mut requests = tokio::task::JoinSet::new();
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut lines).take(LONGEST_LINE);
        let read = bounded.read_until(b'\n', &mut line).await.map_err(Error::internal)?;
        if read == 0 {
            break;
        }
        if read as u64 == LONGEST_LINE {
            return Err(Error::invalid(format!("a message has more than {LONGEST_LINE} bytes")));
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            let error = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32700, "message": "a line is not JSON" } });
            relay.print(error.to_string().as_bytes()).await?;
            continue;
        };
        // The handshake comes first and sets the session; the rest may overlap.
        if message["method"] == "initialize" {
            relay.send(message, line).await;
        } else {
            let relay = relay.clone();
            requests.spawn(async move { relay.send(message, line).await });
        }
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
    relay.end().await;
    Ok(())
}

struct Relay {
    client: Client,
    session: Mutex<Option<(String, String)>>,
    out: Mutex<Stdout>,
}

impl Relay {
    async fn send(&self, message: Value, line: Vec<u8>) {
        if let Err(error) = self.exchange(&message, line).await {
            let Some(id) = message.get("id").filter(|id| !id.is_null()) else { return };
            let failed =
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": error.message } });
            // When standard output is gone, there is nobody to tell.
            let _gone = self.print(failed.to_string().as_bytes()).await;
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
            Error::unavailable("the server that `opsroom mcp` speaks for does not answer").because(error)
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
                self.print(&body).await
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
                headers.push(("mcp-name", name.to_owned()));
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
                    self.print(data).await?;
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

    async fn print(&self, message: &[u8]) -> Result<()> {
        let mut out = self.out.lock().await;
        out.write_all(message.trim_ascii()).await.map_err(Error::internal)?;
        out.write_all(b"\n").await.map_err(Error::internal)?;
        out.flush().await.map_err(Error::internal)
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
