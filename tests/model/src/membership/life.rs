//! How replicas come and go.

use super::log::{Log, LogId, Member};
use super::message::Message;
use super::mistake::Mistake;
use super::model::Membership;
use super::state::{Replica, State};
use crate::ids::NodeId;

impl<const N: usize> Membership<N> {
    /// A message arrives that is for the replica `id` of `node`. If there is none yet, it is made,
    /// empty; if a former one lives there, that one is gone. Returns false if the message is for a
    /// replica that is gone itself. `lax` is by mistake: a former replica takes the message.
    pub(super) fn admit(&self, state: &mut State<N>, node: NodeId, id: LogId, lax: bool) -> bool {
        if id < state.nodes[node].least {
            return false;
        }
        let here = state.nodes[node].replica.map(|replica| replica.id);
        if lax && here.is_some() || here == Some(id) {
            return true;
        }
        self.destroy(state, node);
        let place = &mut state.nodes[node];
        place.least = id;
        place.replica = Some(Replica { id, ..Replica::default() });
        true
    }

    /// A replica goes. Its tombstone comes before, and goes on resigning for it: the leader may
    /// have been told of its own removal, and its followers may be bound to it while its node
    /// lives.
    pub(super) fn destroy(&self, state: &mut State<N>, node: NodeId) {
        let place = &mut state.nodes[node];
        let Some(Replica { id, term, .. }) = place.replica.take() else {
            return;
        };
        if !self.has(Mistake::TombstoneRegresses) {
            place.least = id.next();
        }
        if self.support && !self.has(Mistake::GoneWithoutResign) {
            state.sent.send(Message::Resign { term, from: Member { node, id } });
        }
    }

    /// Whether somebody may tell the replica of `node` that it is gone: on a committed
    /// configuration that is not older than the replica, and lacks it.
    pub(super) fn is_gone(&self, state: &State<N>, node: NodeId) -> bool {
        let Some(member) = state.member(node) else {
            return false;
        };
        let lacks = |log: &Log| {
            log.member(node) != Some(member) && log.last_change() >= member.id && !log.is_empty()
        };
        let lacked = |log: &Log| log.changes().any(|(_, it)| !it.members().has(node));
        let by_earlier = |log: &Log| self.has(Mistake::GoneByEarlier) && lacked(log);
        let mut committed = state.history.committed.iter();
        committed.any(|(_, log)| lacks(log) || by_earlier(log))
            || self.has(Mistake::GoneByUncommitted)
                && state.replicas().any(|(_, replica)| lacks(&replica.log))
    }
}
