//! The types of OAuth, and its rules that need no database and no network.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use opsroom_core::{Error, Result, Scope, Time};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::identity::model::{rfc3339, rfc3339_or_null};

/// The scopes that a client is told to ask for; a person may leave some of them out.
pub const ASKED: &str = "*:read *:write";

/// The scopes that are listed; whatever else has the form of a scope can be asked for too.
pub const LISTED: [&str; 3] = ["*:read", "*:write", "*:destroy"];

/// The scope by which a client asks for a refresh token.
pub const OFFLINE: &str = "offline_access";

/// The longest client id, redirect URI and resource, in bytes.
pub const MOST_TEXT: usize = 400;

/// The most scopes of one client, and the most redirect URIs.
const MOST_SCOPES: usize = 32;
const MOST_REDIRECTS: usize = 16;

/// A refusal in the words of RFC 6749: a code for the program, a message for who wrote it.
#[derive(Debug)]
pub struct Denied {
    /// Such as `invalid_grant`.
    pub code: &'static str,
    /// What was wrong.
    pub message: String,
}

impl Denied {
    /// A refusal with this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `invalid_request`.
    pub fn request(message: impl Into<String>) -> Self {
        Self::new("invalid_request", message)
    }

    /// `invalid_grant`: the same for each reason, because which one it was is for nobody to know.
    pub fn grant() -> Self {
        Self::new("invalid_grant", "it is wrong, was used, has ended, or is of another client; log in again")
    }

    /// `invalid_client`.
    pub fn client() -> Self {
        Self::new("invalid_client", "there is no such client, or its secret is wrong")
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        use opsroom_core::Kind;
        let code = match error.kind {
            Kind::Busy => "slow_down",
            Kind::Unavailable => "temporarily_unavailable",
            Kind::Internal => "server_error",
            Kind::NotFound => "not_found",
            _ => "invalid_request",
        };
        if error.kind == Kind::Internal {
            tracing::error!(error = %error, causes = error.causes(), "OAuth failed by our fault");
        }
        Self { code, message: error.message }
    }
}

/// How a client shows that it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuth {
    /// It has no secret: a program on somebody's machine.
    #[serde(rename = "none")]
    None,
    /// By its secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
    /// By its secret in the header `Authorization: Basic`.
    #[serde(rename = "client_secret_basic")]
    Basic,
}

impl ClientAuth {
    /// The word of RFC 7591.
    pub fn as_str(self) -> &'static str {
        match self {
            ClientAuth::None => "none",
            ClientAuth::Post => "client_secret_post",
            ClientAuth::Basic => "client_secret_basic",
        }
    }

    /// The method that a word names.
    pub fn parse(word: &str) -> Option<Self> {
        [ClientAuth::None, ClientAuth::Post, ClientAuth::Basic].into_iter().find(|auth| auth.as_str() == word)
    }
}

/// A program that asks for access on behalf of a person.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// Its id: ours, or the URL of its metadata document.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Where answers may go.
    pub redirect_uris: Vec<String>,
    /// How it shows that it is the one.
    pub auth: ClientAuth,
    /// The SHA-256 of its secret.
    pub secret_hash: Option<String>,
    /// Whether it renews its access by refresh tokens.
    pub refreshes: bool,
    /// Who made it: `user:<id>`, `key:<id>`, `operator`, or `itself`.
    pub created_by: String,
    /// Since when it is known.
    pub created_at: Time,
    /// When somebody last let it in.
    pub used_at: Option<Time>,
}

impl Client {
    /// Whether its id is the URL of its metadata document.
    pub fn is_document(&self) -> bool {
        is_document(&self.id)
    }

    /// The host that its document comes from.
    pub fn host(&self) -> Option<String> {
        self.is_document().then(|| Url::parse(&self.id).ok()?.host_str().map(str::to_owned)).flatten()
    }
}

/// Whether a client id is the URL of a metadata document.
pub fn is_document(id: &str) -> bool {
    id.starts_with("https://")
}

