//! The gateway alone, without keys or tools of a house: for tests and measurements of the protocol.
//! `bare NAME=URL...` serves each at `/mcp/services/NAME`, and all at `/mcp`, for anybody on this machine.
//! Prints its address.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::future::BoxFuture;
use opsroom_core::caller::Face;
use opsroom_core::egress::{Egress, EgressConfig};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Caller, Clock, Error, Result};
use opsroom_gateway::config::{GatewayConfig, UpstreamConfig};
use opsroom_gateway::seam::{BuiltIn, BuiltInCall, Calls, Definition, Finished};
use opsroom_gateway::shared::InProcess;
use opsroom_gateway::world::World;
use opsroom_gateway::{Gateway, Limits, Parts, View};
use serde_json::value::RawValue;
use tokio::sync::watch;

struct Nothing;

impl BuiltIn for Nothing {
    fn tools(&self, _: &Caller) -> Vec<Definition> {
        Vec::new()
    }

    fn has(&self, _: &Caller, _: &str) -> bool {
        false
    }

    fn call(&self, _: BuiltInCall) -> BoxFuture<'static, Result<Box<RawValue>>> {
        Box::pin(std::future::ready(Err(Error::not_found("there are no tools of the house"))))
    }

    fn task(&self, _: Caller, _: String) -> BoxFuture<'static, Result<Box<RawValue>>> {
        Box::pin(std::future::ready(Err(Error::not_found("there are no tasks of the house"))))
    }

    fn cancel_task(&self, _: Caller, _: String) -> BoxFuture<'static, Result<()>> {
        Box::pin(std::future::ready(Err(Error::not_found("there are no tasks of the house"))))
    }

    fn instructions(&self) -> &str {
        "A gateway alone"
    }
}

impl Calls for Nothing {
    fn finished(&self, _: &Finished<'_>) {}
}

async fn answer(gateway: Gateway, view: View, request: Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let here = ["127.0.0.1", "localhost"].iter().any(|name| host.split(':').next() == Some(name));
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    if !here || origin.is_some_and(|origin| !origin.contains("localhost") && !origin.contains("127.0.0.1")) {
        return StatusCode::FORBIDDEN.into_response();
    }
    gateway.handle(request, Caller::operator(Face::Mcp), view).await.map(Body::new)
}

#[tokio::main]
async fn main() -> Result<()> {
    let upstreams = std::env::args().skip(1).map(|argument| {
        let (name, url) = argument.split_once('=').unwrap_or(("service", &argument));
        UpstreamConfig { name: name.to_owned(), url: url.to_owned(), ..UpstreamConfig::default() }
    });
    let config = GatewayConfig { upstreams: upstreams.collect(), ..GatewayConfig::default() };
    config.validate()?;
    let world = World { upstreams: config.upstreams(), ..World::default() };
    let (_keep, world) = watch::channel(Arc::new(world));
    let gateway = Gateway::new(Parts {
        world,
        builtin: Arc::new(Nothing),
        calls: Arc::new(Nothing),
        shared: Arc::new(InProcess::default()),
        egress: Egress::new(&EgressConfig::default())?,
        lifecycle: Lifecycle::new(),
        clock: Clock::System,
        limits: Limits::default(),
    })?;
    let all =
        async |State(gateway): State<Gateway>, request: Request| answer(gateway, View::All, request).await;
    let one = async |State(gateway): State<Gateway>, Path(name): Path<String>, request: Request| {
        answer(gateway, View::Service(name), request).await
    };
    let router =
        Router::new().route("/mcp", any(all)).route("/mcp/services/{name}", any(one)).with_state(gateway);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(Error::internal)?;
    println!("http://{}", listener.local_addr().map_err(Error::internal)?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await.map_err(Error::internal)
}
