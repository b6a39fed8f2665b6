//! What the server knows of a connection.

use crate::backend::RangeId;
use crate::client_memory::Reservation;
use crate::monitor::Monitor;
use crate::resp::Protocol;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// The state of one connection that its commands read and change.
#[derive(Debug)]
pub struct Session {
    /// What other connections may see of it.
    pub client: Arc<Client>,
    /// The protocol of its replies.
    pub protocol: Protocol,
    /// The database that its commands are for.
    pub database: u8,
    /// Whether it has asked for the topology, and so goes to the leader of a slot when it is told.
    pub follows_slots: bool,
    /// Whether its reads are served wherever it sends them (READONLY).
    pub reads_anywhere: bool,
    /// What it is to see of the commands of others (MONITOR).
    pub monitor: Option<Arc<Monitor>>,
    /// Set when the connection is to be closed once its replies are sent.
    pub closing: bool,
    /// Whether the client may do more than log in.
    pub authenticated: bool,
    /// How often it has tried to log in and failed.
    pub failed_logins: u32,
    /// Set from a MULTI, which is refused, to the EXEC or DISCARD that would end its transaction.
    pub in_refused_transaction: bool,
    /// What the connection holds while the current command is carried out.
    pub buffers: BufferSizes,
    /// Room for the reply to the current command, if that is large.
    pub reply_memory: Option<Reservation>,
    /// The elements of a list that is too large to be sent in one piece. They follow its beginning.
    pub elements: Elements,
    reply_mode: ReplyMode,
}

/// The elements that are left of a list which is sent in parts.
#[derive(Debug, Default)]
pub struct Elements {
    left: VecDeque<Element>,
    key_bytes: usize,
}

impl Elements {
    /// What the keys take by which values are to be fetched. The values that are here are counted
    /// by who made room for them.
    #[must_use]
    pub const fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Whether all have been sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes out the next one.
    pub fn pop(&mut self) -> Option<Element> {
        let element = self.left.pop_front()?;
        self.key_bytes -= element.key_bytes();
        Some(element)
    }

    /// Puts back what was taken out last.
    pub fn put_back(&mut self, element: Element) {
        self.key_bytes += element.key_bytes();
        self.left.push_front(element);
    }

    /// Drops the values that can be fetched again.
    pub fn forget_ahead(&mut self) {
        for element in &mut self.left {
            if let Element::Ahead(range, key, _) = element {
                *element = Element::Key(*range, std::mem::take(key));
            }
        }
    }
}

impl From<VecDeque<Element>> for Elements {
    fn from(left: VecDeque<Element>) -> Self {
        let key_bytes = left.iter().map(Element::key_bytes).sum();
        Self { left, key_bytes }
    }
}

/// An element of a list that is sent in parts.
#[derive(Debug)]
pub enum Element {
    /// A value, or nothing.
    Value(Option<Bytes>),
    /// The value of a stored key, fetched ahead. It may be dropped and fetched again.
    Ahead(RangeId, Bytes, Option<Bytes>),
    /// The value of a stored key, to be fetched when its turn comes.
    Key(RangeId, Bytes),
}

impl Element {
    /// The length of its value, if that is here.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Value(value) | Self::Ahead(_, _, value) => value.as_ref().map_or(0, Bytes::len),
            Self::Key(..) => 0,
        }
    }

    /// The length of the stored key that it keeps.
    const fn key_bytes(&self) -> usize {
        match self {
            Self::Value(_) => 0,
            Self::Ahead(_, key, _) | Self::Key(_, key) => key.len(),
        }
    }
}

/// What a connection holds in its buffers, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// What has been received behind the current command.
    pub input: usize,
    /// The room behind that.
    pub input_free: usize,
    /// The arguments of the current command.
    pub arguments: usize,
    /// Replies that have not been sent.
    pub output: usize,
    /// The memory that is set aside for replies.
    pub output_capacity: usize,
}

impl BufferSizes {
    const fn total(&self) -> usize {
        self.input + self.input_free + self.arguments + self.output_capacity
    }
}

