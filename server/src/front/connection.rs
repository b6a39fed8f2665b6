//! One client's connection: bytes in, commands in turn, bytes out.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time;

use super::config::FrontConfig;
use crate::backend::Backend;
use crate::commands::{self, Context};
use crate::resp::{Reply, Request, RequestParser};
use crate::server_state::ServerState;
use crate::session::{Registration, Session};

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How long a client may go on sending after an error that closes its connection. Closing with
/// unread input resets the connection, which may take the error away from the client.
const LINGER: Duration = Duration::from_secs(1);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection<B> {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    parser: RequestParser,
    input: BytesMut,
    output: BytesMut,
    session: Session,
    backend: B,
    server: Arc<ServerState>,
    config: FrontConfig,
    /// Keeps the connection among those that CLIENT LIST shows.
    _registration: Registration,
}

/// Why a connection stops reading requests.
enum End {
    /// The client is gone, or takes no replies.
    Gone,
    /// After a last reply: QUIT, nothing more to come, or the server stops.
    Closed,
    /// After an error; the client may still be sending.
    Refused,
}

impl<B: Backend> Connection<B> {
    pub(super) fn new(
        stream: TcpStream,
        registration: Registration,
        backend: B,
        server: Arc<ServerState>,
        config: FrontConfig,
    ) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer,
            parser: RequestParser::new(backend.limits()),
            input: BytesMut::new(),
            output: BytesMut::new(),
            session: Session::new(Arc::clone(&registration.client)),
            backend,
            server,
            config,
            _registration: registration,
        }
    }

    /// Serves the client until it leaves, or `stopped` turns true.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let end = loop {
            if let Some(end) = self.execute_ready(&stopped).await {
                break end;
            }
            tokio::select! {
                moved = self.transfer() => match moved {
                    Ok(()) => {}
                    // A client may close its sending side and still wait for replies.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        break End::Closed;
                    }
                    Err(_) => break End::Gone,
                },
                // An error means that the server is gone.
                _ = stopped.wait_for(|stopped| *stopped) => break End::Closed,
            }
        };
        match end {
            End::Gone => {}
            End::Closed => self.flush().await,
            End::Refused => {
                self.flush().await;
                self.linger().await;
            }
        }
    }

    /// Carries out the requests that have arrived whole, as long as the client reads its replies.
    async fn execute_ready(&mut self, stopped: &watch::Receiver<bool>) -> Option<End> {
        while self.output.len() < self.config.max_unsent_bytes {
            if *stopped.borrow() {
                return Some(End::Closed);
            }
            let reply = match self.parser.next(&mut self.input) {
                Ok(None) => break,
                Ok(Some(Request::Command(arguments))) if is_http(&arguments[0]) => {
                    // A browser was tricked into sending a form here; Redis hangs up too.
                    tracing::warn!(client = self.session.client.id, "HTTP on the clients' port");
                    return Some(End::Gone);
                }
                Ok(Some(Request::Command(arguments))) => match self.carry_out(&arguments).await {
                    Ok(reply) => reply,
                    Err(_) => return Some(End::Gone),
                },
                Ok(Some(Request::Refused(refusal))) => {
                    self.server.stats.count_command(true);
                    Reply::Error(refusal.to_string())
                }
                Err(error) => {
                    let reply = Reply::Error(error.to_string());
                    reply.encode(self.session.protocol, &mut self.output);
                    return Some(End::Refused);
                }
            };
            if self.session.sends_reply() {
                reply.encode(self.session.protocol, &mut self.output);
            }
            if self.session.closing {
                return Some(End::Closed);
            }
        }
        // An idle connection holds no buffers.
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        None
    }

    /// Carries out one command. While it has to wait, the replies before it are sent. Fails if the
    /// client takes none; then nobody waits for the outcome either.
    async fn carry_out(&mut self, arguments: &[Bytes]) -> io::Result<Reply> {
        let mut context =
            Context { backend: &self.backend, server: &self.server, session: &mut self.session };
        let mut execution = pin!(commands::execute(&mut context, arguments));
        loop {
            tokio::select! {
                biased;
                reply = &mut execution => return Ok(reply),
                written = write_some(&mut self.writer, &mut self.output, self.config.stall_timeout),
                    if !self.output.is_empty() => written?,
            }
        }
    }

    /// Reads some input or writes some output, whichever is possible first. Only the writing
    /// continues while the client has too many replies to read.
    async fn transfer(&mut self) -> io::Result<()> {
        let may_read = self.output.len() < self.config.max_unsent_bytes;
        tokio::select! {
            read = read_some(&mut self.reader, &mut self.input), if may_read => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(()),
            },
            written = write_some(&mut self.writer, &mut self.output, self.config.stall_timeout),
                if !self.output.is_empty() => written,
        }
    }

    /// Sends what is left, unless the client does not take it.
    async fn flush(&mut self) {
        while !self.output.is_empty() {
            let timeout = self.config.stall_timeout;
            if write_some(&mut self.writer, &mut self.output, timeout).await.is_err() {
                return;
            }
        }
    }

    /// Closes the sending side and drops what the client sends until it closes too.
    async fn linger(&mut self) {
        if self.writer.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            while let Ok(1..) = read_some(&mut self.reader, &mut self.input).await {
                self.input.clear();
            }
        };
        // Either way the connection is dropped next.
        let _ = time::timeout(LINGER, drain).await;
    }
}

/// Reads into `input`; room for it is made only once there is something to read.
async fn read_some(reader: &mut OwnedReadHalf, input: &mut BytesMut) -> io::Result<usize> {
    reader.readable().await?;
    input.reserve(READ_BYTES);
    reader.read_buf(input).await
}

async fn write_some(
    writer: &mut OwnedWriteHalf,
    output: &mut BytesMut,
    timeout: Duration,
) -> io::Result<()> {
    match time::timeout(timeout, writer.write_buf(output)).await {
        Ok(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
        Ok(written) => {
            if output.is_empty() {
                *output = BytesMut::new();
            }
            written.map(|_| ())
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whether a command is the start of an HTTP request that carries a body of foreign making.
fn is_http(command: &[u8]) -> bool {
    command.eq_ignore_ascii_case(b"POST") || command.eq_ignore_ascii_case(b"Host:")
}
