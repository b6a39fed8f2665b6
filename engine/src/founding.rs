//! The founding of a node: on an empty directory it promises nothing until its peers have recorded
//! it.
//!
//! A directory that was emptied looks like a new one, and a service manager starts both by the same
//! command. But a node whose directory is lost was recorded by its peers, and they refuse another
//! directory under its id. So a node waits until every other node of the cluster has durably
//! recorded its directory as the first under its id. One surviving record stops an emptied disk.

use crate::config::NodeConfig;
use crate::error::ConfigError;
use crate::liveness::manager::LivenessManager;
use crate::worker::event::Event;
use crate::worker::inbox::Workers;
use logboat_raft::{Incarnation, NodeId};
use logboat_storage::BootFile;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the node says for whom it waits.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Which nodes a node on an empty directory waits for, before it promises anything. It does not
/// matter to a node that was founded before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Founding {
    /// All others must have recorded it.
    #[default]
    All,
    /// All others but these, which are a minority and are not there yet. Whoever says so answers
    /// for it that none of them remembers a directory of this node that was lost.
    Without(BTreeSet<NodeId>),
    /// Nobody: the cluster has recorded this incarnation under the node's id before the node starts
    /// for the first time, and never gives that id to another. A directory that is made gets this
    /// incarnation, and one with another is refused. Whoever says so answers for it that the record
    /// is as durable as what the cluster acknowledges.
    Joined(Incarnation),
}

impl Founding {
    /// The incarnation that the directory has, if that was recorded before it is made.
    pub(crate) const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Joined(incarnation) => Some(*incarnation),
            Self::All | Self::Without(_) => None,
        }
    }

    /// The nodes that must record the node of this configuration.
    pub(crate) fn awaited(&self, config: &NodeConfig) -> Result<BTreeSet<NodeId>, ConfigError> {
        let members = config.members.keys().copied();
        let others = members.filter(|member| *member != config.node);
        let left_out = match self {
            Self::All => return Ok(others.collect()),
            Self::Joined(_) => return Ok(BTreeSet::new()),
            Self::Without(left_out) => left_out,
        };
        if left_out.contains(&config.node) {
            return Err(ConfigError::FoundedWithoutItself(config.node));
        }
        if let Some(unknown) = left_out.iter().find(|node| !config.members.contains_key(node)) {
            return Err(ConfigError::FoundedWithoutStranger(*unknown));
        }
        let (left_out_count, members) = (left_out.len(), config.members.len());
        if 2 * left_out_count >= members {
            return Err(ConfigError::FoundedWithoutMajority { left_out: left_out_count, members });
        }
        Ok(others.filter(|node| !left_out.contains(node)).collect())
    }
}

/// How far the founding of a node has come: what it waits for, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundingProgress {
    waiting: BTreeSet<NodeId>,
}

impl FoundingProgress {
    /// A new node, which waits for these to record it.
    #[must_use]
    pub const fn new(awaited: BTreeSet<NodeId>) -> Self {
        Self { waiting: awaited }
    }

    /// A peer has recorded this node durably as the first under its id.
    pub fn recorded_by(&mut self, peer: NodeId) {
        self.waiting.remove(&peer);
    }

    /// Whether all have: the node may be founded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Founds a node when its peers have recorded it.
pub(crate) struct Founder {
    boot: Arc<BootFile>,
    liveness: Arc<LivenessManager>,
    workers: Workers,
    state: Mutex<State>,
}

struct State {
    progress: FoundingProgress,
    founded: bool,
    /// When the node says again for whom it waits.
    next_report: Instant,
}

impl Founder {
    /// Begins to wait for those whom the configuration tells to, unless the node is founded.
    pub(crate) fn begin(
        boot: Arc<BootFile>,
        config: &NodeConfig,
        liveness: Arc<LivenessManager>,
        workers: Workers,
    ) -> Result<Self, ConfigError> {
        let founded = boot.record().founded;
        let progress = FoundingProgress::new(config.founding.awaited(config)?);
        let next_report = Instant::now() + REPORT_INTERVAL;
        if founded && matches!(config.founding, Founding::Without(_)) {
            tracing::info!("node {} is founded already, and waits for nobody", config.node);
        } else if !founded && !progress.is_complete() {
            let waiting = list(&progress.waiting);
            tracing::info!("node {} is new: it waits to be recorded by {waiting}", config.node);
        }
        let founder = Self {
            boot,
            liveness,
            workers,
            state: Mutex::new(State { progress, founded, next_report }),
        };
        founder.found_if_complete(&mut founder.state.lock());
        Ok(founder)
    }

