//! The settings that CONFIG SET changes while the server runs.

use std::time::Duration;

/// Redis's default for the TCP keepalive, in seconds.
const TCP_KEEPALIVE_SECS: u32 = 300;

/// The settings of the front that can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most connections at a time.
    pub max_clients: u32,
    /// What `max_clients` can be at the most: for so many there are file descriptors.
    pub client_ceiling: u32,
    /// What keys and values may take on this node, in bytes; 0 for no limit. Beyond it, writes that
    /// grow are refused.
    pub max_memory_bytes: u64,
    /// A client that sends nothing and takes nothing for this long is disconnected, in seconds; 0
    /// for never.
    pub client_timeout_secs: u32,
    /// The TCP keepalive: how long a connection may be silent before the operating system probes
    /// the other side, in seconds; 0 for never. A change holds for later connections.
    pub tcp_keepalive_secs: u32,
    /// Commands that take at least so many microseconds go into the slow log; none if it is
    /// negative.
    pub slow_log_slower_than_us: i64,
    /// The most entries of the slow log.
    pub slow_log_max_len: u64,
    /// Commands that take at least so many milliseconds are samples of LATENCY; none if it is zero.
    pub latency_threshold_ms: u64,
    /// The percentiles of latencies that INFO shows, as the client wrote them.
    pub latency_percentiles: String,
    /// The durability that a client asked for. It has no effect: every write is synced on a
    /// majority before it is acknowledged.
    pub durability: DurabilityWords,
}

/// The settings of Redis about durability, as a client wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurabilityWords {
    /// `save`: pairs of seconds and changes, or nothing.
    pub save: String,
    /// `appendonly`: yes or no.
    pub append_only: &'static str,
    /// `appendfsync`: always, everysec or no.
    pub append_fsync: &'static str,
}

impl Settings {
    /// How long a client may be idle.
    #[must_use]
    pub fn client_timeout(&self) -> Option<Duration> {
        in_seconds(self.client_timeout_secs)
    }

    /// How long a connection may be silent before the other side is probed.
    #[must_use]
    pub fn tcp_keepalive(&self) -> Option<Duration> {
        in_seconds(self.tcp_keepalive_secs)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            client_ceiling: u32::MAX,
            max_memory_bytes: 0,
            client_timeout_secs: 0,
            tcp_keepalive_secs: TCP_KEEPALIVE_SECS,
            slow_log_slower_than_us: 10_000,
            slow_log_max_len: 128,
            latency_threshold_ms: 0,
            latency_percentiles: "50 99 99.9".to_owned(),
            durability: DurabilityWords {
                save: String::new(),
                append_only: "yes",
                append_fsync: "always",
            },
        }
    }
}

fn in_seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}
