//! `/mcp` over HTTP: a key first, then the protocol.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use opsroom_core::caller::Face;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::tower::{StreamableHttpServerConfig, StreamableHttpService};

use super::McpServer;
use crate::faces::rest::Failure;
use crate::faces::{Peer, Server, auth, rest};

/// The endpoint. `Host` and `Origin` are checked for every route by the guard.
pub fn routes(server: &Server) -> Router {
    let room = server.room.clone();
    let mut config = StreamableHttpServerConfig::default().disable_allowed_hosts();
    config.max_request_body_bytes = server.config.max_body_bytes;
    config.cancellation_token = server.room.lifecycle.stopping();
    let factory = move || Ok(McpServer::for_requests(room.clone()));
    let service = StreamableHttpService::new(factory, Arc::new(LocalSessionManager::default()), config);
    Router::new()
        .route_service("/mcp", service)
        .layer(axum::middleware::from_fn_with_state(server.clone(), authenticated))
}

async fn authenticated(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match auth::caller(&server, request.headers(), &peer, Face::Mcp).await {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(error) => return Failure(error).into_response(),
    };
    // Read here, within the limits of every body: the SDK would wait for it without an end.
    let (head, body) = request.into_parts();
    match rest::bytes(&server, &head.headers, body).await {
        Ok(bytes) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Err(refusal) => refusal.into_response(),
    }
}
