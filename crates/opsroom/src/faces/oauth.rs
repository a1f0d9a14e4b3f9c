//! OAuth as HTTP has it: the metadata, the page where a person lets a client in, and the endpoints that clients
//! call themselves. The rules are `identity::oauth`'s.
//!
//! The consent page is shown each time. It can be answered by the session that it was shown to, once, from a
//! page of ours, and stands in no frame.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use opsroom_capabilities::identity::oauth::model::{self, Asked, Denied};
use opsroom_capabilities::identity::oauth::{Metadata, Parameters, Refused, Shown};
use opsroom_core::{Error, Result};
use serde_json::{Value, json};

use super::pages::{self, Posted, escape, page, to, trouble};
use super::raw::RawRoute;
use super::rest::{self, Failure};
use super::{Peer, Server, auth};

const TITLE: &str = "Let a program in";
const OPEN: Option<&str> = Some("a client that has no token yet must find where to get one");

/// The raw routes of OAuth.
pub static ROUTES: [RawRoute; 10] = [
    RawRoute {
        method: "GET",
        path: "/.well-known/oauth-authorization-server",
        summary: "Where MCP clients get tokens by a person's login (RFC 8414)",
        takes: None,
        content: "application/json",
        statuses: &[404],
        open: OPEN,
    },
    RawRoute {
        method: "GET",
        path: "/.well-known/oauth-protected-resource",
        summary: "Which authorization server `/mcp` has (RFC 9728)",
        takes: None,
        content: "application/json",
        statuses: &[404],
        open: OPEN,
    },
    RawRoute {
        method: "GET",
        path: "/.well-known/oauth-protected-resource/{path}",
        summary: "The same of another MCP endpoint, whose path follows",
        takes: None,
        content: "application/json",
        statuses: &[400, 404],
        open: OPEN,
    },
    RawRoute {
        method: "GET",
        path: "/oauth/authorize",
        summary: "The page on which a person lets a client in",
        takes: None,
        content: "text/html",
        statuses: &[303, 400, 404],
        open: Some("who is not logged in is sent to the login page"),
    },
    RawRoute {
        method: "POST",
        path: "/oauth/authorize",
        summary: "Takes the person's answer from that page",
        takes: Some("application/x-www-form-urlencoded"),
        content: "text/html",
        statuses: &[303, 400, 401, 403, 404, 413, 415, 429, 503],
        open: Some("what is posted must come from a page of ours, of somebody who is logged in"),
    },
    RawRoute {
        method: "POST",
        path: "/oauth/token",
        summary: "Tokens for a code or a refresh token (RFC 6749)",
        takes: Some("application/x-www-form-urlencoded"),
        content: "application/json",
        statuses: &[400, 401, 404, 413, 415, 429, 503],
        open: Some("the code or the refresh token is what opens it"),
    },
    RawRoute {
        method: "POST",
        path: "/oauth/revoke",
        summary: "End the access that a token gives (RFC 7009)",
        takes: Some("application/x-www-form-urlencoded"),
        content: "application/json",
        statuses: &[400, 401, 404, 413, 415, 429, 503],
        open: Some("the token is what opens it"),
    },
    RawRoute {
        method: "POST",
        path: "/oauth/register",
        summary: "Register a client (RFC 7591), where `oauth.registration` is on; a few at a time",
        takes: Some("application/json"),
        content: "application/json",
        statuses: &[201, 400, 404, 413, 415, 429, 503],
        open: Some("a new client has no key; nobody is let in by registering"),
    },
    RawRoute {
        method: "GET",
        path: "/oauth/client.json",
        summary: "Who we are as a client of services' authorization servers (a Client ID Metadata Document)",
        takes: None,
        content: "application/json",
        statuses: &[],
        open: Some("an authorization server has no key of ours, and it says what we tell each of them"),
    },
    RawRoute {
        method: "GET",
        path: "/oauth/callback",
        summary: "Where a browser brings the answer of a service's authorization server, after `connect_service`",
        takes: None,
        content: "text/html",
        statuses: &[400, 403, 404, 503],
        open: Some("the answer's state, which works once, is what opens it"),
    },
];

