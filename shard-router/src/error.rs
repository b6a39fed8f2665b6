//! The errors of the router.

use logboat::{ClusterId, GroupError, NodeId};

/// Why a request has no answer. Only after [`RouteError::OutcomeUnknown`],
/// [`RouteError::AnswerTooLarge`] and [`RouteError::NoRoomForAnswer`] may a command have taken
/// effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The leader's node, or this one, has as much work as it may hold.
    #[error("busy: too much work is pending")]
    Busy,
    /// The log of the leader's node has no room: only what frees space is written.
    #[error("the log of the range's leader has no room")]
    LogFull,
    /// No leader was found in time.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// What the last attempt ended with.
        reason: String,
    },
    /// There is a leader, but neither this node nor any node that it reaches could pass the request
    /// on. The command had no effect.
    #[error("node {leader} leads the range and cannot be reached from here")]
    LeaderUnreachable {
        /// The leader's node, as another replica named it.
        leader: NodeId,
    },
    /// The command was handed to a leader and no answer came. It may take effect at any later time,
    /// once, or never.
    #[error("outcome unknown: the leader of the range gave no answer in time")]
    OutcomeUnknown,
    /// The answer does not fit a frame between nodes. A command was applied all the same.
    #[error("an answer of {bytes} bytes is more than nodes exchange, {limit} bytes")]
    AnswerTooLarge {
        /// Its size.
        bytes: usize,
        /// The largest that is possible.
        limit: usize,
    },
    /// The answer found no room on its way, in all the time that a request has. A command was
    /// applied all the same.
    #[error("an answer of {bytes} bytes found no room on its way")]
    NoRoomForAnswer {
        /// Its size.
        bytes: usize,
    },
    /// The command or query is too large.
    #[error("{bytes} bytes are more than the limit of {limit} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why something was not done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// It makes no sense, or must not be done.
    #[error("{0}")]
    Refused(String),
    /// Somebody else has changed the same thing meanwhile.
    #[error("somebody else has changed the same thing meanwhile")]
    Conflict,
    /// The meta group, or the group that it is about, gave no answer.
    #[error(transparent)]
    Unavailable(#[from] RouteError),
}

/// Why bytes or ranges make no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The bytes are not those of a map.
    #[error("not the encoding of a range map")]
    Encoding,
    /// There can't be so many groups.
    #[error("a cluster has from 1 to 65,536 groups, not {0}")]
    Groups(usize),
    /// The ranges don't cover the key space in order.
    #[error("range {number}: {reason}")]
    Range {
        /// The range's place in the map.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Why the router can't start.
#[derive(Debug, thiserror::Error)]
pub enum RouterStartError {
    /// The cluster was made with another plan.
    #[error("this cluster was made with {what} {stored}, not {given}; that can't be changed later")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What the cluster has.
        stored: String,
        /// What this node's plan has.
        given: String,
    },
    /// The plan makes no map.
    #[error(transparent)]
    Plan(#[from] MapError),
    /// A replica can't start.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// There is no thread to start replicas on.
    #[error("no thread to start replicas on: {0}")]
    Thread(std::io::Error),
    /// A state machine could not be made.
    #[error("a panic where the state machine of a range is made")]
    Panicked,
    /// The meta group refuses the plan.
    #[error("agreeing on the ranges: {0}")]
    Meta(String),
    /// The node belongs to another cluster than the table is of, or that can't be noted.
    #[error("the table is of cluster {cluster}: {source}")]
    Cluster {
        /// The id that was drawn for the cluster of the table.
        cluster: ClusterId,
        /// Why the node does not go along.
        source: std::io::Error,
    },
    /// What the node keeps of the cluster's table can't be read.
    #[error("{0}")]
    Stored(String),
    /// The node is not part of the cluster any more.
    #[error("{0}")]
    Expelled(String),
}
