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
    caller_at(server, headers, peer, face, None).await
}

/// The same at an MCP endpoint, where a token that a client got by a person's login is good too.
///
/// # Errors
/// `Unauthenticated` without a key or token, or with one that is not valid here.
pub async fn caller_at(
    server: &Server,
    headers: &HeaderMap,
    peer: &Peer,
    face: Face,
    endpoint: Option<&str>,
) -> Result<Caller> {
    let address = peer.address.map(|address| address.ip().to_string());
    // Only what came by the socket in the data folder can be the command line.
    let face = match headers.get("x-opsroom-face") {
        Some(word) if peer.address.is_none() && word == "cli" => Face::Cli,
        _ => face,
    };
    let Some(token) = token(headers)? else {
        if let Some(caller) = by_cookie(server, headers, peer).await?.filter(|_| may_use_cookie(headers)) {
            return Ok(Caller { face, ..caller });
        }
        server.room.metrics.unauthenticated.inc();
        return Err(Error::unauthenticated(
            "a key is needed: send `Authorization: Bearer KEY`; `opsroom create-api-key` makes one",
        ));
    };
    let identity = &server.room.identity;
    let caller = match endpoint {
        Some(endpoint) => {
            let elsewhere = server.room.oidc.authenticate_at(endpoint, token, face, address.clone()).await;
            match elsewhere {
                Ok(None) => identity.authenticate_at(endpoint, token, face, address).await,
                Ok(Some(caller)) => Ok(caller),
                Err(error) => Err(error),
            }
        }
        None => identity.authenticate(token, face, address).await,
    };
    let caller = caller.inspect_err(|_| {
        server.room.metrics.unauthenticated.inc();
    })?;
    Ok(Caller { request_id: peer.request_id.clone(), ..caller })
}

/// The cookie's name: one that only HTTPS can set where there is HTTPS.
pub fn cookie_name(server: &Server) -> &'static str {
    if server.config.public_url.starts_with("https://") { "__Host-opsroom" } else { "opsroom" }
}

/// The value of a cookie that came and is not empty.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs =
        cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Who is logged in by the cookie of a session; `None` without one that goes on.
pub async fn by_cookie(server: &Server, headers: &HeaderMap, peer: &Peer) -> Result<Option<Caller>> {
    let Some(token) = cookie(headers, cookie_name(server)) else { return Ok(None) };
    let address = peer.address.map(|address| address.ip().to_string());
    match server.room.identity.authenticate(token, Face::Rest, address).await {
        // A key in a cookie is not what a login put there.
        Ok(caller) if caller.session.is_some() => {
            Ok(Some(Caller { request_id: peer.request_id.clone(), ..caller }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind == opsroom_core::Kind::Unauthenticated => Ok(None),
        Err(error) => Err(error),
    }
}

/// A cookie is sent by the browser whoever asks it to. It counts where the browser says that a page of ours
/// asked, or where a header says it that no other site's page can set (ASVS 3.5.1, 3.5.2).
fn may_use_cookie(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => headers.contains_key("x-opsroom-session"),
    }
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
