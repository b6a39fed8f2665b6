//! States that differ by the names of the nodes only are one. The checker keeps a representative
//! of each such set of states.

use crate::ids::NodeId;
use crate::network::Network;
use crate::state::{Node, PerNode, State, Stored};
use std::hash::{Hash, Hasher};

/// The state with its nodes in an order that depends on what they are and not on their names. Nodes
/// that this can't tell apart keep their order, so that a set may have more than one
/// representative, which costs time but hides nothing.
pub fn representative<const N: usize>(state: &State<N>) -> State<N> {
    let looks = PerNode(state.nodes.0.each_ref().map(look));
    let views = State::<N>::ids().map(|node| view(state, node, &looks));
    let mut order: Vec<_> = views.zip(State::<N>::ids()).collect();
    order.sort_unstable();
    let mut names = PerNode([NodeId(0); N]);
    for ((_, old), new) in order.iter().zip(State::<N>::ids()) {
        names[*old] = new;
    }
    renamed(state, &names)
}

/// The same state among nodes that have other names.
fn renamed<const N: usize>(state: &State<N>, names: &PerNode<NodeId, N>) -> State<N> {
    let name = |node| names[node];
    let stored = |old: &Stored<N>| {
        let mut new = *old;
        for node in State::<N>::ids() {
            new.grants[names[node]] = old.grants[node];
        }
        new.vote = old.vote.map(name);
        if let Some(bond) = &mut new.bond {
            bond.leader = names[bond.leader];
        }
        new
    };
    let mut new = State { nodes: PerNode::default(), network: state.network.renamed(name) };
    for id in State::<N>::ids() {
        let Node { boot, round, role, memory, disk, outbox } = &state.nodes[id];
        new.nodes[names[id]] = Node {
            boot: *boot,
            round: *round,
            role: *role,
            memory: stored(memory),
            disk: disk.as_ref().map(stored),
            outbox: if outbox.is_empty() { Network::default() } else { outbox.renamed(name) },
        };
    }
    new
}

/// What a node is without its peers.
fn look<const N: usize>(node: &Node<N>) -> u64 {
    let Node { boot, round, role, memory, disk, outbox: _ } = node;
    let stored = |it: &Stored<N>| {
        let bond = it.bond.map(|bond| (bond.epoch, bond.term));
        (it.term, it.vote.is_some(), bond, it.log)
    };
    digest((boot, round, role, stored(memory), disk.as_ref().map(stored)))
}

/// What a node is among its peers, of which each is known by its look.
fn view<const N: usize>(state: &State<N>, own: NodeId, looks: &PerNode<u64, N>) -> u64 {
    let of = |node: NodeId| if node == own { 0 } else { looks[node] };
    let stored = |it: &Stored<N>| {
        let given = State::<N>::peers(own).map(|peer| digest((it.grants[peer], looks[peer])));
        let bond = it.bond.map(|bond| of(bond.leader));
        (it.vote.map(of), bond, given.fold(0, u64::wrapping_add))
    };
    let node = &state.nodes[own];
    let received = State::<N>::peers(own).map(|peer| {
        let grant = state.nodes[peer].memory.grants[own];
        digest((grant, looks[peer]))
    });
    let sent = state.network.iter().map(|message| match message.names() {
        (from, None) if from == own => digest((1, message.renamed(|_| NodeId(0)))),
        (from, Some(to)) if from == own => digest((of(to), message.renamed(|_| NodeId(0)))),
        (from, Some(to)) if to == own => digest((2, of(from), message.renamed(|_| NodeId(0)))),
        _ => 0,
    });
    let received = received.chain(sent).fold(0, u64::wrapping_add);
    digest((looks[own], stored(&node.memory), node.disk.as_ref().map(stored), received))
}

pub(crate) fn digest(value: impl Hash) -> u64 {
    let mut digest = Digest(0);
    value.hash(&mut digest);
    digest.finish()
}

/// A quick hash. It only decides about an order.
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }
}
