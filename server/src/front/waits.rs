//! What a connection waits for only after some commands: CLIENT PAUSE and MONITOR.

use crate::monitor::Monitor;
use crate::server_state::ServerState;
use bytes::BytesMut;
use std::future;

/// Resolves when CLIENT PAUSE is over, or has changed.
pub(super) async fn pause_over(paused: Option<&ServerState>) {
    match paused {
        Some(server) => server.pause.wait().await,
        None => future::pending().await,
    }
}

/// Resolves when there are commands for a monitor to see. None if it did not keep up.
pub(super) async fn shown(monitor: Option<&Monitor>) -> Option<BytesMut> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => future::pending().await,
    }
}
