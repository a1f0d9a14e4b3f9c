//! The console: for now one start page, which says where everything is, and exchanges a setup link's
//! token for the administrator's key. The token is in the URL's fragment, which browsers do not send.

use axum::Router;
use axum::routing::get;

use super::{Server, docs};

const START_PAGE: &str = include_str!("../../assets/console/start.html");
const START_JS: &str = include_str!("../../assets/console/start.js");
const START_CSS: &str = include_str!("../../assets/console/start.css");

/// The page and what it loads.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/", get(async || docs::page(START_PAGE)))
        .route("/assets/start.js", get(async || docs::asset("text/javascript", START_JS)))
        .route("/assets/start.css", get(async || docs::asset("text/css", START_CSS)))
}
