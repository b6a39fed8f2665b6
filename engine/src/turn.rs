//! A turn: the replicas of one worker run once each, and what they produce is collected. It leaves
//! as one batch for the log, which commits the writes of all groups together (group commit), and as
//! one buffer of messages for each peer.

pub(crate) mod gone;
pub(crate) mod jobs;
pub(crate) mod peer_buffers;
pub(crate) mod slot;
pub(crate) mod storage;

use crate::request::answers::Callers;
use crate::request::encoding::{push_answer, put_reply};
use crate::request::kind::Answer;
use crate::turn::gone::{Buried, GoneReplica};
use crate::turn::jobs::{LogReadJob, QueryJob, SnapshotJob};
use crate::turn::peer_buffers::PeerBuffers;
use crate::turn::slot::Slot;
use crate::turn::storage::Storage;
use logboat_raft::{
    Entry, GroupId, LogWrite, Message, NodeId, Persist, ReadToken, Resignation, Support, Time,
    Violation, WriteSeq,
};
use logboat_transport::RequestId;
use std::sync::Arc;

/// How much a turn gathers for a peer before a large answer finds no room beside it.
const MOST_ANSWER_BYTES: usize = 16 << 20;

/// The most memory that is kept for the next answer.
const MOST_KEPT_BYTES: usize = 16 << 10;

/// About how many bytes of entries are handed to the log as one batch. A batch has to fit a
/// segment, whatever the memory for requests is.
const MOST_BATCH_BYTES: usize = 64 << 20;

/// The turn buffer. Replicas write into it. The worker empties it when the ready ones have run.
pub struct Turn {
    /// The time of this turn, the same for all of its groups.
    pub now: Time,
    /// The support between the node and its peers at this time.
    pub support: Support,
    /// Where groups adopt their snapshots.
    pub storage: Arc<dyn Storage>,
    /// Writes for the log, in order.
    pub writes: Vec<(GroupId, Persist)>,
    /// The newest write of each replica that has something in `writes`.
    pub seqs: Vec<(Slot, WriteSeq)>,
    /// Messages that leave at once.
    pub sends: PeerBuffers,
    /// Messages that leave when `writes`, and all that was written before, is durable.
    pub promises: PeerBuffers,
    /// Entries to read back from the log.
    pub log_reads: Vec<LogReadJob>,
    /// Snapshots to write or to send.
    pub snapshots: Vec<SnapshotJob>,
    /// Queries for the readers of states.
    pub queries: Vec<QueryJob>,
    /// The peers that broke the protocol, each with the group in which it did.
    pub violations: Vec<(GroupId, NodeId, Violation)>,
    /// Replicas whose groups are without them for good.
    pub gone: Vec<GoneReplica>,
    /// Groups whose replicas are gone already, and who is told when nothing is left of them.
    pub(crate) awaited_burials: Vec<(GroupId, Buried)>,
    /// Callers whose answers are there. They are woken when all else has left.
    pub(crate) callers: Callers,
    /// What the replicas in these slots leave, which ends in user code.
    pub(crate) discarded: Vec<(GroupId, Slot, Box<dyn Send>)>,
    /// The encoded answer that is being added; kept for its memory.
    encoded: Vec<u8>,
    /// About what the entries in `writes` take.
    entry_bytes: usize,
    /// The token that the next batch of reads gets.
    next_read_token: ReadToken,
}

