//! Finding out where a service gets its tokens from: its challenge, its metadata, its authorization server's.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use opsroom_core::egress::{Egress, Limits, Request};
use opsroom_core::{Error, Result};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// What reading metadata may take. It is not sent on to another place.
const LIMITS: Limits = Limits { max_bytes: 256 << 10, timeout: Duration::from_secs(15), redirects: 0 };

/// What a service wants, as `WWW-Authenticate` says it (RFC 6750, RFC 9728).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Challenge {
    /// Whether the token is good and its scopes are not enough.
    pub insufficient: bool,
    /// The scopes that are wanted.
    pub scopes: Option<Vec<String>>,
    /// Where the service describes itself.
    pub metadata: Option<String>,
}

impl Challenge {
    /// What a header says.
    pub fn of(header: &str) -> Self {
        let mut challenge = Self::default();
        let fields = header.trim_start();
        let fields = fields.split_once(' ').map_or("", |(_, fields)| fields);
        for (name, value) in pairs(fields) {
            match name.to_ascii_lowercase().as_str() {
                "error" => challenge.insufficient = value == "insufficient_scope",
                "scope" => challenge.scopes = Some(words(&value)),
                "resource_metadata" => challenge.metadata = Some(value),
                _ => {}
            }
        }
        challenge
    }
}

/// `a="b", c=d` without trusting that it is well formed.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = left;
    }
    found
}

/// The words of a list of scopes.
pub fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().take(64).map(str::to_owned).collect()
}

/// What a service says of itself (RFC 9728).
#[derive(Clone, Debug, Deserialize)]
pub struct Resource {
    /// Its name, by which tokens are for it.
    pub resource: String,
    /// Who gives tokens for it.
    #[serde(default)]
    pub authorization_servers: Vec<String>,
    /// The scopes that it knows.
    #[serde(default)]
    pub scopes_supported: Option<Vec<String>>,
}

/// What an authorization server says of itself (RFC 8414).
#[derive(Clone, Debug, Deserialize)]
pub struct Server {
    /// Its name.
    pub issuer: String,
    /// Where a person answers.
    pub authorization_endpoint: String,
    /// Where tokens are got.
    pub token_endpoint: String,
    /// Where clients register.
    #[serde(default)]
    pub registration_endpoint: Option<String>,
    /// The scopes that it knows.
    #[serde(default)]
    pub scopes_supported: Option<Vec<String>>,
    /// How the client's proof may be made.
    #[serde(default)]
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// How clients show who they are.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Whether a URL can be a client's id.
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
    /// Whether its answers say who they are from (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// What a service answers to a question, with a token or without.
///
/// # Errors
/// Those of the egress.
pub async fn probe(
    egress: &Egress,
    url: &str,
    token: Option<&str>,
) -> Result<(StatusCode, Option<Challenge>)> {
    let question = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    let mut request = Request::post_json(url, &question);
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(Error::internal)?;
        value.set_sensitive(true);
        request.headers.insert(AUTHORIZATION, value);
    }
    let answer = egress.open(request, LIMITS).await?;
    let header = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut header = header.filter(|value| value.trim_start().to_ascii_lowercase().starts_with("bearer"));
    let bearer = header.next();
    Ok((answer.status, bearer.map(Challenge::of)))
}

/// The service's metadata: where its challenge says, else at the places that RFC 9728 names.
///
/// # Errors
/// `Unavailable` when there is none; `Forbidden` for metadata of another service.
pub async fn resource(egress: &Egress, url: &str, challenge: &Challenge) -> Result<Resource> {
    let service = Url::parse(url).map_err(|_| Error::invalid("the service's URL is none"))?;
    let origin = service.origin().ascii_serialization();
    let path = service.path().trim_end_matches('/');
    let places = match &challenge.metadata {
        Some(place) => vec![place.clone()],
        None => vec![
            format!("{origin}/.well-known/oauth-protected-resource{path}"),
            format!("{origin}/.well-known/oauth-protected-resource"),
        ],
    };
    let found: Option<Resource> = first(egress, &places).await?;
    let found = found.ok_or_else(|| {
        Error::unavailable(
            "the service asks for a login and does not say where: it has no metadata (RFC 9728)",
        )
    })?;
    if !is_for(&found.resource, url) {
        return Err(Error::forbidden(format!(
            "the service's metadata is of another one, {}; a token for that is not asked for",
            shown(&found.resource)
        )));
    }
    Ok(found)
}

/// Whether a resource's name is the service's URL, or stands above it.
pub fn is_for(resource: &str, service: &str) -> bool {
    let (Ok(resource), Ok(service)) = (Url::parse(resource), Url::parse(service)) else { return false };
    if resource.origin() != service.origin() || resource.fragment().is_some() {
        return false;
    }
    let above = |path: &str| format!("{}/", path.trim_end_matches('/'));
    above(service.path()).starts_with(&above(resource.path()))
}

