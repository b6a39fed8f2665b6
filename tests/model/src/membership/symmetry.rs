//! States that differ by the names of the nodes only are one.

use super::log::{Log, Member};
use super::state::{Bond, History, Node, Replica, State};
use crate::ids::NodeId;
use crate::state::PerNode;
use crate::symmetry::digest;

/// The state with its nodes in an order that depends on what they are and not on their names. Nodes
/// that this can't tell apart keep their order, so that a set may have more than one
/// representative, which costs time but hides nothing.
pub fn representative<const N: usize>(state: &State<N>) -> State<N> {
    let first = PerNode(std::array::from_fn(|_| 0));
    let looks = looks(state, &looks(state, &first));
    let mut order: Vec<_> = State::<N>::ids().map(|node| (looks[node], node)).collect();
    if order.is_sorted() {
        return state.clone();
    }
    order.sort_unstable();
    let mut names = PerNode([NodeId(0); N]);
    for ((_, old), new) in order.iter().zip(State::<N>::ids()) {
        names[*old] = new;
    }
    renamed(state, &names)
}

/// What each node is among the others, of which each is known by how it looked before.
fn looks<const N: usize>(state: &State<N>, before: &PerNode<u64, N>) -> PerNode<u64, N> {
    let look = |own: NodeId| {
        let of =
            |member: Member| (if member.node == own { 1 } else { before[member.node] }, member.id);
        let set = |is_in: &dyn Fn(NodeId) -> bool| {
            let of = |node| if is_in(node) { digest(before[node]) } else { 0 };
            (is_in(own), State::<N>::ids().map(of).fold(0, u64::wrapping_add))
        };
        let log = |log: &Log| {
            let changes = log.changes().map(|(id, it)| {
                let halves = [it.voters, it.outgoing, it.learners];
                digest((id, halves.map(|half| set(&|node| half.has(node)))))
            });
            digest((log.last(), changes.collect::<Vec<_>>()))
        };
        let replica = |it: &Replica| {
            let bond = it.bond.map(|bond| (of(bond.leader), bond.term));
            let logs = (log(&it.log), it.reverted.as_ref().map(log));
            digest((it.id, it.term, it.vote.map(of), bond, logs, it.role))
        };
        let node = &state.nodes[own];
        let supported = |peer| state.nodes[peer].supports.has(own);
        let supports = (set(&|peer| node.supports.has(peer)), set(&supported));
        let said = state.sent.iter().filter(|message| message.from().node == own);
        let said = said.map(|message| {
            let bare = message.bare();
            digest((bare, message.log().as_ref().map(log), message.to().map(of)))
        });
        let said = said.fold(0, u64::wrapping_add);
        digest((supports, node.least, node.replica.as_ref().map(replica), said))
    };
    let mut looks = PerNode([0; N]);
    for node in State::<N>::ids() {
        looks[node] = look(node);
    }
    looks
}

/// The same state among nodes that have other names.
fn renamed<const N: usize>(state: &State<N>, names: &PerNode<NodeId, N>) -> State<N> {
    let name = |node| names[node];
    let member = |it: Member| Member { node: name(it.node), id: it.id };
    let replica = |it: Replica| Replica {
        vote: it.vote.map(member),
        bond: it.bond.map(|it| Bond { leader: member(it.leader), term: it.term }),
        log: it.log.renamed(name),
        reverted: it.reverted.map(|log| log.renamed(name)),
        ..it
    };
    let History { elected, committed } = &state.history;
    let elected = elected.iter().map(|(term, it, log)| (*term, member(*it), log.renamed(name)));
    let committed = committed.iter().map(|(term, log)| (*term, log.renamed(name)));
    let history = History { elected: elected.collect(), committed: committed.collect() };
    let mut new = State { nodes: PerNode::default(), sent: state.sent.renamed(name), history };
    for id in State::<N>::ids() {
        let Node { supports, least, replica: old } = state.nodes[id];
        let supports = supports.renamed(name);
        new.nodes[name(id)] = Node { supports, least, replica: old.map(replica) };
    }
    new
}
