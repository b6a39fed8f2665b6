//! The settings that CONFIG SET changes while the server runs.

use std::time::Duration;

/// What Redis waits for before it asks a silent client whether it is still there.
const TCP_KEEPALIVE_SECS: u32 = 300;

/// The settings of the front that can change while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most connections at a time.
    pub max_clients: u32,
    /// A client from which nothing comes, and which takes nothing, for this long is disconnected,
    /// in seconds; 0 for never.
    pub client_timeout_secs: u32,
    /// How long a connection may be silent before the operating system asks the other side whether
    /// it is still there, in seconds; 0 for never. It holds for connections made from then on.
    pub tcp_keepalive_secs: u32,
    /// What a client allows to be less durable. Nothing is: every write is synced on a majority
    /// before it is acknowledged, whatever stands here.
    pub durability: DurabilityWords,
}

/// The settings by which Redis is told how durable its writes shall be, as a client wrote them.
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

    /// How long a connection may be silent before the other side is asked.
    #[must_use]
    pub fn tcp_keepalive(&self) -> Option<Duration> {
        in_seconds(self.tcp_keepalive_secs)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            client_timeout_secs: 0,
            tcp_keepalive_secs: TCP_KEEPALIVE_SECS,
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
