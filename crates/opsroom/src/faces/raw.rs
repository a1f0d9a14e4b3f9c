//! The raw routes: what is not an operation's request and answer. Streams, and what probes and scrapers
//! read. They are few, and `all` lists them for the API document and the test of open routes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{Stream, StreamExt};
use opsroom_core::caller::{Face, Role};
use opsroom_core::events::Event;
use opsroom_core::{Call, Caller, Effect, Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::BroadcastStream;

use super::rest::{Failure, Refusal};
use super::{Peer, Server, auth, rest};

/// A route that is not an operation.
pub struct RawRoute {
    /// `GET` and so on.
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// The content type of the body that it takes, several separated by `, `; a route without takes none.
    pub takes: Option<&'static str>,
    /// The content type of its answer, several separated by `, `; empty when it answers 204 without one.
    pub content: &'static str,
    /// The statuses besides 200 that it answers with.
    pub statuses: &'static [u16],
    /// Whether it needs no key, and why.
    pub open: Option<&'static str>,
}

/// The raw routes that belong to no capability. MCP, the documents and the start page describe themselves.
pub static ROUTES: [RawRoute; 8] = [
    RawRoute {
        method: "GET",
        path: "/health/live",
        summary: "Say that the process is alive",
        takes: None,
        content: "application/json",
        statuses: &[],
        open: Some("a probe has no key, and it tells nothing but that the process runs"),
    },
    RawRoute {
        method: "GET",
        path: "/health/ready",
        summary: "Say whether requests can be served; 503 when not",
        takes: None,
        content: "application/json",
        statuses: &[503],
        open: Some("a load balancer has no key, and it tells only which part is missing"),
    },
    RawRoute {
        method: "GET",
        path: "/health/metrics",
        summary: "The server's numbers as JSON",
        takes: None,
        content: "application/json",
        statuses: &[401, 403],
        open: None,
    },
    RawRoute {
        method: "GET",
        path: "/metrics",
        summary: "The server's numbers in the Prometheus text format",
        takes: None,
        content: "text/plain",
        statuses: &[401, 403],
        open: None,
    },
    RawRoute {
        method: "GET",
        path: "/events",
        summary: "What happens in the room, as server-sent events; resumes after `Last-Event-ID`",
        takes: None,
        content: "text/event-stream",
        statuses: &[400, 401, 403],
        open: None,
    },
    RawRoute {
        method: "GET",
        path: "/jobs/{id}/events",
        summary: "One job's progress and end, as server-sent events; the stream ends with the job",
        takes: None,
        content: "text/event-stream",
        statuses: &[400, 401, 403, 404],
        open: None,
    },
    RawRoute {
        method: "GET",
        path: "/plans/{service_id}/metrics",
        summary: "The forecast of a service's metrics in the Prometheus text format; `?metric=` names some of them",
        takes: None,
        content: "text/plain",
        statuses: &[400, 401, 403, 404, 503],
        open: None,
    },
    RawRoute {
        method: "POST",
        path: "/metrics/write",
        summary: "Store what Prometheus sends by remote-write 1.0, as `ingest_metrics` does",
        takes: Some("application/x-protobuf"),
        content: "",
        statuses: &[400, 401, 403, 413, 415, 503],
        open: None,
    },
];

/// The Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every raw route, those of logs, captures, alerts and OAuth too.
pub fn all() -> impl Iterator<Item = &'static RawRoute> {
    let alerts = super::webhooks::ROUTES.iter().chain(&super::alert_links::ROUTES);
    let captures = &super::captures::ROUTES;
    ROUTES.iter().chain(&super::logs::ROUTES).chain(captures).chain(alerts).chain(&super::oauth::ROUTES)
}

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/metrics", get(metrics_json))
        .route("/metrics", get(metrics))
        .route("/events", get(events))
        .route("/jobs/{id}/events", get(job_events))
        .route("/plans/{service_id}/metrics", get(plan_metrics))
        .route("/metrics/write", post(remote_write))
}