/// What a client asks a person for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The client's id.
    pub client_id: String,
    /// What it calls itself.
    pub client_name: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// What the client sends back with the answer.
    pub state: Option<String>,
    /// The SHA-256 of what the client will show (RFC 7636).
    pub challenge: String,
    /// What it wants to do.
    pub scopes: Vec<Scope>,
    /// Where: the path of an MCP endpoint.
    pub resource: String,
    /// Whether it gets a refresh token.
    pub refreshes: bool,
}

/// That a person let a client in: all its tokens are of one grant, and end with it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Grant {
    /// Its id. In the audit trail, what the client did is under `grant:<id>`.
    pub id: String,
    /// Whose rights the client acts with.
    pub user_id: String,
    /// The client's id.
    pub client_id: String,
    /// What the client calls itself.
    pub client_name: String,
    /// What it may do of what the person may.
    pub scopes: Vec<Scope>,
    /// At which MCP endpoint.
    pub resource: String,
    /// Whether it may renew its access.
    pub refreshes: bool,
    /// Since when, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Time,
    /// When the client last renewed its access, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub renewed_at: Time,
    /// When it ends in any case, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub expires_at: Time,
    /// When it was taken back, RFC 3339; null when it was not.
    #[serde(serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub revoked_at: Option<Time>,
}

/// The scopes that a client asks for. Words that are no scopes of ours are left out, as OAuth has it; without
/// any the client is given to read.
///
/// # Errors
/// `invalid_scope` for too many.
pub fn scopes(text: &str) -> Result<Vec<Scope>, Denied> {
    let mut scopes: Vec<Scope> = Vec::new();
    for word in text.split_ascii_whitespace().filter(|word| word.contains(':') || *word == "*") {
        if let Ok(scope) = Scope::try_from(word.to_owned())
            && !scopes.contains(&scope)
        {
            scopes.push(scope);
        }
    }
    if scopes.len() > MOST_SCOPES {
        return Err(Denied::new("invalid_scope", format!("more than {MOST_SCOPES} scopes are asked for")));
    }
    if !scopes.iter().any(|scope| !scope.denies()) {
        scopes.push(Scope::try_from("*:read".to_owned())?);
    }
    Ok(scopes)
}

/// Scopes as OAuth writes them.
pub fn scope_text(scopes: &[Scope]) -> String {
    scopes.iter().cloned().map(String::from).collect::<Vec<_>>().join(" ")
}

/// Whether a verifier is the one whose SHA-256 the client had shown before (RFC 7636, S256).
pub fn proves(verifier: &str, challenge: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !(43..=128).contains(&verifier.len()) || !verifier.bytes().all(plain) {
        return false;
    }
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    digest.as_bytes().ct_eq(challenge.as_bytes()).into()
}

/// Whether a text can be a challenge of S256: 32 bytes in base64url.
pub fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// Schemes that a browser itself does something with: none of them is an application's own.
const BROWSERS: [&str; 13] = [
    "javascript",
    "data",
    "vbscript",
    "file",
    "blob",
    "about",
    "filesystem",
    "view-source",
    "ws",
    "wss",
    "ftp",
    "mailto",
    "tel",
];

/// The redirect URIs of a client, when each can be one: `https`, `http` on the machine itself, or a scheme of
/// an application's own.
///
/// # Errors
/// `invalid_redirect_uri`, naming the one.
pub fn redirect_uris(uris: Vec<String>) -> Result<Vec<String>, Denied> {
    let wrong = |message: String| Denied::new("invalid_redirect_uri", message);
    if uris.is_empty() || uris.len() > MOST_REDIRECTS {
        return Err(wrong(format!("a client has 1 to {MOST_REDIRECTS} redirect_uris")));
    }
    for uri in &uris {
        let shown: String = uri.chars().take(100).collect();
        let plain = uri.len() <= MOST_TEXT
            && uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
        let url = Url::parse(uri).ok().filter(|url| plain && url.fragment().is_none());
        let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
        let url = url.ok_or_else(|| wrong(format!("{shown:?} is no URI without a fragment and a user")))?;
        let good = match url.scheme() {
            "https" => url.host_str().is_some(),
            "http" => is_loopback(&url),
            scheme => !BROWSERS.contains(&scheme),
        };
        if !good {
            return Err(wrong(format!(
                "{shown:?} is not https, http on a loopback address, or a scheme of an application's own"
            )));
        }
    }
    Ok(uris)
}