/// Which replies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None, until replies are turned on.
    Off,
    /// Neither the reply to the current command nor that to the next.
    SkipThisAndNext,
    /// Not the reply to the current command.
    SkipThis,
}

impl Session {
    /// A new connection.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            database: 0,
            follows_slots: false,
            reads_anywhere: false,
            monitor: None,
            closing: false,
            authenticated: true,
            failed_logins: 0,
            in_refused_transaction: false,
            buffers: BufferSizes::default(),
            reply_memory: None,
            elements: Elements::default(),
            reply_mode: ReplyMode::default(),
        }
    }

    /// Changes the protocol of the replies, the one to the current command included.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.update(|details| details.protocol = protocol);
    }

    /// Changes the database that the commands behind this one are for.
    pub fn select(&mut self, database: u8) {
        self.database = database;
        self.client.update(|details| details.database = database);
    }

    /// Chooses the replies to send. Skipping one has no meaning while all are off.
    pub fn set_reply_mode(&mut self, mode: ReplyMode) {
        if (self.reply_mode, mode) != (ReplyMode::Off, ReplyMode::SkipThisAndNext) {
            self.reply_mode = mode;
        }
    }

    /// Whether the reply of the command that has just been carried out is sent.
    pub fn sends_reply(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => true,
            ReplyMode::Off => false,
            ReplyMode::SkipThisAndNext => {
                self.reply_mode = ReplyMode::SkipThis;
                false
            }
            ReplyMode::SkipThis => {
                self.reply_mode = ReplyMode::On;
                false
            }
        }
    }

    /// Notes for CLIENT LIST the command that is about to be carried out now.
    pub fn note_command(&self, name: &'static str, now: Instant) {
        self.client.update(|details| {
            details.last_command = name;
            details.last_active = now;
            details.buffers = self.buffers;
        });
    }

    /// Makes the connection as new.
    pub fn reset(&mut self) {
        self.set_protocol(Protocol::default());
        self.select(0);
        self.follows_slots = false;
        self.read_anywhere(false);
        self.monitor = None;
        self.in_refused_transaction = false;
        self.reply_mode = ReplyMode::default();
        self.client.update(|details| {
            details.name = String::new();
            details.flags = Flags::default();
        });
    }

    /// Chooses whether reads are served wherever they are sent.
    pub fn read_anywhere(&mut self, anywhere: bool) {
        self.reads_anywhere = anywhere;
        self.client.update(|details| details.flags.reads_anywhere = anywhere);
    }
}

/// A connection, as CLIENT LIST shows it.
#[derive(Debug)]
pub struct Client {
    /// Its number; later connections have higher ones.
    pub id: u64,
    socket: Socket,
    opened: Instant,
    details: Mutex<Details>,
    ending: Mutex<Ending>,
}

/// How a connection is ended by another.
#[derive(Debug, Default)]
struct Ending {
    task: Option<AbortHandle>,
    is_killed: bool,
}

/// What a connection has asked for that CLIENT LIST shows by a letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "any of them go together")]
pub struct Flags {
    /// It sees the commands of others.
    pub monitors: bool,
    /// Its next command waits for the end of CLIENT PAUSE.
    pub is_paused: bool,
    /// Its reads are served by any node.
    pub reads_anywhere: bool,
    /// It is not to be evicted.
    pub stays: bool,
    /// Its commands are not to change when a key was used last.
    pub touches_nothing: bool,
}

impl Flags {
    fn letters(self) -> String {
        let Self { monitors, is_paused, reads_anywhere, stays, touches_nothing } = self;
        let flags = [
            (monitors, 'O'),
            (is_paused, 'b'),
            (reads_anywhere, 'r'),
            (stays, 'e'),
            (touches_nothing, 'T'),
        ];
        let letters: String =
            flags.into_iter().filter_map(|(is_set, letter)| is_set.then_some(letter)).collect();
        if letters.is_empty() { "N".to_owned() } else { letters }
    }
}

/// The socket of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// The client's address.
    pub address: SocketAddr,
    /// The address that the client connected to.
    pub local_address: SocketAddr,
    /// The number that the operating system gave it.
    pub descriptor: i32,
}

