//! The replicas of a worker that are gone. Their followers may go on following them while the node
//! lives, so they are told until they answer. That is kept in memory only: a restart of the node
//! ends all bonds. And the answers that a node gives in the place of replicas that are not there.

use crate::turn::Turn;
use crate::turn::gone::GoneReplica;
use logboat_raft::{
    GroupId, LogWrite, Message, NodeId, Payload, Persist, ReplicaId, Resignation, Support, Time,
    WriteSeq,
};
use std::collections::VecDeque;
use std::time::Duration;

/// The most replicas for which this is done. Of the others, the followers learn by a restart of one
/// of the nodes, or when they hear of another leader.
const MOST_DEPARTED: usize = 1_024;

/// A replica that is not here, for which a message came.
#[derive(Clone, Copy, Debug)]
pub struct Absent {
    /// The group.
    pub group: GroupId,
    /// The smallest id that a replica of the group may have here, if there is a tombstone.
    pub tombstone: Option<ReplicaId>,
    /// Whether there is anything of the group here, be it that its replica is not started, or not
    /// deleted yet.
    pub is_known: bool,
}

impl Absent {
    /// Answers in the place of the replica that it is no more, or that it never was, if `from`
    /// waits for that. The answer leaves when the tombstone is durable.
    ///
    /// Of a replica that never was here there is no bond to end. A tombstone keeps one from being
    /// born that its group is without. One that is stored speaks for itself when it is started.
    pub fn answer(self, turn: &mut Turn, from: NodeId, message: &Message) {
        let Self { group, tombstone, is_known } = self;
        let Some(answer) = message.answer_for_former() else { return };
        if tombstone.is_none_or(|floor| message.to >= floor) {
            if is_known {
                return;
            }
            if let Payload::Gone { .. } = message.payload {
                let Some(floor) = message.floor_if_gone() else { return };
                let (hard_state, log) = (None, LogWrite::Tombstone(floor));
                let persist = Persist { seq: WriteSeq::default(), hard_state, log };
                turn.writes.push((group, persist));
            }
        }
        turn.send_when_durable(from, group, &answer);
    }
}

/// The replicas that are gone, and whose followers have not all answered.
#[derive(Default)]
pub struct Departed(VecDeque<Departing>);

struct Departing {
    group: GroupId,
    resignation: Resignation,
    repeat: Duration,
    repeat_at: Time,
}

impl Departed {
    /// A replica is gone: tells its followers.
    pub fn add(&mut self, turn: &mut Turn, gone: &GoneReplica) {
        let GoneReplica { group, ref resignation, repeat, .. } = *gone;
        if resignation.is_over() {
            return;
        }
        turn.resign(group, resignation);
        if self.0.len() == MOST_DEPARTED {
            self.0.pop_front();
        }
        let (resignation, repeat_at) = (resignation.clone(), turn.now + repeat);
        self.0.push_back(Departing { group, resignation, repeat, repeat_at });
    }

    /// Tells those again who have not answered in time.
    pub fn say_again(&mut self, turn: &mut Turn) {
        for departing in &mut self.0 {
            if departing.repeat_at <= turn.now {
                departing.repeat_at = turn.now + departing.repeat;
                turn.resign(departing.group, &departing.resignation);
            }
        }
    }

    /// Takes an answer, if a message is one.
    pub fn receive(&mut self, from: NodeId, group: GroupId, message: &Message) {
        // This is asked of every message, and few are answers.
        if self.0.is_empty() || !matches!(message.payload, Payload::Resigned { .. }) {
            return;
        }
        for departing in self.0.iter_mut().filter(|departing| departing.group == group) {
            departing.resignation.receive(from, message);
        }
        self.0.retain(|departing| !departing.resignation.is_over());
    }

    /// When there is something to say again.
    #[must_use]
    pub fn next_deadline(&self, support: &Support) -> Option<Time> {
        let awaited = self.0.iter().filter(|it| it.resignation.is_awaited(support));
        awaited.map(|departing| departing.repeat_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::storage::NoStorage;
    use logboat_raft::{Epoch, Index, LogId, ReadToken, Term, VotersDigest};
    use std::sync::Arc;

    const GROUP: GroupId = GroupId(7);

    fn replica(index: u64) -> ReplicaId {
        ReplicaId(LogId::new(Term(3), Index(index)))
    }

    /// The tombstone that is written for a message to replica 8, and whether it is answered once
    /// that is durable.
    fn answered(payload: Payload, floor: Option<u64>, is_known: bool) -> (Option<ReplicaId>, bool) {
        let mut turn = Turn::new(Arc::<NoStorage>::default(), ReadToken(0));
        let message = Message { from: replica(1), to: replica(8), term: Term(4), payload };
        let tombstone = floor.map(replica);
        Absent { group: GROUP, tombstone, is_known }.answer(&mut turn, NodeId(2), &message);
        assert!(turn.sends.take().is_empty(), "nothing leaves before it is durable");
        let tombstones: Vec<_> = turn.writes.iter().map(|(_, persist)| &persist.log).collect();
        let tombstone = match tombstones[..] {
            [] => None,
            [LogWrite::Tombstone(floor)] => Some(*floor),
            _ => panic!("{tombstones:?}"),
        };
        (tombstone, !turn.promises.take().is_empty())
    }

    #[test]
    fn a_node_answers_for_a_replica_that_is_gone_or_never_was() {
        let resign = || Payload::Resign { epoch: Epoch(1), term: Term(4) };
        let gone = |floor| Payload::Gone { floor: replica(floor), founders: VotersDigest(1) };
        for (payload, floor, is_known, expected) in [
            // It is gone.
            (resign(), Some(9), false, (None, true)),
            (gone(9), Some(9), true, (None, true)),
            // Its tombstone is about an earlier one, or there is none.
            (resign(), Some(8), false, (None, true)),
            (resign(), None, false, (None, true)),
            (gone(12), Some(8), false, (Some(replica(9)), true)),
            (gone(12), None, false, (Some(replica(9)), true)),
            // It is stored, or on its way out.
            (resign(), None, true, (None, false)),
            (gone(12), Some(8), true, (None, false)),
            // Nobody is gone by that, and nobody waits.
            (gone(8), None, false, (None, false)),
            (Payload::TimeoutNow, None, false, (None, false)),
        ] {
            let found = answered(payload.clone(), floor, is_known);
            assert_eq!(found, expected, "{payload:?}, {floor:?}, {is_known}");
        }
    }
}
