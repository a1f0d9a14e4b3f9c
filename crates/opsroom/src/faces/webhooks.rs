//! Where senders of alerts deliver: each receiver has an address and a secret of its own, which stands for a key.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use super::raw::RawRoute;
use super::rest::{self, Refusal};
use super::{Server, rest::Failure};

/// Why it needs no key.
const OPEN: Option<&str> = Some("a sender of alerts has its receiver's secret instead of a key");

const fn route(method: &'static str, path: &'static str, summary: &'static str) -> RawRoute {
    RawRoute {
        method,
        path,
        summary,
        takes: Some("application/json"),
        content: "application/json",
        statuses: &[400, 401, 413, 415, 503],
        open: OPEN,
    }
}

/// The addresses of receivers.
pub static ROUTES: [RawRoute; 4] = [
    route("POST", "/webhooks/{source}", "Deliver alerts to the receiver of this name"),
    route("PUT", "/webhooks/{source}", "Deliver alerts as Grafana can be told to"),
    route("POST", "/webhooks/{source}/{token}", "Deliver alerts, with the secret in the address"),
    route("PUT", "/webhooks/{source}/{token}", "Deliver alerts by PUT, with the secret in the address"),
];

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/webhooks/{source}", post(plain).put(plain))
        .route("/webhooks/{source}/{token}", post(with_token).put(with_token))
}

async fn plain(
    State(server): State<Server>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&server, &source, None, &headers, body).await
}

async fn with_token(
    State(server): State<Server>,
    Path((source, token)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&server, &source, Some(&token), &headers, body).await
}

async fn answer(
    server: &Server,
    source: &str,
    token: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let received = async {
        if header(header::CONTENT_ENCODING.as_str()).is_some_and(|encoding| encoding != "identity") {
            let message = "the body is encoded (Content-Encoding); send it as it is";
            return Err(Refusal::Status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message.to_owned()));
        }
        let admitted = match server.room.alerts.admit(source, token, header).await {
            Ok(admitted) => admitted,
            Err(error) => {
                // A short body is read, so that its sender reads the answer.
                rest::bytes_within(server, headers, body, rest::STRANGERS_BODY).await?;
                return Err(error.into());
            }
        };
        let bytes = rest::bytes(server, headers, body).await?;
        Ok(server.room.alerts.receive(admitted, header, &bytes).await?)
    };
    match received.await {
        Ok(answer) => axum::Json(answer).into_response(),
        Err(Refusal::Error(error)) => Failure(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
