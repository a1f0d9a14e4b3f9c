//! REST: each operation at its route. A `GET` or `DELETE` takes its fields from the path and the query,
//! the others from the path and a JSON body.

use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use futures_util::StreamExt;
use opsroom_capabilities::room::Answer;
use opsroom_core::caller::Face;
use opsroom_core::{Call, Caller, Error, Kind, Operation, Result};
use serde_json::{Map, Value, json};

use super::{Peer, Server, auth};

/// An error on its way out as `{"error": {"kind", "message"}}`.
pub struct Failure(pub Error);

impl Failure {
    /// The JSON of the answer.
    pub fn body(&self) -> Json<Value> {
        Json(json!({ "error": { "kind": self.0.kind, "message": self.0.message } }))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.0.kind == Kind::Internal {
            tracing::error!(error = %self.0, causes = self.0.causes(), "a request failed by our fault");
        } else if self.0.source.is_some() {
            tracing::debug!(error = %self.0, causes = self.0.causes(), "a request failed");
        }
        let mut answer = (status(self.0.kind), self.body()).into_response();
        match self.0.kind {
            Kind::Unauthenticated => {
                let challenge = HeaderValue::from_static("Bearer realm=\"opsroom\"");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            Kind::Busy | Kind::Unavailable => {
                let seconds = HeaderValue::from(self.0.retry_after().unwrap_or(1));
                answer.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            _ => {}
        }
        answer
    }
}

/// The HTTP status of an error's kind.
pub fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Conflict | Kind::Cancelled => StatusCode::CONFLICT,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// 405, in our words; axum adds `Allow`.
pub fn method_not_allowed() -> Response {
    let message = "this path has other methods; the Allow header names them";
    (StatusCode::METHOD_NOT_ALLOWED, Failure(Error::invalid(message)).body()).into_response()
}

/// Whether an operation's fields come in a JSON body.
pub fn has_body(operation: &Operation) -> bool {
    !matches!(operation.route.method, "GET" | "DELETE")
}

/// A route for each operation.
pub fn routes(server: &Server) -> Router<Server> {
    server.room.operations().iter().fold(Router::new(), |router, operation| {
        let name = operation.name;
        let method =
            Method::from_bytes(operation.route.method.as_bytes()).expect("a route has an HTTP method");
        let filter = MethodFilter::try_from(method).expect("a route's method is one that axum routes");
        let handler = async move |State(server): State<Server>,
                                  Extension(peer): Extension<Peer>,
                                  path: Result<Path<Vec<(String, String)>>, PathRejection>,
                                  RawQuery(query): RawQuery,
                                  headers: HeaderMap,
                                  body: Body| {
            let path = match path {
                Ok(Path(pairs)) => pairs,
                Err(PathRejection::MissingPathParams(_)) => Vec::new(),
                Err(_) => {
                    let message = "what the path's percent signs stand for is not UTF-8";
                    return Failure(Error::invalid(message)).into_response();
                }
            };
            match answer(&server, name, Incoming { peer, path, query, headers, body }).await {
                Ok(answer) => answer,
                Err(Refusal::Error(error)) => refused(&server, name, error),
                Err(refusal) => refusal.into_response(),
            }
        };
        router.route(operation.route.path, on(filter, handler))
    })
}

/// An error in the words of the operation's contract.
fn refused(server: &Server, name: &str, error: Error) -> Response {
    let operation = server.room.operation(name);
    if operation.is_some_and(|operation| operation.envelope) {
        return enveloped(server, error);
    }
    let listed = operation.is_some_and(|operation| operation.detail_errors);
    if !listed || error.kind != Kind::Invalid {
        return Failure(error).into_response();
    }
    let detail = opsroom_core::fields::detail(&error);
    let error = json!({ "kind": error.kind, "message": error.message });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": detail, "error": error }))).into_response()
}

/// An error in the envelope of an older system, which holds our own words as well.
fn enveloped(server: &Server, error: Error) -> Response {
    let body = json!({
        "success": false,
        "message": error.message,
        "error_code": error.kind,
        "timestamp": server.room.clock.now().to_rfc3339(),
        "error": { "kind": error.kind, "message": error.message },
    });
    let (parts, _) = Failure(error).into_response().into_parts();
    let mut answer = (parts.status, Json(body)).into_response();
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

/// A request for an operation.
pub struct Incoming {
    /// Where it came from.
    pub peer: Peer,
    /// What stands in the path.
    pub path: Vec<(String, String)>,
    /// What stands in the query.
    pub query: Option<String>,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

/// What the HTTP layer itself refuses has statuses that no operation's error has.
pub enum Refusal {
    /// As an operation refuses.
    Error(Error),
    /// With this status and message.
    Status(StatusCode, String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Error(error) => Failure(error).into_response(),
            Refusal::Status(status, message) => {
                (status, Failure(Error::invalid(message)).body()).into_response()
            }
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

/// Answers a request for the operation of this name.
///
/// # Errors
/// What the HTTP layer or the operation refuses.
pub async fn answer(server: &Server, name: &str, request: Incoming) -> Result<Response, Refusal> {
    let operation =
        server.room.operation(name).ok_or_else(|| Error::internal("a route without its operation"))?;
    let caller = if operation.open {
        let address = request.peer.address.map(|address| address.ip().to_string());
        Caller { request_id: request.peer.request_id.clone(), ..Caller::anonymous(Face::Rest, address) }
    } else {
        // Before the body is read: a stranger costs nothing.
        let caller = auth::caller(server, &request.headers, &request.peer, Face::Rest).await?;
        caller.authorise(operation)?;
        caller
    };
    let input = input(server, operation, request).await?;
    let (call, guard) = cancelled_when_dropped(caller);
    let answer = server.room.call(name, call, input).await?;
    guard.disarm();
    let wrap = |value| if operation.envelope { json!({ "success": true, "data": value }) } else { value };
    let success = StatusCode::from_u16(operation.success).map_err(Error::internal)?;
    Ok(match answer {
        Answer::Done(value) => (success, Json(wrap(value))).into_response(),
        Answer::Started(job) => (StatusCode::ACCEPTED, Json(wrap(job))).into_response(),
    })
}

async fn input(server: &Server, operation: &Operation, request: Incoming) -> Result<Value, Refusal> {
    let query = request.query.unwrap_or_default();
    if !has_body(operation) {
        let pairs = query_pairs(&query)?;
        // The path wins: it is what was routed and authorised.
        return Ok(Value::Object(operation.from_pairs(pairs.into_iter().chain(request.path))));
    }
    if !query.is_empty() {
        return Err(Error::invalid("this route takes its fields in a JSON body, not in the query").into());
    }
    // A stranger's body is read before anybody knows who it is from.
    let most = if operation.open { STRANGERS_BODY } else { server.config.max_body_bytes };
    let mut fields = body(server, &request.headers, request.body, most).await?;
    for (name, value) in operation.from_pairs(request.path) {
        if fields.insert(name.clone(), value).is_some() {
            return Err(Error::invalid(format!("{name} is in the path; leave it out of the body")).into());
        }
    }
    Ok(Value::Object(fields))
}

/// `a=1&b=x%20y`, every name and value decoded.
fn query_pairs(query: &str) -> Result<Vec<(String, String)>> {
    let uri: axum::http::Uri =
        format!("/?{query}").parse().map_err(|_| Error::invalid("the query is not one"))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    pairs.map(|pairs| pairs.0).map_err(|error| Error::invalid("the query cannot be decoded").because(error))
}

/// The most bytes of a body from somebody who has not shown a key: a form of ours, or what an open operation
/// takes.
pub const STRANGERS_BODY: usize = 16 << 10;

/// The bytes of a body of a caller who is known, when it is not too large and does not take too long.
pub async fn bytes(server: &Server, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    bytes_within(server, headers, body, server.config.max_body_bytes).await
}

/// The bytes of a body that has at most so many and does not take too long.
pub async fn bytes_within(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Bytes, Refusal> {
    let most = most.min(server.config.max_body_bytes);
    let too_large = || {
        let setting = if most < server.config.max_body_bytes { "" } else { " (`server.max_body_bytes`)" };
        let message = format!("the body is larger than {most} bytes{setting}");
        Refusal::Status(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > most) {
        drain(body).await;
        return Err(too_large());
    }
    let limit = std::time::Duration::from_secs(server.config.request_timeout_seconds);
    let read = tokio::time::timeout(limit, to_bytes(body, most)).await;
    let late = |_| {
        let limit = server.config.request_timeout_seconds;
        let message = format!("the body did not arrive within {limit} s (`server.request_timeout_seconds`)");
        Refusal::Status(StatusCode::REQUEST_TIMEOUT, message)
    };
    read.map_err(late)?.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) if cause.is::<http_body_util::LengthLimitError>() => too_large(),
        _ => Refusal::Error(Error::invalid("the body broke off, or its chunks cannot be read")),
    })
}

async fn body(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
    most: usize,
) -> Result<Map<String, Value>, Refusal> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let message = "the body is encoded (Content-Encoding); send it as it is";
        return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
    }
    let bytes = bytes_within(server, headers, body, most).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = format!("the body is {kind:?}; send application/json");
        return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Error::invalid("the body is JSON, but not an object of the operation's fields").into()),
        Err(error) => Err(Error::invalid(format!("the body is not JSON: {error}")).into()),
    }
}

/// Reads a body that is not wanted, within bounds: a client that is still sending would see a broken
/// connection in place of the answer.
async fn drain(body: Body) {
    const MOST: usize = 64 << 20;
    let mut frames = body.into_data_stream();
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = frames.next().await {
            seen += frame.len();
            if seen > MOST {
                break;
            }
        }
    };
    // A slow client has had its time.
    let _late = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
}

/// A call that is cancelled when the client goes away before its answer: then the handler's future, and
/// with it the guard, is dropped.
fn cancelled_when_dropped(caller: Caller) -> (Call, tokio_util::sync::DropGuard) {
    let call = Call::new(caller);
    let guard = call.cancel.clone().drop_guard();
    (call, guard)
}
