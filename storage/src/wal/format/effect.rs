//! The effect of a record.

use logboat_raft::{
    Configuration, Grant, GroupId, HardState, Index, NodeId, ReplicaId, SnapshotMeta,
};
use std::sync::Arc;

/// What one record changes, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The log of a group.
    Group(GroupId, Change),
    /// What the node granted a peer.
    Grant(NodeId, Grant),
}

// The effects of a batch are kept until it is written.
const _: () = assert!(size_of::<Effect>() <= 64, "an effect is cheap to keep");

/// The configurations that the entries of a record hold, by index. Nearly always none.
pub(crate) type Configurations = Vec<Arc<Configuration>>;

/// What one record changes in its group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The hard state. Few records hold one, and it is much larger than what the others say.
    HardState(Box<HardState>),
    /// Entries follow; those from `first` on that were there before are gone.
    Append { first: Index, count: u32, configurations: Configurations },
    /// Copies of live entries; the places of the originals are not needed any more.
    Rewrite { first: Index, count: u32, configurations: Configurations },
    /// Entries up to the snapshot's last one are gone.
    Compact(SnapshotMeta),
    /// All entries are gone, and the log goes on after the snapshot's last one.
    Reset(SnapshotMeta),
    /// The configuration that the group was founded with.
    Founding(Arc<Configuration>),
    /// All that there is of a replica before `floor` is gone.
    Tombstone {
        floor: ReplicaId,
        /// Whether the replica was given up, since data of it were damaged. Nobody has removed it.
        lost: bool,
    },
}
