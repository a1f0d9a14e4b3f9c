//! The raw routes of captures: their pictures, as the files that they are.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use opsroom_core::caller::Face;
use opsroom_core::operation::Picture;
use opsroom_core::{Error, Result};

use super::raw::RawRoute;
use super::rest::Failure;
use super::{Peer, Server, auth};

const fn route(path: &'static str, content: &'static str, summary: &'static str) -> RawRoute {
    let statuses = &[401, 403, 404];
    RawRoute { method: "GET", path, summary, takes: None, content, statuses, open: None }
}

/// What they are.
pub static ROUTES: [RawRoute; 2] = [
    route("/captures/{id}/picture", "image/png, image/jpeg, application/pdf", "The picture of a capture"),
    route("/captures/{id}/difference", "image/png", "What changed since the capture before, in red"),
];

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/captures/{id}/picture", get(picture))
        .route("/captures/{id}/difference", get(difference))
}

async fn picture(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&server, &peer, &headers, &id, false).await
}

async fn difference(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&server, &peer, &headers, &id, true).await
}

async fn answer(server: &Server, peer: &Peer, headers: &HeaderMap, id: &str, difference: bool) -> Response {
    match load(server, peer, headers, id, difference).await {
        Ok(Picture { media_type, bytes }) => {
            let mut answer = bytes.into_response();
            let set = |name, value: &'static str| (name, HeaderValue::from_static(value));
            answer.headers_mut().extend([
                set(header::CONTENT_TYPE, media_type),
                // A capture never changes; who may see it can.
                set(header::CACHE_CONTROL, "private, no-cache"),
                set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                set(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
            ]);
            answer
        }
        Err(error) => Failure(error).into_response(),
    }
}

/// Seeing the picture needs what seeing the capture needs.
async fn load(
    server: &Server,
    peer: &Peer,
    headers: &HeaderMap,
    id: &str,
    difference: bool,
) -> Result<Picture> {
    let caller = auth::caller(server, headers, peer, Face::Rest).await?;
    let operation = server.room.operation("get_capture");
    caller.authorise(operation.ok_or_else(|| Error::internal("get_capture is missing"))?)?;
    server.room.dashboards.picture(&caller.teams, id, difference).await
}
