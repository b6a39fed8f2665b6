//! The table of a cluster: its nodes, its ranges, and what was done to it lately.
//!
//! The table is the state of a replicated group, the meta group. It changes by [commands](Change),
//! each of which says what it is based on. Nodes that hold no replica of the meta group get the
//! commands from others and apply them as well ([`Feed`]), so all tables of a version are the same.

mod change;
mod feed;
mod ranges;
mod record;
mod settings;

pub(crate) use self::change::ENCODING;
pub use self::change::{Change, Command, Foundation, Note, Outcome};
pub use self::feed::{Feed, News};
pub use self::ranges::Ranges;
pub use self::record::{
    HistoryEntry, Members, NodeCard, NodeRecord, NodeState, RangeRecord, WantedMove,
};
pub use self::settings::ClusterSettings;
use crate::error::MapError;
use crate::map::{META_GROUP, Range, RangeMap};
use logboat::{ClusterId, GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// How many entries the history has at the most.
const HISTORY: usize = 500;

/// What a cluster knows of itself. Clones share most of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// How many changes were made. There is nothing in a table of version 0.
    version: u64,
    /// The id that was drawn for the cluster, or zero.
    #[serde(default)]
    cluster: u64,
    layout: String,
    /// How many replicas each group is to have.
    replicas: usize,
    #[serde(with = "crate::wire::nodes")]
    founders: Vec<NodeId>,
    /// The id that the next node gets. None is ever given twice.
    next_node: u64,
    nodes: Arc<BTreeMap<u64, NodeRecord>>,
    settings: ClusterSettings,
    /// The version of the table that changed the settings last.
    settings_changed: u64,
    /// The replicas of the meta group.
    meta: Option<Members>,
    /// In the order of their keys.
    ranges: Ranges,
    /// The moves that somebody has asked for, by group.
    moves: Arc<BTreeMap<u64, WantedMove>>,
    /// The nodes that have left, or were lost, when somebody wanted them to leave: they don't join
    /// again by themselves.
    #[serde(default)]
    decommissioned: Arc<BTreeSet<u64>>,
    /// The nodes that have resigned while others had a majority of each group.
    #[serde(default)]
    resigned: Arc<BTreeSet<u64>>,
    /// The incarnations of the nodes that have left, by id. Whose directory is not known is not
    /// among them.
    #[serde(default)]
    left: Arc<BTreeMap<u64, u64>>,
    history: VecDeque<Arc<HistoryEntry>>,
}

