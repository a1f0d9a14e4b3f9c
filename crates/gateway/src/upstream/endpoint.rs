//! One URL of an upstream: how a message is sent to it over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use opsroom_core::egress::Egress;
use opsroom_core::{Error, Result, Secret};

use super::call::Trouble;
use super::wire::{Answer, Pool, Target};
use crate::world::Dial;

/// The largest answer that is taken, in bytes.
pub const LARGEST_ANSWER: usize = 32 << 20;

/// A URL, its connections, and what every request to it carries.
pub struct Endpoint {
    pool: Arc<Pool>,
    /// Where it is.
    pub target: Target,
    /// The headers of every request, as they are sent.
    common: Vec<u8>,
}

impl Endpoint {
    /// # Errors
    /// `Invalid` for a URL or a header that cannot be sent.
    pub fn new(url: &str, headers: &[(String, Secret)], dial: Dial, egress: &Egress) -> Result<Self> {
        let wrong = || Error::invalid("the URL of the service is not such as https://example.com/mcp");
        let target = Target::parse(url).ok_or_else(wrong)?;
        let mut common = Vec::new();
        common.extend_from_slice(b"host: ");
        common.extend_from_slice(target.authority.as_bytes());
        common.extend_from_slice(b"\r\nuser-agent: opsroom/");
        common.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
        common.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            let sound = http::HeaderName::try_from(name.as_str()).is_ok()
                && http::HeaderValue::try_from(value.expose()).is_ok();
            if !sound || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                return Err(Error::invalid(format!("the header {name:?} cannot be sent to the service")));
            }
            push_header(&mut common, name, value.expose());
        }
        let pool = Arc::new(Pool::new(&target, dial, egress.clone()));
        Ok(Self { pool, target, common })
    }

    /// The same server at another path, as an `endpoint` event names it.
    ///
    /// # Errors
    /// `Invalid` for another server: a service must not lead its credentials elsewhere.
    pub fn at(&self, reference: &str) -> Result<Self> {
        let elsewhere = || Error::invalid("the service names an endpoint on another server");
        let mut target = self.target.clone();
        if reference.starts_with('/') && !reference.starts_with("//") {
            reference.clone_into(&mut target.path);
        } else {
            target = Target::parse(reference).ok_or_else(elsewhere)?;
        }
        if !target.same_place(&self.target) || target.path.bytes().any(|byte| byte <= b' ' || byte == 127) {
            return Err(elsewhere());
        }
        Ok(Self { pool: self.pool.clone(), target, common: self.common.clone() })
    }

    /// POSTs a message. `headers` are appended as they are.
    pub async fn post(&self, headers: &[u8], body: &[u8]) -> Result<Answer, Trouble> {
        let mut request = self.begin("POST", headers, body.len() + 160);
        request.extend_from_slice(
            b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\ncontent-length: ",
        );
        push_number(&mut request, body.len());
        request.extend_from_slice(b"\r\n\r\n");
        request.extend_from_slice(body);
        Ok(self.pool.send(&request).await?)
    }

    /// Opens an event stream.
    pub async fn get(&self, headers: &[u8]) -> Result<Answer, Trouble> {
        let mut request = self.begin("GET", headers, 64);
        request.extend_from_slice(b"accept: text/event-stream\r\n\r\n");
        Ok(self.pool.send(&request).await?)
    }

    /// Ends a session.
    pub async fn delete(&self, headers: &[u8]) -> Result<Answer, Trouble> {
        let mut request = self.begin("DELETE", headers, 64);
        request.extend_from_slice(b"content-length: 0\r\n\r\n");
        Ok(self.pool.send(&request).await?)
    }

    fn begin(&self, method: &str, headers: &[u8], more: usize) -> Vec<u8> {
        let size = method.len() + self.target.path.len() + 14 + self.common.len() + headers.len() + more;
        let mut request = Vec::with_capacity(size);
        request.extend_from_slice(method.as_bytes());
        request.push(b' ');
        request.extend_from_slice(self.target.path.as_bytes());
        request.extend_from_slice(b" HTTP/1.1\r\n");
        request.extend_from_slice(&self.common);
        request.extend_from_slice(headers);
        request
    }
}

/// The headers that the gateway sets itself.
const OURS: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept",
    "accept-encoding",
    "expect",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-session-id",
];

/// Appends a header; what could end its line is left out.
pub fn push_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    out.extend_from_slice(b"\r\n");
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The whole body of an answer, as it may be taken.
pub async fn body(answer: Answer) -> Result<Bytes, Trouble> {
    Ok(answer.bytes(LARGEST_ANSWER).await?)
}
