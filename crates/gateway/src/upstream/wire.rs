//! HTTP/1.1 towards one upstream, on pooled connections.
//!
//! A request is written and its answer read by the task that wants it: no other task is woken on the way,
//! which is what makes a proxied call cheap. Connections go through the rules of egress; redirects are not
//! followed. A connection on which something was left unread is closed, so an answer is never taken for
//! another's.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use opsroom_core::egress::Egress;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::Dial;

/// The largest head of an answer.
const LARGEST_HEAD: usize = 64 << 10;
/// How many headers an answer may have.
const MOST_HEADERS: usize = 100;
/// How long a connection is kept for another request.
const KEPT: Duration = Duration::from_secs(45);
/// How many connections are kept.
const MOST_KEPT: usize = 256;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The address may not be dialled, or does not answer.
    Connect(String),
    /// The connection broke; `begun` says whether the request may have been read.
    Broken {
        /// Whether the service may have acted on the request.
        begun: bool,
        /// What was seen.
        what: String,
    },
    /// What came back is no HTTP answer.
    Garbled(&'static str),
    /// The answer is larger than what is taken.
    TooLarge,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(what) => f.write_str(what),
            Failure::Broken { what, .. } => write!(f, "the connection broke: {what}"),
            Failure::Garbled(what) => write!(f, "what came back is no HTTP answer: {what}"),
            Failure::TooLarge => f.write_str("the answer is larger than what is taken"),
        }
    }
}

/// The connections to one place.
pub struct Pool {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    dial: Dial,
    egress: Egress,
    idle: Mutex<Vec<(Conn, Instant)>>,
}

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The host and, where it is not the usual one, the port.
    pub authority: String,
    /// The path with the query.
    pub path: String,
}

impl Target {
    /// Reads a URL; `None` for what is none that a request can go to.
    pub fn parse(url: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned());
        Some(Self { tls, host, port, authority: authority.as_str().to_owned(), path })
    }

    /// Whether two URLs lead to the same server.
    pub fn same_place(&self, other: &Target) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }
}

impl Pool {
    /// A pool without connections.
    pub fn new(target: &Target, dial: Dial, egress: Egress) -> Self {
        let tls = target.tls.then(|| TlsConnector::from(egress.tls_for_http1()));
        Self { host: target.host.clone(), port: target.port, tls, dial, egress, idle: Mutex::default() }
    }

    /// Sends a whole request (head and body in one) and reads the head of its answer.
    ///
    /// # Errors
    /// Every [`Failure`]; a kept connection that had been closed meanwhile is not one.
    pub async fn send(self: &Arc<Self>, request: &[u8]) -> Result<Answer, Failure> {
        if let Some(mut conn) = self.kept() {
            // Between two requests the other side may close: when nothing came back on a kept
            // connection that had ended, the request was not read.
            match conn.write(request).await {
                Ok(()) => return self.head(conn).await,
                Err(error) if is_closed(&error) => {}
                Err(error) => return Err(broken(true, &error)),
            }
        }
        let mut conn = self.connect().await?;
        conn.write(request).await.map_err(|error| broken(true, &error))?;
        self.head(conn).await
    }