async fn live() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn ready(State(server): State<Server>) -> Response {
    if server.room.lifecycle.stopping().is_cancelled() {
        let body = Json(json!({ "status": "not_ready", "message": "the server is stopping" }));
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    match server.room.health.ready().await {
        Ok(()) => Json(json!({ "status": "ready", "message": "requests are served" })).into_response(),
        Err(message) => {
            let body = Json(json!({ "status": "not_ready", "message": message }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// Reading the numbers needs what `get_detailed_health` needs.
async fn reader(server: &Server, headers: &HeaderMap, peer: &Peer, action: &str) -> Result<Caller> {
    let caller = auth::caller(server, headers, peer, Face::Rest).await?;
    caller.authorise_action("health", action, Effect::Read, Role::Viewer)?;
    Ok(caller)
}

async fn metrics(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    match reader(&server, &headers, &peer, "metrics").await {
        Ok(_) => ([(header::CONTENT_TYPE, EXPOSITION)], server.room.metrics.render()).into_response(),
        Err(error) => Failure(error).into_response(),
    }
}

async fn metrics_json(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    match reader(&server, &headers, &peer, "metrics").await {
        Ok(_) => {
            Json(samples(&server.room.metrics.render(), server.room.health.uptime_seconds())).into_response()
        }
        Err(error) => Failure(error).into_response(),
    }
}

/// The samples of the Prometheus text as one JSON object, so that there is one source of numbers.
fn samples(text: &str, uptime_seconds: f64) -> Value {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), json!(value.parse::<f64>().ok()?)))
    });
    json!({ "uptime_seconds": uptime_seconds, "samples": Value::Object(samples.collect()) })
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Comma-separated beginnings of topics.
    topics: Option<String>,
}

async fn events(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Response {
    let stream = async {
        let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
        caller.authorise_action("events", "read_events", Effect::Read, Role::Viewer)?;
        let after = match headers.get("last-event-id") {
            None => None,
            Some(id) => Some(id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
                Error::invalid("the header Last-Event-ID is not a number that this stream gave")
            })?),
        };
        let topics: Vec<String> = query
            .topics
            .as_deref()
            .unwrap_or_default()
            .split(',')
            .map(|topic| topic.trim().to_owned())
            .collect();
        let (missed, live) = server.room.events.listen(after);
        let live = BroadcastStream::new(live).filter_map(async |event| event.ok());
        let all = futures_util::stream::iter(missed).chain(live);
        let teams = caller.teams;
        let wanted = move |event: &Arc<Event>| {
            teams.contains(&event.team) && topics.iter().any(|topic| event.topic.starts_with(topic.as_str()))
        };
        Ok(all.filter(move |event| std::future::ready(wanted(event))).map(|event| message(&event)))
    };
    match stream.await {
        Ok(stream) => serve(&server, stream),
        Err(error) => Failure(error).into_response(),
    }
}

/// `metric=a&metric=b`
type Pairs = Query<Vec<(String, String)>>;

async fn plan_metrics(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Path(service): Path<String>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response {
    let text = async {
        let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
        let operation = server
            .room
            .operation("get_plan_metrics")
            .ok_or_else(|| Error::internal("get_plan_metrics is missing"))?;
        caller.authorise(operation)?;
        if let Some((name, _)) = query.iter().find(|(name, _)| name != "metric") {
            let name: String = name.escape_debug().take(40).collect();
            return Err(Error::invalid(format!("the query has `{name}`; this route knows `metric` alone")));
        }
        let metrics = query.into_iter().map(|(_, metric)| metric).collect();
        server.room.planning.exposition(&Call::new(caller), &service, metrics).await
    };
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Err(error) => Failure(error).into_response(),
    }
}

/// Stores what arrives through `ingest_metrics`: checked, recorded and counted as any call of it.
async fn remote_write(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let stored = async {
        let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
        let operation = server
            .room
            .operation("ingest_metrics")
            .ok_or_else(|| Error::internal("ingest_metrics is missing"))?;
        caller.authorise(operation)?;
        let said = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = said(header::CONTENT_TYPE);
        if kind.contains("io.prometheus.write.v2") || !kind.starts_with("application/x-protobuf") {
            let message = "send remote-write 1.0: application/x-protobuf with prometheus.WriteRequest";
            return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
        }
        if said(header::CONTENT_ENCODING) != "snappy" {
            let message =
                "the body of remote-write is encoded by snappy, and the header Content-Encoding says so";
            return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
        }
        let bytes = rest::bytes(&server, &headers, body).await?;
        let written = server.room.planning.written(&bytes).await?;
        for input in written.inputs {
            server.room.call(operation.name, Call::new(caller.clone()), input).await?;
        }
        match written.refused {
            None => Ok(StatusCode::NO_CONTENT),
            Some(error) => Err(Refusal::Error(error)),
        }
    };
    match stored.await {
        Ok(status) => status.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn job_events(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let stream = async {
        let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
        let operation =
            server.room.operation("get_job").ok_or_else(|| Error::internal("get_job is missing"))?;
        caller.authorise(operation)?;
        Ok(server.room.jobs.watch(caller, &id).await?.map(|event| message(&event)))
    };
    match stream.await {
        Ok(stream) => serve(&server, stream),
        Err(error) => Failure(error).into_response(),
    }
}

fn message(event: &Event) -> sse::Event {
    let message = sse::Event::default().id(event.id.to_string()).event(event.topic.clone());
    // A JSON value always serialises.
    message.json_data(event).unwrap_or_default()
}

/// A stream that also ends when the server stops.
pub(super) fn serve(server: &Server, stream: impl Stream<Item = sse::Event> + Send + 'static) -> Response {
    let stop = server.room.lifecycle.stopping();
    let stream = stream.map(Ok::<_, Infallible>).take_until(async move { stop.cancelled().await });
    let mut answer = Sse::new(stream).keep_alive(KeepAlive::default()).into_response();
    answer.headers_mut().insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    answer
}