    /// The nodes that have not recorded this one yet, while it waits for that.
    pub(crate) fn waiting_for(&self) -> Vec<NodeId> {
        let state = self.state.lock();
        let waiting = state.progress.waiting.iter().filter(|_| !state.founded);
        waiting.copied().collect()
    }

    /// A peer has recorded this node durably.
    pub(crate) fn recorded_by(&self, peer: NodeId) {
        let mut state = self.state.lock();
        state.progress.recorded_by(peer);
        self.found_if_complete(&mut state);
    }

    /// Says now and then for whom the node waits.
    pub(crate) fn tick(&self) {
        let mut state = self.state.lock();
        if state.founded || Instant::now() < state.next_report {
            return;
        }
        state.next_report = Instant::now() + REPORT_INTERVAL;
        if !state.progress.is_complete() {
            let waiting = list(&state.progress.waiting);
            tracing::warn!("this node is new and promises nothing: {waiting} must record it first");
        }
        self.found_if_complete(&mut state);
    }

    /// The node goes to work when its directory says durably that it is founded.
    fn found_if_complete(&self, state: &mut State) {
        if state.founded || !state.progress.is_complete() {
            return;
        }
        if let Err(error) = self.boot.found() {
            return tracing::error!("noting that this node is founded, to be tried again: {error}");
        }
        state.founded = true;
        tracing::info!("this node is founded: its peers have recorded it");
        self.liveness.found();
        self.workers.iter().for_each(|worker| worker.post(Event::Founded));
    }
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    nodes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(founding: &Founding, members: u64) -> Result<Vec<u64>, String> {
        let members = (1..=members).map(|node| (NodeId(node), "127.0.0.1:0".to_owned()));
        let config = NodeConfig::new(NodeId(1), members.collect(), "data").unwrap();
        let awaited = founding.awaited(&config).map_err(|error| error.to_string())?;
        Ok(awaited.into_iter().map(|node| node.0).collect())
    }

    fn without(nodes: &[u64]) -> Founding {
        Founding::Without(nodes.iter().copied().map(NodeId).collect())
    }

    #[test]
    fn all_others_are_waited_for_but_a_minority_that_was_named() {
        assert_eq!(awaited(&Founding::All, 1), Ok(vec![]));
        assert_eq!(awaited(&Founding::All, 3), Ok(vec![2, 3]));
        assert_eq!(awaited(&without(&[3]), 3), Ok(vec![2]));
        assert_eq!(awaited(&without(&[2, 5]), 5), Ok(vec![3, 4]));
    }

    #[test]
    fn who_can_not_be_left_out_is_named() {
        for (founding, members, text) in [
            (without(&[1]), 3, "without itself"),
            (without(&[7]), 3, "node 7"),
            (without(&[2, 3]), 3, "a minority"),
            (without(&[2]), 2, "a minority"),
        ] {
            let error = awaited(&founding, members).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_node_is_complete_when_the_last_has_recorded_it() {
        let mut progress = FoundingProgress::new([NodeId(2), NodeId(3)].into());
        for peer in [2, 2, 7] {
            progress.recorded_by(NodeId(peer));
            assert!(!progress.is_complete());
        }
        progress.recorded_by(NodeId(3));
        assert!(progress.is_complete());
    }
}
