//! What is decided about connections when the front starts.

use std::time::Duration;

/// How the front treats connections, fixed while it runs. What can change then is in
/// [`Settings`](crate::settings::Settings).
#[derive(Clone, Copy, Debug)]
pub struct FrontConfig {
    /// While a client has this many bytes of replies to read, none of its further commands are
    /// carried out.
    pub max_unsent_bytes: usize,
    /// A client that has replies to read and takes nothing for this long is disconnected.
    pub stall_timeout: Duration,
    /// What requests that have not arrived whole and replies that have not been read may take
    /// together, in bytes.
    pub max_buffered_bytes: usize,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            max_unsent_bytes: 8 * 1024 * 1024,
            stall_timeout: Duration::from_secs(60),
            max_buffered_bytes: 128 * 1024 * 1024,
        }
    }
}
