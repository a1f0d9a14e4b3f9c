//! The pages of accounts: logging in, the first administrator, a forgotten password, an address to verify,
//! one's own account. They are forms and need no script; what they do, they do by the operations that REST
//! offers too.
//!
//! A form is taken only from a page of ours: the browser says so in `Sec-Fetch-Site` or `Origin` (ASVS 3.5.1).
//! What came in is escaped wherever it is shown, and a redirect stays on this server.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use opsroom_capabilities::identity::oauth::model::with_query;
use opsroom_capabilities::room::Answer;
use opsroom_core::caller::Face;
use opsroom_core::{Call, Caller, Error, Kind, Result};
use serde_json::{Value, json};

use super::{Peer, Server, auth, rest};

pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The pages.
pub fn routes() -> Router<Server> {
    Router::new()
        .route("/login", get(login_page).post(login))
        .route("/logout", axum::routing::post(logout))
        .route("/welcome", get(welcome_page).post(welcome))
        .route("/forgot", get(async || page("Forgotten password", FORGOT)).post(forgot))
        .route("/reset", get(reset_page).post(reset))
        .route("/verify", get(verify_page).post(verify))
        .route("/account", get(account_page).post(account))
}

pub(super) type Fields = BTreeMap<String, String>;

const FORGOT: &str = "<form method=\"post\"><p><label>Address for mail <input name=\"email\" type=\"email\" required \
    autocomplete=\"email\"></label></p><p><button>Send me a link</button></p></form>";

/// A request with its form, from a page of ours.
pub(super) struct Posted {
    pub fields: Fields,
    pub caller: Caller,
}

impl Posted {
    pub async fn read(server: &Server, peer: &Peer, headers: &HeaderMap, body: Body) -> Result<Self> {
        if !from_here(headers) {
            return Err(Error::forbidden("this form was not sent by a page of this server"));
        }
        let bytes = rest::bytes_within(server, headers, body, rest::STRANGERS_BODY)
            .await
            .map_err(|_| Error::invalid("the form is too large or did not arrive in time"))?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| Error::invalid("the form is not UTF-8"))?;
        let url = reqwest::Url::parse(&format!("form:?{text}")).map_err(Error::internal)?;
        let fields = url.query_pairs().into_owned().collect();
        let caller = match auth::by_cookie(server, headers, peer).await? {
            Some(caller) => caller,
            None => anonymous(peer),
        };
        Ok(Self { fields, caller })
    }

    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    async fn call(&self, server: &Server, operation: &str, input: Value) -> Result<Value> {
        call(server, self.caller.clone(), operation, input).await
    }
}

async fn call(server: &Server, caller: Caller, operation: &str, input: Value) -> Result<Value> {
    server.room.call(operation, Call::new(caller), input).await.map(Answer::into_value)
}

pub(super) fn anonymous(peer: &Peer) -> Caller {
    let address = peer.address.map(|address| address.ip().to_string());
    Caller { request_id: peer.request_id.clone(), ..Caller::anonymous(Face::Rest, address) }
}

/// Whether the browser says that a page of ours sent this. The guard has held `Origin` against our own.
fn from_here(headers: &HeaderMap) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => headers.contains_key(header::ORIGIN),
    }
}

async fn login_page(State(server): State<Server>, Query(query): Query<Fields>) -> Response {
    page("Log in", &login_form(&server, query.get("next").map_or("", String::as_str)))
}

/// The form, and the way to an account elsewhere where there is one.
pub(super) fn login_form(server: &Server, next: &str) -> String {
    let elsewhere = server.room.oidc.offered().map_or(String::new(), |name| {
        let path = with_query("/login/oidc", &[("next", local(next))]);
        format!("<p><a href=\"{}\">Log in with {}</a></p>", escape(&path), escape(name))
    });
    elsewhere + &password_form(next)
}

fn password_form(next: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/login\"><input type=\"hidden\" name=\"next\" value=\"{}\">\
         <p><label>Name or address <input name=\"username\" required autocomplete=\"username\"></label></p>\
         <p><label>Password <input name=\"password\" type=\"password\" required autocomplete=\"current-password\"></label></p>\
         <p><label>Code, if you have a second factor <input name=\"code\" inputmode=\"numeric\" \
         autocomplete=\"one-time-code\"></label></p>\
         <p><button>Log in</button></p></form><p><a href=\"/forgot\">Forgotten password</a></p>",
        escape(next)
    )
}

