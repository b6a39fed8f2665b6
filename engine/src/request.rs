//! Requests of callers to a group, and their answers.

pub(crate) mod encoding;

use crate::error::RequestError;
use bytes::Bytes;
use logboat_raft::ReadMode;

/// What becomes of a request.
pub(crate) type Answer = Result<Bytes, RequestError>;

/// What a caller wants from a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A command to replicate and apply.
    Propose,
    /// A list of commands to replicate and apply one after the other, answered by a list.
    ProposeAll,
    /// A query to answer linearizably, in this way.
    Read(ReadMode),
}

impl RequestKind {
    /// Whether it may have an effect.
    #[must_use]
    pub const fn writes(self) -> bool {
        match self {
            Self::Propose | Self::ProposeAll => true,
            Self::Read(_) => false,
        }
    }
}
