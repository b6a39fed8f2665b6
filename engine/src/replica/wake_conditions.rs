//! What wakes a replica. One that waits for nothing here is at rest (quiesced, hibernating): it
//! costs memory and no processor time until a message or a request comes.

use logboat_raft::{NodeId, Round, Time};

/// What wakes a replica besides messages and requests, and by whom it is led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeConditions {
    /// When a write is durable: it has something to commit or to apply then.
    pub durability: bool,
    /// When this moment has come.
    pub deadline: Option<Time>,
    /// When this round of confirmations, or a later one, is answered.
    pub awaited_round: Option<Round>,
    /// When what the node knows of this one's liveness changes.
    pub leader: Option<NodeId>,
}
