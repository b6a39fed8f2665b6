//! The batch: the writes that callers hand to the log at once.

use super::error::Poisoned;
use super::write::Refusals;
use logboat_raft::{Grant, GroupId, NodeId, Persist};

/// What is called when a batch is durable, on a thread of the log, so that it must not block. It
/// gets `Ok` when all of the batch is durable, but for the writes of groups that the log refuses:
/// nothing of these may be acknowledged. It gets `Err` when it will never be known what is durable.
/// Then nothing of the batch may be acknowledged, though it may be there after a restart.
pub type Completion = Box<dyn FnOnce(Result<&Refusals, Poisoned>) + Send>;

/// Writes of many groups, and what a node grants its peers. They become durable together: a restart
/// finds all of a batch or nothing of it.
pub struct Batch {
    /// What the node grants its peers, each in place of what it granted that one before.
    pub grants: Vec<(NodeId, Grant)>,
    /// The writes, in order.
    pub writes: Vec<(GroupId, Persist)>,
    /// Called when they are durable.
    pub completion: Completion,
}
