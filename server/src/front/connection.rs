//! One client's connection: bytes in, commands in turn, bytes out.

use super::config::FrontConfig;
use super::guard::{LOGIN_LIMIT, Place};
use super::halves::{Reader, Room, Writer, halves};
use super::patience::Patience;
use super::waits::{HeldBack, pause_over, shown};
use crate::backend::{Backend, StoreAnswers};
use crate::client_memory::Share;
use crate::commands::{self, Added, Context, Pipeline};
use crate::resp::{ProtocolError, Reply, Request, RequestParser};
use crate::server_state::{Control, ServerState};
use crate::session::{BufferSizes, Elements, Registration, Session};
use bytes::{Bytes, BytesMut};
use logboat_security::Stream;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{future, io};
use tokio::sync::watch;
use tokio::time;

/// How long a client may go on sending after an error that closes its connection. Closing with
/// unread input resets the connection, and the client may never see the error.
const LINGER: Duration = Duration::from_secs(1);

/// How much is read behind a command that waits for the end of CLIENT PAUSE, about. It is read to
/// see whether the client leaves.
const READ_WHILE_PAUSED: usize = 16 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection<B> {
    reader: Reader,
    writer: Writer,
    parser: RequestParser,
    input: BytesMut,
    /// The room for what is read next.
    room: Room,
    output: BytesMut,
    /// The share of the clients' memory that `input`, `parser`, `output`, the commands under way,
    /// and the one that waits hold.
    share: Share,
    /// A command that has to wait until those before it have been carried out.
    held_back: HeldBack,
    /// Whether that waits for the end of CLIENT PAUSE.
    is_paused: bool,
    /// The arguments of the commands under way.
    under_way_bytes: usize,
    patience: Patience,
    session: Session,
    backend: B,
    server: Arc<ServerState>,
    config: FrontConfig,
    /// When bytes last came or left, or a command was last carried out.
    last_active: Instant,
    /// The place among the strangers of its address, until it has logged in.
    place: Place,
    /// Until when it must have done so.
    login_deadline: Option<Instant>,
    /// Keeps the connection among those that CLIENT LIST shows.
    _registration: Registration,
}

