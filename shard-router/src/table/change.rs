//! Changes of the table, and what comes of them.

use crate::plan::Plan;
use crate::table::record::{Members, NodeCard, NodeState};
use crate::table::settings::ClusterSettings;
use crate::wire;
use bytes::Bytes;
use logboat::{ClusterId, GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The version of the encoding of commands, and of the table.
pub(crate) const ENCODING: u8 = 3;

/// A change, with what the history says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub(crate) encoding: u8,
    pub(crate) change: Change,
    /// Why it is made. Not in the history if that is empty.
    #[serde(default)]
    pub(crate) why: String,
    /// When it was proposed, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) at_ms: u64,
}

/// One change of the table. None carries the whole of it: the first one says how it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Makes the cluster. Only the first one counts.
    Found(Foundation),
    /// Gives a node its id. The same incarnation has the same id, however often it asks.
    Join {
        /// What tells its directory from all others.
        incarnation: u64,
        /// Where it is.
        card: NodeCard,
    },
    /// A node has started, and is there.
    Announce {
        /// That node.
        #[serde(with = "wire::node")]
        node: NodeId,
        /// What tells its directory from all others.
        incarnation: u64,
        /// Where it is.
        card: NodeCard,
    },
    /// Wants something else of a node whose record has not changed since `based_on`.
    SetState {
        /// That node.
        #[serde(with = "wire::node")]
        node: NodeId,
        /// The version of the table that changed its record last.
        based_on: u64,
        /// What is wanted.
        state: NodeState,
    },
    /// A node can't go on under its id: it is lost, and others have a majority of each group.
    Resign {
        /// That node.
        #[serde(with = "wire::node")]
        node: NodeId,
        /// The version of the table that changed its record last.
        based_on: u64,
    },
    /// Has a node out of the table that holds nothing.
    Forget {
        /// That node.
        #[serde(with = "wire::node")]
        node: NodeId,
        /// The version of the table that changed its record last.
        based_on: u64,
    },
    /// Groups have had other members since later entries of their logs than the table knows.
    Members {
        /// The groups, with their members.
        groups: Vec<(u64, Members)>,
    },
    /// A replica of a group is to move. One move of a group at a time.
    WantMove {
        /// That group.
        #[serde(with = "wire::group")]
        group: GroupId,
        /// The node that has the replica.
        #[serde(with = "wire::node")]
        from: NodeId,
        /// The node that is to have it.
        #[serde(with = "wire::node")]
        to: NodeId,
    },
    /// The move of a group has ended, or is not wanted any more.
    EndMove {
        /// That group.
        #[serde(with = "wire::group")]
        group: GroupId,
    },
    /// Wants something else of placement, if the settings have not changed since `based_on`.
    SetSettings {
        /// The version of the table that changed the settings last.
        based_on: u64,
        /// What is wanted.
        settings: ClusterSettings,
    },
    /// Changes nothing but the history.
    Notes(Vec<Note>),
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub(crate) what: String,
    pub(crate) why: String,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// How a cluster is made: the ranges follow from it. What it means must never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foundation {
    pub(crate) layout: String,
    pub(crate) groups: Option<usize>,
    pub(crate) edge_bits: u32,
    #[serde(with = "wire::keys")]
    pub(crate) split_keys: Option<Vec<Bytes>>,
    pub(crate) replicas: usize,
    pub(crate) settings: ClusterSettings,
    /// The nodes of the cluster, in order, with where their peers reach them.
    pub(crate) nodes: Vec<(u64, String)>,
    /// The id that was drawn for the cluster. Of foundations that were proposed at once, the one
    /// that is committed first counts, and so does its id.
    #[serde(default)]
    pub(crate) cluster: u64,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was made.
    Done {
        /// The version of the table now.
        version: u64,
        /// The node that it is about, if it is about one.
        node: Option<u64>,
    },
    /// All is as it asks for.
    Unchanged {
        /// The version of the table.
        version: u64,
        /// The node that it is about, if it is about one.
        node: Option<u64>,
    },
    /// What it is based on has changed.
    Conflict,
    /// It makes no sense.
    Refused(String),
}

impl Command {
    pub(crate) fn new(change: Change, why: impl Into<String>) -> Self {
        Self::at(now_ms(), change, why)
    }

    /// A change that is proposed at this time, in milliseconds since 1970.
    pub fn at(at_ms: u64, change: Change, why: impl Into<String>) -> Self {
        Self { encoding: ENCODING, change, why: why.into(), at_ms }
    }

    /// The bytes that are proposed.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("its keys are strings").into()
    }

    /// None if it is of a version that this build does not know, or no command at all.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|it: &Self| it.encoding == ENCODING)
    }
}

impl Note {
    pub(crate) fn new(what: String, why: String) -> Self {
        Self { what, why, at_ms: now_ms() }
    }
}

/// The time, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Foundation {
    /// A cluster of these nodes, each with where its peers reach it, for which this id was drawn.
    pub fn new(
        cluster: ClusterId,
        plan: &Plan,
        settings: &ClusterSettings,
        nodes: impl Iterator<Item = (NodeId, String)>,
    ) -> Self {
        Self {
            layout: plan.layout.clone(),
            groups: plan.groups,
            edge_bits: plan.edge_bits,
            split_keys: plan.split_keys.clone(),
            replicas: plan.replicas,
            settings: settings.clone(),
            nodes: nodes.map(|(node, address)| (node.0, address)).collect(),
            cluster: cluster.0,
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            layout: self.layout.clone(),
            keeps_layout: false,
            groups: self.groups,
            edge_bits: self.edge_bits,
            split_keys: self.split_keys.clone(),
            replicas: self.replicas,
        }
    }
}

impl Outcome {
    /// The bytes of an answer.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("its keys are strings").into()
    }

    /// What [`Self::encode`] wrote. None for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
