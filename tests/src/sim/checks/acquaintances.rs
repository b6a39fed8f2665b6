//! What nodes must know of each other: who is founded, and how far the log of each was durable, as
//! the others were told. The simulation notes that by itself, so that a node which forgets it, or
//! does not look, is found.

use super::Checks;
use logboat_raft::{LogPosition, NodeId, ReadToken};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More questions than a run of a node ever numbers here.
const MOST_QUESTIONS: u64 = 1 << 20;

/// What is known of that.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    /// The nodes that may promise anything.
    founded: BTreeSet<NodeId>,
    /// How far the log of a node was durable, as another one was told (the first of the two) before
    /// it made durable what it knew.
    ends: HashMap<(NodeId, NodeId), LogPosition>,
    /// Where the numberings of each node's questions have begun.
    numberings: BTreeMap<NodeId, Vec<ReadToken>>,
}

impl Checks {
    /// A node is founded, and recorded by all others but those that it does not wait for.
    pub(in crate::sim) fn founded(&mut self, node: NodeId) {
        self.acquaintances.founded.insert(node);
    }

    /// Whether a node may promise anything.
    pub(in crate::sim) fn is_founded(&self, node: NodeId) -> bool {
        self.acquaintances.founded.contains(&node)
    }

    /// A node numbers questions from here on, which others answer by number alone. No answer may
    /// be taken for that to another question, however late it comes.
    pub(in crate::sim) fn numbers_from(&mut self, node: NodeId, token: ReadToken) {
        let before = self.acquaintances.numberings.entry(node).or_default();
        let is_apart = |other: &ReadToken| token.0.abs_diff(other.0) > MOST_QUESTIONS;
        assert!(before.iter().all(is_apart), "{node} numbers questions as it did before");
        before.push(token);
    }

    /// A node has to know from now on that the log `of` another was durable up to this `end`.
    pub(in crate::sim) fn knows_end(&mut self, node: NodeId, of: NodeId, end: LogPosition) {
        let known = self.acquaintances.ends.entry((node, of)).or_default();
        *known = end.max(*known);
    }

    /// How far a node has to know that the log of another was durable.
    pub(in crate::sim) fn known_end(&self, node: NodeId, of: NodeId) -> LogPosition {
        self.acquaintances.ends.get(&(node, of)).copied().unwrap_or_default()
    }
}
