//! Speaking with object stores: listing, and reading one object, through the one way out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use opsroom_core::egress::{Egress, Incoming, Limits, Request};
use opsroom_core::{Clock, Error, Result};

use super::model::{Object, SourceConfig, SourceKind, check_key};
use super::sign::{self, Credentials, Unsigned, encode, encode_path};
use super::xml;
use crate::logs::entry::{shown_time, time_of_text};
use crate::logs::shown::shown;

/// How long a request may take, but for reading an object.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an object may take to be read.
const READING: Duration = Duration::from_secs(6 * 3600);
/// The most bytes of a page of a listing.
const PAGE_BYTES: u64 = 16 << 20;
/// How often a store that is busy is asked again.
const TRIES: u32 = 5;

/// A source over HTTP.
#[derive(Clone)]
pub struct Remote {
    /// How it is reached.
    pub config: SourceConfig,
    /// What signs requests; none for what is public.
    pub credentials: Option<Credentials>,
    /// The way out.
    pub egress: Egress,
    /// The time, which signatures hold.
    pub clock: Clock,
    /// The connection to a server of SSH.
    pub line: super::sftp::Line,
}

/// What is asked of a store.
pub(super) struct Asking<'a> {
    pub method: Method,
    pub key: &'a str,
    /// Not encoded.
    pub query: &'a [(String, String)],
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl<'a> Asking<'a> {
    pub fn get(key: &'a str) -> Self {
        Self { method: Method::GET, key, query: &[], headers: Vec::new(), body: Bytes::new() }
    }
}

