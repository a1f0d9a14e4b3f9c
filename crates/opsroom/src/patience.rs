//! How long a client may keep a connection without using it. Without these limits a few thousand silent
//! clients would keep everybody else out.
//!
//! A connection is *in use* while a request is being answered, to the last byte of its answer. One that
//! is not in use for [`IDLE`] ends, whatever protocol it speaks and however far its first bytes came.
//! One whose client takes nothing of an answer for [`STALL`] ends too.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a connection may be unused.
pub const IDLE: Duration = Duration::from_secs(15);
/// How long a client may take nothing of what is sent to it.
pub const STALL: Duration = Duration::from_secs(60);

/// What a connection's requests tell about its use. Cheap to clone.
#[derive(Clone, Default)]
pub struct Use {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Use {
    /// A request begins; it ends when what this gives is dropped.
    pub fn begin(&self) -> InUse {
        self.counts.begun.fetch_add(1, Ordering::SeqCst);
        InUse(self.counts.clone())
    }

    /// Answers when the connection was not in use for `idle`.
    pub async fn unused(&self, idle: Duration) {
        let ended = || self.counts.ended.load(Ordering::SeqCst);
        let mut before = ended();
        loop {
            tokio::time::sleep(idle).await;
            let now = ended();
            if now == before && self.counts.begun.load(Ordering::SeqCst) == now {
                return;
            }
            before = now;
        }
    }
}

/// A request that is being answered.
pub struct InUse(Arc<Counts>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// An answer's body, which keeps its connection in use until it is sent or given up.
struct UsedBody {
    body: Body,
    _in_use: InUse,
}

impl InUse {
    /// The body of this request's answer, which ends it when it is dropped.
    pub fn until_sent(self, body: Body) -> Body {
        Body::new(UsedBody { body, _in_use: self })
    }
}

impl hyper::body::Body for UsedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails when what is written to it is not taken for a while.
pub struct Impatient<S> {
    stream: S,
    stall: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Impatient<S> {
    /// Waits at most `stall` for the other side to take something.
    pub fn new(stream: S, stall: Duration) -> Self {
        Self { stream, stall, waiting: None }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let stall = self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        waiting.as_mut().poll(context).map(|()| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing of what was sent to it"))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bounded(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bounded(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bounded(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Body as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up_and_one_that_reads_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = Impatient::new(near, SHORT);
        near.write_all(&[0; 16]).await.unwrap();
        let late = near.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 16];
        far.read_exact(&mut taken).await.unwrap();
        near.write_all(&[0; 16]).await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_in_use_until_its_answer_is_sent() {
        let used = Use::default();
        let body = used.begin().until_sent(Body::from("answer"));
        assert_eq!(body.size_hint().exact(), Some(6), "the length of the answer stays known");
        let unused = tokio::time::timeout(SHORT * 4, used.unused(SHORT));
        assert!(unused.await.is_err());
        drop(body);
        used.unused(SHORT).await;
    }
}