/// What stands behind the commands that are carried out together.
enum Behind {
    /// Nothing that has arrived whole.
    Nothing,
    /// More of them.
    More,
    /// One that waits for the end of CLIENT PAUSE.
    Paused,
    /// A command that runs alone.
    Alone(Vec<Bytes>),
    /// What ends the connection at once.
    Http,
    /// What is no request.
    Garbage(ProtocolError),
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
        stream: Stream,
        place: Place,
        registration: Registration,
        backend: B,
        server: Arc<ServerState>,
        config: FrontConfig,
    ) -> Self {
        let (reader, writer) = halves(stream);
        let mut session = Session::new(Arc::clone(&registration.client));
        session.authenticated = server.passwords.is_none();
        let now = Instant::now();
        Self {
            reader,
            writer,
            parser: RequestParser::new(backend.limits()),
            input: BytesMut::new(),
            room: Room::default(),
            output: BytesMut::new(),
            share: server.memory.share(),
            held_back: HeldBack::default(),
            is_paused: false,
            under_way_bytes: 0,
            patience: Patience::default(),
            session,
            backend,
            server,
            config,
            last_active: now,
            place,
            login_deadline: Some(now + LOGIN_LIMIT),
            _registration: registration,
        }
    }

    /// Serves the client until it leaves, is idle for too long, or the front stops.
    pub(super) async fn run(mut self, mut control: watch::Receiver<Control>) {
        let end = loop {
            if let Some(end) = self.execute_ready(&control).await {
                break end;
            }
            if self.send_at_once().is_err() {
                break End::Gone;
            }
            let timeout = control.borrow_and_update().settings.client_timeout();
            let idle = timeout.map(|timeout| self.last_active + timeout);
            if self.session.authenticated {
                (self.place, self.login_deadline) = (None, None);
            }
            let deadline = idle.into_iter().chain(self.login_deadline).min();
            let paused = self.is_paused.then(|| Arc::clone(&self.server));
            let monitor = self.session.monitor.clone();
            let takes = monitor.is_some() && self.takes_commands();
            tokio::select! {
                moved = self.transfer() => match moved {
                    Ok(()) => self.last_active = Instant::now(),
                    // A client may close its sending side and still wait for replies.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        break End::Closed;
                    }
                    Err(_) => break End::Gone,
                },
                () = sleep_until(deadline) => break End::Gone,
                () = pause_over(paused.as_deref()), if paused.is_some() => {}
                lines = shown(monitor.as_deref(), takes), if monitor.is_some() => match lines {
                    Some(lines) => {
                        self.output.extend_from_slice(&lines);
                        self.server.stats.commands.sent(lines.len());
                    }
                    None => break End::Gone,
                },
                changed = control.changed() => if changed.is_err() {
                    // The server is gone.
                    break End::Closed;
                },
            }
        };
        match end {
            End::Gone => {}
            End::Closed => {
                self.flush().await;
                self.say_goodbye().await;
            }
            End::Refused => {
                self.flush().await;
                self.linger().await;
            }
        }
    }

    /// Carries out the requests that have arrived whole, as long as the client reads its replies.
    async fn execute_ready(&mut self, control: &watch::Receiver<Control>) -> Option<End> {
        self.set_paused(false);
        while self.takes_commands() {
            if control.borrow().stopping {
                return Some(End::Closed);
            }
            let mut pipeline = Pipeline::default();
            let behind = self.gather(&mut pipeline);
            if !pipeline.is_empty() && self.carry_out(pipeline).await.is_err() {
                return Some(End::Gone);
            }
            match behind {
                Behind::More => {}
                Behind::Paused => {
                    self.set_paused(true);
                    break;
                }
                Behind::Nothing => {
                    self.give_up_what_is_too_much();
                    break;
                }
                Behind::Alone(arguments) => {
                    if let Some(end) = self.carry_out_alone(arguments).await {
                        return Some(end);
                    }
                }
                Behind::Http => {
                    // A browser was tricked into sending a form here. Redis hangs up, too.
                    tracing::warn!(client = self.session.client.id, "HTTP on the clients' port");
                    return Some(End::Gone);
                }
                Behind::Garbage(error) => {
                    if error == ProtocolError::Encrypted {
                        let client = self.session.client.address();
                        tracing::warn!(%client, "a client speaks TLS, which is off on this port");
                    }
                    let reply = Reply::Error(error.to_string());
                    reply.encode(self.session.protocol, &mut self.output);
                    return Some(End::Refused);
                }
            }
        }
        // An idle connection holds no buffers.
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let buffers = self.buffer_sizes(self.held_back.bytes());
        self.session.client.update(|details| details.buffers = buffers);
        None
    }

    /// Adds to `pipeline` the commands that have arrived whole, as many as go together.
    fn gather(&mut self, pipeline: &mut Pipeline) -> Behind {
        // A login runs alone, so nothing changes that here.
        self.parser.set_of_stranger(!self.session.authenticated);
        let mut context =
            Context { backend: &self.backend, server: &self.server, session: &mut self.session };
        loop {
            let arguments = match self.held_back.take() {
                Some(arguments) => arguments,
                None => match self.parser.next(&mut self.input) {
                    Ok(None) => return Behind::Nothing,
                    Ok(Some(Request::Command(arguments))) => arguments,
                    Ok(Some(Request::Refused(refusal))) => {
                        pipeline.add_refused(refusal.to_string());
                        continue;
                    }
                    Err(error) => return Behind::Garbage(error),
                },
            };
            if is_http(&arguments[0]) {
                return Behind::Http;
            }
            match pipeline.add(&mut context, arguments) {
                Added::Here => {}
                Added::Later(arguments) => {
                    self.held_back.put(arguments);
                    return Behind::More;
                }
                Added::Paused(arguments) => {
                    self.held_back.put(arguments);
                    return Behind::Paused;
                }
                Added::Alone(arguments) => return Behind::Alone(arguments),
            }
        }
    }

    /// Carries out commands together. While they wait for the store, the replies before them are
    /// sent. Fails if the client does not take them; then nobody waits for the outcome either.
    async fn carry_out(&mut self, mut pipeline: Pipeline) -> io::Result<()> {
        self.under_way_bytes = pipeline.bytes();
        self.session.buffers = self.buffer_sizes(self.under_way_bytes);
        let begun = Instant::now();
        self.session.note_command(pipeline.last_command(), begun);
        self.patience.begin();
        let mut answers: Option<B::Answers> = None;
        while self.take_replies(&mut pipeline, begun) {
            if answers.is_none() {
                match pipeline.next_round(&self.server) {
                    Some(requests) => answers = Some(self.backend.request_all(requests)),
                    // The next reply is known by now.
                    None if !self.has_output() => continue,
                    None => {}
                }
            }
            let stall = self.stall();
            let Self { writer, output, patience, .. } = self;
            let waits = answers.is_some();
            let next_answers = async {
                match &mut answers {
                    Some(answers) => answers.next().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                biased;
                some = next_answers => match some {
                    Some(some) => pipeline.answered(some),
                    None => {
                        pipeline.abandoned();
                        answers = None;
                    }
                },
                written = write_some(writer, output, &stall), if has_output(output, writer) => {
                    written?;
                }
                () = patience.runs_out(), if waits => {
                    answers.iter_mut().for_each(StoreAnswers::hurry);
                }
            }
        }
        self.under_way_bytes = 0;
        self.share.set(self.held_bytes());
        Ok(())
    }

    /// Takes the replies of a pipeline that are known, as long as the client reads its replies.
    /// Returns whether any are left.
    fn take_replies(&mut self, pipeline: &mut Pipeline, begun: Instant) -> bool {
        if pipeline.knows_next() && self.takes_commands() {
            self.last_active = Instant::now();
            let took = self.last_active - begun;
            let before = self.output.len();
            while self.takes_commands()
                && let Some(reply) = pipeline.next_reply(&self.server, &self.session.client, took)
            {
                if self.session.sends_reply() {
                    reply.encode(self.session.protocol, &mut self.output);
                }
            }
            pipeline.count(&self.server, took);
            self.server.stats.commands.sent(self.output.len() - before);
        }
        !pipeline.is_empty()
    }

    /// Notes whether the next command waits for the end of CLIENT PAUSE.
    fn set_paused(&mut self, is_paused: bool) {
        if self.is_paused != is_paused {
            self.is_paused = is_paused;
            self.session.client.update(|details| details.flags.is_paused = is_paused);
        }
    }

    /// Carries out one command alone, and sends the elements of its reply, if that is a list.
    async fn carry_out_alone(&mut self, arguments: Vec<Bytes>) -> Option<End> {
        self.under_way_bytes = arguments.iter().map(Bytes::len).sum();
        self.share.set(self.held_bytes());
        let Ok(reply) = self.reply_to(&arguments).await else {
            return Some(End::Gone);
        };
        // What is left of them is counted with the elements.
        drop(arguments);
        self.under_way_bytes = 0;
        if self.session.sends_reply() {
            let before = self.output.len();
            reply.encode(self.session.protocol, &mut self.output);
            self.server.stats.commands.sent(self.output.len() - before);
            if self.send_elements().await.is_err() {
                return Some(End::Gone);
            }
        } else {
            self.session.elements = Elements::default();
        }
        self.share.set(self.held_bytes());
        self.session.reply_memory = None;
        self.session.closing.then_some(End::Closed)
    }

    /// The reply to a command that runs alone. While the command waits, the replies before it are
    /// sent. Fails if the client does not take them; then nobody waits for the outcome either.
    async fn reply_to(&mut self, arguments: &[Bytes]) -> io::Result<Reply> {
        self.session.buffers = self.buffer_sizes(self.under_way_bytes);
        let stall = self.stall();
        let mut context =
            Context { backend: &self.backend, server: &self.server, session: &mut self.session };
        let mut execution = pin!(commands::execute_alone(&mut context, arguments));
        let reply = loop {
            tokio::select! {
                biased;
                reply = &mut execution => break reply,
                written = write_some(&mut self.writer, &mut self.output, &stall),
                    if has_output(&self.output, &self.writer) => written?,
            }
        };
        self.last_active = Instant::now();
        Ok(reply)
    }

    /// Sends the elements of a list that is not sent in one piece. The next part is made when the
    /// client has taken the one before.
    async fn send_elements(&mut self) -> io::Result<()> {
        while !self.session.elements.is_empty() {
            while !self.output.is_empty() {
                let stall = self.stall();
                write_some(&mut self.writer, &mut self.output, &stall).await?;
                self.share.set(self.held_bytes());
            }
            let mut context = Context {
                backend: &self.backend,
                server: &self.server,
                session: &mut self.session,
            };
            let part = commands::next_part(&mut context, &mut self.output);
            let made = time::timeout(self.config.stall_timeout, part).await?;
            self.server.stats.commands.sent(self.output.len());
            self.share.set(self.held_bytes());
            made.map_err(|error| {
                // The client knows that it misses something: the reply is not whole.
                let client = self.session.client.id;
                tracing::warn!(client, "a list can't be sent to its end: {error}");
                io::Error::other(error)
            })?;
            self.last_active = Instant::now();
        }
        Ok(())
    }

    /// Whether commands are carried out now. They wait while the client has too many replies to
    /// read. They also wait while it has any replies to read and all clients together hold too
    /// much.
    fn takes_commands(&mut self) -> bool {
        self.share.set(self.held_bytes());
        let waits = self.has_output() && self.share.is_too_much();
        self.output.len() < self.config.max_unsent_bytes && !waits
    }

    /// Drops what has arrived of a request for which there is no memory. The rest of the request is
    /// skipped, and the client gets an error.
    fn give_up_what_is_too_much(&mut self) {
        self.share.set(self.held_bytes());
        if self.share.is_too_much() {
            self.server.memory.note_refusal();
            self.parser.give_up(&mut self.input);
            self.share.set(self.held_bytes());
        }
    }

    /// How long the client may take nothing from now on.
    fn stall(&self) -> Stall {
        let holds = self.share.is_counted() || self.session.reply_memory.is_some();
        let wanted = || (self.config.wanted_stall_timeout, Arc::clone(&self.server));
        Stall {
            timeout: self.config.stall_timeout,
            wanted: holds.then(wanted),
            client: self.session.client.id,
        }
    }

    fn held_bytes(&self) -> usize {
        let arrived = self.input.len() + self.parser.held_bytes();
        let to_send = self.session.elements.key_bytes() + self.output.len();
        let commands = self.under_way_bytes + self.held_back.bytes();
        arrived + commands + to_send + self.writer.unflushed()
    }

    fn buffer_sizes(&self, arguments: usize) -> BufferSizes {
        BufferSizes {
            input: self.input.len(),
            input_free: self.input.capacity() - self.input.len(),
            arguments,
            output: self.output.len(),
            output_capacity: self.output.capacity(),
        }
    }

    /// Sends as much as the socket takes now. Nearly always that is all.
    fn send_at_once(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        if self.writer.write_at_once(&mut self.output)? {
            self.last_active = Instant::now();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        Ok(())
    }

    /// Reads some input or writes some output, whichever is possible first. While the client has
    /// too many replies to read, nothing is read, and little while its next command waits for the
    /// end of CLIENT PAUSE. If the client leaves meanwhile, that command is not carried out.
    async fn transfer(&mut self) -> io::Result<()> {
        let reads_on = !self.is_paused || self.input.len() < READ_WHILE_PAUSED;
        let may_read = self.takes_commands() && reads_on;
        let stall = self.stall();
        tokio::select! {
            read = self.reader.read(&mut self.input, &mut self.room), if may_read => match read? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => {
                    self.server.stats.commands.received(bytes);
                    Ok(())
                }
            },
            written = write_some(&mut self.writer, &mut self.output, &stall),
                if has_output(&self.output, &self.writer) => written,
            else => future::pending().await,
        }
    }

    /// Whether there are replies that have not left.
    fn has_output(&self) -> bool {
        has_output(&self.output, &self.writer)
    }

    /// Sends what is left, unless the client does not take it.
    async fn flush(&mut self) {
        while self.has_output() {
            let stall = self.stall();
            if write_some(&mut self.writer, &mut self.output, &stall).await.is_err() {
                return;
            }
        }
    }

    /// Tells a client of TLS that nothing is missing. Without encryption the end says it.
    async fn say_goodbye(&mut self) {
        if let Writer::Encrypted(_) = self.writer {
            // Either way the connection is dropped next.
            let _ = time::timeout(LINGER, self.writer.shutdown()).await;
        }
    }

    /// Closes the sending side and drops what the client sends until it closes too.
    async fn linger(&mut self) {
        if self.writer.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            while let Ok(1..) = self.reader.read(&mut self.input, &mut self.room).await {
                self.input.clear();
            }
        };
        // Either way the connection is dropped next.
        let _ = time::timeout(LINGER, drain).await;
    }
}

