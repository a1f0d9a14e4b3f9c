//! The only way out of a page: a proxy of its own, on a loopback port, for as long as its capture lasts.
//!
//! The browser looks no name up. It asks this proxy for every place, and the proxy dials by the rules of
//! `core::egress`, which hold the address that is dialled against what may be reached: a name that answers
//! differently the second time gains nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Kind, Result};
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The largest head of a request: cookies and tokens can be long.
const MOST_HEAD: usize = 256 << 10;
/// How long a head may take; the browser opens connections before it needs them.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// The most connections of one page at once.
const MOST: usize = 64;
/// The most refusals that are told.
const MOST_TOLD: usize = 20;

/// A page's proxy; it ends when this is dropped.
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    egress: Egress,
    refused: Mutex<Vec<Refused>>,
    left: AtomicU64,
    stop: CancellationToken,
}

/// A place that a page was kept from.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Host and port.
    pub place: String,
    /// Whether the rules refused it; else it could not be reached.
    pub forbidden: bool,
    /// Why.
    pub why: String,
}

impl Proxy {
    /// Listens on a free port; `bytes` is the most that may come through.
    ///
    /// # Errors
    /// `Internal` when there is no port.
    pub async fn start(lifecycle: &Lifecycle, egress: &Egress, bytes: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::internal)?;
        let port = listener.local_addr().map_err(Error::internal)?.port();
        let stop = lifecycle.stopping().child_token();
        let shared = Arc::new(Shared {
            egress: egress.clone(),
            refused: Mutex::default(),
            left: AtomicU64::new(bytes),
            stop: stop.clone(),
        });
        let (life, served) = (lifecycle.clone(), shared.clone());
        drop(lifecycle.spawn_work(async move {
            accept(&life, listener, served).await;
            Ok(())
        }));
        Ok(Self { port, shared, _end: stop.drop_guard() })
    }

    /// The places that the page was kept from, or that did not answer.
    pub fn refused(&self) -> Vec<Refused> {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the page wanted more than it may load.
    pub fn is_spent(&self) -> bool {
        self.shared.left.load(Ordering::Relaxed) == 0
    }
}

impl Shared {
    fn refuse(&self, place: String, error: &Error) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MOST_TOLD && !refused.iter().any(|known| known.place == place) {
            let forbidden = error.kind == Kind::Forbidden;
            refused.push(Refused { place, forbidden, why: error.message.clone() });
        }
    }
}

async fn accept(life: &Lifecycle, listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = shared.clone();
        drop(life.spawn_work(async move {
            let _permit = permit;
            tokio::select! {
                // That a connection breaks is the page's business, which sees it.
                _ended = serve(stream, &shared) => {}
                () = shared.stop.cancelled() => {}
            }
            Ok(())
        }));
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Ok(Ok(head)) = timeout(HEAD_LIMIT, read_head(&mut client)).await else { return Ok(()) };
    let Some(asked) = Asked::parse(&head) else { return Ok(()) };
    let dialled = match shared.egress.check(&asked.check) {
        Ok(_) => shared.egress.dial(&asked.host, asked.port).await,
        Err(error) => Err(error),
    };
    let mut outside = match dialled {
        Ok(outside) => outside,
        // The page learns that there is no answer, and nothing else.
        Err(error) => {
            shared.refuse(format!("{}:{}", asked.host, asked.port), &error);
            return Ok(());
        }
    };
    client.set_nodelay(true)?;
    match &asked.forward {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => outside.write_all(head).await?,
    }
    outside.write_all(&asked.rest).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_outside, mut to_outside) = outside.split();
    let up = copy(&mut from_client, &mut to_outside, &shared.left);
    let down = copy(&mut from_outside, &mut to_client, &shared.left);
    // The answer's end is the end, whether the browser has closed its side or not.
    let up = async {
        up.await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    tokio::select! {
        ended = down => ended,
        failed = up => failed,
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    left: &AtomicU64,
) -> std::io::Result<()> {
    let mut part = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut part).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let take = |left: u64| Some(left.saturating_sub(read as u64));
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or_default();
        if before < read as u64 {
            return Err(std::io::ErrorKind::QuotaExceeded.into());
        }
        to.write_all(&part[..read]).await?;
    }
}

async fn read_head(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    loop {
        match client.read(&mut part).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&part[..read]),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(head);
        }
        if head.len() > MOST_HEAD {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
}

/// What the browser asks for.
struct Asked {
    host: String,
    port: u16,
    /// The place as a URL, for the rules.
    check: String,
    /// The head as the server gets it; `None` for a tunnel.
    forward: Option<Vec<u8>>,
    /// What came after the head.
    rest: Vec<u8>,
}