    fn kept(&self) -> Option<Conn> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((mut conn, since)) = idle.pop() {
            if since.elapsed() > KEPT {
                // The ones below are older still.
                idle.clear();
                return None;
            }
            if conn.is_quiet() {
                return Some(conn);
            }
        }
        None
    }

    fn keep(&self, conn: Conn) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_KEPT {
            idle.push((conn, Instant::now()));
        }
    }

    async fn connect(&self) -> Result<Conn, Failure> {
        let unreachable = |error: io::Error| {
            Failure::Connect(format!("{} port {} cannot be reached: {error}", self.host, self.port))
        };
        let stream = match self.dial {
            Dial::Checked => self
                .egress
                .dial(&self.host, self.port)
                .await
                .map_err(|error| Failure::Connect(error.message))?,
            Dial::Trusted => {
                TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?
            }
            Dial::At(address) => TcpStream::connect(address).await.map_err(unreachable)?,
        };
        stream.set_nodelay(true).map_err(unreachable)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let name = rustls::pki_types::ServerName::try_from(self.host.clone())
                    .map_err(|_| Failure::Connect(format!("{} is no name of a server", self.host)))?;
                Stream::Tls(Box::new(tls.connect(name, stream).await.map_err(unreachable)?))
            }
        };
        Ok(Conn { stream, buffer: BytesMut::new() })
    }

    async fn head(self: &Arc<Self>, mut conn: Conn) -> Result<Answer, Failure> {
        loop {
            if !conn.buffer.is_empty() {
                match parse_head(&conn.buffer)? {
                    // An interim answer (100 Continue, 103 Early Hints) is not the answer.
                    Some((head, size)) if (100..200).contains(&head.status) => {
                        let _interim = conn.buffer.split_to(size);
                        continue;
                    }
                    Some((head, size)) => {
                        let _read = conn.buffer.split_to(size);
                        return Ok(Answer::new(head, conn, self.clone()));
                    }
                    None if conn.buffer.len() > LARGEST_HEAD => return Err(Failure::TooLarge),
                    None => {}
                }
            }
            conn.fill().await.map_err(|error| broken(true, &error))?;
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn broken(begun: bool, error: &io::Error) -> Failure {
    Failure::Broken { begun, what: error.to_string() }
}

struct Conn {
    stream: Stream,
    buffer: BytesMut,
}

impl Conn {
    /// Whether nothing came on it since the last answer, not even its end.
    fn is_quiet(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return false;
        }
        let tcp = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        let mut byte = [0];
        matches!(tcp.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn write(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(4096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended")),
            _ => Ok(()),
        }
    }
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// What is looked at in an answer's head.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Whether the body is JSON.
    pub json: bool,
    /// Whether the body is an event stream.
    pub events: bool,
    /// `Mcp-Session-Id`.
    pub session: Option<String>,
    /// `WWW-Authenticate`.
    pub challenge: Option<String>,
    keep: bool,
    framing: Framing,
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::Garbled("the head cannot be read")),
    };
    let status = parsed.code.unwrap_or(0);
    let mut head = Head {
        status,
        json: false,
        events: false,
        session: None,
        challenge: None,
        keep: parsed.version == Some(1),
        framing: Framing::UntilClose,
    };
    let (mut length, mut chunked) = (None, false);
    for header in parsed.headers.iter() {
        let value = header.value.trim_ascii();
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let this = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
            if this.is_none() || length.is_some_and(|before| Some(before) != this) {
                return Err(Failure::Garbled("its length is not one number"));
            }
            length = this;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Failure::Garbled("its transfer encoding is not known"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("content-type") {
            let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            head.json = kind.eq_ignore_ascii_case(b"application/json");
            head.events = kind.eq_ignore_ascii_case(b"text/event-stream");
        } else if name.eq_ignore_ascii_case("connection") {
            head.keep &= !value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            head.session = std::str::from_utf8(value).ok().map(str::to_owned);
        } else if name.eq_ignore_ascii_case("www-authenticate") {
            head.challenge = std::str::from_utf8(value).ok().map(str::to_owned);
        } else if name.eq_ignore_ascii_case("content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            return Err(Failure::Garbled("it is compressed, which was not asked for"));
        }
    }
    head.framing = match (status, chunked, length) {
        (204 | 304, _, _) => Framing::Length(0),
        // Both is how requests are smuggled (RFC 9112, 6.3).
        (_, true, Some(_)) => return Err(Failure::Garbled("it has a length and chunks")),
        (_, true, None) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::UntilClose,
    };
    Ok(Some((head, size)))
}

/// An answer whose body is still to be read. Dropped before its end, its connection is closed.
pub struct Answer {
    /// Its head.
    pub head: Head,
    conn: Option<Conn>,
    pool: Arc<Pool>,
    /// What is left of the body, or of the chunk at hand.
    left: u64,
    in_chunk: bool,
    ended: bool,
}

impl Answer {
    fn new(head: Head, conn: Conn, pool: Arc<Pool>) -> Self {
        let left = match head.framing {
            Framing::Length(length) => length,
            _ => 0,
        };
        let mut answer = Self { head, conn: Some(conn), pool, left, in_chunk: false, ended: false };
        if answer.head.framing == Framing::Length(0) {
            answer.end();
        }
        answer
    }

    /// The whole body, at most so many bytes.
    ///
    /// # Errors
    /// `TooLarge`, `Broken`, `Garbled`.
    pub async fn bytes(mut self, most: usize) -> Result<Bytes, Failure> {
        if let Framing::Length(length) = self.head.framing
            && length > most as u64
        {
            return Err(Failure::TooLarge);
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if self.ended {
            return Ok(first);
        }
        let mut whole = BytesMut::from(&first[..]);
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > most {
                return Err(Failure::TooLarge);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// `Broken`, `Garbled`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.head.framing == Framing::Chunked && self.left == 0 {
                if !self.chunk_size()? {
                    self.fill().await?;
                }
                continue;
            }
            let Some(conn) = self.conn.as_mut() else { return Ok(None) };
            // A whole body of known length that is nearly here is given in one piece.
            let whole = matches!(self.head.framing, Framing::Length(_)) && self.left <= 64 << 10;
            let ready = !conn.buffer.is_empty() && (!whole || conn.buffer.len() as u64 >= self.left);
            if !ready {
                match conn.fill().await {
                    Ok(()) => continue,
                    Err(error) if self.head.framing == Framing::UntilClose => {
                        self.ended = true;
                        self.conn = None;
                        if error.kind() == io::ErrorKind::UnexpectedEof {
                            return Ok(None);
                        }
                        return Err(broken(true, &error));
                    }
                    Err(error) => return Err(broken(true, &error)),
                }
            }
            if self.head.framing == Framing::UntilClose {
                return Ok(Some(conn.buffer.split().freeze()));
            }
            let size = (conn.buffer.len() as u64).min(self.left) as usize;
            let piece = conn.buffer.split_to(size).freeze();
            self.left -= size as u64;
            if self.left == 0 && matches!(self.head.framing, Framing::Length(_)) {
                self.end();
            }
            return Ok(Some(piece));
        }
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        match self.conn.as_mut() {
            Some(conn) => conn.fill().await.map_err(|error| broken(true, &error)),
            None => Err(Failure::Garbled("it ended within a chunk")),
        }
    }

    /// Reads the size of the next chunk, if it is here; at the last one, the trailers too.
    fn chunk_size(&mut self) -> Result<bool, Failure> {
        let Some(conn) = self.conn.as_mut() else { return Ok(true) };
        if self.in_chunk {
            if conn.buffer.len() < 2 {
                return Ok(false);
            }
            if &conn.buffer[..2] != b"\r\n" {
                return Err(Failure::Garbled("a chunk is longer than it says"));
            }
            let _end = conn.buffer.split_to(2);
            self.in_chunk = false;
        }
        match httparse::parse_chunk_size(&conn.buffer) {
            Ok(httparse::Status::Complete((at, 0))) => {
                let rest = &conn.buffer[at..];
                // Trailers are few and not looked at; without any, an empty line follows.
                let end = if rest.starts_with(b"\r\n") {
                    Some(2)
                } else {
                    memchr::memmem::find(rest, b"\r\n\r\n").map(|at| at + 4)
                };
                let Some(end) = end else {
                    return if rest.len() > LARGEST_HEAD { Err(Failure::TooLarge) } else { Ok(false) };
                };
                let _read = conn.buffer.split_to(at + end);
                self.end();
                Ok(true)
            }
            Ok(httparse::Status::Complete((at, size))) => {
                let _read = conn.buffer.split_to(at);
                self.left = size;
                self.in_chunk = true;
                Ok(true)
            }
            Ok(httparse::Status::Partial) if conn.buffer.len() < 4096 => Ok(false),
            _ => Err(Failure::Garbled("the size of a chunk cannot be read")),
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(conn) = self.conn.take()
            && self.head.keep
            && conn.buffer.is_empty()
        {
            self.pool.keep(conn);
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
