//! Relays: requests that this node forwards, for a peer that does not reach the leader's node
//! itself.

use crate::admission::Permit;
use logboat_raft::NodeId;
use logboat_transport::RequestId;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How long a forwarded request is remembered. No caller waits for longer.
const RELAY_LIMIT: Duration = Duration::from_secs(30);

/// Where the answer to a forwarded request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The node whose request it is.
    pub(crate) node: NodeId,
    /// The id that the answer must carry.
    pub(crate) id: RequestId,
}

/// A forwarded request that has no answer yet.
struct Relay {
    origin: Origin,
    /// The node that it was forwarded to.
    asked: NodeId,
    /// The request's share of this node's memory for requests.
    _permit: Permit,
}

/// The forwarded requests that have no answer yet. Each holds a permit, which bounds them.
#[derive(Default)]
pub(crate) struct Relays(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: HashMap<RequestId, Relay>,
    /// When each was forwarded, in that order. Those that were answered meanwhile leave when they
    /// come to the front.
    forwarded: VecDeque<(Instant, RequestId)>,
}

impl Relays {
    /// Remembers a request that was forwarded to `asked` under `id`.
    pub(crate) fn begin(&self, id: RequestId, origin: Origin, asked: NodeId, permit: Permit) {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.forget_old(now);
        state.waiting.insert(id, Relay { origin, asked, _permit: permit });
        state.forwarded.push_back((now, id));
    }

    /// Forgets those that nobody waits for any more, which gives back what they hold.
    pub(crate) fn forget_old(&self) {
        self.0.lock().forget_old(Instant::now());
    }

    /// Takes the request that `from` answers, if it is one that was forwarded there.
    pub(crate) fn answered(&self, from: NodeId, id: RequestId) -> Option<Origin> {
        let mut state = self.0.lock();
        let forwarded_there = state.waiting.get(&id).is_some_and(|relay| relay.asked == from);
        let relay = forwarded_there.then(|| state.waiting.remove(&id)).flatten();
        relay.map(|relay| relay.origin)
    }

    /// Takes the requests that were forwarded to a node whose connection is gone.
    pub(crate) fn disconnected(&self, node: NodeId) -> Vec<Origin> {
        let mut state = self.0.lock();
        let gone = state.waiting.extract_if(|_, relay| relay.asked == node);
        gone.map(|(_, relay)| relay.origin).collect()
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        while let Some(&(forwarded, id)) = self.forwarded.front() {
            if now.duration_since(forwarded) > RELAY_LIMIT {
                self.waiting.remove(&id);
            } else if self.waiting.contains_key(&id) {
                return;
            }
            self.forwarded.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    const LEADER: NodeId = NodeId(3);

    fn begin(relays: &Relays, id: u64) -> Origin {
        let origin = Origin { node: NodeId(1), id: RequestId(id * 10) };
        let permit = Admission::new(1 << 20).admit(1).unwrap();
        relays.begin(RequestId(id), origin, LEADER, permit);
        origin
    }

    #[test]
    fn an_answer_goes_back_once_and_only_from_the_node_that_was_asked() {
        let relays = Relays::default();
        let origin = begin(&relays, 1);
        assert_eq!(relays.answered(NodeId(2), RequestId(1)), None);
        assert_eq!(relays.answered(LEADER, RequestId(1)), Some(origin));
        assert_eq!(relays.answered(LEADER, RequestId(1)), None);
    }

    #[test]
    fn requests_to_a_node_that_is_gone_end_and_leave_nothing_behind() {
        let relays = Relays::default();
        let origin = begin(&relays, 1);
        assert_eq!(relays.disconnected(NodeId(2)), []);
        assert_eq!(relays.disconnected(LEADER), [origin]);
        begin(&relays, 2);
        let state = relays.0.lock();
        assert_eq!((state.waiting.len(), state.forwarded.len()), (1, 1));
    }

    #[test]
    fn requests_that_are_never_answered_are_forgotten() {
        let relays = Relays::default();
        begin(&relays, 1);
        let mut state = relays.0.lock();
        state.forget_old(Instant::now() + RELAY_LIMIT * 2);
        assert!(state.waiting.is_empty() && state.forwarded.is_empty());
    }
}