async fn login(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => Posted { caller: anonymous(&peer), ..posted },
        Err(error) => return trouble("Log in", &error, ""),
    };
    let device = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let device: String = device.chars().take(60).collect();
    let mut input =
        json!({ "username": posted.get("username"), "password": posted.get("password"), "device": device });
    if !posted.get("code").is_empty() {
        input["two_factor_code"] = json!(posted.get("code"));
    }
    match posted.call(&server, "login", input).await {
        Err(error) => trouble("Log in", &error, &login_form(&server, posted.get("next"))),
        Ok(answer) => {
            let token = answer["access_token"].as_str().unwrap_or_default();
            let seconds = answer["expires_in"].as_i64().unwrap_or_default();
            let mut answer = to(local(posted.get("next")));
            set_cookie(&server, &mut answer, token, seconds);
            answer
        }
    }
}

/// A path on this server, or the account's page: never a way out (an open redirect).
pub(super) fn local(next: &str) -> &str {
    let path = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if path && next.is_ascii() { next } else { "/account" }
}

async fn logout(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble("Log out", &error, ""),
    };
    if posted.caller.session.is_some()
        && let Err(error) = posted.call(&server, "logout", json!({})).await
    {
        return trouble("Log out", &error, "");
    }
    let mut answer = to("/login");
    set_cookie(&server, &mut answer, "", 0);
    answer
}

async fn welcome_page() -> Response {
    page("Set up this server", &welcome_form())
}

fn welcome_form() -> String {
    "<p>This makes the administrator's account. <code>opsroom setup-link</code> prints the code.</p>\
     <form method=\"post\"><p><label>Code <input name=\"token\" required autocomplete=\"off\" placeholder=\"ops_...\"></label></p>\
     <p><label>Name <input name=\"username\" required autocomplete=\"username\"></label></p>\
     <p><label>Address for mail <input name=\"email\" type=\"email\" required autocomplete=\"email\"></label></p>\
     <p><label>Password, 8 to 256 characters <input name=\"password\" type=\"password\" required \
     autocomplete=\"new-password\"></label></p><p><button>Make the account</button></p></form>"
        .to_owned()
}

async fn welcome(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble("Set up this server", &error, ""),
    };
    let token = posted.get("token").trim();
    // The whole link may be pasted.
    let token = token.rsplit_once("setup=").map_or(token, |(_, token)| token);
    let input = json!({
        "token": token, "username": posted.get("username"), "email": posted.get("email"),
        "password": posted.get("password"),
    });
    match posted.call(&server, "set_up", input).await {
        Ok(_) => to("/login"),
        Err(error) => trouble("Set up this server", &error, &welcome_form()),
    }
}

async fn forgot(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let title = "Forgotten password";
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble(title, &error, ""),
    };
    said(
        title,
        posted.call(&server, "request_password_reset", json!({ "email": posted.get("email") })).await,
        FORGOT,
    )
}

async fn reset_page(Query(query): Query<Fields>) -> Response {
    page("Choose a password", &reset_form(query.get("token").map_or("", String::as_str)))
}

fn reset_form(token: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/reset\"><input type=\"hidden\" name=\"token\" value=\"{}\"><p><label>New password, 8 \
         to 256 characters <input name=\"password\" type=\"password\" required autocomplete=\"new-password\"></label></p>\
         <p><button>Set it</button></p></form>",
        escape(token)
    )
}

async fn reset(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let title = "Choose a password";
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble(title, &error, ""),
    };
    let input = json!({ "token": posted.get("token"), "password": posted.get("password") });
    match posted.call(&server, "reset_password", input).await {
        Ok(_) => page(title, "<p role=\"status\">The password is set. <a href=\"/login\">Log in</a></p>"),
        Err(error) => trouble(title, &error, &reset_form(posted.get("token"))),
    }
}

async fn verify_page(Query(query): Query<Fields>) -> Response {
    // A button, because mail servers follow links to look behind them.
    let token = escape(query.get("token").map_or("", String::as_str));
    let form = format!(
        "<form method=\"post\" action=\"/verify\"><input type=\"hidden\" name=\"token\" value=\"{token}\">\
         <p><button>Yes, this address is mine</button></p></form>"
    );
    page("Verify your address", &form)
}

async fn verify(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let title = "Verify your address";
    match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => said(
            title,
            posted.call(&server, "verify_email", json!({ "token": posted.get("token") })).await,
            "",
        ),
        Err(error) => trouble(title, &error, ""),
    }
}

