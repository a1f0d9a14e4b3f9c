//! Sending traces to a collector: OTLP over HTTP with JSON bodies (OpenTelemetry protocol 1.x).

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::TelemetryConfig;
use super::trace::{Finished, TRACEPARENT};
use crate::egress::{Egress, EgressConfig, Limits, Request};
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;

/// How many spans wait at most to be sent.
pub(super) const MAX_WAITING: usize = 4096;
const MAX_BATCH: usize = 512;
const EVERY: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// When the server stops, it does not wait long.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a collector that does not answer is told of.
const QUIET: Duration = Duration::from_secs(300);

/// Where traces go.
pub(super) struct Collector {
    egress: Egress,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Collector {
    /// `None` when no traces are sent.
    pub fn new(config: &TelemetryConfig) -> Result<Option<Self>> {
        if config.traces_url.is_empty() {
            return Ok(None);
        }
        let wrong = |what: &str| Error::invalid(format!("log.traces_url: {what}"));
        let url = reqwest::Url::parse(&config.traces_url).map_err(|error| {
            wrong(&format!("it is no URL: {error}; use such as http://127.0.0.1:4318/v1/traces"))
        })?;
        let host = url.host_str().ok_or_else(|| wrong("it names no host"))?;
        // The operator named the collector, which is mostly at a private address; nothing else is open.
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_address = address.parse::<std::net::IpAddr>().is_ok();
        let named = |yes: bool, text: &str| if yes { vec![text.to_owned()] } else { Vec::new() };
        let rules = EgressConfig {
            allow_addresses: named(is_address, address),
            allow_hosts: named(!is_address, host),
            ports: url.port_or_known_default().into_iter().collect(),
            ..EgressConfig::default()
        };
        let egress = Egress::new(&rules)?;
        egress.check(&config.traces_url).map_err(|error| wrong(&error.message))?;
        let authorization = config.traces_authorization.expose();
        let authorization = match authorization {
            "" => None,
            text => {
                let value = HeaderValue::from_str(text);
                let value =
                    value.map_err(|_| Error::invalid("log.traces_authorization: it is no header's value"));
                Some(value?)
            }
        };
        Ok(Some(Self { egress, url: config.traces_url.clone(), authorization }))
    }

    async fn send(&self, spans: &[Finished], timeout: Duration) -> Result<()> {
        if spans.is_empty() {
            return Ok(());
        }
        let mut request = Request::post_json(&self.url, &document(spans));
        if let Some(authorization) = &self.authorization {
            request.headers.insert(AUTHORIZATION, authorization.clone());
        }
        let limits = Limits { max_bytes: 64 << 10, timeout, redirects: 0 };
        // What sending does is not traced, or it would never end.
        let answer = self.egress.send(request, limits).with_subscriber(NoSubscriber::default()).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(Error::unavailable(format!("the collector answered {}", answer.status))),
        }
    }
}

/// Sends what ends, in batches, until the server stops; then what is left.
pub(super) fn spawn(life: &Lifecycle, collector: Arc<Collector>, mut ended: Receiver<Finished>) {
    let stop = life.stopping();
    life.spawn("traces", async move {
        let mut told: Option<Instant> = None;
        loop {
            let mut batch = Vec::new();
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(EVERY) => false,
                // Before the time is up only when a batch is full.
                () = full(&mut ended, &mut batch) => false,
            };
            while batch.len() < MAX_BATCH
                && let Ok(span) = ended.try_recv()
            {
                batch.push(span);
            }
            let more = batch.len() == MAX_BATCH;
            let timeout = if stopping { LAST_TIMEOUT } else { TIMEOUT };
            if let Err(error) = collector.send(&batch, timeout).await {
                if told.is_none_or(|told| told.elapsed() > QUIET) {
                    told = Some(Instant::now());
                    let spans = batch.len();
                    tracing::warn!(spans, error = %error, "traces could not be sent and are left out");
                }
                if stopping {
                    return Ok(());
                }
            }
            if stopping && !more {
                return Ok(());
            }
        }
    });
}

async fn full(ended: &mut Receiver<Finished>, batch: &mut Vec<Finished>) {
    while batch.len() < MAX_BATCH {
        match ended.recv().await {
            Some(span) => batch.push(span),
            // The log has ended; the server is about to.
            None => std::future::pending().await,
        }
    }
}

/// The body of a request: `ExportTraceServiceRequest`.
pub(super) fn document(spans: &[Finished]) -> Value {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", &json!("opsroom")),
            attribute("service.version", &json!(version)),
        ] },
        "scopeSpans": [{ "scope": { "name": "opsroom", "version": version }, "spans": spans }],
    }] })
}

fn span(span: &Finished) -> Value {
    let mut name = span.name.to_owned();
    let mut kind = 1;
    let mut attributes = Vec::new();
    for (field, value) in span.fields.iter() {
        match (field, value.as_str()) {
            ("otel.name", Some(text)) => name = text.to_owned(),
            ("otel.kind", Some(text)) => {
                kind = match text {
                    "server" => 2,
                    "client" => 3,
                    _ => 1,
                }
            }
            (TRACEPARENT, _) => {}
            _ => attributes.push(attribute(field, value)),
        }
    }
    let nanoseconds = |time: crate::clock::Time| (i128::from(time.0) * 1000).to_string();
    let mut json = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": attributes,
        "status": match &span.error {
            Some(message) => json!({ "code": 2, "message": message }),
            None => json!({}),
        },
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = json!(format!("{parent:016x}"));
    }
    json
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        // JSON's numbers are too small for 64 bits, so the protocol writes whole ones as text.
        Value::Number(number) if !number.is_f64() => json!({ "intValue": number.to_string() }),
        Value::Number(number) => json!({ "doubleValue": number }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": key, "value": value })
}
