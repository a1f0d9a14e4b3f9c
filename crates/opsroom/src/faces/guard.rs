//! What every HTTP request must pass before anything reads it: the `Host` must be one of ours and an
//! `Origin` must be too (against DNS rebinding and pages elsewhere that make a browser call us), and
//! what every answer carries.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use opsroom_core::Error;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};

use super::rest::Failure;
use super::{Peer, Server};
use crate::config::ServerConfig;

/// The names by which a server on this machine is reached without being told any.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Checks a request and dresses its answer.
pub async fn check(State(server): State<Server>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    let refused = refused(&server, &peer.unwrap_or(UNKNOWN), &request);
    dress(match refused {
        None => next.run(request).await,
        Some(refused) => refused,
    })
}

/// Whoever did not come by a listener of ours is checked like anybody from outside.
const UNKNOWN: Peer = Peer {
    address: Some(std::net::SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0)),
    request_id: None,
};

/// The refusal of a request that is not for this server, or comes from where it may not.
pub fn refused(server: &Server, peer: &Peer, request: &Request) -> Option<Response> {
    // What comes by the socket in the data folder was let in by the file system.
    peer.address?;
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let (status, message) = refusal(&server.config, authority, request.headers())?;
    Some((status, Failure(Error::forbidden(message)).body()).into_response())
}

/// Why a request is not for this server, or not from where it may come.
fn refusal(
    config: &ServerConfig,
    authority: Option<&str>,
    headers: &HeaderMap,
) -> Option<(StatusCode, &'static str)> {
    // An HTTP/2 request or one to a proxy names the host in its target, others in the header. Where there
    // are several, whoever stands before this server may have looked at another one than we.
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut hosts = hosts.chain(authority);
    let host = hosts.next().unwrap_or_default();
    if !known_host(config, host) || hosts.any(|other| other != host) {
        let message =
            "the Host header names another server; add it to `server.allowed_hosts` if it is this one";
        return Some((StatusCode::MISDIRECTED_REQUEST, message));
    }
    let meant = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let same = ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host));
        same || config.allowed_origins.iter().any(|allowed| allowed == origin)
    };
    if headers.get_all(header::ORIGIN).iter().all(meant) {
        return None;
    }
    let message = "requests from this Origin are refused; add it to `server.allowed_origins` if it is meant";
    Some((StatusCode::FORBIDDEN, message))
}

/// Whether a `Host` header names this server: one of the configured names, or a loopback name or the
/// listening address; with any port, because a forwarded port is another one.
fn known_host(config: &ServerConfig, host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').unwrap_or(("", "")),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if !port.is_empty()
        && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return false;
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if LOOPBACK.contains(&name.as_str()) || name == config.host {
        return true;
    }
    // Bound to every address, an address literal cannot be the fruit of a rebound name.
    let any = config.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    (any && name.parse::<IpAddr>().is_ok())
        || config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&name) || allowed == host)
}

/// What every answer carries.
pub fn dress(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let set = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::REFERRER_POLICY) {
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        );
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}

/// Compress what is worth it, and never a stream that must arrive as it is written.
pub fn compressible() -> And<And<SizeAbove, NotForContentType>, NotForContentType> {
    SizeAbove::new(1024)
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::const_new("image/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(host: &str, origin: Option<&str>) -> bool {
        let config =
            ServerConfig { allowed_hosts: vec!["ops.example".to_owned()], ..ServerConfig::default() };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        refusal(&config, None, &headers).is_none()
    }

    #[test]
    fn dns_rebinding_is_refused() {
        assert!(passes("localhost:8008", None));
        assert!(passes("127.0.0.1:8008", None));
        assert!(passes("[::1]:8008", None));
        assert!(passes("OPS.example:443", None));
        for host in ["evil.example", "localhost.evil.example:8008", "127.0.0.1.nip.io", "", "[::1].evil"] {
            assert!(!passes(host, None), "{host}");
        }
    }

    #[test]
    fn a_second_host_or_origin_cannot_hide_behind_the_first() {
        let config = ServerConfig::default();
        let refused = |pairs: &[(header::HeaderName, &'static str)], authority| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, value);
            }
            refusal(&config, authority, &headers).is_some()
        };
        let (host, origin) = (header::HOST, header::ORIGIN);
        assert!(refused(&[(host.clone(), "localhost"), (host.clone(), "evil.example")], None));
        assert!(refused(&[(host.clone(), "localhost")], Some("evil.example")));
        assert!(!refused(&[(host.clone(), "localhost:8008")], Some("localhost:8008")));
        assert!(!refused(&[], Some("localhost:8008")));
        let same = (origin.clone(), "http://localhost");
        assert!(refused(&[(host.clone(), "localhost"), same, (origin, "http://evil.example")], None));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        assert!(passes("localhost:8008", Some("http://localhost:8008")));
        assert!(!passes("localhost:8008", Some("http://localhost:9999")));
        assert!(!passes("localhost:8008", Some("https://evil.example")));
        assert!(!passes("localhost:8008", Some("null")));
    }
}
