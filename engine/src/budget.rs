//! The memory budget of a node, and how it is divided among what is under way.

use logboat_transport::snapshot_window_bytes;

/// The bytes that commands, queries and messages may take on a node while they wait, whatever the
/// number of groups. The contents of the state machines don't count. A thirty-second part is left
/// for entries that replicas hold durably and don't know to be committed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) total_bytes: usize,
}

impl Budget {
    /// For requests that were admitted and not yet answered. Beyond it, requests are refused.
    pub(crate) const fn requests(self) -> usize {
        self.total_bytes / 4
    }

    /// For writes that the log has not made durable yet. Beyond it, proposals are refused and
    /// peers' entries are dropped, which their leaders send again.
    pub(crate) const fn log(self) -> usize {
        self.total_bytes / 4
    }

    /// For parts of snapshots that are not written to their files yet. Their senders keep to
    /// [windows](crate::background::taken_parts) that fit in it. It holds one at the least.
    pub(crate) fn snapshots(self) -> usize {
        (self.total_bytes / 16).max(2 * snapshot_window_bytes(0, 1))
    }

    /// For entries of replicas whose state machines are busy elsewhere. Beyond it, peers' entries
    /// are dropped.
    pub(crate) const fn unapplied(self) -> usize {
        self.total_bytes / 32
    }

    /// For messages that wait for one of so many workers. Beyond it, messages are dropped. However
    /// many workers there are, a command of the largest size fits.
    pub(crate) fn arriving(self, workers: usize, max_command_bytes: usize) -> usize {
        (self.total_bytes / 4 / workers).max(max_command_bytes)
    }

    /// The smallest share that a command must fit, in a cluster of so many nodes.
    pub(crate) fn least_share(self, nodes: usize) -> usize {
        self.requests().min(self.log()).min(self.leaving(nodes - 1))
    }

    /// For messages that wait to leave for one of so many peers. Beyond it, messages are dropped.
    pub(crate) fn leaving(self, peers: usize) -> usize {
        self.total_bytes / 8 / peers.max(1)
    }
}
