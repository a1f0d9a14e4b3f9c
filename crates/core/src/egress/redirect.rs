//! One request and the next one that its answer asks for.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use reqwest::Url;

use super::{Request, place};
use crate::error::{Error, Result};

const MAX_URL_BYTES: usize = 8192;

/// What says how a message travels is decided by the client and not by its caller.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// What may be told to another place than the one it was meant for; all else may be a credential.
const HARMLESS: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];

/// A URL for a request.
pub(super) fn parse(url: &str) -> Result<Url> {
    if url.len() > MAX_URL_BYTES {
        let length = url.len();
        return Err(Error::invalid(format!("the URL has {length} bytes; {MAX_URL_BYTES} are allowed")));
    }
    // The text is not repeated: it may hold a token.
    Url::parse(url).map_err(|error| Error::invalid(format!("the URL cannot be used: {error}")))
}

/// One of the requests that lead to an answer.
pub(super) struct Hop {
    pub url: Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Hop {
    pub fn first(request: Request) -> Result<Self> {
        if let Some(name) = OURS.iter().find(|name| request.headers.contains_key(*name)) {
            return Err(Error::invalid(format!("the header `{name}` cannot be set for a request")));
        }
        let Request { method, url, headers, body } = request;
        if method == Method::CONNECT || method == Method::TRACE {
            return Err(Error::invalid(format!("the method {method} cannot be used")));
        }
        Ok(Self { url: parse(&url)?, method, headers, body })
    }

    pub fn to_request(&self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        request
    }

    /// The request that an answer asks for, if it redirects.
    pub fn next(&self, answer: &reqwest::Response) -> Result<Option<Hop>> {
        let status = answer.status();
        let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let Some(location) = answer.headers().get(header::LOCATION).filter(|_| redirects) else {
            return Ok(None);
        };
        let from = place(&self.url);
        let wrong = |what: &str| Error::unavailable(format!("{from} redirects to {what}"));
        let location = location.to_str().map_err(|_| wrong("what is not text"))?;
        if location.len() > MAX_URL_BYTES {
            return Err(wrong("a URL that is too long"));
        }
        let url = self.url.join(location).map_err(|_| wrong("what is not a URL"))?;
        if self.url.scheme() == "https" && url.scheme() == "http" {
            return Err(wrong("a place without encryption, which is not followed"));
        }
        Ok(Some(self.towards(url, status)))
    }

    fn towards(&self, url: Url, status: StatusCode) -> Hop {
        // As browsers do (Fetch, "HTTP-redirect fetch").
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        let mut headers = self.headers.clone();
        if url.origin() != self.url.origin() {
            headers = HARMLESS
                .iter()
                .filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone())))
                .collect();
        }
        let (method, body) = if becomes_get {
            headers.remove(header::CONTENT_TYPE);
            (Method::GET, Bytes::new())
        } else {
            (self.method.clone(), self.body.clone())
        };
        Hop { url, method, headers, body }
    }
}