/// A page of a listing.
#[derive(Debug, Default)]
pub struct Listed {
    /// What was found.
    pub objects: Vec<Object>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Remote {
    /// One page of what has this prefix, from where the page before ended.
    ///
    /// # Errors
    /// `Forbidden` for credentials that do not do, `NotFound` for what is not there, `Unavailable` when the
    /// store does not answer as it should.
    pub async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Listed> {
        if self.config.kind == SourceKind::Http {
            return super::index::list(self, prefix, from).await;
        }
        if self.config.kind == SourceKind::Sftp {
            return super::sftp::list(self, prefix, from).await;
        }
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut query = vec![pair("prefix", prefix)];
        match self.config.kind {
            SourceKind::Cos => {
                query.extend([pair("max-keys", "1000"), pair("encoding-type", "url")]);
                query.extend(from.map(|from| pair("marker", from)));
            }
            SourceKind::Azure => {
                query.extend([
                    pair("restype", "container"),
                    pair("comp", "list"),
                    pair("maxresults", "5000"),
                ]);
                query.extend(from.map(|from| pair("marker", from)));
            }
            _ => {
                query.extend([
                    pair("list-type", "2"),
                    pair("max-keys", "1000"),
                    pair("encoding-type", "url"),
                ]);
                query.extend(from.map(|from| pair("continuation-token", from)));
            }
        }
        let limits = Limits { max_bytes: PAGE_BYTES, timeout: PATIENCE, redirects: 0 };
        let answer = self.ask(&Asking { query: &query, ..Asking::get("") }, limits).await?;
        let body = whole(answer).await?;
        let text = String::from_utf8_lossy(&body);
        if self.config.kind == SourceKind::Azure { blobs(&text) } else { bucket(&text, self.config.kind) }
    }

    /// Begins to read an object from its byte `at`; with `etag`, only while it is the same.
    ///
    /// # Errors
    /// As [`Remote::list`]; `Conflict` when it is another one by now.
    pub async fn open(&self, key: &str, at: u64, etag: Option<&str>) -> Result<Incoming> {
        check_key(key)?;
        let mut headers = Vec::new();
        if at > 0 {
            headers.push(("range".to_owned(), format!("bytes={at}-")));
        }
        if let Some(etag) = etag {
            headers.push(("if-match".to_owned(), etag.to_owned()));
        }
        let limits = Limits { max_bytes: u64::MAX, timeout: READING, redirects: 2 };
        let limits =
            if self.config.kind == SourceKind::Http { limits } else { Limits { redirects: 0, ..limits } };
        let answer = self.ask(&Asking { headers, ..Asking::get(key) }, limits).await?;
        if at > 0 && answer.status != StatusCode::PARTIAL_CONTENT {
            return Err(Error::unavailable(format!(
                "the store gave all of `{}` where a part was asked for",
                quoted(key)
            )));
        }
        Ok(answer)
    }

    /// Asks, and again where the store is busy; an answer that is a refusal is an error.
    pub(super) async fn ask(&self, asking: &Asking<'_>, limits: Limits) -> Result<Incoming> {
        let mut wait = Duration::from_millis(200);
        for attempt in 1.. {
            let answer = self.egress.open(self.request(asking)?, limits).await;
            let (busy, after) = match &answer {
                Ok(answer) if answer.status.is_success() => (false, None),
                Ok(answer) => {
                    let busy = answer.status.as_u16() == 429 || answer.status.is_server_error();
                    (
                        busy,
                        answer.headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse::<u64>().ok()),
                    )
                }
                Err(error) => (error.kind == opsroom_core::Kind::Unavailable, None),
            };
            match answer {
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) if !busy || attempt >= TRIES => {
                    return Err(self.refusal(asking.key, answer).await);
                }
                Err(error) if !busy || attempt >= TRIES => return Err(error),
                _ => {}
            }
            let wait_now = after.map_or(wait, |seconds| Duration::from_secs(seconds.min(30)));
            tokio::time::sleep(wait_now).await;
            wait *= 2;
        }
        Err(Error::internal("an endless loop ended"))
    }

    fn request(&self, asking: &Asking<'_>) -> Result<Request> {
        let Asking { method, key, query, headers, body } = asking;
        let (base, path) = self.place(key)?;
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let question = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
        let url = format!("{base}{}{question}", encode_path(&path));
        let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
        let unsigned = Unsigned { method: method.as_str(), host, path: &path, query, body };
        let mut all = headers.clone();
        if let Some(credentials) = &self.credentials {
            all.extend(self.signed(credentials, unsigned, headers)?);
        } else if self.config.kind == SourceKind::Azure {
            all.push(("x-ms-version".to_owned(), "2021-08-06".to_owned()));
        }
        let mut map = HeaderMap::new();
        for (name, value) in all {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(Error::internal)?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                Error::invalid("a credential or a tag has characters that no header can have")
            })?;
            value.set_sensitive(name == "authorization" || name.as_str().ends_with("token"));
            map.insert(name, value);
        }
        Ok(Request { method: method.clone(), url, headers: map, body: body.clone() })
    }

    fn signed(
        &self,
        credentials: &Credentials,
        request: Unsigned<'_>,
        headers: &[(String, String)],
    ) -> Result<Vec<(String, String)>> {
        let now = self.clock.now();
        match self.config.kind {
            SourceKind::Cos => {
                let seconds = now.0.div_euclid(1_000_000);
                // A minute back, so that a clock that is a little ahead is not in the future for the store.
                let key_time = format!("{};{}", seconds - 60, seconds + 900);
                let host = vec![("host".to_owned(), request.host.to_owned())];
                let signed =
                    sign::cos(credentials, request.method, request.path, request.query, &host, &key_time);
                let mut all = vec![("authorization".to_owned(), signed)];
                if let Some(token) = &credentials.token {
                    all.push(("x-cos-security-token".to_owned(), token.expose().to_owned()));
                }
                Ok(all)
            }
            SourceKind::S3 | SourceKind::Gcs => {
                let usual = if self.config.kind == SourceKind::Gcs { "auto" } else { "us-east-1" };
                let region = self.config.region.as_deref().unwrap_or(usual);
                Ok(sign::aws(credentials, region, request, now))
            }
            SourceKind::Azure => sign::azure(credentials, request, headers, now),
            SourceKind::Http
            | SourceKind::Folder
            | SourceKind::Sftp
            | SourceKind::Docker
            | SourceKind::Service => Ok(Vec::new()),
        }
    }

    /// The begin of the URL, and the path of a key, not encoded.
    fn place(&self, key: &str) -> Result<(String, String)> {
        let bucket = self.config.bucket.as_deref().unwrap_or_default();
        let region = self.config.region.as_deref().unwrap_or_default();
        let base = match (&self.config.endpoint, self.config.kind) {
            (Some(endpoint), kind) => {
                let url = self.egress.check(endpoint)?;
                let base = url.origin().ascii_serialization();
                let folder = xml::percent_decoded(url.path().trim_end_matches('/'));
                let folder = String::from_utf8(folder)
                    .map_err(|_| Error::invalid("endpoint: its path is not UTF-8"))?;
                let path = match kind {
                    SourceKind::Cos | SourceKind::Http => format!("{folder}/{key}"),
                    // Path style is what compatible stores all know.
                    _ if key.is_empty() => format!("{folder}/{bucket}"),
                    _ => format!("{folder}/{bucket}/{key}"),
                };
                return Ok((base, path));
            }
            (None, SourceKind::Cos) => format!("https://{bucket}.cos.{region}.myqcloud.com"),
            (None, SourceKind::S3) if !bucket.contains('.') => {
                format!("https://{bucket}.s3.{region}.amazonaws.com")
            }
            (None, SourceKind::S3) => {
                return Ok((format!("https://s3.{region}.amazonaws.com"), format!("/{bucket}/{key}")));
            }
            (None, SourceKind::Gcs) => {
                return Ok(("https://storage.googleapis.com".to_owned(), format!("/{bucket}/{key}")));
            }
            (None, _) => {
                let account = self.credentials.as_ref().map_or("", |credentials| credentials.id.as_str());
                let base = format!("https://{account}.blob.core.windows.net");
                let path = if key.is_empty() { format!("/{bucket}") } else { format!("/{bucket}/{key}") };
                return Ok((base, path));
            }
        };
        Ok((base, format!("/{key}")))
    }

    /// What a store's refusal means.
    async fn refusal(&self, key: &str, answer: Incoming) -> Error {
        let (status, date) = (answer.status, header(&answer.headers, "date"));
        let body = whole(answer).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let code = xml::text(&text, "Code").unwrap_or_default();
        let said = shown(xml::text(&text, "Message").unwrap_or_default().as_bytes(), 200);
        let what =
            if key.is_empty() { "the list of objects".to_owned() } else { format!("`{}`", quoted(key)) };
        let shown_code = shown(code.as_bytes(), 60);
        match code.as_str() {
            "InvalidObjectState" | "BlobArchived" => {
                return Error::conflict(format!(
                    "{what} is archived and must be restored in the store before it can be read"
                ));
            }
            "RequestTimeTooSkewed" | "AccessDenied" if code != "AccessDenied" || said.contains("xpired") => {
                let theirs = date.map_or(String::new(), |date| format!("; the store's clock says {date}"));
                let ours = shown_time(self.clock.now().0);
                return Error::forbidden(format!(
                    "the store refuses the request's time: this server's clock says {ours}{theirs}; set the clock right"
                ));
            }
            _ => {}
        }
        let told = if code.is_empty() {
            format!("status {}", status.as_u16())
        } else {
            format!("{shown_code}: {said}")
        };
        match status.as_u16() {
            401 | 403 => Error::forbidden(format!(
                "the store refuses {what} ({told}); check access_key_id, secret_access_key, the region and what they may do"
            )),
            404 => Error::not_found(format!("the store has no {what} ({told})")),
            412 => Error::conflict(format!("{what} was replaced while it was read; begin again")),
            416 => Error::conflict(format!("{what} is shorter than it was when it was listed; begin again")),
            429 | 503 => Error::unavailable(format!(
                "the store is busy and asks to slow down ({told}); try again later"
            )),
            300..=399 => Error::invalid(format!(
                "the store redirects to another place ({told}); check region and endpoint"
            )),
            _ => Error::unavailable(format!("the store does not give {what} ({told})")),
        }
    }
}

