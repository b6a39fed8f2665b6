//! What callers hand to the log.

use super::error::Poisoned;
use logboat_raft::{Grant, GroupId, NodeId, Persist};

/// What happens when a batch is durable. Called on a thread of the log, so it must not block.
pub trait Completion: Send + 'static {
    /// `Ok` when all of the batch is durable; `Err` when that will never be known, so that nothing
    /// of it may be acknowledged, though it may be there after a restart.
    fn complete(self, result: Result<(), Poisoned>);
}

/// What a node grants its peers, and writes of many groups, that become durable together: a restart
/// finds all of a batch or nothing of it.
#[derive(Debug)]
pub struct Batch<C> {
    /// What the node grants its peers, each in place of what it granted that one before.
    pub grants: Vec<(NodeId, Grant)>,
    /// The writes, in order.
    pub writes: Vec<(GroupId, Persist)>,
    /// Told when they are durable.
    pub completion: C,
}
