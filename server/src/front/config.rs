//! What can be chosen about connections.

use std::time::Duration;

/// How the front treats connections.
#[derive(Clone, Copy, Debug)]
pub struct FrontConfig {
    /// The most connections at a time.
    pub max_clients: usize,
    /// While a client has this many bytes of replies to read, none of its further commands are
    /// carried out.
    pub max_unsent_bytes: usize,
    /// A client that has replies to read and takes nothing for this long is disconnected.
    pub stall_timeout: Duration,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            max_unsent_bytes: 8 * 1024 * 1024,
            stall_timeout: Duration::from_secs(60),
        }
    }
}
