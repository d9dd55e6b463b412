//! A connection's clock: how long it may be silent, how long a request's head may take, and how long a client may take nothing of an
//! answer. Bodies of requests have their own, where they are read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use futures::task::AtomicWaker;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From the first byte of a request's head to its last.
    pub(crate) header: Duration,
    /// Without a request, and without taking anything of an answer.
    pub(crate) idle: Duration,
}

/// No request has begun.
const IDLE: u8 = 0;
/// Some of a request's head is there.
const HEAD: u8 = 1;
/// A request is being answered.
const EXCHANGE: u8 = 2;

/// Where a connection stands, as its socket and its exchanges tell each other.
#[derive(Clone, Default)]
pub(super) struct Phase(Arc<Shared>);

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    /// Wakes the connection when an exchange ends: its silence begins.
    socket: AtomicWaker,
}

impl Phase {
    /// A request is being answered until this is dropped.
    pub(super) fn exchange(&self) -> Exchange {
        self.set(EXCHANGE);
        Exchange(self.clone())
    }

    fn now(&self) -> u8 {
        self.0.phase.load(Ordering::Acquire)
    }

    fn set(&self, phase: u8) {
        self.0.phase.store(phase, Ordering::Release);
    }
}

/// A request that is being answered.
pub(super) struct Exchange(Phase);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.set(IDLE);
        self.0.0.socket.wake();
    }
}

/// An answer's body, which ends its exchange.
pub(super) struct Held {
    body: Body,
    _exchange: Exchange,
}

impl Held {
    /// The body, and the exchange that it belongs to.
    pub(super) fn new(body: Body, exchange: Exchange) -> Self {
        Self { body, _exchange: exchange }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that gives up in time.
pub(super) struct Timed<S> {
    socket: S,
    phase: Phase,
    patience: Patience,
    /// The phase that `deadline` was set for.
    seen: u8,
    /// The client takes nothing just now.
    stalled: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Timed<S> {
    /// A new connection: silent so far.
    pub(super) fn new(socket: S, phase: Phase, patience: Patience) -> Self {
        Self { socket, phase, patience, seen: IDLE, stalled: false, deadline: Box::pin(tokio::time::sleep(patience.idle)) }
    }

    fn allow(&mut self, duration: Duration) {
        self.deadline.as_mut().reset(Instant::now() + duration);
    }

    fn expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.deadline.as_mut().poll(cx).map(|()| io::Error::new(io::ErrorKind::TimedOut, "the client took too long"))
    }

    /// What a write came to; one that goes nowhere for too long fails.
    fn watched(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.allow(self.patience.idle);
        }
        self.expired(cx).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.phase.now();
        if phase != this.seen {
            this.seen = phase;
            this.allow(this.patience.idle);
        }
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.socket).poll_read(cx, into) {
            if phase == IDLE && into.filled().len() > before {
                this.phase.set(HEAD);
                this.seen = HEAD;
                this.allow(this.patience.header);
            }
            return Poll::Ready(read);
        }
        if phase == EXCHANGE {
            this.phase.0.socket.register(cx.waker());
            return Poll::Pending;
        }
        this.expired(cx).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watched(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Patience = Patience { header: Duration::from_millis(20), idle: Duration::from_millis(80) };

    fn pair(buffer: usize) -> (tokio::io::DuplexStream, Timed<tokio::io::DuplexStream>, Phase) {
        let (client, server) = tokio::io::duplex(buffer);
        let phase = Phase::default();
        (client, Timed::new(server, phase.clone(), PATIENCE), phase)
    }

    async fn gives_up_after(read: &mut Timed<tokio::io::DuplexStream>) -> Duration {
        let begin = Instant::now();
        assert_eq!(read.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        begin.elapsed()
    }

    #[tokio::test]
    async fn silence_ends_and_a_slow_head_ends_sooner() {
        let (_client, mut server, _) = pair(64);
        assert!(gives_up_after(&mut server).await >= PATIENCE.idle);
        let (mut client, mut server, _) = pair(64);
        client.write_all(b"G").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'G');
        let slow = gives_up_after(&mut server).await;
        assert!(slow >= PATIENCE.header && slow < PATIENCE.idle, "{slow:?}");
    }

    #[tokio::test]
    async fn an_exchange_may_take_its_time() {
        let (_client, mut server, phase) = pair(64);
        let exchange = phase.exchange();
        assert!(tokio::time::timeout(PATIENCE.idle * 2, server.read_u8()).await.is_err(), "nobody gave up");
        drop(exchange);
        assert!(gives_up_after(&mut server).await >= PATIENCE.idle, "from its end on");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_client, mut server, phase) = pair(8);
        let _exchange = phase.exchange();
        assert_eq!(server.write_all(&[0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
