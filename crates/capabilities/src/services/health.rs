//! How services are: asked by the protocol, by HTTP, or by a connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opsroom_core::egress::{Limits, Request};
use opsroom_core::{Error, Result};
use opsroom_gateway::catalogue::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Services;
use super::model::{HealthCheck, HealthSeen, Kind, Service, Status};

impl Services {
    /// Asks a service how it is, now.
    pub(super) async fn ask(&self, it: &Service) -> HealthSeen {
        let begun = Instant::now();
        let limit = Duration::from_secs(it.spec.health_check_timeout.max(1).into());
        let (kind, answer) = match it.spec.health_check {
            _ if it.status != Status::Running => {
                ("mcp", Err(Error::unavailable(format!("the service is {}", it.status.as_str()))))
            }
            HealthCheck::Mcp => ("mcp", self.by_protocol(it)),
            HealthCheck::Http => ("http", within(limit, self.by_http(it, limit)).await),
            HealthCheck::Tcp => ("tcp", within(limit, self.by_connection(it)).await),
        };
        let before = it.seen.health.as_ref().map_or(0, |health| health.failures);
        let failures = if answer.is_ok() { 0 } else { before.saturating_add(1) };
        let status = match &answer {
            Ok(None) => "unknown",
            Ok(Some(_)) => "healthy",
            Err(_) if failures < it.spec.health_check_retries => "degraded",
            Err(_) => "unhealthy",
        };
        let message = match answer {
            Ok(Some(message)) => message,
            Ok(None) => "it was not asked yet".to_owned(),
            Err(error) => error.message,
        };
        HealthSeen {
            status: status.to_owned(),
            check_type: kind.to_owned(),
            checked_at: self.inner.clock.now().to_rfc3339(),
            response_time_ms: begun.elapsed().as_secs_f64() * 1e3,
            message,
            failures,
        }
    }

    /// What the gateway knows from its own probes and calls.
    fn by_protocol(&self, it: &Service) -> Result<Option<String>> {
        let Some(known) = self.connection(&it.slug) else { return Ok(None) };
        match &known.health {
            Health::Unknown => Ok(None),
            Health::Reachable => {
                let (version, tools) = (&known.version, known.tools.len());
                let left_out = known.left_out.iter().take(5).map(|(name, why)| format!("`{name}`: {why}"));
                let left_out = left_out.collect::<Vec<_>>().join("; ");
                let left_out = match known.left_out.len() {
                    0 => String::new(),
                    count => format!("; {count} that it lists are left out: {left_out}"),
                };
                Ok(Some(format!("it speaks MCP {version} and has {tools} tools{left_out}")))
            }
            Health::Unreachable { error, .. } => Err(Error::unavailable(super::runtime::plain(error))),
        }
    }

    async fn by_http(&self, it: &Service, limit: Duration) -> Result<Option<String>> {
        if it.kind != Kind::Docker {
            let limits = Limits { max_bytes: 64 << 10, timeout: limit, redirects: 0 };
            let answer = self.inner.egress.send(Request::get(&it.spec.health_check_url), limits).await?;
            return good(answer.status.as_u16());
        }
        let address = it.seen.address.ok_or_else(|| Error::unavailable("it has no address yet"))?;
        // In its container: whatever host the URL names, only its port and path count.
        let (port, path) = port_and_path(&it.spec.health_check_url, address.port())?;
        good(get(SocketAddr::new(address.ip(), port), &path).await?)
    }

    async fn by_connection(&self, it: &Service) -> Result<Option<String>> {
        let refused =
            |error: std::io::Error| Error::unavailable(format!("its port does not answer: {error}"));
        match (it.kind, it.seen.address) {
            (Kind::Docker, Some(address)) => drop(TcpStream::connect(address).await.map_err(refused)?),
            (Kind::Cloud | Kind::Remote, _) => {
                let url = self.inner.egress.check(&it.spec.url)?;
                let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
                drop(self.inner.egress.dial(host, url.port_or_known_default().unwrap_or(443)).await?);
            }
            _ => {
                return Err(Error::invalid(
                    "health_check: a service without a port cannot be asked by `tcp`",
                ));
            }
        }
        Ok(Some("its port answers".to_owned()))
    }
}

async fn within<T>(limit: Duration, ask: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Error::unavailable(format!("it did not answer within {} s", limit.as_secs()));
    timeout(limit, ask).await.map_err(late)?
}

fn good(status: u16) -> Result<Option<String>> {
    if (200..400).contains(&status) {
        return Ok(Some(format!("it answered {status}")));
    }
    Err(Error::unavailable(format!("it answered {status}")))
}

/// The port and the path of a URL or of a path alone.
fn port_and_path(url: &str, usual: u16) -> Result<(u16, String)> {
    let wrong =
        || Error::invalid(format!("health_check_url: `{}` is neither a path nor a URL", url.escape_debug()));
    let (port, rest) = match url.strip_prefix("http://") {
        None => (usual, url),
        Some(rest) => {
            let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let port =
                place.rsplit_once(':').map_or(Ok(usual), |(_, port)| port.parse().map_err(|_| wrong()))?;
            (port, if path.is_empty() { "/" } else { path })
        }
    };
    let plain = rest.starts_with('/') && rest.chars().all(|c| c.is_ascii_graphic());
    if plain { Ok((port, rest.to_owned())) } else { Err(wrong()) }
}

/// The status of a plain GET to an address of a container of ours, which no name and no redirect can bend.
async fn get(address: SocketAddr, path: &str) -> Result<u16> {
    let failed = |error: std::io::Error| Error::unavailable(format!("it does not answer: {error}"));
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    let mut part = [0; 512];
    while !head.contains(&b'\n') && head.len() < 4096 {
        match stream.read(&mut part).await.map_err(failed)? {
            0 => break,
            read => head.extend_from_slice(&part[..read]),
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok());
    status.ok_or_else(|| Error::unavailable("it did not answer with HTTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_url_of_a_container_gives_its_port_and_path() {
        assert_eq!(
            port_and_path("http://localhost:9000/health?x=1", 80).unwrap(),
            (9000, "/health?x=1".to_owned())
        );
        assert_eq!(port_and_path("/health", 8080).unwrap(), (8080, "/health".to_owned()));
        assert_eq!(port_and_path("http://localhost", 8080).unwrap(), (8080, "/".to_owned()));
        for url in ["", "health", "/a b", "/a\r\nX: y", "https://x/", "http://x:y/"] {
            assert!(port_and_path(url, 80).is_err(), "{url}");
        }
    }
}
