//! Requests of callers to a group: to its replica here, or forwarded to one on another node.

pub(crate) mod administration;
pub(crate) mod answers;
pub(crate) mod encoding;
pub(crate) mod kind;

use crate::error::RequestError;
use crate::request::administration::{ChangeRequest, encode_change_request, encode_transfer};
use crate::request::encoding::{count_of_list, decode_replies, encode_list};
use crate::request::kind::RequestKind;
use bytes::Bytes;
use logboat_raft::{Change, LogId, NodeId, ReadMode};

/// A request to a group. Clones share its bytes, since a caller that looks for the leader sends the
/// same request to one replica after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    kind: RequestKind,
    body: Bytes,
}

impl GroupRequest {
    /// To replicate `command`. The answer is the one that the state machine returned when it
    /// applied the command.
    #[must_use]
    pub const fn propose(command: Bytes) -> Self {
        Self { kind: RequestKind::Propose, body: command }
    }

    /// To replicate `commands`, which become neighbours in the log in this order. The answer holds
    /// one for each of them, which [`outcomes`](Self::outcomes) takes apart.
    #[must_use]
    pub fn propose_all(commands: &[impl AsRef<[u8]>]) -> Self {
        Self { kind: RequestKind::ProposeAll, body: encode_list(commands).into() }
    }

    /// To answer `query` linearizably. `mode` says which replica serves it, and on what grounds.
    #[must_use]
    pub const fn read(mode: ReadMode, query: Bytes) -> Self {
        Self { kind: RequestKind::Read(mode), body: query }
    }

    /// To change the members of the group, if they are those of the entry `from`, or whoever they
    /// are.
    pub(crate) fn change(from: Option<LogId>, changes: &[Change]) -> Self {
        let request = ChangeRequest::Make { from, changes: changes.to_vec() };
        Self { kind: RequestKind::Change, body: encode_change_request(&request) }
    }

    /// To say whether a learner could be promoted.
    pub(crate) fn check_learner(node: NodeId) -> Self {
        let body = encode_change_request(&ChangeRequest::CheckLearner(node));
        Self { kind: RequestKind::Change, body }
    }

    /// To hand leadership to `to`.
    pub(crate) fn transfer(to: NodeId) -> Self {
        Self { kind: RequestKind::Transfer, body: encode_transfer(to) }
    }

    /// To answer `query` from the state of the replica that is asked, whatever it misses.
    pub(crate) const fn read_local(query: Bytes) -> Self {
        Self { kind: RequestKind::ReadLocal, body: query }
    }

    /// The kind of the request.
    #[must_use]
    pub const fn kind(&self) -> RequestKind {
        self.kind
    }

    /// The command, the list of commands or the query.
    pub(crate) const fn body(&self) -> &Bytes {
        &self.body
    }

    /// The outcome of each command of a [`propose_all`](Self::propose_all), taken from its answer.
    /// An answer that does not fit the request leaves all outcomes unknown
    /// ([`RequestError::TimedOut`]).
    #[must_use]
    pub fn outcomes(&self, answer: Bytes) -> Vec<Result<Bytes, RequestError>> {
        decode_replies(answer, count_of_list(&self.body))
    }
}
