//! What callers may want from a group.

use crate::error::RequestError;
use bytes::Bytes;
use logboat_raft::ReadMode;

/// What becomes of a request.
pub(crate) type Answer = Result<Bytes, RequestError>;

/// What a caller wants from a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To replicate a command and to apply it.
    Propose,
    /// To replicate a list of commands, with nothing between them, and to apply each.
    ProposeAll,
    /// To have a query answered linearizably, in this way.
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
