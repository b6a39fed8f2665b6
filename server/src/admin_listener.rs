//! A listener that has no more than so many connections open at a time, none of them for long.
//!
//! A connection serves one request. So whoever sends half of it, or does not read the answer, gives
//! its slot back as soon as everybody else.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Who comes when there are enough waits for one of them to leave.
pub(crate) struct LimitedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    /// How long a connection may stand.
    lifetime: Duration,
}

impl LimitedListener {
    pub(crate) fn new(listener: TcpListener, connections: usize, lifetime: Duration) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(connections)), lifetime }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        // Nobody closes the semaphore; without a slot the connection would be served all the same.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (LimitedStream { stream, end: Box::pin(sleep(self.lifetime)), _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection, with the slot that it gives back when it ends.
pub(crate) struct LimitedStream {
    stream: TcpStream,
    /// When the connection ends at the latest.
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl LimitedStream {
    /// The socket, or an error once the time is over. One task drives a connection, so it is woken
    /// at the end whatever it waits for.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?.poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// More than the sockets of both sides take in.
    const PAGE_BYTES: usize = 64 << 20;

    #[tokio::test]
    async fn half_a_request_and_an_answer_that_nobody_reads_hold_no_slot_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Router::new()
            .route("/large", get(async || "x".repeat(PAGE_BYTES)))
            .route("/small", get(async || "well"));
        let listener = LimitedListener::new(listener, 1, Duration::from_millis(200));
        let serving = tokio::spawn(axum::serve(listener, pages).into_future());
        for request in ["GET /lar", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", ""] {
            let mut holder = TcpStream::connect(address).await.unwrap();
            holder.write_all(request.as_bytes()).await.unwrap();
            // Nothing but the end of the holder's connection lets this one in.
            let mut other = TcpStream::connect(address).await.unwrap();
            other.write_all(b"GET /small HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            other.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("well"), "{answer}");
        }
        serving.abort();
    }
}
