//! What a connection waits for only after some commands: CLIENT PAUSE and MONITOR.

use crate::monitor::Monitor;
use crate::server_state::ServerState;
use bytes::{Bytes, BytesMut};
use std::future;

/// A command that waits, if there is one, with its name and its arguments.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    arguments: Option<Vec<Bytes>>,
    bytes: usize,
}

impl HeldBack {
    /// Has a command wait.
    pub(super) fn put(&mut self, arguments: Vec<Bytes>) {
        self.bytes = arguments.iter().map(Bytes::len).sum();
        self.arguments = Some(arguments);
    }

    pub(super) fn take(&mut self) -> Option<Vec<Bytes>> {
        self.bytes = 0;
        self.arguments.take()
    }

    /// The bytes of all arguments.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Resolves when CLIENT PAUSE is over, or has changed.
pub(super) async fn pause_over(paused: Option<&ServerState>) {
    match paused {
        Some(server) => server.pause.wait().await,
        None => future::pending().await,
    }
}

/// Resolves when there are commands for a monitor to see, if it takes any, or when it does not keep
/// up: then there is None.
pub(super) async fn shown(monitor: Option<&Monitor>, takes: bool) -> Option<BytesMut> {
    match monitor {
        Some(monitor) if takes => monitor.next().await,
        Some(monitor) => {
            monitor.lost().await;
            None
        }
        None => future::pending().await,
    }
}
