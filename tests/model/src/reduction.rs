//! What the model leaves out, since it makes no difference to what can go wrong. Each omission has
//! its reason here. A test goes through small bounds without most of them and finds the same.
//!
//! Two are always made:
//! - **The names of the nodes.** The first leader is node 1, and node 2 is one of its voters.
//! - **Candidates that don't know yet.** A candidate is elected along with the vote that makes its
//!   majority, or never: until it knows, its replica does nothing, and what others do in the
//!   meantime they can do after it as well, with more messages to choose from.

use crate::network::Message;
use crate::state::{Node, Role, State, peers};
use logboat_raft::{BootCount, NodeId};

/// Whether giving support to `node` can matter: nobody binds itself to a node that has never led,
/// and what is given sooner can as well be given later.
pub(crate) fn support_matters(state: &State, node: NodeId) -> bool {
    state.network.elected().any(|(_, leader, _)| leader == node)
}

/// Whether it can matter that `supporter` ends its support for `node`. Support that binds nobody
/// can as well end right after the next bond that rests on it, which only adds an answer.
pub(crate) fn end_matters(state: &State, supporter: NodeId, node: NodeId) -> bool {
    state.bound(supporter).is_some_and(|bond| bond.leader == node)
}

/// Whether the election between these two states goes by the names that the nodes are given.
pub(crate) fn well_named(before: &State, after: &State) -> bool {
    let first = before.network.elected().next().is_none();
    !first
        || after.network.elected().all(|(term, leader, _)| {
            let vote = Message::Vote { term, from: NodeId(2), to: NodeId(1) };
            leader == NodeId(1) && after.network.has(&vote)
        })
}

/// Takes out of the network what nobody will take notice of any more, but for rounds that are over
/// if `keep_rounds`.
pub(crate) fn forget(state: &mut State, keep_rounds: bool) {
    let nodes = state.nodes;
    let lowest = nodes.iter().map(|node| node.replica.term).min().unwrap_or_default();
    state.network.retain(|message| match *message {
        // A request counts for those who have not yet voted in its term, and one of a transfer for
        // what is said about the vote later.
        Message::RequestVote { term, from, transfer, .. } => {
            let open = |node: &Node| {
                node.replica.term < term || node.replica.term == term && node.replica.vote.is_none()
            };
            transfer || peers(from).any(|peer| open(&nodes[peer]))
        }
        // A vote counts while its candidate stands, and beside a bond that was there before it.
        Message::Vote { term, from, to } => {
            let candidate = nodes[to].replica;
            candidate.term == term && candidate.role == Role::Candidate
                || nodes[from].replica.bond.is_some_and(|bond| bond.term < term)
        }
        // What a leader sends counts for those who have entered no later term.
        Message::Fortify { term, .. } | Message::TimeoutNow { term, .. } => term >= lowest,
        // What a leader has been told counts while it leads.
        Message::Fortified { term, .. } => nodes.iter().any(|node| {
            node.replica.term == term && matches!(node.replica.role, Role::Leader { .. })
        }),
        // A round counts while a read waits for it.
        Message::Confirm { from: node, run, round }
        | Message::Confirmed { to: node, run, round, .. } => {
            keep_rounds || awaits(&nodes[node], run, round)
        }
        // The history that the properties speak of.
        Message::Append { .. } | Message::Appended { .. } => true,
    });
}

fn awaits(node: &Node, of: BootCount, at: u64) -> bool {
    node.run == of && node.replica.role.read().is_some_and(|read| read.round == at)
}
