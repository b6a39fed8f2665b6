//! The wake conditions of a replica. A replica without any is at rest (quiesced, hibernating): it
//! costs memory and no processor time until a message or a request comes.

use logboat_raft::{NodeId, Round, Time};

/// What wakes a replica besides messages and requests, and its leader's node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeConditions {
    /// A write is durable, so that the replica has something to commit or to apply.
    pub durability: bool,
    /// This moment has come.
    pub deadline: Option<Time>,
    /// This round of confirmations, or a later one, is answered.
    pub awaited_round: Option<Round>,
    /// The support from or for this node changes.
    pub leader: Option<NodeId>,
    /// A peer supports this node again, so that it can be told what it has to answer.
    pub speaks: bool,
}
