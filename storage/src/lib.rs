//! The storage of a node: the write-ahead log that all its groups share, their snapshot files, and
//! the data directory that holds both.
//!
//! [`DataDir`] locks the directory and checks whose it is. [`Wal`] makes the writes of all groups
//! durable together and reads their entries back. [`SnapshotStore`] keeps one snapshot a group.
//! [`state`] keeps states that are larger than memory.
//! Nothing here knows what a message or an election is. The types of [`logboat_raft`] go in
//! ([`Persist`](logboat_raft::Persist), [`Grant`](logboat_raft::Grant)) and come out again
//! ([`Recovered`]).

mod boot;
mod cluster;
mod directory;
mod files;
mod former;
mod known_peers;
mod snapshot;
pub mod state;
mod wal;

pub use boot::{BootFile, BootRecord};
pub use cluster::ClusterFile;
pub use directory::{DataDir, DirectoryError, Identity, REJOIN};
pub use former::{check_set_aside, former_path, remove_former, set_aside};
pub use known_peers::{KnownPeers, PeerTable};
pub use snapshot::{
    OpenSnapshot, SnapshotCheck, SnapshotError, SnapshotInfo, SnapshotReader, SnapshotReceiver,
    SnapshotStore, SnapshotTicket, SnapshotWriter,
};
pub use wal::{
    Batch, Completion, Damage, GroupReport, Poisoned, ReadError, Recovered, Refusal, Refusals,
    SegmentReport, SegmentState, Unreadable, Wal, WalError, WalMetrics, WalOptions, WalReport,
    inspect,
};

pub mod simulation {
    //! Log and snapshots on disks that crash, fail and fill up on demand, for tests and simulation.
    //! [`InlineWal`] is the log without threads, [`SimDisk`] is its disk, and [`Disk`] is the
    //! interface of any such disk. [`SimSnapshotDisk`] and [`SnapshotDisk`] are those of snapshots.

    pub use crate::snapshot::{
        FileSnapshotDisk, SimSnapshotDisk, SimSnapshotFile, SnapshotDisk, SnapshotFile,
    };
    pub use crate::wal::{
        Disk, FileDisk, FileSegment, InlineWal, Log, Segment, SegmentFile, SegmentPool, SimDisk,
        SimSegment, Unsynced, WriteError, Written,
    };
}
