//! Replicas whose groups are without them for good, on the way from a replica's run to its worker.

use crate::turn::slot::Slot;
use logboat_raft::{GroupId, ReplicaId, Resignation};
use std::time::Duration;

/// Told when nothing is left of a replica.
pub(crate) type Buried = Box<dyn FnOnce() + Send>;

/// A replica that its group is without for good.
pub struct GoneReplica {
    /// The group.
    pub group: GroupId,
    /// The slot of the replica.
    pub slot: Slot,
    /// The smallest id that a replica here may still have.
    pub floor: ReplicaId,
    /// What its followers have to be told.
    pub resignation: Resignation,
    /// How often.
    pub repeat: Duration,
    /// Who is told when nothing is left of it.
    pub buried: Option<Buried>,
}