/// The routes with their handlers.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/.well-known/oauth-protected-resource", get(common_resource))
        .route("/.well-known/oauth-protected-resource/{*path}", get(resource))
        .route("/oauth/authorize", get(authorize).post(decide))
        .route("/oauth/token", post(token))
        .route("/oauth/revoke", post(revoke))
        .route("/oauth/register", post(register))
        .route("/oauth/client.json", get(client_document))
        .route("/oauth/callback", get(callback))
}

async fn metadata(State(server): State<Server>) -> Response {
    answered(server.room.oauth.metadata())
}

async fn common_resource(State(server): State<Server>, headers: HeaderMap) -> Response {
    of_resource(&server, &headers, "")
}

async fn resource(State(server): State<Server>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    of_resource(&server, &headers, &format!("/{path}"))
}

fn of_resource(server: &Server, headers: &HeaderMap, path: &str) -> Response {
    // The guard has held the header against our own names.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let oauth = &server.room.oauth;
    let metadata = oauth.resource_metadata(oauth.origin(host), path).map(|mut metadata| {
        if let (Some(issuer), Some(servers)) =
            (server.room.oidc.access_issuer(), metadata["authorization_servers"].as_array_mut())
        {
            servers.push(issuer.into());
        }
        metadata
    });
    answered(metadata)
}

fn answered(result: Result<Value>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => Failure(error).into_response(),
    }
}

async fn authorize(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let caller = match auth::by_cookie(&server, &headers, &peer).await {
        Ok(caller) => caller,
        Err(error) => return trouble(TITLE, &error, ""),
    };
    let oauth = &server.room.oauth;
    let login = || to(&model::with_query("/login", &[("next", &format!("/oauth/authorize?{query}"))]));
    let asked = match oauth.asked(&parameters(&query), caller.is_some()).await {
        Ok(asked) => asked,
        Err(Refused::LogIn) => return login(),
        Err(Refused::Back(url)) => return to(&url),
        Err(Refused::Told(error)) => return trouble(TITLE, &error, ""),
    };
    let Some(caller) = caller else { return login() };
    match oauth.ask(&caller, &asked).await {
        Ok(ticket) => consent(&caller.name, oauth.issuer(), &asked, &ticket),
        Err(error) => trouble(TITLE, &error, ""),
    }
}

