//! Registration of ourselves at another gateway: register, report that we live, register anew when it has
//! forgotten us, and take leave. It never holds up the start, and a gateway that is away is tried again.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use opsroom_core::egress::{Limits, Request};
use opsroom_core::{Error, Result};
use serde_json::json;

use super::config::UpstreamGateway;
use super::{Inner, Services};

/// The longest pause between two tries to register, in seconds.
const LONGEST_PAUSE: u64 = 300;

/// Starts the task, when the configuration names a gateway.
pub fn start(services: &Services) {
    if services.inner.config.gateway.url.is_empty() {
        return;
    }
    let inner = services.inner.clone();
    services.inner.lifecycle.spawn("registration at a gateway", async move {
        let (stop, config) = (inner.lifecycle.stopping(), inner.config.gateway.clone());
        let mut failures = 0_u32;
        let mut registered = false;
        loop {
            let answer = if registered { inner.report(&config).await } else { inner.register(&config).await };
            let pause = match answer {
                Ok(known) => {
                    (registered, failures) = (known, 0);
                    if known { config.heartbeat_interval } else { 1 }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the upstream gateway cannot be reached");
                    failures = failures.saturating_add(1);
                    (1_u64 << failures.min(9)).min(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            }
        }
        if registered && let Err(error) = inner.leave(&config).await {
            tracing::warn!(error = %error, "the upstream gateway was not told that we stop");
        }
        Ok(())
    });
}

impl Inner {
    /// Registers us, in the words of every gateway that we know of.
    async fn register(&self, config: &UpstreamGateway) -> Result<bool> {
        let services = self.upstreams.borrow().len();
        let host = config.advertised_host.as_str();
        let place = format!("http://{host}:{}", config.advertised_port);
        let body = json!({
            "service_name": config.service_name,
            "service_id": self.node,
            "instance_id": self.node,
            "service_type": "mcp",
            "service_url": format!("{place}/mcp"),
            "host": host,
            "port": config.advertised_port,
            "endpoints": { "mcp": "/mcp", "health": "/health", "services": "/services" },
            "health_check_url": format!("{place}/health"),
            "metadata": { "version": env!("CARGO_PKG_VERSION"), "services": services },
            "weight": 1,
        });
        let status = self.send(config, Method::POST, &config.register_endpoint, Some(body)).await?;
        match status {
            200..300 | 409 => Ok(true),
            other => Err(Error::unavailable(format!("the gateway answered {other} to our registration"))),
        }
    }

    /// Reports that we live; `false` when the gateway does not know us any more.
    async fn report(&self, config: &UpstreamGateway) -> Result<bool> {
        let body = json!({
            "service_name": config.service_name,
            "service_id": self.node,
            "instance_id": self.node,
            "status": "healthy",
            "timestamp": self.clock.now().to_rfc3339(),
        });
        match self.send(config, Method::POST, &config.heartbeat_endpoint, Some(body)).await? {
            200..300 => Ok(true),
            404 => Ok(false),
            other => Err(Error::unavailable(format!("the gateway answered {other} to our heartbeat"))),
        }
    }

    async fn leave(&self, config: &UpstreamGateway) -> Result<()> {
        let base = config.register_endpoint.trim_end_matches("/register");
        let path = format!("{base}/{}/{}", config.service_name, self.node);
        self.send(config, Method::DELETE, &path, None).await.map(drop)
    }

    async fn send(
        &self,
        config: &UpstreamGateway,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<u16> {
        let url = format!("{}{path}", config.url.trim_end_matches('/'));
        let mut request = match body {
            Some(body) => Request::post_json(url, &body),
            None => Request::get(url),
        };
        request.method = method;
        if !config.auth_token.is_empty() {
            let value = HeaderValue::from_str(&format!("Bearer {}", config.auth_token.expose()));
            let mut value =
                value.map_err(|_| Error::invalid("services.gateway.auth_token: it is no token"))?;
            value.set_sensitive(true);
            request.headers.insert(header::AUTHORIZATION, value);
        }
        let limits =
            Limits { max_bytes: 64 << 10, timeout: Duration::from_secs(config.timeout), redirects: 0 };
        Ok(self.egress.send(request, limits).await?.status.as_u16())
    }
}
