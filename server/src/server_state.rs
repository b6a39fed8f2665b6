//! What all connections of a front share, and the text of INFO.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::session::Clients;

/// The version of Redis whose replies are given. Clients choose what they dare to send by it.
pub const REDIS_VERSION: &str = "7.4.0";

/// What only the engine knows; asked for each INFO.
pub type FactsHook = Box<dyn Fn() -> Facts + Send + Sync>;

/// What the engine contributes to INFO.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Sections of its own: a title, and names with values.
    pub sections: Vec<(&'static str, Vec<(String, String)>)>,
    /// The number of keys, if it is known without asking all groups.
    pub keys: Option<u64>,
}

/// What all connections share.
pub struct ServerState {
    /// The address that clients connect to.
    pub address: SocketAddr,
    /// The most connections at a time.
    pub max_clients: usize,
    /// The connections.
    pub clients: Arc<Clients>,
    /// Counters.
    pub stats: Stats,
    started: Instant,
    facts: FactsHook,
}

impl ServerState {
    /// The state of a front that starts now.
    #[must_use]
    pub fn new(address: SocketAddr, max_clients: usize, facts: FactsHook) -> Self {
        Self {
            address,
            max_clients,
            clients: Arc::default(),
            stats: Stats::default(),
            started: Instant::now(),
            facts,
        }
    }

    /// The text of INFO, with the sections whose title `wanted` accepts.
    #[must_use]
    pub fn info(&self, wanted: impl Fn(&str) -> bool) -> String {
        let facts = (self.facts)();
        let mut sections = self.own_sections();
        sections.extend(facts.sections);
        let keys = facts.keys.filter(|keys| *keys > 0);
        let keyspace =
            keys.map(|keys| ("db0".to_owned(), format!("keys={keys},expires=0,avg_ttl=0")));
        sections.push(("Keyspace", keyspace.into_iter().collect()));
        let mut text = String::new();
        for (title, lines) in sections.iter().filter(|(title, _)| wanted(title)) {
            let separator = if text.is_empty() { "" } else { "\r\n" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}# {title}\r\n");
            for (name, value) in lines {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
        text
    }

    fn own_sections(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let line = |name: &str, value: &dyn fmt::Display| (name.to_owned(), value.to_string());
        let uptime = self.started.elapsed().as_secs();
        let stats = &self.stats;
        vec![
            (
                "Server",
                vec![
                    line("redis_version", &REDIS_VERSION),
                    line("logboat_version", &env!("CARGO_PKG_VERSION")),
                    line("redis_mode", &"standalone"),
                    line("os", &std::env::consts::OS),
                    line("arch_bits", &usize::BITS),
                    line("process_id", &std::process::id()),
                    line("tcp_port", &self.address.port()),
                    line("uptime_in_seconds", &uptime),
                    line("uptime_in_days", &(uptime / 86_400)),
                ],
            ),
            (
                "Clients",
                vec![
                    line("connected_clients", &self.clients.count()),
                    line("maxclients", &self.max_clients),
                ],
            ),
            (
                "Stats",
                vec![
                    line("total_connections_received", &stats.connections.value()),
                    line("total_commands_processed", &stats.commands.value()),
                    line("total_error_replies", &stats.errors.value()),
                    line("rejected_connections", &stats.rejected.value()),
                ],
            ),
            // Any node takes any command, so each is a master to its clients.
            ("Replication", vec![line("role", &"master"), line("connected_slaves", &0)]),
        ]
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
}

impl Stats {
    /// Counts a command.
    pub fn count_command(&self, failed: bool) {
        self.commands.increment();
        if failed {
            self.errors.increment();
        }
    }

    /// Sets all counters to zero.
    pub fn reset(&self) {
        for counter in [&self.connections, &self.rejected, &self.commands, &self.errors] {
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
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