/// Whether a URL is on the machine that the browser runs on.
pub fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"))
}

/// Whether the answer may go to `given`: it is `registered` letter by letter, or differs in the port of a
/// loopback address, which a program on the machine is given anew at each start (RFC 8252, 7.3).
pub fn may_redirect(registered: &[String], given: &str) -> bool {
    if registered.iter().any(|one| one == given) {
        return true;
    }
    let portless = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && is_loopback(url))?;
        // The port is cut out of the text itself, so that what the parser mends is not taken for the same.
        let rest = text.strip_prefix("http://")?.strip_prefix(url.host_str()?)?;
        let rest = match rest.strip_prefix(':') {
            Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        (rest.is_empty() || rest.starts_with(['/', '?']))
            .then(|| format!("{}{rest}", url.host_str().unwrap_or_default()))
    };
    let Some(given) = portless(given).filter(|_| given.len() <= MOST_TEXT) else { return false };
    registered.iter().any(|one| portless(one).as_ref() == Some(&given))
}

/// The path of the MCP endpoint that a resource names, when it is one of this server's.
pub fn resource(bases: &[String], text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MOST_TEXT)?;
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return None;
    }
    let origin = url.origin().ascii_serialization();
    if !bases.contains(&origin) {
        return None;
    }
    endpoint(url.path())
}

/// An MCP endpoint's path as tokens name it; `None` for what is none.
pub fn endpoint(path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let name = |text: &str| {
        (1..=100).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let known = match path {
        "/mcp" | "/sse" => true,
        other => ["/mcp/services/", "/mcp/profiles/"]
            .iter()
            .any(|beginning| other.strip_prefix(beginning).is_some_and(name)),
    };
    known.then(|| path.to_owned())
}

/// Whether a token for one endpoint is good at another: at itself, and the common one's everywhere, because it
/// has what all others have.
pub fn covers(resource: &str, endpoint: &str) -> bool {
    resource == endpoint || resource == "/mcp" && (endpoint.starts_with("/mcp/") || endpoint == "/sse")
}

/// Adds parameters to the query of a redirect URI, which may have one.
pub fn with_query(uri: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        let encoded: String = reqwest::Url::parse_with_params("x:", [(name, value)])
            .ok()
            .and_then(|url| url.query().map(str::to_owned))
            .unwrap_or_default();
        query.push(if query.is_empty() && !uri.contains('?') { '?' } else { '&' });
        query.push_str(&encoded);
    }
    format!("{uri}{query}")
}

/// The client id and the secret of `Authorization: Basic` (RFC 6749, 2.3.1: both are form-encoded).
pub fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let bytes = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decoded(id)?, decoded(secret)?))
}

