//! Single sign-on as a browser meets it: on to the provider, and back. The rules are `identity::oidc`'s.
//!
//! What the browser keeps in between is in a cookie of its own, out of reach of scripts; pages elsewhere can make a
//! browser begin a login, and end none that they began themselves.

use axum::extract::{Query, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use opsroom_capabilities::identity::oidc::{Ended, SECONDS};
use opsroom_core::{Caller, Error};

use super::pages::{self, Fields, anonymous, to, trouble};
use super::{Peer, Server, auth, oauth};

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new().route("/login/oidc", get(begin)).route("/login/oidc/callback", get(end))
}

async fn begin(State(server): State<Server>, Query(query): Query<Fields>) -> Response {
    let field = |name: &str| query.get(name).map_or("", String::as_str);
    match server.room.oidc.begin(pages::local(field("next")), field("link")).await {
        Ok(begun) => {
            let mut answer = to(&begun.url);
            pages::add_cookie(&mut answer, cookie_name(&server), &begun.cookie, SECONDS);
            answer
        }
        Err(error) => failed(&server, &error),
    }
}

async fn end(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller: Caller = match auth::by_cookie(&server, &headers, &peer).await {
        Ok(caller) => caller.unwrap_or_else(|| anonymous(&peer)),
        Err(error) => return failed(&server, &error),
    };
    let given = oauth::parameters(&query.unwrap_or_default());
    let device = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let cookie = auth::cookie(&headers, cookie_name(&server));
    match server.room.oidc.end(&caller, cookie, &given, device).await {
        Ok(Ended::LoggedIn { session, next }) => {
            let mut answer = to(pages::local(&next));
            pages::set_cookie(&server, &mut answer, &session.access_token, session.expires_in);
            pages::add_cookie(&mut answer, cookie_name(&server), "", 0);
            answer
        }
        Ok(Ended::Linked) => to("/account"),
        Err(error) => failed(&server, &error),
    }
}

fn failed(server: &Server, error: &Error) -> Response {
    trouble("Log in", error, &pages::login_form(server, ""))
}

/// A name that only HTTPS can set where there is HTTPS, as for the session's.
fn cookie_name(server: &Server) -> &'static str {
    if auth::cookie_name(server).starts_with("__Host-") { "__Host-opsroom-login" } else { "opsroom-login" }
}
