//! What the server knows of a connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::resp::Protocol;

/// The state of one connection that its commands read and change.
#[derive(Debug)]
pub struct Session {
    /// What other connections may see of it.
    pub client: Arc<Client>,
    /// The protocol of its replies.
    pub protocol: Protocol,
    /// Set when the connection is to be closed behind the replies it has got.
    pub closing: bool,
    reply_mode: ReplyMode,
}

/// Which replies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    #[default]
    On,
    /// None, until replies are turned on.
    Off,
    /// Neither that of the command being carried out nor that of the next.
    SkipThisAndNext,
    /// Not that of the command being carried out.
    SkipThis,
}

impl Session {
    /// A new connection.
    #[must_use]
    pub fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            closing: false,
            reply_mode: ReplyMode::default(),
        }
    }

    /// Changes the protocol of the replies, the one to the current command included.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.update(|details| details.protocol = protocol);
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

    /// Makes the connection as new.
    pub fn reset(&mut self) {
        self.set_protocol(Protocol::default());
        self.reply_mode = ReplyMode::default();
        self.client.update(|details| details.name = String::new());
    }
}

/// A connection, as CLIENT LIST shows it.
#[derive(Debug)]
pub struct Client {
    /// Its number; later connections have higher ones.
    pub id: u64,
    address: SocketAddr,
    local_address: SocketAddr,
    opened: Instant,
    details: Mutex<Details>,
}

/// What changes about a connection.
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

    /// Notes the command that is about to be carried out.
    pub fn note_command(&self, name: &'static str) {
        self.update(|details| {
            details.last_command = name;
            details.last_active = Instant::now();
        });
    }

    /// Its line in CLIENT LIST. Fields of Redis that have no meaning here are left out.
    #[must_use]
    pub fn line(&self) -> String {
        let details = self.details();
        format!(
            "id={} addr={} laddr={} name={} age={} idle={} flags=N db=0 sub=0 psub=0 ssub=0 \
             multi=-1 cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.address,
            self.local_address,
            details.name,
            self.opened.elapsed().as_secs(),
            details.last_active.elapsed().as_secs(),
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
    pub fn register(
        self: &Arc<Self>,
        address: SocketAddr,
        local_address: SocketAddr,
    ) -> Registration {
        let opened = Instant::now();
        let details = Details {
            name: String::new(),
            library: String::new(),
            library_version: String::new(),
            protocol: Protocol::default(),
            last_command: "NULL",
            last_active: opened,
        };
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            local_address,
            opened,
            details: Mutex::new(details),
        });
        self.open.lock().insert(client.id, Arc::clone(&client));
        Registration { clients: Arc::clone(self), client }
    }

    /// The number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().len()
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
