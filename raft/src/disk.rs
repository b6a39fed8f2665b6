//! What a replica has on its disk, and what it writes there.

use crate::{Configuration, Entries, Epoch, Index, LogId, NodeId, ReplicaAddress, ReplicaId, Term};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What must be durable before a message that depends on it ("persistent state", Raft paper,
/// figure 2), and the leader that the replica fortifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Which replica of the group on its node it is. All that the log holds of the group is of this
    /// one.
    pub replica: ReplicaId,
    /// The latest term that the replica has seen.
    pub term: Term,
    /// For which replica this one voted in that term. If it had not voted when it fortified the
    /// leader of that term, that counts as its vote.
    pub vote: Option<ReplicaAddress>,
    /// An index known to be committed. Only a hint that saves time after a restart: it may be
    /// behind, and is written only along with something else, if that changed or it got far.
    pub commit: Index,
    /// The leader's node that the replica fortified last, in whatever term. See [`Fortification`]
    /// for what ends it.
    pub fortified: Option<Fortification>,
}

/// A follower fortifies its leader: while the follower's own node supports the leader's node at
/// this epoch, the follower neither campaigns nor votes for another replica, in whatever term.
///
/// This is CockroachDB's leader fortification, made durable. It ends when
/// - the follower's node withdraws its support for that epoch,
/// - a leader of its term or a later one is heard, whose own takes its place,
/// - the leader's replica asks for votes, or pre-votes, of a later term,
/// - the leader has a successor campaign (`TimeoutNow`), which says so in its requests for votes,
///   or
/// - the leader's replica says that it leads no more in its term or a later one (`Resign`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fortification {
    /// The leader's node.
    pub leader: NodeId,
    /// Which replica on that node leads. One that was added to the group later is another.
    pub replica: ReplicaId,
    /// The epoch at which the follower's node supported it then.
    pub epoch: Epoch,
    /// The term in which it led then. The follower has voted in it. What the leader's replica said
    /// before it led in this term, and which may come late, does not concern the fortification.
    pub term: Term,
}

impl Fortification {
    /// The replica that led.
    #[must_use]
    pub const fn address(&self) -> ReplicaAddress {
        ReplicaAddress::new(self.leader, self.replica)
    }
}

/// A run of consecutive entries of one term. It ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRun {
    /// The term.
    pub term: Term,
    /// The first index of that term.
    pub first: Index,
}

/// What a replica finds on its disk when it starts; [`Default`] is a replica that never ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term, vote, fortification and commit hint.
    pub hard_state: HardState,
    /// The last entry that the snapshot covers, where the log begins; zero without a snapshot. The
    /// state machine has been restored from that snapshot.
    pub snapshot: LogId,
    /// The last index of the log; equals `snapshot.index` when the log is empty.
    pub last: Index,
    /// The terms of the entries after `snapshot` up to `last`, ascending.
    pub runs: Vec<TermRun>,
    /// The configuration in force at `snapshot`, or the founding one ([`LogWrite::Founding`]), and
    /// then those that the entries up to `last` hold, oldest first. Empty if the log has none.
    pub configurations: Vec<Arc<Configuration>>,
}

impl Restored {
    /// The configuration in force where the log begins: `founding`, unless the log says otherwise.
    #[must_use]
    pub fn base(&self, founding: &Arc<Configuration>) -> Arc<Configuration> {
        let first = self.configurations.first();
        let begins = first.filter(|it| it.id().index <= self.snapshot.index);
        Arc::clone(begins.unwrap_or(founding))
    }
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that it covers.
    pub last: LogId,
    /// The configuration in force at that entry.
    pub configuration: Arc<Configuration>,
}

/// Numbers the writes ([`Persist`]) of a replica, from 1 on after each start, without gaps. Writes
/// become durable in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteSeq(pub u64);

impl WriteSeq {
    /// The number of the write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One write to the log: all of it takes effect, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number.
    pub seq: WriteSeq,
    /// The new hard state, if it changed. Few writes have one, and all are moved several times.
    pub hard_state: Option<Box<HardState>>,
    /// What changes in the log.
    pub log: LogWrite,
}

// Each write is moved from the core to the log's thread, several times on the way. Moves of more
// than 128 bytes are calls.
const _: () = assert!(size_of::<Persist>() <= 96, "a write is cheap to move");

/// A change of the log on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    /// None.
    Keep,
    /// Append consecutive entries. What the log holds from the first one's index on is replaced.
    Append(Entries),
    /// Entries up to the snapshot's last one are covered by it and no longer needed. It is durable.
    Compact(SnapshotMeta),
    /// The whole log is replaced by a snapshot.
    Reset(SnapshotMeta),
    /// The configuration that the group is founded with. The caller writes it once, when it starts
    /// a founder for the first time, before anything that the replica writes. No entry holds it.
    Founding(Arc<Configuration>),
    /// A *tombstone*: the smallest id of a replica that may still live here. All that the log holds
    /// of an earlier replica goes by the same write. The caller writes it when a replica is gone,
    /// after everything that the replica wrote.
    Tombstone(ReplicaId),
}