fn quoted(key: &str) -> String {
    shown(key.as_bytes(), 200)
}

/// A header as text.
pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|text| shown(text.as_bytes(), 200))
}

/// All of a body.
pub(super) async fn whole(mut answer: Incoming) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = answer.next().await? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > PAGE_BYTES {
            return Err(Error::unavailable("the store's answer is longer than any page of a listing"));
        }
    }
    Ok(body)
}

fn no_listing() -> Error {
    Error::unavailable("the store's answer is no list of objects; check the endpoint")
}

/// A listing of S3 or COS.
fn bucket(text: &str, kind: SourceKind) -> Result<Listed> {
    let root = xml::all(text, "ListBucketResult").first().copied().ok_or_else(no_listing)?;
    let encoded = xml::text(root, "EncodingType").as_deref() == Some("url");
    let decoded = |text: String| match encoded {
        true => String::from_utf8_lossy(&xml::percent_decoded(&text)).into_owned(),
        false => text,
    };
    let objects = xml::all(root, "Contents").into_iter().filter_map(|object| {
        Some(Object {
            key: decoded(xml::text(object, "Key")?),
            bytes: xml::text(object, "Size")?.trim().parse().ok()?,
            modified: xml::text(object, "LastModified").and_then(|text| time_of_text(&text)).map(shown_time),
            etag: xml::text(object, "ETag"),
            storage_class: xml::text(object, "StorageClass"),
        })
    });
    let objects: Vec<Object> = objects.collect();
    let truncated = xml::text(root, "IsTruncated").as_deref() == Some("true");
    let next = match kind {
        SourceKind::Cos => {
            xml::text(root, "NextMarker").map(decoded).or_else(|| objects.last().map(|o| o.key.clone()))
        }
        _ => xml::text(root, "NextContinuationToken"),
    };
    let next = next.filter(|next| truncated && !next.is_empty());
    if truncated && next.is_none() {
        return Err(Error::unavailable(
            "the store says that its list goes on, and not where; the list cannot be trusted",
        ));
    }
    Ok(Listed { objects, next })
}

