//! `opsroom serve`: open the room, listen on the port and on the socket, and end in good order.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::faces::{Peer, Server};
use crate::patience::{self, Impatient, Use};

/// How long a client may take to send its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// How long a connection without a request is left open when the server stops.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How many connections may be open at once.
const MOST_CONNECTIONS: usize = 8192;

/// Listens on an address.
///
/// # Errors
/// `Conflict` for a port in use, `Invalid` for an address that is none of this machine's.
pub async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::conflict(format!(
            "port {port} on {host} is in use; stop what listens there or choose another with `--port` or `server.port`"
        )),
        std::io::ErrorKind::PermissionDenied => {
            Error::forbidden(format!("port {port} needs more rights than this user has; choose one above 1023"))
        }
        _ => Error::invalid(format!("cannot listen on {host}:{port}: {error}")),
    })?;
    let address = listener.local_addr().map_err(Error::internal)?;
    Ok((listener, address))
}

/// Listens on the socket in the data folder, in the place of one that a crash left behind. The lock on
/// the folder says that nobody else listens there.
pub fn bind_socket(data_dir: &Path) -> Result<UnixListener> {
    let path = data_dir.join("opsroom.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::internal(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path)
        .map_err(|error| Error::unavailable(format!("cannot listen on {}: {error}", path.display())))?;
    let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, only_owner).map_err(Error::internal)?;
    Ok(listener)
}

/// Accepts connections on the port until the lifecycle stops.
pub fn tcp(lifecycle: &Lifecycle, listener: TcpListener, server: &Server, router: Router) {
    // With Nagle's algorithm on, small answers wait 40 ms for the client's acknowledgement.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    accept(lifecycle, "http listener", listener, (server.clone(), router), |address| Peer {
        address: Some(address),
        request_id: None,
    });
}

/// Accepts connections on the socket until the lifecycle stops.
pub fn unix(lifecycle: &Lifecycle, listener: UnixListener, server: &Server, router: Router) {
    accept(lifecycle, "socket listener", listener, (server.clone(), router), |_| Peer::default());
}

fn accept<L: Listener>(
    lifecycle: &Lifecycle,
    name: &'static str,
    mut listener: L,
    served: (Server, Router),
    peer: fn(L::Addr) -> Peer,
) {
    let life = lifecycle.clone();
    lifecycle.spawn(name, async move {
        let room = std::sync::Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let stop = life.stopping();
        loop {
            let permit = room.clone().acquire_owned().await.map_err(Error::internal)?;
            // It answers only with a connection: out of descriptors, it waits for some to be given back.
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return Ok(()),
            };
            connection(&life, stream, served.clone(), peer(address), permit);
        }
    });
}

fn connection<S>(
    life: &Lifecycle,
    stream: S,
    served: (Server, Router),
    peer: Peer,
    permit: tokio::sync::OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = life.stopping();
    let used = Use::default();
    let watched = used.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let in_use = watched.begin();
        let (server, router) = served.clone();
        let peer = peer.clone();
        async move {
            let answer = server.answer(router, peer, request.map(axum::body::Body::new)).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| in_use.until_sent(body)))
        }
    });
    let stream = Impatient::new(stream, patience::STALL);
    let work = async move {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(128);
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(serving);
        tokio::select! {
            _ended = serving.as_mut() => {}
            () = used.unused(patience::IDLE) => {
                serving.as_mut().graceful_shutdown();
                // What began in this moment is answered; a client that says nothing is not waited for.
                let _late = tokio::time::timeout(HEAD_LIMIT, serving).await;
            }
            () = stop.cancelled() => {
                // The request in hand is answered, then the connection ends.
                serving.as_mut().graceful_shutdown();
                tokio::select! {
                    _ended = serving => {}
                    () = used.unused(LAST_WORDS) => {}
                }
            }
        }
        drop(permit);
        Ok(())
    };
    drop(life.spawn_work(work));
}
