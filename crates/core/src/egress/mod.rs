//! The one way out: every outbound request that somebody's input can steer.
//!
//! Addresses are checked when they are dialled, whatever way they were written or looked up; redirects
//! are followed by us, each checked like the first; what is read and how long it takes are bounded; no
//! proxy of the environment is used. Other protocols than HTTP dial through [`Egress::dial`], by the
//! same rules.
//!
//! Errors name the place (scheme, host and port) and never the path or the query, which may hold a token.

mod address;
mod config;
mod redirect;
mod resolve;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Kind, Result};

pub use config::EgressConfig;
pub use resolve::Lookup;

use config::{Rules, literal, refused};
use redirect::Hop;
use resolve::{Filter, SystemLookup, Unresolved};

/// An outbound request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An `http` or `https` URL without a user name or password.
    pub url: String,
    /// The headers. What says how the message travels (`Host`, `Content-Length`, ...) is ours.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A GET without headers.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::GET, url: url.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of JSON.
    pub fn post_json(url: impl Into<String>, body: &serde_json::Value) -> Self {
        let json = http::HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
        Self { method: Method::POST, url: url.into(), headers, body: Bytes::from(body.to_string()) }
    }
}

/// How much a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of the answer's body, as they are sent.
    pub max_bytes: u64,
    /// The most time for all of it: looking up, connecting, redirects, reading.
    pub timeout: Duration,
    /// The most redirects to follow; 0 gives the redirect itself as the answer.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 8 << 20, timeout: Duration::from_secs(30), redirects: 5 }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status; a 404 or a 500 is an answer and not an error.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it was sent (not decompressed).
    pub body: Bytes,
    /// Where it came from, after the redirects.
    pub url: Url,
}

/// An answer whose body is read piece by piece, within the limits.
#[derive(Debug)]
pub struct Incoming {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// Where it comes from, after the redirects.
    pub url: Url,
    response: reqwest::Response,
    deadline: Instant,
    limits: Limits,
    read: u64,
}

/// The client of every outbound request that input can steer. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    client: reqwest::Client,
    filter: Filter,
    connect_timeout: Duration,
    tls: Arc<rustls::ClientConfig>,
}

impl Egress {
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn new(config: &EgressConfig) -> Result<Self> {
        Self::with_lookup(config, Arc::new(SystemLookup))
    }

    /// With names looked up in another place.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot be used.
    pub fn with_lookup(config: &EgressConfig, lookup: Arc<dyn Lookup>) -> Result<Self> {
        config.validate()?;
        let filter = Filter { rules: Arc::new(config.rules()?), lookup };
        let connect_timeout = Duration::from_secs(config.connect_timeout_seconds);
        let tls = tls(config.ca_file.as_deref())?;
        let mut http1 = tls.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client that everything outbound goes through"
        )]
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(filter.clone()))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(connect_timeout)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("opsroom/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Error::internal)?;
        Ok(Self { client, filter, connect_timeout, tls: Arc::new(http1) })
    }

    /// How TLS is spoken with the outside (the authorities that are trusted, those of `egress.ca_file`
    /// included), for who speaks HTTP/1.1 or a protocol on top of it on a dialled connection.
    pub fn tls_for_http1(&self) -> Arc<rustls::ClientConfig> {
        self.tls.clone()
    }

    /// Whether a request may go to this URL, as far as can be said before its name is looked up: to tell
    /// somebody early, when they save it.
    ///
    /// # Errors
    /// `Invalid` for what is no URL for a request, `Forbidden` for a place that may not be reached.
    pub fn check(&self, url: &str) -> Result<Url> {
        let url = redirect::parse(url)?;
        self.filter.rules.check(&url)?;
        Ok(url)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// `Invalid` for a request that cannot be sent or an answer that is too large, `Forbidden` for a place
    /// that may not be reached, `Unavailable` when there is no answer in time.
    pub async fn send(&self, request: Request, limits: Limits) -> Result<Response> {
        let mut incoming = self.open(request, limits).await?;
        let mut body = BytesMut::new();
        while let Some(piece) = incoming.next().await? {
            body.extend_from_slice(&piece);
        }
        let Incoming { status, headers, url, .. } = incoming;
        Ok(Response { status, headers, body: body.freeze(), url })
    }

    /// Sends a request and gives the answer when its headers are there.
    ///
    /// # Errors
    /// Those of [`Egress::send`].
    pub async fn open(&self, request: Request, limits: Limits) -> Result<Incoming> {
        let deadline = Instant::now() + limits.timeout;
        let mut hop = Hop::first(traced(request))?;
        for followed in 0.. {
            self.filter.rules.check(&hop.url)?;
            let sent = self.client.execute(hop.to_request());
            let response = match timeout_at(deadline, sent).await {
                Ok(response) => response.map_err(|error| failed(&hop.url, error))?,
                Err(_) => return Err(late(&hop.url, limits)),
            };
            let next = if limits.redirects > 0 { hop.next(&response)? } else { None };
            let Some(next) = next else { return incoming(response, hop.url, deadline, limits) };
            if followed >= limits.redirects {
                return Err(Error::unavailable(format!(
                    "{} redirects again after {} redirects; name the last place itself",
                    place(&hop.url),
                    limits.redirects
                )));
            }
            hop = next;
        }
        Err(Error::internal("an endless loop ended"))
    }

    /// Opens a connection for another protocol than HTTP, by the same rules for addresses. `host` is a
    /// name or an address.
    ///
    /// # Errors
    /// `Invalid` for what is no host, `Forbidden` for one that may not be reached, `Unavailable` when
    /// nothing answers in time.
    pub async fn dial(&self, host: &str, port: u16) -> Result<TcpStream> {
        let deadline = Instant::now() + self.connect_timeout;
        let (host, literal) = dialled(host, port)?;
        let addresses = match literal {
            Some(address) if self.filter.rules.may_dial(&host, address) => vec![address],
            Some(_) => return Err(refused(&host)),
            None => match timeout_at(deadline, self.filter.addresses(&host)).await {
                Ok(found) => found.map_err(unresolved)?,
                Err(_) => return Err(Error::unavailable(format!("`{host}` was not looked up in time"))),
            },
        };
        let mut last = None;
        for address in addresses {
            match timeout_at(deadline, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(Error::internal)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(error.to_string()),
                Err(_) => last = Some("no answer in time".to_owned()),
            }
        }
        let reason = last.unwrap_or_else(|| "it has no address".to_owned());
        Err(Error::unavailable(format!("`{host}` port {port} cannot be reached: {reason}")))
    }
}

