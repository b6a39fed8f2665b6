//! The two directions of a client's connection, plain or encrypted.

use bytes::{Buf, BytesMut};
use logboat_security::{Encrypted, Stream};
use socket2::SockRef;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf, split,
};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What is read at once, at the most.
const READ_BYTES: usize = 16 * 1024;

/// The least room for what is read.
const LEAST_ROOM_BYTES: usize = 1024;

/// The room for what is read next. There is more of it for a client that sent much at once the last
/// time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(LEAST_ROOM_BYTES)
    }
}

impl Room {
    /// Notes that `bytes` have arrived at once. What fills its room exactly is followed by a read
    /// that finds nothing, so there is some more.
    fn note(&mut self, bytes: usize) {
        let next = (bytes + bytes / 2).max(self.0 / 2);
        self.0 = next.clamp(LEAST_ROOM_BYTES, READ_BYTES);
    }
}

/// The direction from the client.
#[derive(Debug)]
pub(super) enum Reader {
    Plain(OwnedReadHalf),
    Encrypted(ReadHalf<Encrypted>),
}

/// The direction to the client.
#[derive(Debug)]
pub(super) enum Writer {
    Plain(OwnedWriteHalf),
    Encrypted(EncryptedWriter),
}

/// An encrypted direction with what it has taken and the system has not.
#[derive(Debug)]
pub(super) struct EncryptedWriter {
    half: WriteHalf<Encrypted>,
    /// An upper bound of what is encrypted and not yet written.
    unflushed: usize,
}

/// Takes a connection apart.
pub(super) fn halves(stream: Stream) -> (Reader, Writer) {
    match stream {
        Stream::Plain(socket) => {
            let (reader, writer) = socket.into_split();
            (Reader::Plain(reader), Writer::Plain(writer))
        }
        Stream::Tls(mut encrypted) => {
            encrypted.bound_unsent(READ_BYTES);
            let (reader, half) = split(*encrypted);
            let writer = EncryptedWriter { half, unflushed: 0 };
            (Reader::Encrypted(reader), Writer::Encrypted(writer))
        }
    }
}

impl Reader {
    /// Reads into `input` what has arrived, about [`READ_BYTES`] at the most. Memory for it is
    /// allocated only when there is something to read.
    pub(super) async fn read(
        &mut self,
        input: &mut BytesMut,
        room: &mut Room,
    ) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => read_plain(reader, input, room).await,
            Self::Encrypted(reader) => poll_fn(|context| poll_read(reader, context, input)).await,
        }
    }
}

async fn read_plain(
    reader: &mut OwnedReadHalf,
    input: &mut BytesMut,
    room: &mut Room,
) -> io::Result<usize> {
    let (mut total, mut wanted) = (0, room.0);
    while total < READ_BYTES {
        if total == 0 {
            poll_fn(|context| reader.as_ref().poll_read_ready(context)).await?;
        }
        input.reserve(wanted);
        let free = input.capacity() - input.len();
        match read_now(reader, input).await {
            Some(Ok(read)) => {
                total += read;
                wanted = total;
                if read < free {
                    break;
                }
            }
            // The next read has the error, if it is one.
            None | Some(Err(_)) if total > 0 => break,
            None => {}
            Some(Err(error)) => return Err(error),
        }
    }
    room.note(total);
    Ok(total)
}

/// Reads what is there; none if nothing is. After a read that does not fill its room, the runtime
/// knows that the socket is empty. It does not with `try_read_buf`, so that each wait would begin
/// with a call of the system for nothing.
async fn read_now(reader: &mut OwnedReadHalf, input: &mut BytesMut) -> Option<io::Result<usize>> {
    let mut read = pin!(reader.read_buf(input));
    poll_fn(|context| match read.as_mut().poll(context) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn poll_read(
    reader: &mut ReadHalf<Encrypted>,
    context: &mut Context<'_>,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::uninit(); READ_BYTES];
    let mut buffer = ReadBuf::uninit(&mut space);
    ready!(Pin::new(reader).poll_read(context, &mut buffer))?;
    input.extend_from_slice(buffer.filled());
    Poll::Ready(Ok(buffer.filled().len()))
}

impl Writer {
    /// How many bytes it has taken that may not have left, at the most.
    pub(super) const fn unflushed(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Encrypted(writer) => writer.unflushed,
        }
    }

    /// Takes from the front of `output` what the system takes at once. Returns whether that was
    /// anything. What is encrypted waits for [`Self::write`].
    pub(super) fn write_at_once(&self, output: &mut BytesMut) -> io::Result<bool> {
        let Self::Plain(writer) = self else { return Ok(false) };
        let all = output.len();
        while !output.is_empty() {
            match writer.try_write(output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(output.len() < all)
    }

    /// Asks the system itself for room, and takes what there is from the front of `output`. The
    /// system does not tell of every byte that the client takes, but only when a good part of its
    /// buffer is free. Returns whether there was any.
    pub(super) fn write_unasked(&self, output: &mut BytesMut) -> io::Result<bool> {
        let Self::Plain(writer) = self else { return Ok(false) };
        match SockRef::from(writer.as_ref()).send(output) {
            Ok(written) => {
                output.advance(written);
                Ok(written > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes from the front of `output` what there is room for. Without output, it waits until what
    /// it has taken has left.
    pub(super) async fn write(&mut self, output: &mut BytesMut) -> io::Result<()> {
        let had_output = !output.is_empty();
        let written = match self {
            Self::Plain(writer) => writer.write_buf(output).await?,
            Self::Encrypted(writer) => {
                let written = poll_fn(|context| writer.poll_write(context, output)).await?;
                output.advance(written);
                written
            }
        };
        if had_output && written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Closes this direction.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.shutdown().await,
            Self::Encrypted(writer) => writer.half.shutdown().await,
        }
    }
}

impl EncryptedWriter {
    /// What is taken counts as written: if the future is dropped, none of it is taken twice.
    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.unflushed > 0 {
            ready!(Pin::new(&mut self.half).poll_flush(context))?;
            self.unflushed = 0;
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(Pin::new(&mut self.half).poll_write(context, data))?;
        if Pin::new(&mut self.half).poll_flush(context)?.is_pending() {
            self.unflushed = written;
        }
        Poll::Ready(Ok(written))
    }
}
