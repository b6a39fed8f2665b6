//! What the groups of one worker produce in one turn, collected so that it leaves as one batch for
//! the log and one buffer for each peer.

pub(crate) mod storage;

use crate::background::log_reader::LogReadJob;
use crate::background::snapshots::SnapshotJob;
use crate::replica::pending::Responder;
use crate::turn::storage::Storage;
use logboat_raft::{GroupId, Message, NodeId, Output, Persist, Support, Time, WriteSeq};
use logboat_transport::{Outgoing, RequestId};
use std::sync::Arc;

/// A replica's place in its worker's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Buffers by peer. A node has few peers, so a scan beats a hash.
#[derive(Default)]
pub struct Buffers(Vec<(NodeId, Outgoing)>);

impl Buffers {
    /// The buffer of `peer`.
    pub fn to(&mut self, peer: NodeId) -> &mut Outgoing {
        let found = self.0.iter().position(|(node, _)| *node == peer);
        let at = found.unwrap_or_else(|| {
            self.0.push((peer, Outgoing::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Whether no buffer holds anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, outgoing)| outgoing.is_empty())
    }

    /// Takes out what there is to send.
    pub fn take(&mut self) -> Vec<(NodeId, Outgoing)> {
        self.0
            .iter_mut()
            .filter(|(_, outgoing)| !outgoing.is_empty())
            .map(|(node, outgoing)| (*node, std::mem::take(outgoing)))
            .collect()
    }
}

/// The turn buffer. Groups write into it; whoever drives them empties it when the ready ones have
/// run.
pub struct Turn {
    /// The time of this turn, the same for all of its groups.
    pub now: Time,
    /// What the node knows of its peers' liveness at this time.
    pub support: Support,
    /// Where groups adopt their snapshots.
    pub storage: Arc<dyn Storage>,
    /// What goes to the log, in order.
    pub writes: Vec<(GroupId, Persist)>,
    /// The newest seq of each replica that has something in `writes`.
    pub seqs: Vec<(Slot, WriteSeq)>,
    /// What leaves at once.
    pub sends: Buffers,
    /// What leaves when `writes`, and all that was written before, is durable.
    pub promises: Buffers,
    /// Entries to read back from the log.
    pub loads: Vec<LogReadJob>,
    /// Snapshots to write or to send.
    pub snapshots: Vec<SnapshotJob>,
    /// Who proposed the commands of the step that is running; kept for its memory.
    pub(crate) proposing: Vec<Responder>,
    /// What the core wants done, while a replica runs; kept for its memory.
    pub(crate) outputs: Vec<Output>,
}

impl Turn {
    /// An empty turn.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            now: Time::default(),
            support: Support::default(),
            storage,
            writes: Vec::new(),
            seqs: Vec::new(),
            sends: Buffers::default(),
            promises: Buffers::default(),
            loads: Vec::new(),
            snapshots: Vec::new(),
            proposing: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds a write of the replica in `slot`.
    pub fn persist(&mut self, slot: Slot, group: GroupId, persist: Persist) {
        match self.seqs.last_mut() {
            Some((last, seq)) if *last == slot => *seq = persist.seq,
            _ => self.seqs.push((slot, persist.seq)),
        }
        self.writes.push((group, persist));
    }

    /// Adds a message that may leave at once.
    pub fn send(&mut self, to: NodeId, group: GroupId, message: &Message) {
        self.sends.to(to).push_message(group, message);
    }

    /// Adds a message that leaves when all writes up to now are durable.
    pub fn send_when_durable(&mut self, to: NodeId, group: GroupId, message: &Message) {
        self.promises.to(to).push_message(group, message);
    }

    /// Adds the answer to another node's request.
    pub fn reply(&mut self, to: NodeId, id: RequestId, body: &[u8]) {
        self.sends.to(to).push_reply(id, body);
    }
}