/// The page on which a person says yes or no.
fn consent(who: &str, issuer: &str, asked: &Asked, ticket: &str) -> Response {
    let target = reqwest::Url::parse(&asked.redirect_uri).ok();
    let scopes = asked.scopes.iter().enumerate().map(|(at, scope)| {
        let (text, fixed) = (String::from(scope.clone()), scope.denies());
        let box_ = match fixed {
            true => String::new(),
            false => format!("<input type=\"checkbox\" name=\"s{at}\" checked> "),
        };
        format!("<li><label>{box_}{}</label></li>", described(&text))
    });
    let scopes: String = scopes.collect();
    let body = format!(
        "<p><strong>{name}</strong> wants to act for you, <strong>{who}</strong>, at <code>{issuer}{resource}</code>.</p>\
         <p>Anybody can call a program so. {origin}</p>{warning}\
         <form method=\"post\" action=\"/oauth/authorize\"><input type=\"hidden\" name=\"ticket\" value=\"{ticket}\">\
         <p>It may do, as far as you may:</p><ul>{scopes}</ul>\
         <p><button name=\"answer\" value=\"yes\">Let it in</button> <button name=\"answer\" value=\"no\">No</button></p></form>\
         <p>You can take this back at any time: <code>list_grants</code> and <code>revoke_grant</code>.</p>",
        name = escape(&asked.client_name),
        who = escape(who),
        issuer = escape(issuer),
        resource = escape(&asked.resource),
        origin = origin(asked),
        warning = warning(target.as_ref()),
        ticket = escape(ticket),
    );
    let mut answer = page(TITLE, &body);
    // The answer to the form goes on to the client, and browsers hold that against the policy too.
    let goes_on = target.map_or(String::new(), |url| match url.scheme() {
        "http" | "https" => format!(" {}", url.origin().ascii_serialization()),
        scheme => format!(" {scheme}:"),
    });
    let policy = pages::POLICY.replace("form-action 'self'", &format!("form-action 'self'{goes_on}"));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

/// What is known about who asks.
fn origin(asked: &Asked) -> String {
    match reqwest::Url::parse(&asked.client_id).ok().filter(|_| model::is_document(&asked.client_id)) {
        Some(url) => format!(
            "This one is published by <code>{}</code> (<code>{}</code>).",
            escape(url.host_str().unwrap_or_default()),
            escape(&asked.client_id)
        ),
        None => format!("This one is known here as <code>{}</code>.", escape(&asked.client_id)),
    }
}

/// Where the answer goes: what a person can judge a program by that calls itself whatever it likes.
fn warning(target: Option<&reqwest::Url>) -> String {
    let Some(url) = target else { return String::new() };
    match url.scheme() {
        "http" => "<p role=\"note\"><strong>Your answer goes to a program on your own computer</strong>, and any program \
                   there could have asked. Go on only if you have just started it.</p>"
            .to_owned(),
        "https" => format!("<p>Your answer goes to <code>{}</code>.</p>", escape(url.host_str().unwrap_or_default())),
        scheme => format!(
            "<p role=\"note\"><strong>Your answer goes to the program on your computer that opens <code>{}:</code></strong>. \
             Go on only if you have just started it.</p>",
            escape(scheme)
        ),
    }
}

/// A scope in words, where it has any.
fn described(scope: &str) -> String {
    let words = match scope {
        "*:read" => "look at everything",
        "*:write" => "make and change everything",
        "*:destroy" => "remove things for good",
        "*:*" => "everything",
        _ => "",
    };
    match words {
        "" => format!("<code>{}</code>", escape(scope)),
        words => format!("{words} (<code>{}</code>)", escape(scope)),
    }
}

async fn decide(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble(TITLE, &error, ""),
    };
    let given: Vec<usize> =
        posted.fields.keys().filter_map(|name| name.strip_prefix('s')?.parse().ok()).collect();
    let given = match posted.get("answer") {
        "yes" => Some(given.as_slice()),
        "no" => None,
        _ => return trouble(TITLE, &Error::invalid("the answer is neither yes nor no"), ""),
    };
    match server.room.oauth.decide(&posted.caller, posted.get("ticket"), given).await {
        Ok(url) => to(&url),
        Err(error) => trouble(TITLE, &error, ""),
    }
}

async fn token(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let (given, basic) = of_client(&server, &headers, body).await?;
        let shown = shown(&given, basic.as_ref()).map_err(|refused| *refused)?;
        server.room.oauth.token(&pages::anonymous(&peer), shown, &given).await.map_err(told)
    };
    answer.await.map_or_else(|refused| refused, |value| Json(value).into_response())
}

async fn revoke(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        let (given, basic) = of_client(&server, &headers, body).await?;
        let shown = shown(&given, basic.as_ref()).map_err(|refused| *refused)?;
        server.room.oauth.revoke(&pages::anonymous(&peer), shown, &given).await.map_err(told)
    };
    answer.await.map_or_else(|refused| refused, |()| Json(json!({})).into_response())
}

async fn register(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = async {
        need(&headers, "application/json").map_err(|refused| *refused)?;
        let bytes = rest::bytes_within(&server, &headers, body, rest::STRANGERS_BODY).await;
        let bytes = bytes.map_err(IntoResponse::into_response)?;
        let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|_| {
            told(Denied::new("invalid_client_metadata", "the body is no metadata of a client in JSON"))
        })?;
        server.room.oauth.register(&pages::anonymous(&peer), metadata).await.map_err(told)
    };
    answer.await.map_or_else(|refused| refused, |value| (StatusCode::CREATED, Json(value)).into_response())
}

async fn client_document(State(server): State<Server>) -> Response {
    Json(server.room.services.client_document()).into_response()
}

/// A person comes back from a service's authorization server.
async fn callback(State(server): State<Server>, RawQuery(query): RawQuery) -> Response {
    const TITLE: &str = "Log in at a service";
    let given = parameters(&query.unwrap_or_default());
    if given.twice().is_some() {
        return trouble(TITLE, &Error::invalid("the answer says something twice"), "");
    }
    match server.room.services.finish_login(|name| given.get(name).map(str::to_owned)).await {
        Ok(name) => {
            page(TITLE, &format!("<p role=\"status\">The service {} is logged in at.</p>", escape(&name)))
        }
        Err(error) => trouble(TITLE, &error, ""),
    }
}

