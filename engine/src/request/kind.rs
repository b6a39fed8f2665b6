//! The kinds of requests to a group.

use crate::error::RequestError;
use bytes::Bytes;
use logboat_raft::ReadMode;

/// The outcome of a request.
pub(crate) type Answer = Result<Bytes, RequestError>;

/// The kind of a request to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To replicate a command and to apply it.
    Propose,
    /// To replicate a list of commands, with nothing between them, and to apply each.
    ProposeAll,
    /// To have a query answered linearizably, in this way.
    Read(ReadMode),
    /// To change the group's members.
    Change,
    /// To hand over leadership.
    Transfer,
    /// To have a query answered from the state of the replica that is asked, whatever it misses.
    ReadLocal,
}

impl RequestKind {
    /// Whether it may have an effect.
    #[must_use]
    pub const fn writes(self) -> bool {
        match self {
            Self::Propose | Self::ProposeAll | Self::Change => true,
            Self::Read(_) | Self::Transfer | Self::ReadLocal => false,
        }
    }
}
