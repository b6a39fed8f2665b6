//! What a replica is told about itself and its group.

use crate::{GroupId, NodeId};
use alloc::sync::Arc;
use core::time::Duration;

/// The identity of a replica, and the knobs that it shares with the others of its node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// The node that hosts this replica.
    pub node: NodeId,
    /// All voters of the group, sorted, this node among them.
    pub voters: Arc<[NodeId]>,
    /// The voter that campaigns first while nobody leads. The others follow in an order of the group's
    /// own, so that the groups that one node led are spread over all that are left.
    pub preferred: NodeId,
    /// Makes the election timeouts of replicas differ. Derive it from node and group.
    pub seed: u64,
    /// The knobs, one allocation for all groups of a node.
    pub tuning: Arc<Tuning>,
}

/// Timeouts and limits.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// After so long without a leader's message, a replica that is not bound to a leader's node
    /// campaigns; each wait is drawn from one to two times this. A transfer of leadership is given up
    /// after this time.
    pub election_timeout: Duration,
    /// When a leader is lost, the voters campaign one such time after the other, and one that is
    /// refused waits for about as long before it tries again, then longer.
    pub campaign_stagger: Duration,
    /// How long a leader waits for something else to send that would tell a follower of what was
    /// committed.
    pub commit_delay: Duration,
    /// After so long without an answer to an append, the leader sends again from the last entry
    /// that the follower is known to hold.
    pub retransmit_timeout: Duration,
    /// Most payload bytes in one append message; a single larger entry still travels, alone.
    pub max_append_bytes: usize,
    /// Most appends that a follower may have in flight.
    pub max_inflight_messages: usize,
    /// Most payload bytes that a follower may have in flight.
    pub max_inflight_bytes: usize,
    /// Most payload bytes that a leader holds uncommitted before it answers proposals with
    /// [`Refusal::Busy`](crate::Refusal::Busy).
    pub max_uncommitted_bytes: usize,
    /// How many entries a majority of the replicas may be behind in applying, seen from the end of the
    /// leader's log, before proposals are answered with [`Refusal::Busy`](crate::Refusal::Busy).
    pub max_unapplied_entries: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            election_timeout: Duration::from_secs(2),
            campaign_stagger: Duration::from_millis(200),
            commit_delay: Duration::from_millis(200),
            retransmit_timeout: Duration::from_secs(1),
            max_append_bytes: 512 << 10,
            max_inflight_messages: 64,
            max_inflight_bytes: 4 << 20,
            max_uncommitted_bytes: 16 << 20,
            max_unapplied_entries: 1 << 18,
        }
    }
}
