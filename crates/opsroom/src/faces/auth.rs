//! From a request to a `Caller`.

use axum::http::{HeaderMap, header};
use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Result};

use super::{Peer, Server};

/// Who sent this request: by `Authorization: Bearer KEY` or `X-API-Key: KEY`.
///
/// # Errors
/// `Unauthenticated` without a key or with one that is not valid.
pub async fn caller(server: &Server, headers: &HeaderMap, peer: &Peer, face: Face) -> Result<Caller> {
    let address = peer.address.map(|address| address.ip().to_string());
    // Only what came by the socket in the data folder can be the command line.
    let face = match headers.get("x-opsroom-face") {
        Some(word) if peer.address.is_none() && word == "cli" => Face::Cli,
        _ => face,
    };
    let Some(token) = token(headers)? else {
        server.room.metrics.unauthenticated.inc();
        return Err(Error::unauthenticated(
            "a key is needed: send `Authorization: Bearer KEY`; `opsroom create-api-key` makes one",
        ));
    };
    let caller = server.room.identity.authenticate(token, face, address).await.inspect_err(|_| {
        server.room.metrics.unauthenticated.inc();
    })?;
    Ok(Caller { request_id: peer.request_id.clone(), ..caller })
}

fn token(headers: &HeaderMap) -> Result<Option<&str>> {
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::unauthenticated(format!("the header {name} is not text"))),
        },
    };
    if let Some(value) = text(header::AUTHORIZATION.as_str())? {
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::unauthenticated(
                "the Authorization header is `Bearer KEY`; other schemes are not known",
            ));
        }
        return Ok(Some(token.trim()));
    }
    text("x-api-key")
}