fn decoded(text: &str) -> Option<String> {
    let mut url = Url::parse("x:").ok()?;
    url.set_query(Some(&format!("v={}", text.replace(['&', '#'], ""))));
    url.query_pairs().next().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_mismatch_the_answer_goes_only_where_the_client_said_letter_by_letter() {
        let registered = |uris: &[&str]| uris.iter().map(|uri| (*uri).to_owned()).collect::<Vec<_>>();
        let web = registered(&["https://app.example/cb"]);
        assert!(may_redirect(&web, "https://app.example/cb"));
        for other in [
            "https://app.example/cb/",
            "https://app.example/cb?x=1",
            "https://app.example:443/cb",
            "https://app.example/CB",
            "https://APP.example/cb",
            "https://app.example/cb/../cb",
            "https://app.example.evil.example/cb",
            "http://app.example/cb",
            "",
        ] {
            assert!(!may_redirect(&web, other), "{other}");
        }
        let native = registered(&["http://127.0.0.1/cb", "http://localhost:3000/cb?a=1"]);
        assert!(may_redirect(&native, "http://127.0.0.1:50001/cb"));
        assert!(may_redirect(&native, "http://localhost:9/cb?a=1"));
        for other in [
            "http://127.0.0.1:1/other",
            "http://127.0.0.1:1@evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
            "https://127.0.0.1:1/cb",
            "http://localhost:9/cb",
            "http://[::1]:1/cb",
            "http://127.0.0.1:1/x/../cb",
            "http://0x7f.1:1/cb",
        ] {
            assert!(!may_redirect(&native, other), "{other}");
        }
    }

    #[test]
    fn a_redirect_that_a_browser_would_run_or_that_goes_in_the_clear_is_refused() {
        let one = |uri: &str| redirect_uris(vec![uri.to_owned()]).is_ok();
        for good in [
            "https://a.example/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:8/cb",
            "cursor://x.y/cb",
            "com.example.app:/cb",
        ] {
            assert!(one(good), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "http://a.example/cb",
            "file:///etc/passwd",
            "https://a.example/cb#x",
            "https://u:p@a.example/cb",
            "https://a.example/c b",
            "https://a.example/\r\nX: y",
            "//a.example/cb",
            "/cb",
            "",
            "blob:https://a.example/x",
            "https://a.example/\"><script>",
        ] {
            assert!(!one(bad), "{bad:?}");
        }
        assert!(redirect_uris(Vec::new()).is_err());
        assert!(redirect_uris(vec![format!("https://a.example/{}", "x".repeat(500))]).is_err());
    }

    #[test]
    fn wrong_audience_a_resource_is_one_of_our_endpoints_and_a_token_is_good_there_alone() {
        let bases = vec!["https://ops.example.com".to_owned()];
        let path = |text: &str| resource(&bases, text);
        assert_eq!(path("https://ops.example.com/mcp").as_deref(), Some("/mcp"));
        assert_eq!(path("https://OPS.example.com:443/mcp/").as_deref(), Some("/mcp"));
        assert_eq!(path("https://ops.example.com/mcp/services/time").as_deref(), Some("/mcp/services/time"));
        for bad in [
            "https://evil.example/mcp",
            "http://ops.example.com/mcp",
            "https://ops.example.com",
            "https://ops.example.com/secrets",
            "https://ops.example.com/mcp?x",
            "https://ops.example.com/mcp#x",
            "https://u@ops.example.com/mcp",
            "https://ops.example.com:444/mcp",
            "https://ops.example.com/mcp/services/a/b",
            "/mcp",
            "",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
        assert!(covers("/mcp", "/mcp") && covers("/mcp", "/mcp/services/a") && covers("/mcp", "/sse"));
        assert!(
            !covers("/mcp/services/a", "/mcp")
                && !covers("/mcp/services/a", "/mcp/services/ab")
                && !covers("/sse", "/mcp")
        );
    }

    #[test]
    fn the_proof_is_s256_and_nothing_else() {
        // The example of RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(proves(verifier, challenge) && is_challenge(challenge));
        assert!(!proves(challenge, challenge), "`plain` is no proof");
        assert!(!proves("", challenge) && !proves(&verifier.replace('d', "e"), challenge));
        assert!(!is_challenge("") && !is_challenge(&"x".repeat(44)) && !is_challenge(&"=".repeat(43)));
    }

    #[test]
    fn scopes_are_ours_and_without_any_a_client_reads() {
        let text = |asked: &str| scope_text(&scopes(asked).unwrap());
        assert_eq!(text("*:read logs:write openid offline_access *:read"), "*:read logs:write");
        assert_eq!(text(""), "*:read");
        assert_eq!(text("openid"), "*:read");
        assert_eq!(text("!logs:destroy"), "!logs:destroy *:read");
        let many: Vec<String> = (0..40).map(|n| format!("logs:x{}", "a".repeat(n))).collect();
        assert!(scopes(&many.join(" ")).is_err());
    }

    #[test]
    fn the_basic_header_is_decoded_twice() {
        // `a b:c%d` in base64, each part form-encoded before.
        assert_eq!(basic("Basic YStiOmMlMjVk"), Some(("a b".to_owned(), "c%d".to_owned())));
        for bad in ["", "Basic", "Basic !!", "Bearer YTpi", "Basic YQ=="] {
            assert_eq!(basic(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_join_the_query_that_is_there() {
        assert_eq!(
            with_query("https://a/cb", &[("code", "x y"), ("state", "&=")]),
            "https://a/cb?code=x+y&state=%26%3D"
        );
        assert_eq!(with_query("https://a/cb?z=1", &[("code", "c")]), "https://a/cb?z=1&code=c");
    }
}
