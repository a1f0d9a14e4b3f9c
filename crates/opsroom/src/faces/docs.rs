//! The API's documents: `/openapi.json`, Swagger UI at `/docs`, ReDoc at `/redoc`. Everything they need
//! is in the binary; their pages may run only scripts from here.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Server;

const SWAGGER_JS: &str = include_str!("../../assets/vendor/swagger-ui/swagger-ui-bundle.js");
const SWAGGER_CSS: &str = include_str!("../../assets/vendor/swagger-ui/swagger-ui.css");
const REDOC_JS: &str = include_str!("../../assets/vendor/redoc/redoc.standalone.js");
const SWAGGER_PAGE: &str = include_str!("../../assets/docs/swagger.html");
const SWAGGER_START: &str = include_str!("../../assets/docs/swagger.js");
const REDOC_PAGE: &str = include_str!("../../assets/docs/redoc.html");
const REDOC_START: &str = include_str!("../../assets/docs/redoc.js");

/// Both pages style themselves inline; scripts come from here alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The pages and what they load.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/openapi.json", get(openapi))
        .route("/docs", get(async || page(SWAGGER_PAGE)))
        .route("/redoc", get(async || page(REDOC_PAGE)))
        .route("/docs/swagger-ui-bundle.js", get(async || asset("text/javascript", SWAGGER_JS)))
        .route("/docs/swagger-ui.css", get(async || asset("text/css", SWAGGER_CSS)))
        .route("/docs/swagger.js", get(async || asset("text/javascript", SWAGGER_START)))
        .route("/docs/redoc.standalone.js", get(async || asset("text/javascript", REDOC_JS)))
        .route("/docs/redoc.js", get(async || asset("text/javascript", REDOC_START)))
}

async fn openapi(State(server): State<Server>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], server.openapi()).into_response()
}

/// An HTML page with the policy of the documents.
pub fn page(html: &'static str) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, html).into_response()
}

/// A script or a style sheet.
pub fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CACHE_CONTROL, "public, max-age=3600".to_owned()),
    ];
    (headers, text).into_response()
}