/// Never resolves without a deadline.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

fn has_output(output: &BytesMut, writer: &Writer) -> bool {
    !output.is_empty() || writer.unflushed() > 0
}

/// How long a client may take nothing.
struct Stall {
    timeout: Duration,
    /// The same while others wait for memory, if it holds some.
    wanted: Option<(Duration, Arc<ServerState>)>,
    client: u64,
}

/// Writes some output, as soon as the client takes some.
async fn write_some(writer: &mut Writer, output: &mut BytesMut, stall: &Stall) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        let left = stall.timeout.saturating_sub(begun.elapsed());
        let wait = stall.wanted.as_ref().map_or(left, |(timeout, _)| left.min(*timeout));
        if let Ok(written) = time::timeout(wait, writer.write(output)).await {
            if output.is_empty() {
                *output = BytesMut::new();
            }
            return written;
        }
        if writer.write_unasked(output)? {
            return Ok(());
        }
        let is_wanted = stall.wanted.as_ref().is_some_and(|(_, server)| server.memory.is_wanted());
        if is_wanted || begun.elapsed() >= stall.timeout {
            let client = stall.client;
            tracing::warn!(client, "a client that does not read its replies is disconnected");
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Whether a command is the start of an HTTP request, whose body others could choose.
fn is_http(command: &[u8]) -> bool {
    command.eq_ignore_ascii_case(b"POST") || command.eq_ignore_ascii_case(b"Host:")
}