/// The metadata of an authorization server, which must be its own (RFC 8414, 3.3): compared letter by letter.
///
/// # Errors
/// `Unavailable` when there is none, `Forbidden` for another server's or one that does not know S256.
pub async fn server(egress: &Egress, issuer: &str) -> Result<Server> {
    let url = Url::parse(issuer).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
    let url =
        url.ok_or_else(|| Error::forbidden("the service names an authorization server that is no URL"))?;
    let (origin, path) = (url.origin().ascii_serialization(), url.path().trim_end_matches('/').to_owned());
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    let found: Option<Server> = first(egress, &places).await?;
    let found =
        found.ok_or_else(|| Error::unavailable(format!("{} has no metadata (RFC 8414)", shown(issuer))))?;
    if found.issuer != issuer {
        return Err(Error::forbidden(format!(
            "the metadata of {} is of another issuer, {}; it is not used",
            shown(issuer),
            shown(&found.issuer)
        )));
    }
    let s256 = found.code_challenge_methods_supported.as_ref();
    if !s256.is_some_and(|methods| methods.iter().any(|method| method == "S256")) {
        return Err(Error::forbidden(format!("{} does not say that it knows PKCE with S256", shown(issuer))));
    }
    for endpoint in [
        Some(&found.authorization_endpoint),
        Some(&found.token_endpoint),
        found.registration_endpoint.as_ref(),
    ]
    .into_iter()
    .flatten()
    {
        secure(endpoint)?;
    }
    Ok(found)
}

/// An endpoint is `https`, or `http` on the machine itself: nothing that a browser would run, nothing in the clear.
fn secure(endpoint: &str) -> Result<()> {
    let good = Url::parse(endpoint).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")),
        _ => false,
    });
    if good {
        Ok(())
    } else {
        Err(Error::forbidden(format!("the endpoint {} is not https", shown(endpoint))))
    }
}

async fn first<T: DeserializeOwned>(egress: &Egress, places: &[String]) -> Result<Option<T>> {
    for place in places {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let request = Request { method: Method::GET, headers, ..Request::get(place.as_str()) };
        let answer = egress.send(request, LIMITS).await?;
        if answer.status == StatusCode::OK {
            let what = |error| {
                Error::unavailable(format!("the metadata at {} cannot be read", shown(place))).because(error)
            };
            return serde_json::from_slice(&answer.body).map(Some).map_err(what);
        }
    }
    Ok(None)
}

/// A text of somebody else's, for a message.
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    format!("`{}`", cut.escape_debug())
}

/// A POST of a form.
pub fn form(url: &str, pairs: &[(&str, &str)]) -> Result<Request> {
    let encoded = Url::parse_with_params("form:", pairs).map_err(Error::internal)?;
    let mut request = Request::get(url);
    request.method = Method::POST;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    request.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    request.body = encoded.query().unwrap_or_default().to_owned().into();
    Ok(request)
}

/// What asking for tokens may take.
pub const TOKEN_LIMITS: Limits = LIMITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_however_it_is_written() {
        let read = Challenge::of(
            "Bearer error=\"insufficient_scope\", scope=\"a b\", resource_metadata=\"https://x/y\"",
        );
        assert!(read.insufficient);
        assert_eq!(read.scopes, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(read.metadata.as_deref(), Some("https://x/y"));
        assert_eq!(Challenge::of("Bearer scope=a,error=invalid_token").scopes, Some(vec!["a".to_owned()]));
        for odd in ["", "Bearer", "Bearer =", "Bearer \"", "Bearer a=\"b", "Bearer ,,=,"] {
            assert!(!Challenge::of(odd).insufficient, "{odd}");
        }
    }

    #[test]
    fn a_token_is_asked_for_the_service_itself_or_what_stands_above_it() {
        let is = |resource: &str| is_for(resource, "https://a.example/mcp/x");
        assert!(is("https://a.example/mcp/x") && is("https://a.example/mcp") && is("https://a.example/"));
        for other in [
            "https://evil.example/mcp/x",
            "http://a.example/mcp/x",
            "https://a.example/mc",
            "https://a.example/mcp/x/y",
            "x",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn an_endpoint_that_a_browser_would_run_is_refused() {
        assert!(
            secure("https://a.example/authorize").is_ok() && secure("http://127.0.0.1:1/authorize").is_ok()
        );
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://a.example/authorize",
            "file:///etc/passwd",
            "/authorize",
        ] {
            assert!(secure(bad).is_err(), "{bad}");
        }
    }
}
