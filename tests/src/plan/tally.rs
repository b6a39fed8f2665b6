//! What is counted while a cluster runs.

use super::replica::{Produced, ReplicaId};
use logboat_raft::Time;

/// The counts of all nodes together.
#[derive(Clone, Default)]
pub(super) struct Tally {
    /// Messages about liveness, and their bytes with the headers of their frames.
    pub(super) liveness_messages: u64,
    pub(super) liveness_bytes: u64,
    /// Messages of groups.
    pub(super) group_messages: u64,
    /// Syncs of logs, and those that made something of a group durable.
    pub(super) syncs: u64,
    pub(super) group_syncs: u64,
    /// Pre-votes that were held, and votes.
    pub(super) pre_campaigns: u64,
    pub(super) campaigns: u64,
    /// When nodes withdrew support, once for each and peer.
    pub(super) detected: Vec<Time>,
    /// Who began to lead in earnest, and when.
    pub(super) leading: Vec<(ReplicaId, Time)>,
    /// By group, the newest term that had a leader.
    terms: Vec<u32>,
}

impl Tally {
    /// Nothing yet, of so many groups.
    pub(super) fn new(groups: usize) -> Self {
        Self { terms: vec![1; groups], ..Self::default() }
    }

    /// Adds what replicas did up to `now`.
    ///
    /// # Panics
    /// When two leaders were elected in one term of a group.
    pub(super) fn add(&mut self, now: Time, produced: &Produced) {
        self.pre_campaigns += produced.pre_campaigns;
        self.campaigns += produced.campaigns;
        for (id, term) in &produced.elected {
            let newest = &mut self.terms[id.group()];
            assert!(term > newest, "group {} has two leaders in term {term}", id.group());
            *newest = *term;
        }
        self.leading.extend(produced.leading.iter().map(|id| (*id, now)));
    }
}
