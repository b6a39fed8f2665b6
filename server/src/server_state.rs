//! What all connections of a front share.

use crate::client_memory::ClientMemory;
use crate::debug::{DebugCommand, Sleeps};
use crate::kv::DataMemory;
use crate::monitor::Monitors;
use crate::pause::Pause;
use crate::session::Clients;
use crate::settings::Settings;
use crate::stats::Stats;
use logboat_security::SecretFile;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// The version of Redis whose replies are given. Clients choose by it which commands they send.
pub const REDIS_VERSION: &str = "7.4.0";

/// What waits for clients in MONITOR may take this part of what the buffers of all clients may
/// hold, besides.
const MONITORS_SHARE: usize = 8;

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
    /// What is counted.
    pub stats: Stats,
    /// Who sees the commands of clients.
    pub monitors: Monitors,
    /// Whether commands wait, because a client said so.
    pub pause: Pause,
    /// What connections must hear of.
    pub control: watch::Sender<Control>,
    /// Forty hexadecimal digits that are others after each start.
    pub run_id: String,
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
            stats: Stats::new(&settings),
            monitors: Monitors::new(max_buffered_bytes / MONITORS_SHARE),
            pause: Pause::default(),
            control: watch::Sender::new(Control { stopping: false, settings }),
            run_id: run_id(),
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

    /// Goes by these settings from now on.
    pub fn change_settings(&self, settings: Settings) {
        self.stats.apply(&settings);
        self.control.send_modify(|control| control.settings = settings);
    }

    /// A copy of the settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.control.borrow().settings.clone()
    }
}

/// Random digits.
fn run_id() -> String {
    let words = (0..3).map(|word: u64| RandomState::new().hash_one(word));
    let digits: String = words.map(|word| format!("{word:016x}")).collect();
    digits[..40].to_owned()
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
