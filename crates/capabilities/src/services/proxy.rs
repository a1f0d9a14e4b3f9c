//! The only way out of a service's network: a proxy on the network's own gateway address that lets each
//! service reach the places of its list, by host and port, and nothing else.
//!
//! Names are looked up here, not by the service, and every address is checked when it is dialled: a
//! listed name that points into a private network leads nowhere.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opsroom_core::egress::Egress;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Services;
use super::model::{Place, Service};
use super::runtime::Placement;

/// The port on a network's gateway address.
const PORT: u16 = 3128;
/// The largest head of a request.
const MOST_HEAD: usize = 16 << 10;
/// How long a head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long one connection may last.
const LONGEST: Duration = Duration::from_secs(3600);
/// The most connections of one network at once.
const MOST: usize = 256;

/// Which address may reach which places, and where we listen.
#[derive(Clone, Default)]
pub struct Proxies(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    listening: HashMap<Ipv4Addr, ()>,
    allowed: HashMap<IpAddr, (i64, Arc<Vec<Place>>)>,
}

impl Proxies {
    fn table<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn places(&self, from: IpAddr) -> Option<Arc<Vec<Place>>> {
        self.table(|table| table.allowed.get(&from).map(|(_, places)| places.clone()))
    }
}

impl Services {
    /// Tells a service that may reach something outside where its proxy is.
    pub(super) fn add_proxy(
        &self,
        it: &Service,
        placement: &Placement,
        environment: &mut Vec<(String, Secret)>,
    ) {
        if it.spec.allow_egress.is_empty() {
            return;
        }
        let network = placement.control.as_ref().unwrap_or(&placement.network);
        let url = format!("http://{}:{PORT}", network.subnet.gateway());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            environment.push((name.to_owned(), url.as_str().into()));
        }
        environment.push(("NO_PROXY".to_owned(), "localhost,127.0.0.1".into()));
    }

    /// Listens for a service that runs, where it may reach something outside; and forgets what another
    /// service had at its address.
    pub(super) async fn serve_proxy(&self, it: &Service, address: Option<SocketAddr>) {
        let Some(address) = address.map(|address| address.ip()) else { return };
        let places: Vec<Place> =
            it.spec.allow_egress.iter().filter_map(|text| Place::parse(text).ok()).collect();
        let listed = !places.is_empty();
        self.inner.proxies.table(|table| {
            table.allowed.retain(|known, (id, _)| *id != it.id && *known != address);
            if listed {
                table.allowed.insert(address, (it.id, Arc::new(places)));
            }
        });
        if !listed {
            return;
        }
        let Ok(placement) = self.place(it).await else { return };
        let gateway = placement.control.as_ref().unwrap_or(&placement.network).subnet.gateway();
        if let Err(error) = self.listen(gateway).await {
            tracing::warn!(service.id = it.id, error = %error, "the service's way out cannot be opened");
        }
    }

    async fn listen(&self, gateway: Ipv4Addr) -> Result<()> {
        let inner = &self.inner;
        if inner.proxies.table(|table| table.listening.contains_key(&gateway)) {
            return Ok(());
        }
        let listener = TcpListener::bind((gateway, PORT))
            .await
            .map_err(|error| Error::unavailable(format!("cannot listen on {gateway}:{PORT}: {error}")))?;
        inner.proxies.table(|table| table.listening.insert(gateway, ()));
        let (life, proxies, egress) = (inner.lifecycle.clone(), inner.proxies.clone(), inner.egress.clone());
        inner.lifecycle.spawn("way out of a network", async move {
            accept(&life, listener, &proxies, &egress).await;
            proxies.table(|table| table.listening.remove(&gateway));
            Ok(())
        });
        Ok(())
    }
}

/// Until the server stops, or the network's address is gone.
async fn accept(life: &Lifecycle, listener: TcpListener, proxies: &Proxies, egress: &Egress) {
    let (stop, room) = (life.stopping(), Arc::new(Semaphore::new(MOST)));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (places, egress, stop) = (proxies.places(peer.ip()), egress.clone(), stop.clone());
        drop(life.spawn_work(async move {
            let _permit = permit;
            tokio::select! {
                _ended = timeout(LONGEST, serve(stream, places, &egress)) => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        }));
    }
}