impl Turn {
    /// An empty turn. Tokens of reads count from `first_read_token` on. That number must differ
    /// from run to run of the node. A leader may answer late, so no run may have a token of an
    /// earlier one.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, first_read_token: ReadToken) -> Self {
        Self {
            now: Time::default(),
            support: Support::default(),
            storage,
            writes: Vec::new(),
            seqs: Vec::new(),
            sends: PeerBuffers::default(),
            promises: PeerBuffers::default(),
            log_reads: Vec::new(),
            snapshots: Vec::new(),
            queries: Vec::new(),
            violations: Vec::new(),
            gone: Vec::new(),
            awaited_burials: Vec::new(),
            callers: Callers::default(),
            discarded: Vec::new(),
            encoded: Vec::new(),
            entry_bytes: 0,
            next_read_token: first_read_token,
        }
    }

    /// A token that no reads have had, of whatever replica and run.
    pub(crate) const fn next_read_token(&mut self) -> ReadToken {
        let token = self.next_read_token;
        self.next_read_token = ReadToken(token.0.wrapping_add(1));
        token
    }

    /// Adds a write of the replica in `slot`.
    pub fn persist(&mut self, slot: Slot, group: GroupId, persist: Persist) {
        match self.seqs.last_mut() {
            Some((last, seq)) if *last == slot => *seq = persist.seq,
            _ => self.seqs.push((slot, persist.seq)),
        }
        self.entry_bytes += entry_bytes(&persist);
        self.writes.push((group, persist));
    }

    /// Takes the writes in batches for the log, none of which is too large. There is at least one.
    pub(crate) fn take_batches(&mut self) -> Vec<Vec<(GroupId, Persist)>> {
        let mut rest = std::mem::take(&mut self.writes);
        if std::mem::take(&mut self.entry_bytes) <= MOST_BATCH_BYTES {
            return vec![rest];
        }
        let (mut batches, mut bytes, mut end) = (Vec::new(), 0, 0);
        while let Some((_, persist)) = rest.get(end) {
            let of_write = entry_bytes(persist);
            bytes += of_write;
            if bytes > MOST_BATCH_BYTES && end > 0 {
                let later = rest.split_off(end);
                batches.push(std::mem::replace(&mut rest, later));
                (bytes, end) = (of_write, 0);
            }
            end += 1;
        }
        batches.push(rest);
        batches
    }

    /// Adds a message that may leave at once.
    pub fn send(&mut self, to: NodeId, group: GroupId, message: &Message) {
        self.sends.to(to).push_message(group, message);
    }

    /// Adds a message that leaves when all writes up to now are durable.
    pub fn send_when_durable(&mut self, to: NodeId, group: GroupId, message: &Message) {
        self.promises.to(to).push_message(group, message);
    }

    /// Adds something that a replica has no more use for. To drop it is a matter of user code.
    pub(crate) fn discard(&mut self, group: GroupId, slot: Slot, left: impl Send + 'static) {
        self.discarded.push((group, slot, Box::new(left)));
    }

    /// Tells the followers of a replica that takes no further step to let go of it.
    pub(crate) fn resign(&mut self, group: GroupId, resignation: &Resignation) {
        for (peer, message) in resignation.messages(&self.support) {
            self.sends.to(peer).push_message(group, &message);
        }
    }

    /// Adds the answer to another node's request. A turn holds few large ones, which are in memory
    /// before the peer's queue can refuse them.
    pub(crate) fn reply(&mut self, to: NodeId, id: RequestId, answer: &Answer) {
        put_reply(&mut self.encoded, answer);
        push_answer(self.sends.to(to), id, &self.encoded, MOST_ANSWER_BYTES);
        self.encoded.clear();
        self.encoded.shrink_to(MOST_KEPT_BYTES);
    }
}

/// What the entries take that are appended.
fn entry_bytes(persist: &Persist) -> usize {
    let LogWrite::Append(entries) = &persist.log else { return 0 };
    entries.iter().map(|entry| size_of::<Entry>() + entry.data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::storage::NoStorage;
    use bytes::Bytes;
    use logboat_raft::{EntryKind, Index, LogId, Term};

    #[test]
    fn what_a_turn_writes_is_cut_into_batches_in_order() {
        let data = Bytes::from(vec![0; 1 << 20]);
        let mut turn = Turn::new(Arc::<NoStorage>::default(), ReadToken(0));
        assert_eq!(turn.take_batches(), [[]]);
        let write = |seq, mib| {
            let entry = |index| {
                let id = LogId::new(Term(1), Index(index));
                Entry::new(GroupId(1), id, EntryKind::Command, data.clone())
            };
            let log = LogWrite::Append((1..=mib).map(entry).collect());
            Persist { seq: WriteSeq(seq), hard_state: None, log }
        };
        // One write is never cut.
        for (seq, mib) in [(1, 1), (2, 62), (3, 1), (4, 70), (5, 1), (6, 1), (7, 0)] {
            turn.persist(Slot::default(), GroupId(1), write(seq, mib));
        }
        let seqs = |batch: Vec<(GroupId, Persist)>| -> Vec<u64> {
            batch.into_iter().map(|(_, persist)| persist.seq.0).collect()
        };
        let batches: Vec<_> = turn.take_batches().into_iter().map(seqs).collect();
        assert_eq!(batches, [vec![1, 2], vec![3], vec![4], vec![5, 6, 7]]);
        assert!(turn.writes.is_empty());
    }
}
