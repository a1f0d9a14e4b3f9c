//! What every request leaves behind: its id, its place in a trace, and one line in the log.
//!
//! The id is the caller's own `x-request-id` when it sends one of a plain form, else one of ours; the
//! answer carries it, and so do the log, the audit trail and the call record. The line names the route
//! and never what stood in the path, the query or the headers: those may be secrets.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use opsroom_core::id::new_id;
use tracing::Instrument;

use super::Peer;

/// The header of a request's id.
pub const REQUEST_ID: &str = "x-request-id";

/// Gives a request its id and its span, and writes its line when it is answered.
pub async fn log(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = known_id(request.headers()).unwrap_or_else(new_id);
    let method = word(request.method());
    let span = tracing::info_span!(
        "request",
        request_id = id,
        traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok()),
        otel.kind = "server",
    );
    if let Some(peer) = request.extensions_mut().get_mut::<Peer>() {
        peer.request_id = Some(id.clone());
    }
    let work = async {
        let mut answer = next.run(request).await;
        let route = answer.extensions().get::<Route>().map_or("unmatched", |route| route.0.as_str());
        tracing::info!(
            http.method = method,
            http.route = route,
            http.status = answer.status().as_u16(),
            took_ms = (begun.elapsed().as_secs_f64() * 1e5).round() / 1e2,
            "answered"
        );
        if let Ok(value) = HeaderValue::from_str(&id) {
            answer.headers_mut().insert(REQUEST_ID, value);
        }
        answer
    };
    work.instrument(span).await
}

/// Tells the outer layers which route it was; they run before the routes are looked up.
pub async fn mark(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    if let Some(route) = route {
        answer.extensions_mut().insert(Route(route.as_str().to_owned()));
    }
    answer
}

/// The pattern that a request's path matched.
#[derive(Clone)]
struct Route(String);

/// The caller's own id, when it is one that can stand anywhere.
pub fn known_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    ((1..=128).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

/// A method as the log has it: a client may invent a long one.
fn word(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let words = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.iter().position(|one| one == method).map_or("other", |at| words[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_forge_a_line_or_fill_the_log_is_replaced() {
        let known = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            known_id(&headers)
        };
        assert_eq!(known("7f3a-01").as_deref(), Some("7f3a-01"));
        for id in ["", "a b", "\"x\"", "a\tb", "é", &"0123456789".repeat(13)] {
            assert_eq!(known(id), None, "{id}");
        }
    }

    #[test]
    fn an_invented_method_is_not_repeated() {
        assert_eq!(word(&Method::from_bytes(b"BREW").unwrap()), "other");
        assert_eq!(word(&Method::DELETE), "DELETE");
    }
}
