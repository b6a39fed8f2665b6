//! What all connections of a front share.

use crate::client_memory::ClientMemory;
use crate::debug::{DebugCommand, Sleeps};
use crate::kv::DataMemory;
use crate::session::Clients;
use crate::settings::Settings;
use logboat_security::SecretFile;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// The version of Redis whose replies are given. Clients choose by it which commands they send.
pub const REDIS_VERSION: &str = "7.4.0";

/// Facts that only the engine knows, read at each INFO.
pub type FactsHook = Box<dyn Fn() -> Facts + Send + Sync>;

/// What the engine contributes to INFO.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Sections of its own: a title, and names with values.
    pub sections: Vec<(&'static str, Vec<(String, String)>)>,
    /// Whether writes can't be made durable now: the log has failed, or the disk is full.
    pub writes_fail: bool,
}

/// What connections must hear of while they wait.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Whether the front stops.
    pub stopping: bool,
    /// The settings.
    pub settings: Settings,
}

/// What all connections share.
pub struct ServerState {
    /// The address that clients connect to.
    pub address: SocketAddr,
    /// The connections.
    pub clients: Arc<Clients>,
    /// What their buffers hold.
    pub memory: Arc<ClientMemory>,
    /// What keys and values take on this node.
    pub data: Arc<DataMemory>,
    /// Who may use DEBUG.
    pub debug_command: DebugCommand,
    /// Which replicas of this node stand still.
    pub sleeps: Arc<Sleeps>,
    /// The passwords of clients. Without any, clients need not log in.
    pub passwords: Option<SecretFile>,
    /// Counters.
    pub stats: Stats,
    /// What connections must hear of.
    pub control: watch::Sender<Control>,
    /// When the front was started.
    pub started: Instant,
    /// The same, in wall-clock time.
    pub started_at: SystemTime,
    facts: FactsHook,
}

impl ServerState {
    /// The state of a front that starts now. The buffers of its connections may hold
    /// `max_buffered_bytes`, and keys and values are counted in `data`.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        max_buffered_bytes: usize,
        data: DataMemory,
        settings: Settings,
        facts: FactsHook,
    ) -> Self {
        Self {
            address,
            clients: Arc::default(),
            memory: ClientMemory::new(max_buffered_bytes),
            data: Arc::new(data),
            debug_command: DebugCommand::default(),
            sleeps: Arc::default(),
            passwords: None,
            stats: Stats::default(),
            control: watch::Sender::new(Control { stopping: false, settings }),
            started: Instant::now(),
            started_at: SystemTime::now(),
            facts,
        }
    }

    /// What the engine contributes to INFO now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        (self.facts)()
    }

    /// A copy of the settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.control.borrow().settings.clone()
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState")
            .field("address", &self.address)
            .field("clients", &self.clients.count())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// What happened since the start, or since CONFIG RESETSTAT.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because there were too many.
    pub rejected: Counter,
    /// Commands carried out, the failed ones included.
    pub commands: Counter,
    /// Error replies to commands.
    pub errors: Counter,
    /// Connections refused in the TLS handshake, or because their address has too many that have
    /// not logged in.
    pub strangers: Counter,
    /// Logins that failed.
    pub failed_logins: Counter,
}

impl Stats {
    /// Counts commands, of which some were answered with an error.
    pub fn count_commands(&self, commands: u64, failed: u64) {
        self.commands.add(commands);
        if failed > 0 {
            self.errors.add(failed);
        }
    }

    /// Sets all counters to zero.
    pub fn reset(&self) {
        let Self { connections, rejected, commands, errors, strangers, failed_logins } = self;
        for counter in [connections, rejected, commands, errors, strangers, failed_logins] {
            counter.0.store(0, Ordering::Relaxed);
        }
    }
}

/// A number that only grows, until it is reset.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