/// A listing of Azure.
fn blobs(text: &str) -> Result<Listed> {
    let root = xml::all(text, "EnumerationResults").first().copied().ok_or_else(no_listing)?;
    let objects = xml::all(root, "Blob").into_iter().filter_map(|blob| {
        let written = xml::text(blob, "Last-Modified").and_then(|text| jiff::fmt::rfc2822::parse(&text).ok());
        Some(Object {
            key: xml::text(blob, "Name")?,
            bytes: xml::text(blob, "Content-Length")?.trim().parse().ok()?,
            modified: written.map(|at| shown_time(at.timestamp().as_microsecond())),
            etag: xml::text(blob, "Etag"),
            storage_class: xml::text(blob, "AccessTier"),
        })
    });
    let objects = objects.collect();
    let next = xml::text(root, "NextMarker").filter(|next| !next.is_empty());
    Ok(Listed { objects, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_and_those_that_lie_are_refused() {
        let page = |more: &str| {
            format!(
                "<ListBucketResult><EncodingType>url</EncodingType>{more}<Contents><Key>a%2Fb+c.log</Key><Size>5</Size>\
                 <LastModified>2025-11-21T10:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag></Contents>\
                 <Contents><Key>bad</Key><Size>many</Size></Contents></ListBucketResult>"
            )
        };
        let listed =
            bucket(&page("<IsTruncated>true</IsTruncated><NextMarker>a%2Fb</NextMarker>"), SourceKind::Cos)
                .unwrap();
        assert_eq!(
            (listed.objects.len(), listed.objects[0].key.as_str(), listed.next.as_deref()),
            (1, "a/b c.log", Some("a/b"))
        );
        assert_eq!(listed.objects[0].etag.as_deref(), Some("\"x\""));
        assert!(bucket(&page("<IsTruncated>true</IsTruncated>"), SourceKind::S3).is_err());
        assert!(bucket("<html>", SourceKind::S3).is_err());
        let azure = "<EnumerationResults><Blobs><Blob><Name>a.log</Name><Properties><Last-Modified>Fri, 21 Nov 2025 10:00:00 GMT\
                     </Last-Modified><Etag>0x1</Etag><Content-Length>7</Content-Length></Properties></Blob></Blobs><NextMarker/></EnumerationResults>";
        let listed = blobs(azure).unwrap();
        assert_eq!(
            (listed.objects[0].bytes, listed.objects[0].modified.as_deref(), listed.next),
            (7, Some("2025-11-21T10:00:00Z"), None)
        );
    }
}
