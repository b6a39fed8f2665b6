//! A listener that has no more than so many connections open at a time, none of them for long.
//!
//! A connection serves one request. So whoever sends half of it, or does not read the answer, gives
//! its slot back as soon as everybody else.

use crate::admin_guard::Caller;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use logboat_security::{
    Port, PortTls, Slot, Slots, StrangerError, Stream, accept, audit, turn_away,
};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, spawn};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Which part of the connections an address of another machine may have.
const ADDRESS_PART: usize = 2;

/// What somebody hears who speaks no TLS where it is required.
const TLS_REQUIRED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
    Content-Type: text/plain\r\n\r\nthis port speaks TLS: use https\n";

/// Who comes when there are enough waits for one of them to leave.
pub(crate) struct LimitedListener {
    local_addr: io::Result<SocketAddr>,
    admitted: mpsc::Receiver<(LimitedStream, SocketAddr)>,
    admitting: AbortHandle,
}

impl LimitedListener {
    /// Connections speak TLS if there is `tls`, and stand for `lifetime` at the most.
    pub(crate) fn new(
        listener: TcpListener,
        tls: Option<PortTls>,
        connections: usize,
        lifetime: Duration,
    ) -> Self {
        let local_addr = listener.local_addr();
        let (sender, admitted) = mpsc::channel(connections);
        let slots = Arc::new(Semaphore::new(connections));
        let admitting = spawn(admit_all(listener, tls, slots, lifetime, sender)).abort_handle();
        Self { local_addr, admitted, admitting }
    }
}

impl Drop for LimitedListener {
    fn drop(&mut self) {
        self.admitting.abort();
    }
}

/// Takes in connections. Each shakes hands in a task of its own, so that nobody waits for it.
async fn admit_all(
    mut listener: TcpListener,
    tls: Option<PortTls>,
    slots: Arc<Semaphore>,
    lifetime: Duration,
    admitted: mpsc::Sender<(LimitedStream, SocketAddr)>,
) {
    let of_address = Slots::new(slots.available_permits() / ADDRESS_PART);
    loop {
        // Nobody closes the semaphore; without a slot the connection would be served all the same.
        let slot = Arc::clone(&slots).acquire_owned().await.ok();
        let (socket, address) = Listener::accept(&mut listener).await;
        let is_local = address.ip().is_loopback();
        let place = if is_local { None } else { of_address.take(address.ip()) };
        if place.is_none() && !is_local {
            continue;
        }
        let (tls, admitted) = (tls.clone(), admitted.clone());
        let end = Instant::now() + lifetime;
        spawn(async move {
            let accepted = timeout_at(end, accept(socket, Port::Admin, tls.as_ref())).await;
            let stream = match accepted {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return refuse(error, address).await,
                Err(_) => return,
            };
            let end = Box::pin(sleep_until(end));
            let stream = LimitedStream { stream, end, _slot: slot, _place: place };
            // Without a receiver the pages have ended.
            let _ = admitted.send((stream, address)).await;
        });
    }
}

async fn refuse(error: StrangerError, address: SocketAddr) {
    match error {
        StrangerError::Silent => {}
        StrangerError::Plain(socket) => turn_away(socket, TLS_REQUIRED).await,
        error if error.is_about_certificate() => {
            audit::certificate_refused("admin", address, &error);
        }
        error => tracing::warn!(%address, "turned away from the admin port: {error}"),
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        match self.admitted.recv().await {
            Some(admitted) => admitted,
            // The task that admits has panicked, which has been printed.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.local_addr {
            Ok(address) => Ok(*address),
            Err(error) => Err(error.kind().into()),
        }
    }
}

impl Connected<IncomingStream<'_, LimitedListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, LimitedListener>) -> Self {
        Self::of(&stream.io().stream, *stream.remote_addr())
    }
}

/// A connection, with the slot that it gives back when it ends.
pub(crate) struct LimitedStream {
    stream: Stream,
    /// When the connection ends at the latest.
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
    /// Its place among the connections of its address, if that is another machine's.
    _place: Option<Slot>,
}

impl LimitedStream {
    /// The socket, or an error once the time is over. One task drives a connection, so it is woken
    /// at the end whatever it waits for.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut Stream>> {
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
    use tokio::net::TcpStream;

    /// More than the sockets of both sides take in.
    const PAGE_BYTES: usize = 64 << 20;

    #[tokio::test]
    async fn half_a_request_and_an_answer_that_nobody_reads_hold_no_slot_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Router::new()
            .route("/large", get(async || "x".repeat(PAGE_BYTES)))
            .route("/small", get(async || "well"));
        let listener = LimitedListener::new(listener, None, 1, Duration::from_millis(200));
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
