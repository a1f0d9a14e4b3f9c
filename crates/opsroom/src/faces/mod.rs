//! The faces: how agents, programs and people reach the same operations. None of them knows a domain.

pub mod access;
pub mod alert_links;
pub mod auth;
pub mod captures;
pub mod compat;
pub mod console;
pub mod docs;
pub mod guard;
pub mod logs;
pub mod mcp;
pub mod oauth;
pub mod openapi;
pub mod pages;
pub mod raw;
pub mod rest;
pub mod sso;
pub mod webhooks;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use opsroom_capabilities::room::Room;
use opsroom_core::Error;
use opsroom_gateway::Gateway;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::config::ServerConfig;

/// What every HTTP handler needs. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    /// The room that answers.
    pub room: Arc<Room>,
    /// How it is served.
    pub config: Arc<ServerConfig>,
    openapi: Arc<OnceLock<Bytes>>,
    /// The open streams of old MCP clients.
    pub streams: mcp::Streams,
}

/// How a request came in; put into each by the listener.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The remote address; `None` on the socket in the data folder.
    pub address: Option<std::net::SocketAddr>,
    /// The request's id.
    pub request_id: Option<String>,
}

impl Server {
    /// Serves this room.
    pub fn new(room: Arc<Room>, config: ServerConfig) -> Self {
        Self { room, config: Arc::new(config), openapi: Arc::default(), streams: mcp::Streams::default() }
    }

    /// The text of the OpenAPI document, made when it is first asked for: as a tree it is larger than all
    /// else that a server at rest holds.
    pub fn openapi(&self) -> Bytes {
        let text = || openapi::document(self.room.operations()).to_string().into();
        self.openapi.get_or_init(text).clone()
    }

    /// The MCP gateway.
    pub fn gateway(&self) -> opsroom_core::Result<Gateway> {
        mcp::gateway(&self.room, &self.config)
    }

    /// Answers a request: an MCP endpoint's directly, the others by the router.
    pub async fn answer(&self, router: Router, peer: Peer, mut request: Request) -> Response {
        match mcp::http::endpoint(request.uri().path()) {
            Some(endpoint) => mcp::http::serve(self, endpoint, &peer, request).await,
            None => {
                request.extensions_mut().insert(peer);
                router.oneshot(request).await.unwrap_or_else(|never| match never {})
            }
        }
    }

    /// Every route but MCP's: the operations', the raw ones, and the documents.
    pub fn router(&self) -> Router {
        let router = rest::routes(self)
            .merge(raw::routes())
            .merge(logs::routes())
            .merge(webhooks::routes())
            .merge(alert_links::routes())
            .merge(captures::routes())
            .merge(docs::routes())
            .merge(console::routes())
            .merge(pages::routes())
            .merge(oauth::routes())
            .merge(sso::routes())
            .with_state(self.clone());
        self.guarded(router, "there is no such path; /openapi.json lists them")
    }

    /// Routes with what every request passes and every answer carries; `missing` is said of other paths.
    pub fn guarded(&self, router: Router, missing: &'static str) -> Router {
        router
            .fallback(async move || rest::Failure(Error::not_found(missing)))
            .method_not_allowed_fallback(async || rest::method_not_allowed())
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::check))
            .layer(axum::middleware::from_fn(access::mark))
            .layer(DefaultBodyLimit::max(self.config.max_body_bytes))
            .layer(CompressionLayer::new().gzip(true).compress_when(guard::compressible()))
            .layer(CatchPanicLayer::custom(|_| {
                rest::Failure(Error::internal("a handler panicked")).into_response()
            }))
            .layer(axum::middleware::from_fn(access::log))
    }
}