/// The details of a connection that change.
#[derive(Clone, Debug)]
pub struct Details {
    /// The name it has given itself; empty if none.
    pub name: String,
    /// The client library; empty if unknown.
    pub library: String,
    /// The version of the client library; empty if unknown.
    pub library_version: String,
    /// The protocol of its replies.
    pub protocol: Protocol,
    /// The database that its commands are for.
    pub database: u8,
    /// What it held when its last command began, or when it began to wait for the next.
    pub buffers: BufferSizes,
    /// What it has asked for.
    pub flags: Flags,
    last_command: &'static str,
    last_active: Instant,
}

impl Client {
    /// A copy of what changes.
    #[must_use]
    pub fn details(&self) -> Details {
        self.details.lock().clone()
    }

    /// Changes details.
    pub fn update(&self, change: impl FnOnce(&mut Details)) {
        change(&mut self.details.lock());
    }

    /// Where it comes from.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.socket.address
    }

    /// The address that it has connected to.
    #[must_use]
    pub const fn local_address(&self) -> SocketAddr {
        self.socket.local_address
    }

    /// How long it has been open.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// The task that serves it, with which it ends.
    pub fn set_task(&self, task: AbortHandle) {
        let mut ending = self.ending.lock();
        if ending.is_killed {
            task.abort();
        }
        ending.task = Some(task);
    }

    /// Ends it. What it has sent may be carried out or not.
    pub fn kill(&self) {
        let mut ending = self.ending.lock();
        ending.is_killed = true;
        if let Some(task) = &ending.task {
            task.abort();
        }
    }

    /// Its line in CLIENT LIST, with the fields of Redis in their order. Fields about what does not
    /// exist here, such as subscriptions, have the values of a Redis client that does not use it.
    #[must_use]
    pub fn line(&self) -> String {
        let details = self.details();
        let BufferSizes { input, input_free, arguments, output, output_capacity } = details.buffers;
        let total = details.buffers.total();
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 \
             ssub=0 multi=-1 watch=0 qbuf={input} qbuf-free={input_free} argv-mem={arguments} \
             multi-mem=0 rbs={output_capacity} rbp={output_capacity} obl={output} oll=0 omem=0 \
             tot-mem={total} events=r cmd={} user=default redir=-1 resp={} lib-name={} \
             lib-ver={}\n",
            self.id,
            self.socket.address,
            self.socket.local_address,
            self.socket.descriptor,
            details.name,
            self.opened.elapsed().as_secs(),
            details.last_active.elapsed().as_secs(),
            details.flags.letters(),
            details.database,
            details.last_command,
            details.protocol.number(),
            details.library,
            details.library_version,
        )
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    last_id: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Enters a new connection, which is taken out when the result is dropped.
    pub fn register(self: &Arc<Self>, socket: Socket) -> Registration {
        let opened = Instant::now();
        let details = Details {
            name: String::new(),
            library: String::new(),
            library_version: String::new(),
            protocol: Protocol::default(),
            database: 0,
            buffers: BufferSizes::default(),
            flags: Flags::default(),
            last_command: "NULL",
            last_active: opened,
        };
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            socket,
            opened,
            details: Mutex::new(details),
            ending: Mutex::default(),
        });
        self.open.lock().insert(client.id, Arc::clone(&client));
        Registration { clients: Arc::clone(self), client }
    }

    /// The number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// What the buffers of all connections hold, in bytes.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.open.lock().values().map(|client| client.details.lock().buffers.total()).sum()
    }

    /// The most bytes in the input and in the output of any connection.
    #[must_use]
    pub fn largest_buffers(&self) -> (usize, usize) {
        let open = self.open.lock();
        let buffers = open.values().map(|client| client.details.lock().buffers);
        buffers.fold((0, 0), |(input, output), buffers| {
            (input.max(buffers.input), output.max(buffers.output))
        })
    }

    /// All open connections, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.open.lock().values().cloned().collect()
    }
}

/// A connection's place among [`Clients`].
#[derive(Debug)]
pub struct Registration {
    clients: Arc<Clients>,
    /// The connection.
    pub client: Arc<Client>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.clients.open.lock().remove(&self.client.id);
    }
}
