//! The raw routes of logs: where others send lines, and where new lines are followed as they come.

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures_util::{Stream, StreamExt};
use opsroom_capabilities::logs::{Format, Received};
use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::raw::{RawRoute, serve};
use super::rest::{Failure, Refusal, bytes, status};
use super::{Peer, Server, auth};

/// Lines of one batch that a follower gets at most; it is told how many it missed.
const MOST_AT_ONCE: usize = 1_000;

/// What carries records of OpenTelemetry, and pushes as to Loki.
const JSON_OR_PROTOBUF: &str = "application/json, application/x-protobuf";

const fn receiver(
    path: &'static str,
    takes: &'static str,
    content: &'static str,
    summary: &'static str,
) -> RawRoute {
    RawRoute {
        method: "POST",
        path,
        summary,
        takes: Some(takes),
        content,
        statuses: &[400, 401, 403, 413, 415, 503],
        open: None,
    }
}

/// What they are.
pub static ROUTES: [RawRoute; 4] = [
    receiver(
        "/logs/raw",
        "text/plain",
        "application/json",
        "Keep log lines, plain or one JSON object a line; the query gives labels, such as `?service=api`",
    ),
    receiver(
        "/v1/logs",
        JSON_OR_PROTOBUF,
        JSON_OR_PROTOBUF,
        "Keep log records of the OpenTelemetry protocol, as JSON or protobuf",
    ),
    receiver(
        "/loki/api/v1/push",
        JSON_OR_PROTOBUF,
        "",
        "Keep log lines pushed as to Loki, as JSON or snappy-compressed protobuf",
    ),
    RawRoute {
        method: "GET",
        path: "/logs/tail",
        summary: "New log lines as server-sent events; `query` says which",
        takes: None,
        content: "text/event-stream",
        statuses: &[400, 401, 403, 503],
        open: None,
    },
];

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/logs/raw", post(lines))
        .route("/v1/logs", post(otlp))
        .route("/loki/api/v1/push", post(loki))
        .route("/logs/tail", get(tail))
}

/// What a handler needs of a request.
type Parts = (State<Server>, Extension<Peer>, Query<Vec<(String, String)>>, HeaderMap, Body);

async fn lines(parts: Parts) -> Response {
    match receive(parts, Format::Lines).await {
        Ok(kept) => Json(kept).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// An empty answer of the protocol says that all was taken; a refusal is a `google.rpc.Status`.
async fn otlp(parts: Parts) -> Response {
    let json = content_type(&parts.3).ends_with("json");
    let kind = if json { "application/json" } else { "application/x-protobuf" };
    match receive(parts, Format::Otlp).await {
        Ok(_) if json => ([(header::CONTENT_TYPE, kind)], "{}").into_response(),
        Ok(_) => ([(header::CONTENT_TYPE, kind)], Vec::new()).into_response(),
        Err(Refusal::Error(error)) if json => {
            let code = match error.kind {
                Kind::Invalid => 3,
                Kind::Unauthenticated => 16,
                Kind::Forbidden => 7,
                _ => 14,
            };
            let told = json!({ "kind": error.kind, "message": error.message });
            let body = Json(json!({ "code": code, "message": error.message, "error": told }));
            (status(error.kind), body).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Loki answers 204 without a body.
async fn loki(parts: Parts) -> Response {
    match receive(parts, Format::Loki).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn receive(parts: Parts, format: Format) -> Result<Value, Refusal> {
    let (State(server), Extension(peer), Query(labels), headers, body) = parts;
    let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
    // Before the body is read: a stranger costs nothing.
    server.room.logs.may_send(&caller)?;
    let encoding =
        headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let encoding = encoding.trim().to_ascii_lowercase();
    let content_type = content_type(&headers);
    if format == Format::Otlp && !JSON_OR_PROTOBUF.split(", ").any(|kind| kind == content_type) {
        let message = format!("the body is {content_type:?}; send {JSON_OR_PROTOBUF}");
        return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = bytes(&server, &headers, body).await?;
    if body.is_empty() && format != Format::Otlp {
        return Err(Error::invalid("the body is empty; send the lines in it").into());
    }
    let received = Received { format, content_type, encoding, labels, body };
    // What was begun is kept whether the sender waits for the answer or not.
    let logs = server.room.logs.clone();
    let work = async move { logs.receive(&caller, received).await };
    let kept = server.room.lifecycle.spawn_work(work).await?;
    Ok(serde_json::to_value(kept).map_err(Error::internal)?)
}

fn content_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[derive(Deserialize)]
struct TailQuery {
    /// Which lines.
    #[serde(default)]
    query: String,
}

async fn tail(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<TailQuery>,
    headers: HeaderMap,
) -> Response {
    let stream = async {
        let caller = auth::caller(&server, &headers, &peer, Face::Rest).await?;
        let operation =
            server.room.operation("search_logs").ok_or_else(|| Error::internal("search_logs is missing"))?;
        caller.authorise(operation)?;
        follow(&server, caller, &query.query)
    };
    match stream.await {
        Ok(stream) => serve(&server, stream),
        Err(error) => Failure(error).into_response(),
    }
}

fn follow(
    server: &Server,
    caller: Caller,
    query: &str,
) -> Result<impl Stream<Item = sse::Event> + Send + use<>> {
    let follow = server.room.logs.follow(caller.teams, query)?;
    let batches = BroadcastStream::new(server.room.logs.listen()?);
    let missed = |what: String| sse::Event::default().event("missed").data(what);
    Ok(batches.flat_map(move |batch| {
        let events: Vec<sse::Event> = match batch {
            Ok(batch) => {
                let (lines, more) = follow.of(&batch, MOST_AT_ONCE);
                // A JSON value always serialises.
                let line = |line| sse::Event::default().event("line").json_data(line).unwrap_or_default();
                let told = (more > 0).then(|| missed(format!("{more} lines of one batch are not shown")));
                lines.iter().map(line).chain(told).collect()
            }
            Err(BroadcastStreamRecvError::Lagged(batches)) => {
                vec![missed(format!("{batches} batches came faster than they were read"))]
            }
        };
        futures_util::stream::iter(events)
    }))
}
