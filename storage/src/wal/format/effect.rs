//! The effect of a record.

use logboat_raft::{Grant, GroupId, HardState, Index, LogId, NodeId};
use std::sync::Arc;

/// What one record changes, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The log of a group.
    Group(GroupId, Change),
    /// What the node granted a peer.
    Grant(NodeId, Grant),
}

/// What one record changes in its group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The hard state.
    HardState(HardState),
    /// Entries follow; those from `first` on that were there before are gone.
    Append { first: Index, count: u32 },
    /// Copies of live entries; the places of the originals are not needed any more.
    Rewrite { first: Index, count: u32 },
    /// Entries up to this one are gone.
    Compact(LogId),
    /// All entries are gone, and the log goes on after this one.
    Reset(LogId),
    /// The voters of the group.
    Voters(Arc<[NodeId]>),
}