/// What a client sends, and who it says it is in a header.
async fn of_client(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Parameters, Option<(String, String)>), Response> {
    let given = form(server, headers, body).await?;
    Ok((given, basic(headers).map_err(|refused| *refused)?))
}

/// The pairs of a query or a form.
pub(super) fn parameters(text: &str) -> Parameters {
    let url = reqwest::Url::parse(&format!("form:?{}", text.replace('#', "%23")));
    url.map(|url| url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
        .unwrap_or_default()
}

async fn form(server: &Server, headers: &HeaderMap, body: Body) -> Result<Parameters, Response> {
    need(headers, "application/x-www-form-urlencoded").map_err(|refused| *refused)?;
    let bytes = rest::bytes_within(server, headers, body, rest::STRANGERS_BODY).await;
    let bytes = bytes.map_err(IntoResponse::into_response)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| told(Denied::request("the form is not UTF-8")))?;
    Ok(parameters(text))
}

fn need(headers: &HeaderMap, kind: &str) -> Result<(), Box<Response>> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind) {
        return Ok(());
    }
    let body = json!({ "error": "invalid_request", "error_description": format!("send {kind}") });
    Err(Box::new((StatusCode::UNSUPPORTED_MEDIA_TYPE, Json(body)).into_response()))
}

fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Box<Response>> {
    let Some(header) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let parsed = header.to_str().ok().and_then(model::basic);
    parsed.map(Some).ok_or_else(|| Box::new(told(Denied::client())))
}

fn shown<'a>(given: &'a Parameters, basic: Option<&'a (String, String)>) -> Result<Shown<'a>, Box<Response>> {
    let client_id = given.get("client_id");
    match basic {
        Some((id, secret))
            if client_id.is_none_or(|other| other == id) && given.get("client_secret").is_none() =>
        {
            Ok(Shown { client_id: id, secret: Some(secret), basic: true })
        }
        Some(_) => Err(Box::new(told(Denied::request("the client shows who it is in two ways")))),
        None => {
            let client_id =
                client_id.ok_or_else(|| Box::new(told(Denied::request("the request names no client_id"))))?;
            Ok(Shown { client_id, secret: given.get("client_secret"), basic: false })
        }
    }
}

/// A refusal as RFC 6749 has it.
fn told(denied: Denied) -> Response {
    let status = match denied.code {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        "slow_down" => StatusCode::TOO_MANY_REQUESTS,
        "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
        "not_found" => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = json!({ "error": denied.code, "error_description": denied.message });
    let mut answer = (status, Json(body)).into_response();
    if status == StatusCode::UNAUTHORIZED {
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"opsroom\""));
    }
    answer
}

#[cfg(test)]
mod tests {
    use opsroom_core::Scope;

    use super::*;

    fn asked(redirect_uri: &str) -> Asked {
        Asked {
            client_id: "https://app.example/client.json".to_owned(),
            client_name: "\"><script>alert(1)</script>".to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            state: None,
            challenge: String::new(),
            scopes: vec![Scope::try_from("*:read".to_owned()).unwrap()],
            resource: "/mcp".to_owned(),
            refreshes: true,
        }
    }

    fn policy(answer: &Response) -> &str {
        answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap()
    }

    #[test]
    fn consent_clickjacking_the_page_stands_in_no_frame_and_sends_its_form_to_us_alone() {
        let answer = consent("ada", "https://ops.example.com", &asked("https://app.example/cb"), "otk_x");
        assert!(policy(&answer).contains("frame-ancestors 'none'"));
        assert!(policy(&answer).contains("form-action 'self' https://app.example;"), "{}", policy(&answer));
        let answer = consent("ada", "https://ops.example.com", &asked("cursor://x/cb"), "otk_x");
        assert!(policy(&answer).contains("form-action 'self' cursor:;"), "{}", policy(&answer));
    }

    #[tokio::test]
    async fn localhost_impersonation_the_person_is_told_and_a_name_is_nothing_but_text() {
        let answer = consent("ada", "https://ops.example.com", &asked("http://127.0.0.1:50001/cb"), "otk_x");
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("any program") && text.contains("<code>app.example</code>"), "{text}");
        assert!(!text.contains("<script>"), "{text}");
    }
}
