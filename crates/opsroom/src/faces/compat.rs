//! The listener for programs of older systems: routes as those had them, in front of the same operations.
//!
//! Of the first LogRobust server: each tool at `/tools/NAME` with a flat body, and the list of them at `/`. On
//! the main port `GET /tools/{name}` is another thing, so this listener is one of its own
//! (`compatibility.enabled`). A request that shows no key has the configured one, if there is one; what it may
//! do, and what is recorded of it, is as for any other caller.

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use axum::{Extension, Json, Router};
use opsroom_core::{Error, Result, Secret, fields};
use serde_json::{Value, json};

use super::rest::{Failure, Incoming, Refusal, answer};
use super::{Peer, Server};

/// The tools of the first LogRobust server, in the order in which it listed them.
const TOOLS: [&str; 6] = [
    "train_federated_model",
    "train_centralized_model",
    "predict_logs",
    "get_training_status",
    "get_training_results",
    "evaluate_model",
];

/// Every route of the listener. `key` is that of requests that show none; it may be empty.
///
/// # Errors
/// `Invalid` for a key that cannot stand in a header.
pub fn router(server: &Server, key: &Secret) -> Result<Router> {
    let key = match key.expose() {
        "" => None,
        key => {
            let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                .map_err(|_| Error::invalid("compatibility.api_key: it is no key that this server made"))?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    let routes = logrobust(server).layer(axum::middleware::from_fn_with_state(key, lend));
    Ok(server.guarded(routes.with_state(server.clone()), "there is no such path; `GET /` lists them"))
}

/// Gives a request without a key the one that the listener lends.
async fn lend(State(key): State<Option<HeaderValue>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    if let Some(key) = key
        && !headers.contains_key(header::AUTHORIZATION)
        && !headers.contains_key("x-api-key")
    {
        headers.insert(header::AUTHORIZATION, key);
    }
    next.run(request).await
}

/// The routes of the first LogRobust server.
fn logrobust(server: &Server) -> Router<Server> {
    let routes = Router::new().route("/", get(async || Json(index())));
    TOOLS.into_iter().fold(routes, |router, name| {
        let Some(operation) = server.room.operation(name) else { return router };
        let method =
            if operation.route.method == Method::GET { MethodFilter::GET } else { MethodFilter::POST };
        let handler = async move |State(server): State<Server>,
                                  Extension(peer): Extension<Peer>,
                                  RawQuery(query): RawQuery,
                                  headers: HeaderMap,
                                  body: Body| {
            let request = Incoming { peer, path: Vec::new(), query, headers, body };
            match answer(&server, name, request).await {
                Ok(answer) => answer,
                Err(refusal) => refused(refusal),
            }
        };
        router.route(&format!("/tools/{name}"), on(method, handler))
    })
}

/// What the first server said of itself.
fn index() -> Value {
    let endpoints: Vec<String> = TOOLS.iter().map(|name| format!("/tools/{name}")).collect();
    json!({ "name": "LogRobust MCP Server", "version": "1.0.0", "endpoints": endpoints })
}

/// An error with the `detail` that older clients read: of fields a list and 422, else the message. Other than
/// the first server, which answered 500 to everything, the status says whose fault it is.
fn refused(refusal: Refusal) -> Response {
    let (status, error, headers) = match refusal {
        Refusal::Status(status, message) => (status, Error::invalid(message), HeaderMap::new()),
        Refusal::Error(error) => {
            let seen = Error { kind: error.kind, message: error.message.clone(), source: None };
            if fields::are_wrong(&error) {
                let body = json!({ "detail": fields::detail(&error), "error": told(&seen) });
                return (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response();
            }
            // It is logged there, and has its headers.
            let (parts, _) = Failure(error).into_response().into_parts();
            (parts.status, seen, parts.headers)
        }
    };
    let mut answer =
        (status, Json(json!({ "detail": error.message, "error": told(&error) }))).into_response();
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = headers.get(&name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer
}

fn told(error: &Error) -> Value {
    json!({ "kind": error.kind, "message": error.message })
}
