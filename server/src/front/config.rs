//! The configuration of the front, fixed at its start.

use crate::debug::DebugCommand;
use std::time::Duration;

/// How the front treats connections, fixed while it runs. [`Settings`](crate::settings::Settings)
/// has what can change.
#[derive(Clone, Copy, Debug)]
pub struct FrontConfig {
    /// While a client has this many bytes of replies to read, its next commands wait
    /// (backpressure).
    pub max_unsent_bytes: usize,
    /// A client that has replies to read and takes nothing for this long is disconnected.
    pub stall_timeout: Duration,
    /// The same for a client that holds memory which others wait for.
    pub wanted_stall_timeout: Duration,
    /// The most bytes that all clients together may hold in requests that have not arrived whole
    /// and in replies that have not been read.
    pub max_buffered_bytes: usize,
    /// The nodes of the cluster. What one of them lets in grows the others as well.
    pub nodes: u64,
    /// Whether keys and values are on disk, so that no limit of memory holds for them.
    pub data_on_disk: bool,
    /// Who may use DEBUG.
    pub debug_command: DebugCommand,
}

impl Default for FrontConfig {
    fn default() -> Self {
        Self {
            max_unsent_bytes: 8 * 1024 * 1024,
            stall_timeout: Duration::from_secs(60),
            wanted_stall_timeout: Duration::from_secs(1),
            max_buffered_bytes: 128 * 1024 * 1024,
            nodes: 1,
            data_on_disk: false,
            debug_command: DebugCommand::default(),
        }
    }
}
