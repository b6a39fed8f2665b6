//! A socket that is read in large pieces.
//!
//! rustls asks for 4 KiB at a time. One system call for each of them would cost more than the
//! decryption.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What one system call reads at the most.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Where a socket is read into. No socket keeps it beyond a call.
    static PIECE: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A socket with what was read off it and not yet asked for. A connection at rest holds no memory
/// for that.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    socket: TcpStream,
    /// What was read, and how much of it was asked for.
    ahead: Vec<u8>,
    taken: usize,
}

impl ReadAhead {
    pub(crate) const fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: Vec::new(), taken: 0 }
    }

    pub(crate) const fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.ahead.len() {
            let this = &mut *self;
            return PIECE.with_borrow_mut(|piece| {
                let mut filled = ReadBuf::new(piece);
                ready!(Pin::new(&mut this.socket).poll_read(context, &mut filled))?;
                let read = filled.filled();
                let (now, later) = read.split_at(read.len().min(buffer.remaining()));
                buffer.put_slice(now);
                this.ahead = later.to_vec();
                this.taken = 0;
                Poll::Ready(Ok(()))
            });
        }
        let rest = &self.ahead[self.taken..];
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.ahead.len() {
            (self.ahead, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
