//! The MCP endpoints over HTTP: a key first, then the protocol.
//!
//! They are answered before the router and its layers: what passes through is to cost little. What those
//! layers do for every route is done here too: `Host` and `Origin`, the key, the headers of every answer,
//! a panic that becomes an answer.

use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use opsroom_core::caller::Face;
use opsroom_core::id::new_id;
use opsroom_core::{Error, Kind};
use opsroom_gateway::View;

use crate::faces::rest::{self, Failure};
use crate::faces::{Peer, Server, access, auth, guard};

use super::old;

/// A path of the MCP endpoints.
#[derive(Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Streamable HTTP.
    Mcp(View),
    /// The event stream of 2024-11-05.
    Sse,
    /// Where its messages are posted.
    Messages,
}

impl Endpoint {
    /// Its path, as a token names it.
    fn path(&self) -> String {
        match self {
            Endpoint::Mcp(View::All) => "/mcp".to_owned(),
            Endpoint::Mcp(View::Service(name)) => format!("/mcp/services/{name}"),
            Endpoint::Mcp(View::Profile(name)) => format!("/mcp/profiles/{name}"),
            Endpoint::Sse | Endpoint::Messages => "/sse".to_owned(),
        }
    }
}

/// The endpoint at this path; `None` for the paths of the router.
pub fn endpoint(path: &str) -> Option<Endpoint> {
    let name = |text: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        (!text.is_empty() && text.bytes().all(good)).then(|| text.to_owned())
    };
    match path.strip_suffix('/').unwrap_or(path) {
        "/mcp" => Some(Endpoint::Mcp(View::All)),
        "/sse" => Some(Endpoint::Sse),
        "/messages" => Some(Endpoint::Messages),
        other => {
            if let Some(service) = other.strip_prefix("/mcp/services/") {
                return name(service).map(View::Service).map(Endpoint::Mcp);
            }
            other.strip_prefix("/mcp/profiles/").and_then(name).map(View::Profile).map(Endpoint::Mcp)
        }
    }
}

/// Answers a request to an endpoint.
pub async fn serve(server: &Server, endpoint: Endpoint, peer: &Peer, request: Request<Body>) -> Response {
    // The records of what a call did name the request, and so does the answer.
    let id = access::known_id(request.headers()).unwrap_or_else(new_id);
    let peer = Peer { address: peer.address, request_id: Some(id.clone()) };
    let answer = AssertUnwindSafe(answer(server, endpoint, &peer, request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|_| Failure(Error::internal("a handler panicked")).into_response());
    let mut answer = guard::dress(answer);
    if let Ok(value) = header::HeaderValue::try_from(id) {
        answer.headers_mut().insert(access::REQUEST_ID, value);
    }
    answer
}

async fn answer(server: &Server, endpoint: Endpoint, peer: &Peer, request: Request<Body>) -> Response {
    if let Some(refused) = guard::refused(server, peer, &request) {
        return refused;
    }
    let path = endpoint.path();
    let caller = match auth::caller_at(server, request.headers(), peer, Face::Mcp, Some(&path)).await {
        Ok(caller) => caller,
        Err(error) => return challenged(server, request.headers(), &path, error),
    };
    let gateway = match server.gateway() {
        Ok(gateway) => gateway,
        Err(error) => return Failure(error).into_response(),
    };
    match endpoint {
        Endpoint::Mcp(view) => {
            let request = match read(server, request).await {
                Ok(request) => request,
                Err(refusal) => return refusal,
            };
            gateway.handle(request, caller, view).await.map(Body::new)
        }
        Endpoint::Sse => old::open(server, &gateway, caller, request.method()),
        Endpoint::Messages => old::post(server, caller, request).await,
    }
}

/// A refusal that says where a client gets a token (RFC 9728).
fn challenged(server: &Server, headers: &HeaderMap, path: &str, error: Error) -> Response {
    let unknown = error.kind == Kind::Unauthenticated;
    let mut answer = Failure(error).into_response();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let oauth = &server.room.oauth;
    let challenge = oauth.challenge(oauth.origin(host), path, headers.contains_key(header::AUTHORIZATION));
    if let Some(challenge) = challenge.filter(|_| unknown)
        && let Ok(challenge) = header::HeaderValue::try_from(challenge)
    {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

/// A body that says how long it is and is longer than what is taken is read to its end, within bounds: a
/// client that is still sending would see a broken connection in place of the answer.
async fn read(server: &Server, request: Request<Body>) -> Result<Request<Body>, Response> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if request.method() != Method::POST || length.is_none_or(|length| length <= server.config.max_body_bytes)
    {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    match rest::bytes(server, &head.headers, body).await {
        Ok(bytes) => Ok(Request::from_parts(head, Body::from(bytes))),
        Err(refusal) => Err(refusal.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_an_endpoint_or_none() {
        let service = |name: &str| Some(Endpoint::Mcp(View::Service(name.to_owned())));
        assert_eq!(endpoint("/mcp"), Some(Endpoint::Mcp(View::All)));
        assert_eq!(endpoint("/mcp/"), Some(Endpoint::Mcp(View::All)));
        assert_eq!(endpoint("/mcp/services/time"), service("time"));
        assert_eq!(endpoint("/messages/"), Some(Endpoint::Messages));
        for path in ["/mcpx", "/mcp/services", "/mcp/services/a/b", "/mcp/services/%2e", "/health", "/"] {
            assert_eq!(endpoint(path), None, "{path}");
        }
    }
}
