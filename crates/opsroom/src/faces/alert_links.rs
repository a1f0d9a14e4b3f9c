//! Links in messages about alerts: to look at one shows a page and changes nothing, because chats fetch what they
//! are shown; its button acts, once.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use opsroom_core::{Call, Result};

use super::pages::{escape, page, trouble};
use super::raw::RawRoute;
use super::{Peer, Server};

/// Why it needs no key.
const OPEN: Option<&str> =
    Some("the link itself is the key: for certain alerts, one action, a day at most, and once");

const fn route(method: &'static str, summary: &'static str) -> RawRoute {
    RawRoute {
        method,
        path: "/alert-links/{token}",
        summary,
        takes: None,
        content: "text/html",
        statuses: &[404],
        open: OPEN,
    }
}

/// The page of a link and what its button does.
pub static ROUTES: [RawRoute; 2] = [
    route("GET", "Show what a link in a message about alerts does; nothing changes"),
    route("POST", "Do what a link in a message about alerts says, once"),
];

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new().route("/alert-links/{token}", get(show).post(act))
}

const TITLE: &str = "Alert";

async fn show(State(server): State<Server>, Path(token): Path<String>) -> Response {
    match server.room.alerts.link(&token).await {
        Ok(link) => {
            let titles: String =
                link.titles.iter().map(|title| format!("<li>{}</li>", escape(title))).collect();
            let form =
                format!("<form method=\"post\"><p><button>{}</button></p></form>", link.action.words());
            page(TITLE, &format!("<ul>{titles}</ul>{form}"))
        }
        Err(error) => trouble(TITLE, &error, ""),
    }
}

async fn act(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    Path(token): Path<String>,
) -> Response {
    match acted(&server, &peer, &token).await {
        Ok(told) => page(TITLE, &told),
        Err(error) => trouble(TITLE, &error, ""),
    }
}

/// Calls what the link is for, as the link: so each call is authorised and audited as any other.
async fn acted(server: &Server, peer: &Peer, token: &str) -> Result<String> {
    let link = server.room.alerts.link(token).await?;
    let address = peer.address.map(|address| address.ip().to_string());
    let (mut caller, calls) = server.room.alerts.use_link(&link, address).await?;
    caller.request_id.clone_from(&peer.request_id);
    let mut told = String::from("<ul>");
    for (operation, input) in calls {
        let line = match server.room.call(operation, Call::new(caller.clone()), input).await {
            Ok(_) => "done".to_owned(),
            Err(error) => error.message,
        };
        told.push_str(&format!("<li>{}</li>", escape(&line)));
    }
    told.push_str("</ul>");
    Ok(told)
}