async fn account_page(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    match auth::by_cookie(&server, &headers, &peer).await {
        Ok(Some(caller)) => show_account(&server, caller, "").await,
        Ok(None) => to("/login?next=/account"),
        Err(error) => trouble("Your account", &error, ""),
    }
}

async fn show_account(server: &Server, caller: Caller, note: &str) -> Response {
    let profile = call(server, caller.clone(), "get_profile", json!({})).await;
    let sessions = call(server, caller.clone(), "list_sessions", json!({})).await;
    let elsewhere = call(server, caller, "list_identities", json!({})).await;
    let (profile, sessions, elsewhere) = match (profile, sessions, elsewhere) {
        (Ok(profile), Ok(sessions), Ok(elsewhere)) => (profile, sessions, elsewhere),
        (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => {
            return trouble("Your account", &error, "");
        }
    };
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let mut rows = String::new();
    for session in sessions["items"].as_array().into_iter().flatten() {
        rows.push_str(&format!(
            "<li>{} from {}, since {} {}</li>",
            text(&session["device"]),
            text(&session["address"]),
            text(&session["created_at"]),
            form(
                "end_session",
                &format!("<input type=\"hidden\" name=\"id\" value=\"{}\">", text(&session["id"])),
                "End it"
            )
        ));
    }
    let password = "<label>Password <input name=\"password\" type=\"password\" required autocomplete=\"current-password\"></label> ";
    let second = if profile["two_factor_enabled"] == true {
        form("disable_two_factor", password, "Give the second factor up")
    } else {
        form("enable_two_factor", password, "Set up a second factor")
            + &form(
                "confirm_two_factor",
                "<label>Code of the app <input name=\"code\" required></label> ",
                "Confirm it",
            )
    };
    let new = "<label>New password <input name=\"new_password\" type=\"password\" required autocomplete=\"new-password\"></label> ";
    let mail = format!(
        "<label>Address <input name=\"email\" type=\"email\" required value=\"{}\"></label> ",
        text(&profile["email"])
    );
    let body = format!(
        "{note}<p>{} ({}), {}</p><h2>Sessions</h2><ul>{rows}</ul><h2>Password</h2>{}<h2>Address</h2>{}<h2>Second factor</h2>\
         {second}{}<form method=\"post\" action=\"/logout\"><p><button>Log out</button></p></form>",
        text(&profile["username"]),
        text(&profile["email"]),
        text(&profile["role"]),
        form("change_password", &format!("{password}{new}"), "Change it"),
        form("change_email", &format!("{password}{mail}"), "Verify it"),
        identities(&elsewhere, password),
    );
    page("Your account", &body)
}

/// The part about logins elsewhere, where there are any or could be.
fn identities(elsewhere: &Value, password: &str) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let rows = elsewhere["items"].as_array().into_iter().flatten().map(|item| {
        let id = format!("<input type=\"hidden\" name=\"id\" value=\"{}\">", text(&item["id"]));
        let unlink = form("unlink_identity", &format!("{id}{password}"), "Unlink it");
        format!("<li>{} at {} {unlink}</li>", text(&item["subject"]), text(&item["issuer"]))
    });
    let rows: String = rows.collect();
    let link = match elsewhere["available"] == true {
        true => form("link_identity", password, "Link a login elsewhere"),
        false => String::new(),
    };
    if rows.is_empty() && link.is_empty() {
        return String::new();
    }
    format!("<h2>Logins elsewhere</h2><ul>{rows}</ul>{link}")
}

fn form(operation: &str, inside: &str, button: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/account\"><input type=\"hidden\" name=\"do\" value=\"{operation}\">{inside}\
         <button>{button}</button></form>"
    )
}

/// The fields that each form of the account's page sends on.
const ACCOUNT: [(&str, &[&str]); 8] = [
    ("end_session", &["id"]),
    ("change_password", &["password", "new_password"]),
    ("change_email", &["password", "email"]),
    ("enable_two_factor", &["password"]),
    ("confirm_two_factor", &["code"]),
    ("disable_two_factor", &["password"]),
    ("link_identity", &["password"]),
    ("unlink_identity", &["id", "password"]),
];

