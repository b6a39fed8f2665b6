//! The interface of the Redis front to the store behind it: ranges of the key space, each of which
//! carries out commands and answers queries.

use crate::layout::Partition;
use crate::limits::Limits;
use crate::topology::{ClientAddress, Topology};
use bytes::Bytes;
use logboat::NodeId;
pub use logboat_router::Access;
use std::fmt;
use std::future::Future;

/// A range by its place in key order: the range with the smallest keys is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub usize);

impl fmt::Display for RangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request to a range.
#[derive(Clone, Debug)]
pub struct StoreRequest {
    /// The range.
    pub range: RangeId,
    /// What is done.
    pub access: Access,
    /// The command or the query.
    pub body: Bytes,
}

/// What became of a request, with its place among those that were made together.
pub type StoreAnswer = (usize, Result<Bytes, BackendError>);

/// The answers to requests that were made together. Dropping it forgets the requests. Commands may
/// take effect all the same.
pub trait StoreAnswers: Send {
    /// Waits for answers. Nearly always all come at once. `None` when all have come. A wait that is
    /// abandoned loses no answer.
    fn next(&mut self) -> impl Future<Output = Option<Vec<StoreAnswer>>> + Send;

    /// Says that the caller has waited for a while, and takes answers as they come from now on. To
    /// be called every now and then.
    fn hurry(&mut self);
}

/// A sharded store. Commands and queries are encoded [`crate::kv::Command`]s and
/// [`crate::kv::Query`]s, the answers encoded [`crate::kv::Answer`]s; keys are stored keys.
pub trait Backend: Clone + Send + Sync + 'static {
    /// How clients' keys are laid out.
    fn partition(&self) -> Partition;

    /// What clients may send and get.
    fn limits(&self) -> Limits;

    /// On how many nodes beside the first every acknowledged write is sure to be.
    fn sure_copies(&self) -> usize;

    /// Whether there is a cluster that clients may ask about.
    fn has_topology(&self) -> bool {
        false
    }

    /// What clients of a cluster are told; nothing where there is no cluster.
    fn topology(&self) -> impl Future<Output = Option<Topology>> + Send {
        std::future::ready(None)
    }

    /// Where clients reach the node that leads `range`, if that is not this one, and known.
    fn led_elsewhere(&self, range: RangeId) -> Option<ClientAddress> {
        let _ = range;
        None
    }

    /// The number of ranges; at least one. They cover the whole key space.
    fn ranges(&self) -> usize;

    /// The range that holds `stored_key`.
    fn range_of(&self, stored_key: &[u8]) -> RangeId;

    /// The first stored key of `range`, and the first one behind it (none for the last range).
    fn bounds(&self, range: RangeId) -> (Bytes, Option<Bytes>);

    /// The answers to [`requests`](Self::request_all) that are under way.
    type Answers: StoreAnswers;

    /// Makes requests to any ranges together. Commands of one range take effect in their order. Of
    /// a command and a query, or of requests to two ranges, either may come first.
    fn request_all(&self, requests: Vec<StoreRequest>) -> Self::Answers;

    /// Carries out a command; resolves once it is durable on a majority and applied.
    fn propose(
        &self,
        range: RangeId,
        command: Bytes,
    ) -> impl Future<Output = Result<Bytes, BackendError>> + Send;

    /// Answers a query, linearizably: with everything that was acknowledged before the call.
    fn read(
        &self,
        range: RangeId,
        query: Bytes,
    ) -> impl Future<Output = Result<Bytes, BackendError>> + Send;

    /// The same, by the replica on this node if there is one.
    fn read_here(
        &self,
        range: RangeId,
        query: Bytes,
    ) -> impl Future<Output = Result<Bytes, BackendError>> + Send {
        self.read(range, query)
    }
}

/// Why a command or a query was not answered. The texts are what clients see:
///
/// | error | reply | may the command have taken effect? |
/// | --- | --- | --- |
/// | `Busy` | `-TRYAGAIN` | no |
/// | `LogFull` | `-TRYAGAIN` | no |
/// | `Unavailable` | `-CLUSTERDOWN` | no |
/// | `LeaderUnreachable` | `-CLUSTERDOWN` | no |
/// | `OutcomeUnknown` | `-UNKNOWN` | perhaps |
/// | `TooLarge` | `-ERR` | no |
/// | `AnswerTooLarge` | `-ERR` | yes |
/// | `NoRoomForAnswer` | `-ERR` | yes |
/// | `Stopped` | `-ERR` | no |
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The group refuses work until it has caught up with what it has.
    #[error("TRYAGAIN the key's group is busy; the command had no effect")]
    Busy,
    /// The disk of the leader's node is full, so that only what frees space is written.
    #[error(
        "TRYAGAIN the log of the key's leader finds no room on its disk; the command had no effect"
    )]
    LogFull,
    /// The group has no leader that a majority follows.
    #[error("CLUSTERDOWN the key's group has no leader; the command had no effect")]
    Unavailable,
    /// The group has a leader that neither this node nor any node that it reaches gets to.
    #[error("CLUSTERDOWN the key's leader, node {0}, is unreachable; the command had no effect")]
    LeaderUnreachable(NodeId),
    /// The command was proposed, and no answer came.
    #[error("UNKNOWN outcome unknown: no answer in time; the command may have taken effect")]
    OutcomeUnknown,
    /// The command does not fit the log.
    #[error("ERR command of {bytes} bytes exceeds the limit of {limit} bytes; it had no effect")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The answer does not fit a frame between this node and the group's leader.
    #[error("ERR answer of {bytes} bytes exceeds the limit of {limit} bytes; ask for less at once")]
    AnswerTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest possible.
        limit: usize,
    },
    /// The connection to the group's leader has as much to carry as it may.
    #[error("ERR answer of {bytes} bytes finds no room between nodes; ask again, or for less")]
    NoRoomForAnswer {
        /// Its length.
        bytes: usize,
    },
    /// The node is shutting down.
    #[error("ERR the node is shutting down; the command had no effect")]
    Stopped,
}