async fn serve(
    mut client: TcpStream,
    places: Option<Arc<Vec<Place>>>,
    egress: &Egress,
) -> std::io::Result<()> {
    let head = match timeout(HEAD_LIMIT, read_head(&mut client)).await {
        Ok(Ok(head)) => head,
        _ => return Ok(()),
    };
    let Some(asked) = Asked::parse(&head) else {
        return answer(&mut client, "400 Bad Request", "this is a proxy for HTTP").await;
    };
    let allowed =
        places.is_some_and(|places| places.iter().any(|place| place.matches(&asked.host, asked.port)));
    if !allowed {
        let why = format!("{}:{} is not in the service's `allow_egress`", asked.host, asked.port);
        return answer(&mut client, "403 Forbidden", &why).await;
    }
    let mut outside = match egress.dial(&asked.host, asked.port).await {
        Ok(outside) => outside,
        Err(error) => return answer(&mut client, "502 Bad Gateway", &error.message).await,
    };
    match &asked.forward {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => outside.write_all(head).await?,
    }
    outside.write_all(&asked.rest).await?;
    tokio::io::copy_bidirectional(&mut client, &mut outside).await.map(drop)
}

async fn answer(client: &mut TcpStream, status: &str, text: &str) -> std::io::Result<()> {
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

/// All that came up to the end of the head, and perhaps a little more.
async fn read_head(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 2048];
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

/// What a client asks a proxy for.
struct Asked {
    host: String,
    port: u16,
    /// The head as the server gets it; `None` for a tunnel.
    forward: Option<Vec<u8>>,
    /// What came after the head.
    rest: Vec<u8>,
}

impl Asked {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let rest = bytes[end + 4..].to_vec();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if !version.starts_with("HTTP/1.") || first.next().is_some() {
            return None;
        }
        if method == "CONNECT" {
            let (host, port) = target.rsplit_once(':')?;
            let host = host.trim_matches(['[', ']']).to_owned();
            return Some(Self { host, port: port.parse().ok()?, forward: None, rest });
        }
        let after = target.strip_prefix("http://")?;
        let (place, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        if place.contains('@') {
            return None;
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, 80),
        };
        let path = if path.is_empty() { "/" } else { path };
        // The host that was allowed is the one that is named: another in the head would be another place.
        let mut forward = format!("{method} {path} {version}\r\nHost: {place}\r\nConnection: close\r\n");
        for line in lines {
            let name = line.split(':').next()?.trim().to_ascii_lowercase();
            if !["host", "connection", "proxy-connection", "proxy-authorization", "keep-alive"]
                .contains(&name.as_str())
            {
                forward.push_str(line);
                forward.push_str("\r\n");
            }
        }
        forward.push_str("\r\n");
        Some(Self { host: host.to_owned(), port, forward: Some(forward.into_bytes()), rest })
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::egress::EgressConfig;

    use super::*;

    #[test]
    fn what_is_asked_of_a_proxy_is_understood() {
        let asked = Asked::parse(b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\nhello").unwrap();
        assert_eq!(
            (asked.host.as_str(), asked.port, asked.rest.as_slice()),
            ("api.example.com", 443, &b"hello"[..])
        );
        assert!(asked.forward.is_none());
        let asked =
            Asked::parse(b"GET http://a.example/x?y HTTP/1.1\r\nHost: evil.example\r\nAccept: */*\r\n\r\n")
                .unwrap();
        let forward = String::from_utf8(asked.forward.unwrap()).unwrap();
        assert_eq!(
            forward,
            "GET /x?y HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nAccept: */*\r\n\r\n"
        );
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT x HTTP/1.1\r\n\r\n",
            "CONNECT x:y HTTP/1.1\r\n\r\n",
            "GET http://a@b/ HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(Asked::parse(head.as_bytes()).is_none(), "{head}");
        }
    }

    async fn through(places: &[&str], request: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let allowed =
            EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
        let egress = Egress::new(&allowed).unwrap();
        let places = Some(Arc::new(places.iter().map(|place| Place::parse(place).unwrap()).collect()));
        let client = async {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let server = async { serve(listener.accept().await.unwrap().0, places, &egress).await };
        tokio::join!(client, server).0
    }

    #[tokio::test]
    async fn a_service_reaches_the_places_of_its_list_and_no_others() {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = outside.local_addr().unwrap().port();
        let request = format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n");
        let listed = format!("127.0.0.1:{port}");
        let server = async {
            let (mut stream, _) = outside.accept().await.unwrap();
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            assert!(part[..read].starts_with(b"GET / HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        };
        let places = [listed.as_str()];
        let (answer, ()) = tokio::join!(through(&places, request.clone()), server);
        assert!(answer.ends_with("hi"), "{answer}");
        let refused = through(&["127.0.0.1:1", "example.com:443"], request).await;
        assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("allow_egress"), "{refused}");
    }

    #[tokio::test]
    async fn a_listed_name_that_points_into_a_private_network_leads_nowhere() {
        let refused =
            through(&["169.254.169.254:80"], "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n".to_owned()).await;
        assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
    }
}
