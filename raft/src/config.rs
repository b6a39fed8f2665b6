//! The configuration of a replica: who it is, and the limits that it keeps to.

use crate::{Configuration, GroupId, NodeId, ReplicaId};
use alloc::sync::Arc;
use core::time::Duration;

/// The identity of a replica, and the limits that it shares with the others of its node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// The node that hosts this replica.
    pub node: NodeId,
    /// Which replica of the group on that node it is, unless its log says so. One that waits to be
    /// added has the smallest id that may live here. It takes the later one by which a leader calls
    /// it.
    pub replica: ReplicaId,
    /// The configuration that a founder goes by if its log says nothing else: the one that the
    /// group was founded with. To a replica that was added later it is
    /// [unknown](Configuration::unknown).
    pub founding: Arc<Configuration>,
    /// Makes the election timeouts of replicas differ. Derive it from node and group. It is the
    /// first state of their generator.
    pub seed: u64,
    /// Timeouts and limits, shared by all groups of a node.
    pub tuning: Arc<Tuning>,
}

/// Timeouts and limits.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The election timeout: how long a leader may be silent before a replica that does not fortify
    /// it campaigns. Each wait is drawn from one to two times this. A transfer of leadership is
    /// given up after this time.
    pub election_timeout: Duration,
    /// The wait between the campaigns of two voters when a leader is lost. A candidate that failed
    /// tries again after about as long, then ever later (backoff).
    pub campaign_stagger: Duration,
    /// How long a leader waits, after a commit, for an append that carries it to the follower. Then
    /// it sends a message of its own.
    pub commit_delay: Duration,
    /// How long a leader waits for the answer to an append. Then it starts over after the last
    /// entry that the follower is known to hold. A follower waits as long for an answer about its
    /// reads.
    pub retransmit_timeout: Duration,
    /// Most payload bytes in one append message; a single larger entry still travels, alone.
    pub max_append_bytes: usize,
    /// Most appends in flight to a follower (flow control of the pipeline).
    pub max_inflight_messages: usize,
    /// Most payload bytes in flight to a follower.
    pub max_inflight_bytes: usize,
    /// Most payload bytes that a leader holds uncommitted before it answers proposals with
    /// [`Refusal::Busy`](crate::Refusal::Busy).
    pub max_uncommitted_bytes: usize,
    /// How many entries a majority of the replicas may be behind in applying, counted from the end
    /// of the leader's log. Beyond it, proposals are refused as
    /// [`Refusal::Busy`](crate::Refusal::Busy) (backpressure).
    pub max_unapplied_entries: u64,
    /// By how many entries the commit index on disk may be behind while nothing else changes. After
    /// a restart these are applied when a leader is heard. In return most appends are one record.
    pub max_unwritten_commits: u64,
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
            max_unwritten_commits: 1_024,
        }
    }
}