impl Table {
    /// How many changes were made; 0 before the cluster is made.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The id that was drawn for the cluster. None before it is made, or if an earlier build has
    /// made it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        (self.cluster != 0).then_some(ClusterId(self.cluster))
    }

    /// The name of the layout of keys.
    #[must_use]
    pub fn layout(&self) -> &str {
        &self.layout
    }

    /// How many replicas each group is to have.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// What a person wants of placement.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// The version of the table that changed the settings last.
    pub(crate) fn settings_changed(&self) -> u64 {
        self.settings_changed
    }

    /// The nodes with which the cluster was made.
    #[must_use]
    pub fn founders(&self) -> &[NodeId] {
        &self.founders
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes.iter().map(|(node, record)| (NodeId(*node), record))
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&node.0)
    }

    /// Whether this node was part of the cluster and is not any more.
    #[must_use]
    pub fn has_left(&self, node: NodeId) -> bool {
        self.version > 0 && node.0 < self.next_node && !self.nodes.contains_key(&node.0)
    }

    /// The incarnation of a node that is part of the cluster, or was. None if its directory is not
    /// known, or it is not this cluster's.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<u64> {
        match self.node(node) {
            Some(record) => record.incarnation,
            None => self.left.get(&node.0).copied(),
        }
    }

    /// Whether somebody wants this node to leave, or has wanted it until it left or was lost.
    pub(crate) fn was_decommissioned(&self, node: NodeId) -> bool {
        let leaves = |record: &NodeRecord| record.state == NodeState::Leaving;
        self.decommissioned.contains(&node.0) || self.node(node).is_some_and(leaves)
    }

    /// Whether this node has resigned while others had a majority of each group: what it had was
    /// redundant then.
    pub(crate) fn has_resigned(&self, node: NodeId) -> bool {
        self.resigned.contains(&node.0)
    }

    /// Whether no group has a replica on a node.
    pub(crate) fn is_empty(&self, node: NodeId) -> bool {
        let ranges = self.ranges.iter().map(|range| &range.members);
        !ranges.chain(&self.meta).any(|members| members.contains(node))
    }

    /// All ranges, in the order of their keys.
    #[must_use]
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// The range that a group holds.
    #[must_use]
    pub fn range_of(&self, group: GroupId) -> Option<&Arc<RangeRecord>> {
        self.ranges.get(self.place(group)?)
    }

    /// The replicas of the meta group.
    #[must_use]
    pub fn meta(&self) -> Option<&Members> {
        self.meta.as_ref()
    }

    /// The replicas of a group, be it the meta group or one that holds a range.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Option<&Members> {
        match group {
            META_GROUP => self.meta(),
            _ => self.range_of(group).map(|range| &range.members),
        }
    }

    /// The moves that somebody has asked for and that have not ended, by group.
    pub fn wanted_moves(&self) -> impl Iterator<Item = (GroupId, WantedMove)> {
        self.moves.iter().map(|(group, wanted)| (GroupId(*group), *wanted))
    }

    /// The move of a group that somebody has asked for.
    #[must_use]
    pub fn wanted_move(&self, group: GroupId) -> Option<WantedMove> {
        self.moves.get(&group.0).copied()
    }

    /// What was done lately, the oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> {
        self.history.iter().map(|entry| &**entry)
    }

    /// The map that requests find their way by.
    ///
    /// # Errors
    /// When the ranges make no map: never, but in a table that somebody else made.
    pub(crate) fn map(&self) -> Result<RangeMap, MapError> {
        let ranges = self.ranges.iter().map(|record| record.range()).collect();
        RangeMap::new(self.version, self.layout.clone(), ranges)
    }

    /// Writes the table.
    pub(crate) fn write(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        serde_json::to_writer(writer, &Stored { encoding: ENCODING, table: Cow::Borrowed(self) })
            .map_err(io::Error::from)
    }

    /// Reads what [`Self::write`] has written.
    pub(crate) fn read(bytes: &[u8]) -> io::Result<Self> {
        let stored: Result<Stored<'_>, _> = serde_json::from_slice(bytes);
        match stored {
            Ok(stored) if stored.encoding == ENCODING => Ok(stored.table.into_owned()),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a table of this version: it is damaged, or an earlier build of Logboat or a \
                 later one wrote it",
            )),
        }
    }

    /// Groups are numbered in the order of their ranges, from 1.
    fn place(&self, group: GroupId) -> Option<usize> {
        let place = usize::try_from(group.0.checked_sub(1)?).ok()?;
        self.ranges.get(place).is_some_and(|range| range.group == group).then_some(place)
    }

    /// Makes a change, or says why not. Nothing but `command` and what is here decides.
    pub(crate) fn apply(&mut self, command: &Command) -> Outcome {
        match self.make(&command.change) {
            Ok(Made { what, node }) => {
                self.version += 1;
                let version = self.version;
                if let Some(node) = node
                    && let Some(record) = Arc::make_mut(&mut self.nodes).get_mut(&node.0)
                {
                    record.changed = version;
                }
                if !command.why.is_empty() && !what.is_empty() {
                    let (at_ms, why) = (command.at_ms, command.why.clone());
                    self.remember(HistoryEntry { version, at_ms, what, why });
                }
                Outcome::Done { version, node: node.map(|node| node.0) }
            }
            Err(outcome) => outcome,
        }
    }

    fn make(&mut self, change: &Change) -> Result<Made, Outcome> {
        if self.version == 0 && !matches!(change, Change::Found(_)) {
            return refused("the cluster has not been made yet");
        }
        match change {
            Change::Found(foundation) => self.found(foundation),
            Change::Join { incarnation, card } => self.join(*incarnation, card),
            Change::Announce { node, incarnation, card } => {
                self.announce(*node, *incarnation, card)
            }
            Change::SetState { node, based_on, state } => self.set_state(*node, *based_on, *state),
            Change::Resign { node, based_on } => self.resign(*node, *based_on),
            Change::Forget { node, based_on } => self.forget(*node, *based_on),
            Change::Members { groups } => self.set_members(groups),
            Change::WantMove { group, from, to } => self.want_move(*group, *from, *to),
            Change::EndMove { group } => self.end_move(*group),
            Change::SetSettings { based_on, settings } => self.set_settings(*based_on, settings),
            Change::Notes(notes) => Ok(self.note(notes)),
        }
    }

    fn end_move(&mut self, group: GroupId) -> Result<Made, Outcome> {
        if !self.moves.contains_key(&group.0) {
            return Err(Outcome::Unchanged { version: self.version, node: None });
        }
        Arc::make_mut(&mut self.moves).remove(&group.0);
        Ok(Made { what: format!("group {group} stays"), node: None })
    }

    fn set_settings(&mut self, based_on: u64, settings: &ClusterSettings) -> Result<Made, Outcome> {
        if self.settings == *settings {
            return Err(Outcome::Unchanged { version: self.version, node: None });
        }
        if self.settings_changed != based_on {
            return Err(Outcome::Conflict);
        }
        self.settings.clone_from(settings);
        self.settings_changed = self.version + 1;
        Ok(Made { what: format!("the settings are {settings}"), node: None })
    }

    /// Takes what was done into the history. The change itself has no entry there.
    fn note(&mut self, notes: &[Note]) -> Made {
        let version = self.version + 1;
        for Note { what, why, at_ms } in notes {
            let (what, why, at_ms) = (what.clone(), why.clone(), *at_ms);
            self.remember(HistoryEntry { version, at_ms, what, why });
        }
        Made { what: String::new(), node: None }
    }

    fn remember(&mut self, entry: HistoryEntry) {
        self.history.push_back(Arc::new(entry));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    fn found(&mut self, foundation: &Foundation) -> Result<Made, Outcome> {
        if self.version > 0 {
            return Err(Outcome::Unchanged { version: self.version, node: None });
        }
        let nodes: Vec<_> = foundation.nodes.iter().map(|(node, _)| NodeId(*node)).collect();
        let Some(last) = nodes.iter().max() else { return refused("there are no nodes") };
        let map = foundation.plan().map(&nodes);
        let map = map.map_err(|error| Outcome::Refused(error.to_string()))?;
        let record = |address: &String| NodeRecord {
            incarnation: None,
            card: NodeCard { peers: address.clone(), ..NodeCard::default() },
            state: NodeState::Up,
            changed: 1,
        };
        let range = |range: &Range| RangeRecord {
            start: range.start.clone(),
            group: range.group,
            founders: range.replicas.clone(),
            members: Members::founders(range.replicas.clone()),
        };
        self.cluster = foundation.cluster;
        self.layout.clone_from(&foundation.layout);
        self.replicas = foundation.replicas;
        self.next_node = last.0 + 1;
        self.settings.clone_from(&foundation.settings);
        self.settings_changed = 1;
        let nodes_by_id = foundation.nodes.iter().map(|(node, address)| (*node, record(address)));
        self.nodes = Arc::new(nodes_by_id.collect());
        self.meta = Some(Members::founders(meta_founders(&nodes)));
        self.ranges = map.ranges().iter().map(range).collect();
        self.founders = nodes;
        Ok(Made { what: "the cluster is made".to_owned(), node: None })
    }

    fn join(&mut self, incarnation: u64, card: &NodeCard) -> Result<Made, Outcome> {
        let version = self.version;
        let known = self.nodes.iter().find(|(_, it)| it.incarnation == Some(incarnation));
        if let Some(node) = known.map(|(node, _)| NodeId(*node)) {
            let record = self.record(node)?;
            if record.state == NodeState::Lost {
                return refused(format!("node {node} was given up for lost"));
            }
            if record.card == *card {
                return Err(Outcome::Unchanged { version, node: Some(node.0) });
            }
            record.card = card.clone();
            return Ok(Made { what: format!("node {node} joins again"), node: Some(node) });
        }
        let node = NodeId(self.next_node);
        self.next_node += 1;
        let (incarnation, card) = (Some(incarnation), card.clone());
        let record = NodeRecord { incarnation, card, state: NodeState::Joining, changed: version };
        Arc::make_mut(&mut self.nodes).insert(node.0, record);
        Ok(Made { what: format!("node {node} gets its id"), node: Some(node) })
    }

    fn announce(
        &mut self,
        node: NodeId,
        incarnation: u64,
        card: &NodeCard,
    ) -> Result<Made, Outcome> {
        let version = self.version;
        let record = self.record(node)?;
        if record.incarnation.is_some_and(|known| known != incarnation) {
            return refused(format!("node {node} is known by another data directory"));
        }
        if record.state == NodeState::Lost {
            return refused(format!("node {node} was given up for lost"));
        }
        let is_new = record.state == NodeState::Joining;
        if !is_new && record.incarnation.is_some() && record.card == *card {
            return Err(Outcome::Unchanged { version, node: Some(node.0) });
        }
        record.incarnation = Some(incarnation);
        record.card.clone_from(card);
        if is_new {
            record.state = NodeState::Up;
        }
        let what = if is_new { "has joined" } else { "says where it is" };
        Ok(Made { what: format!("node {node} {what}"), node: Some(node) })
    }

    fn set_state(
        &mut self,
        node: NodeId,
        based_on: u64,
        state: NodeState,
    ) -> Result<Made, Outcome> {
        let version = self.version;
        let record = self.record(node)?;
        if record.state == state {
            return Err(Outcome::Unchanged { version, node: Some(node.0) });
        }
        if record.changed != based_on {
            return Err(Outcome::Conflict);
        }
        let may_be = match state {
            NodeState::Joining => false,
            // Who joins has to announce itself, and who is lost comes back as another node.
            NodeState::Up | NodeState::Draining => {
                !matches!(record.state, NodeState::Lost | NodeState::Joining)
            }
            NodeState::Leaving => record.state != NodeState::Lost,
            NodeState::Lost => true,
        };
        if !may_be {
            return refused(format!("node {node} is {}, and can't be {state}", record.state));
        }
        let was_to_leave = record.state == NodeState::Leaving;
        record.state = state;
        if was_to_leave && state == NodeState::Lost {
            Arc::make_mut(&mut self.decommissioned).insert(node.0);
        }
        Ok(Made { what: format!("node {node} is {state}"), node: Some(node) })
    }

    fn resign(&mut self, node: NodeId, based_on: u64) -> Result<Made, Outcome> {
        let made = self.set_state(node, based_on, NodeState::Lost)?;
        Arc::make_mut(&mut self.resigned).insert(node.0);
        Ok(made)
    }

    fn forget(&mut self, node: NodeId, based_on: u64) -> Result<Made, Outcome> {
        let record = self.record(node)?;
        if record.changed != based_on {
            return Err(Outcome::Conflict);
        }
        if !matches!(record.state, NodeState::Leaving | NodeState::Lost) {
            return refused(format!("node {node} is {}", record.state));
        }
        let ranges = self.ranges.iter().map(|range| (range.group, &range.members));
        let mut groups = ranges.chain(self.meta.iter().map(|meta| (META_GROUP, meta)));
        if let Some((group, _)) = groups.find(|(_, members)| members.contains(node)) {
            return refused(format!("node {node} holds a replica of group {group}"));
        }
        if self.node(node).is_some_and(|record| record.state == NodeState::Leaving) {
            Arc::make_mut(&mut self.decommissioned).insert(node.0);
        }
        let record = Arc::make_mut(&mut self.nodes).remove(&node.0);
        if let Some(incarnation) = record.and_then(|record| record.incarnation) {
            Arc::make_mut(&mut self.left).insert(node.0, incarnation);
        }
        if self.moves.values().any(|wanted| wanted.to == node) {
            Arc::make_mut(&mut self.moves).retain(|_, wanted| wanted.to != node);
        }
        Ok(Made { what: format!("node {node} has left"), node: Some(node) })
    }

    /// Takes the members of groups, as far as they are news.
    fn set_members(&mut self, groups: &[(u64, Members)]) -> Result<Made, Outcome> {
        for (group, members) in groups {
            if self.members(GroupId(*group)).is_none() {
                return refused(format!("there is no group {group}"));
            } else if members.voters.is_empty() {
                return refused(format!("group {group} has no voters"));
            }
        }
        let mut news = Vec::new();
        for (group, members) in groups {
            let group = GroupId(*group);
            if self.members(group).is_some_and(|known| members.entry <= known.entry) {
                continue;
            }
            let stored = match self.place(group) {
                Some(place) => self.ranges.get_mut(place).map(|range| &mut range.members),
                None => self.meta.as_mut(),
            };
            if let Some(stored) = stored {
                stored.clone_from(members);
                news.push(described(group, members));
            }
        }
        match news.is_empty() {
            true => Err(Outcome::Unchanged { version: self.version, node: None }),
            false => Ok(Made { what: news.join("; "), node: None }),
        }
    }

    fn want_move(&mut self, group: GroupId, from: NodeId, to: NodeId) -> Result<Made, Outcome> {
        let (version, wanted) = (self.version, WantedMove { from, to });
        let taker = self.record(to)?.state;
        let Some(members) = self.members(group) else {
            return refused(format!("there is no group {group}"));
        };
        match self.wanted_move(group) {
            Some(known) if known == wanted => {
                return Err(Outcome::Unchanged { version, node: None });
            }
            Some(WantedMove { from, to }) => {
                return refused(format!("group {group} moves from node {from} to node {to}"));
            }
            None => {}
        }
        if !members.voters.contains(&from) {
            return refused(format!("node {from} holds no voter of group {group}"));
        } else if members.contains(to) {
            return refused(format!("node {to} holds a replica of group {group} already"));
        } else if taker != NodeState::Up {
            return refused(format!("node {to} is {taker}, and takes no replicas"));
        }
        Arc::make_mut(&mut self.moves).insert(group.0, wanted);
        Ok(Made { what: format!("group {group} is to move from {from} to {to}"), node: None })
    }

    fn record(&mut self, node: NodeId) -> Result<&mut NodeRecord, Outcome> {
        let has_left = self.has_left(node);
        // Only a record that is there is about to change.
        let known = self.nodes.contains_key(&node.0).then(|| Arc::make_mut(&mut self.nodes));
        known.and_then(|nodes| nodes.get_mut(&node.0)).ok_or_else(|| {
            Outcome::Refused(match has_left {
                true => format!("node {node} has left the cluster"),
                false => format!("there is no node {node}"),
            })
        })
    }
}

/// A table as it is written.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    encoding: u8,
    table: Cow<'a, Table>,
}

/// A change that was made.
struct Made {
    what: String,
    node: Option<NodeId>,
}

fn described(group: GroupId, members: &Members) -> String {
    let list =
        |nodes: &[NodeId]| -> String { nodes.iter().map(|node| format!(" {node}")).collect() };
    let mut what = format!("group {group} has the voters{}", list(&members.voters));
    if !members.learners.is_empty() {
        what += &format!(" and the learners{}", list(&members.learners));
    }
    what
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Outcome> {
    Err(Outcome::Refused(reason.into()))
}

/// Which of these nodes, sorted by id, found the meta group: five of five and more, else three of
/// three and more, else all.
pub(crate) fn meta_founders(nodes: &[NodeId]) -> Vec<NodeId> {
    let most = if nodes.len() >= 5 { 5 } else { 3 };
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.truncate(most);
    nodes
}

#[cfg(test)]
mod tests;