async fn account(
    State(server): State<Server>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let title = "Your account";
    let posted = match Posted::read(&server, &peer, &headers, body).await {
        Ok(posted) => posted,
        Err(error) => return trouble(title, &error, ""),
    };
    if posted.caller.session.is_none() {
        return to("/login?next=/account");
    }
    let Some((operation, names)) = ACCOUNT.iter().find(|(name, _)| *name == posted.get("do")) else {
        return trouble(title, &Error::invalid("there is no such form on this page"), "");
    };
    let input = names.iter().map(|name| ((*name).to_owned(), json!(posted.get(name)))).collect();
    match posted.call(&server, operation, Value::Object(input)).await {
        // A link, because browsers hold what a form's answer leads to against the policy of its page.
        Ok(answer) if *operation == "link_identity" => {
            let url = escape(answer["url"].as_str().unwrap_or_default());
            page(title, &format!("<p><a href=\"{url}\">Go on to log in there</a></p>"))
        }
        Ok(answer) => {
            let note = format!("<p role=\"status\">{}</p>", told(&answer));
            // The session that was shown here may be the one that ended.
            match auth::by_cookie(&server, &headers, &peer).await {
                Ok(Some(caller)) => show_account(&server, caller, &note).await,
                _ => to("/login"),
            }
        }
        Err(error) => trouble(title, &error, "<p><a href=\"/account\">Back</a></p>"),
    }
}

/// What an answer says to a person.
fn told(answer: &Value) -> String {
    let text = |name: &str| escape(answer[name].as_str().unwrap_or_default());
    if answer.get("secret").is_some() {
        return format!(
            "Type this into your authenticator app, then confirm it with a code: <code>{}</code>",
            text("secret")
        );
    }
    if let Some(codes) = answer["recovery_codes"].as_array() {
        let codes: Vec<String> = codes.iter().map(|code| escape(code.as_str().unwrap_or_default())).collect();
        return format!(
            "The second factor is set up. Keep these codes, each works once: <code>{}</code>",
            codes.join(" ")
        );
    }
    if answer.get("message").is_some() { text("message") } else { "Done.".to_owned() }
}

fn said(title: &str, result: Result<Value>, again: &str) -> Response {
    match result {
        Ok(answer) => page(title, &format!("<p role=\"status\">{}</p>", told(&answer))),
        Err(error) => trouble(title, &error, again),
    }
}

/// A page that says what went wrong.
pub(super) fn trouble(title: &str, error: &Error, again: &str) -> Response {
    if error.kind == Kind::Internal {
        tracing::error!(error = %error, causes = error.causes(), "a page failed by our fault");
    }
    let mut answer = page(title, &format!("<p role=\"alert\">{}</p>{again}", escape(&error.message)));
    *answer.status_mut() = rest::status(error.kind);
    answer
}

/// A page of ours.
pub(super) fn page(title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title} - Opsroom</title><link rel=\"stylesheet\" \
         href=\"/assets/start.css\"></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // Without any, a browser says `Origin: null` when it sends the form; this tells no path and no query.
        (header::REFERRER_POLICY, "strict-origin"),
    ];
    (headers, html).into_response()
}

pub(super) fn to(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path.to_owned())]).into_response()
}

/// The session's cookie: for this host alone, out of reach of scripts, and not sent by pages elsewhere.
pub(super) fn set_cookie(server: &Server, answer: &mut Response, token: &str, seconds: i64) {
    add_cookie(answer, auth::cookie_name(server), token, seconds);
}

pub(super) fn add_cookie(answer: &mut Response, name: &str, token: &str, seconds: i64) {
    let secure = if name.starts_with("__Host-") { "; Secure" } else { "" };
    let cookie = format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// A text that is nothing but text in HTML, also within an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_redirect_stays_here() {
        assert_eq!(local("/account?x=1"), "/account?x=1");
        for next in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:x",
            "/\r\nX: y",
            "/\t/x",
        ] {
            assert_eq!(local(next), "/account", "{next:?}");
        }
    }

    #[test]
    fn v3_5_1_a_form_of_another_site_is_refused() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            HeaderMap::from_iter(pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            }))
        };
        assert!(from_here(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(from_here(&headers(&[("origin", "http://localhost:8008")])), "the guard has looked at it");
        assert!(!from_here(&headers(&[
            ("sec-fetch-site", "cross-site"),
            ("origin", "http://localhost:8008")
        ])));
        assert!(!from_here(&headers(&[("sec-fetch-site", "same-site")])));
        assert!(!from_here(&headers(&[])));
    }

    #[test]
    fn what_came_in_is_text_on_the_page() {
        assert_eq!(escape("\"><script>'&"), "&quot;&gt;&lt;script&gt;&#39;&amp;");
        assert!(!password_form("\"><script>").contains("<script>"));
    }
}