impl Asked {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
        let rest = bytes[end + 4..].to_vec();
        // Values of headers may be in Latin-1; only names are looked at.
        let mut lines =
            bytes[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = std::str::from_utf8(lines.next()?).ok()?;
        let mut words = first.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        if method == "CONNECT" {
            let url = Url::parse(&format!("https://{target}/")).ok()?;
            let place = Self::place(&url)?;
            return Some(Self { host: place.0, port: place.1, check: place.2, forward: None, rest });
        }
        let url = Url::parse(target).ok().filter(|url| url.scheme() == "http")?;
        let place = Self::place(&url)?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let named = url.port().map_or_else(|| place.0.clone(), |port| format!("{}:{port}", place.0));
        // The place that was checked is the one that is named: another in the head would be another place.
        let mut forward =
            format!("{method} {path} {version}\r\nHost: {named}\r\nConnection: close\r\n").into_bytes();
        for line in lines {
            let name = line.split(|byte| *byte == b':').next()?.trim_ascii().to_ascii_lowercase();
            if !OURS.contains(&name.as_slice()) {
                forward.extend_from_slice(line);
                forward.extend_from_slice(b"\r\n");
            }
        }
        forward.extend_from_slice(b"\r\n");
        Some(Self { host: place.0, port: place.1, check: place.2, forward: Some(forward), rest })
    }

    fn place(url: &Url) -> Option<(String, u16, String)> {
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let (host, port) = (url.host_str()?.to_owned(), url.port_or_known_default()?);
        let check = format!("{}://{host}:{port}/", url.scheme());
        Some((host, port, check))
    }
}

/// Headers that say how the message travels.
const OURS: [&[u8]; 5] = [b"host", b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive"];

#[cfg(test)]
mod tests {
    use opsroom_core::egress::EgressConfig;

    use super::*;

    async fn through(request: String, bytes: u64) -> (Vec<u8>, Vec<Refused>, bool) {
        let config =
            EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
        let (life, egress) = (Lifecycle::new(), Egress::new(&config).unwrap());
        let proxy = Proxy::start(&life, &egress, bytes).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is cut is an answer too.
        let _cut = client.read_to_end(&mut answer).await;
        (answer, proxy.refused(), proxy.is_spent())
    }

    /// A server that keeps what it is asked and gives `body` to the first who asks.
    async fn server(body: usize) -> (u16, tokio::sync::oneshot::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, asked) = tokio::sync::oneshot::channel();
        drop(Lifecycle::new().spawn_work(async move {
            let mut stream = listener.accept().await.unwrap().0;
            let head = read_head(&mut stream).await.unwrap();
            told.send(String::from_utf8(head).unwrap()).unwrap();
            let _cut = stream.write_all(&vec![b'x'; body]).await;
            Ok(())
        }));
        (port, asked)
    }

    #[tokio::test]
    async fn what_may_be_reached_is_reached_by_the_name_that_was_checked() {
        let (port, asked) = server(3).await;
        let request =
            format!("GET http://127.0.0.1:{port}/a?b HTTP/1.1\r\nHost: evil.example\r\nX: y\r\n\r\n");
        let (answer, refused, _) = through(request, 1 << 20).await;
        assert_eq!((answer.as_slice(), refused.len()), (&b"xxx"[..], 0));
        let expected =
            format!("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nX: y\r\n\r\n");
        assert_eq!(asked.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_page_that_reaches_inwards_gets_no_answer() {
        for request in [
            "GET http://127.0.0.2/ HTTP/1.1\r\n\r\n",
            "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\n\r\n",
            "CONNECT 0x7f000002:443 HTTP/1.1\r\n\r\n",
            "CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n",
            "CONNECT 127.0.0.1:25 HTTP/1.1\r\n\r\n",
        ] {
            let (answer, refused, _) = through(request.to_owned(), 1 << 20).await;
            assert!(
                answer.is_empty() && refused.len() == 1 && refused[0].forbidden,
                "{request}: {refused:?}"
            );
        }
        for request in
            ["GET / HTTP/1.1\r\n\r\n", "GET ftp://a/ HTTP/1.1\r\n\r\n", "CONNECT a@b:1 HTTP/1.1\r\n\r\n"]
        {
            assert!(through(request.to_owned(), 1 << 20).await.0.is_empty(), "{request}");
        }
    }

    #[tokio::test]
    async fn a_page_that_loads_without_end_is_cut_off() {
        let (port, _asked) = server(1 << 20).await;
        let request = format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n");
        let (answer, _, spent) = through(request, 100_000).await;
        assert!(answer.len() <= 100_000 && spent, "{}", answer.len());
    }
}