impl Incoming {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `Invalid` for a body that is larger than the limit, `Unavailable` when it breaks off or is late.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let piece = match timeout_at(self.deadline, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|error| failed(&self.url, error))?,
            Err(_) => return Err(late(&self.url, self.limits)),
        };
        self.read += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.read > self.limits.max_bytes {
            return Err(too_large(&self.url, self.limits));
        }
        Ok(piece)
    }
}

/// The request with the trace that it belongs to, unless it names one.
fn traced(mut request: Request) -> Request {
    let header = crate::telemetry::traceparent().and_then(|text| http::HeaderValue::from_str(&text).ok());
    if let Some(header) = header {
        request.headers.entry("traceparent").or_insert(header);
    }
    request
}

fn incoming(response: reqwest::Response, url: Url, deadline: Instant, limits: Limits) -> Result<Incoming> {
    if response.content_length().is_some_and(|length| length > limits.max_bytes) {
        return Err(too_large(&url, limits));
    }
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Incoming { status, headers, url, response, deadline, limits, read: 0 })
}

/// The host as a URL's parser understands it, so that `0x7f.1` is the address that it means.
fn dialled(host: &str, port: u16) -> Result<(String, Option<std::net::IpAddr>)> {
    let wrong = || Error::invalid(format!("`{}` is no host name and no address", host.escape_debug()));
    if host.is_empty() || host.len() > 255 || host.contains(['/', '?', '#', '@', '\\']) || port == 0 {
        return Err(wrong());
    }
    let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let text = if bare_v6 { format!("http://[{host}]/") } else { format!("http://{host}/") };
    let url = Url::parse(&text).map_err(|_| wrong())?;
    if url.port().is_some() {
        return Err(wrong());
    }
    let host = url.host_str().ok_or_else(wrong)?;
    Ok((host.to_owned(), literal(host)))
}

/// TLS with ring, the public certificate authorities (as Mozilla lists them), and those of a file.
fn tls(ca_file: Option<&Path>) -> Result<rustls::ClientConfig> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let wrong = |what: String| Error::invalid(format!("egress.ca_file: `{}` {what}", path.display()));
        let pem = crate::files::read_named(path, 8 << 20).map_err(|error| wrong(error.message))?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| wrong(format!("has a wrong certificate: {error}")))?;
        }
        if roots.len() == before {
            return Err(wrong("holds no certificate".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.map_err(Error::internal)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The part of a URL that holds no secret.
fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn late(url: &Url, limits: Limits) -> Error {
    let seconds = limits.timeout.as_secs_f64();
    Error::unavailable(format!("{} did not answer in full within {seconds} s", place(url)))
}

fn too_large(url: &Url, limits: Limits) -> Error {
    let most = limits.max_bytes;
    Error::invalid(format!("the answer of {} is larger than the {most} bytes that are allowed", place(url)))
}

fn unresolved(error: Unresolved) -> Error {
    match &error {
        Unresolved::Refused(name) => refused(name),
        Unresolved::Failed(..) => Error::unavailable(error.to_string()),
    }
}

fn failed(url: &Url, error: reqwest::Error) -> Error {
    // The URL may hold a token.
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        if let Some(Unresolved::Refused(name)) = next.downcast_ref() {
            return refused(name);
        }
        causes.push(next.to_string());
        cause = next.source();
    }
    let reason = causes.pop().unwrap_or_else(|| error.to_string());
    Error::new(Kind::Unavailable, format!("{} cannot be reached: {reason}", place(url))).because(error)
}
