//! The identity of one start of a node on one disk.
//!
//! The core needs none of it. Storage keeps it, and nodes exchange it. So peers notice a node that
//! lost its disk, or came back with an old copy of it, and no longer knows its promises.

use crate::{BootCount, ClusterId, Incarnation};
use core::fmt;

/// A random number, drawn at each start of a node. It tells two starts of the same boot count
/// apart, which two copies of one data directory can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootNonce(pub u64);

impl fmt::Display for BootNonce {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in the log that all groups of a node share. Segments are numbered from 1 on, so that the
/// default comes before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The segment.
    pub segment: u32,
    /// The offset in its file, in bytes.
    pub offset: u32,
}

/// How many segments further than known a log may claim to be at once: with the smallest segments,
/// 8 GiB. What is further is believed by and by.
pub const MAX_SEGMENT_STEP: u32 = 1 << 20;

impl LogPosition {
    /// The later one of this position and one that a peer names. The peer's position is believed
    /// only up to a distance, so that a forged one leaves the log room to go on.
    #[must_use]
    pub fn advance(self, claimed: Self) -> Self {
        let furthest = self.segment.saturating_add(MAX_SEGMENT_STEP);
        if claimed.segment > furthest {
            return Self { segment: furthest, offset: 0 };
        }
        self.max(claimed)
    }

    /// One number that orders as the position does.
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    /// The position that was [packed](Self::pack).
    #[must_use]
    pub const fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl fmt::Display for LogPosition {
    /// `segment:offset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// One start of a node on its data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Start {
    /// Which start on that directory it is, from 1 on.
    pub count: BootCount,
    /// What was drawn at the start.
    pub nonce: BootNonce,
}

/// How a node introduces itself to a peer.
///
/// The peer compares `let_in` with what it remembers. Only a start that the peer let in changes
/// that, so a copy of the directory that is refused stays what it is, however often it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The data directory.
    pub incarnation: Incarnation,
    /// The start that is running.
    pub newest: Start,
    /// The start that the peer last let in, as far as the directory says.
    pub let_in: Option<Start>,
    /// Where the log ended at the first start after `let_in`. What was written in later starts does
    /// not count: a copy that is refused writes to its log, too.
    pub log_end: LogPosition,
    /// The id that was drawn for the cluster, if the node knows it yet.
    pub cluster: Option<ClusterId>,
}

/// What a node remembers of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The peer's data directory.
    pub incarnation: Incarnation,
    /// The start that this node last let in, and that the peer has noted as such.
    pub let_in: Option<Start>,
    /// A later start, which was told that it is let in. The peer may have noted that or not.
    pub welcomed: Option<Start>,
    /// How far the peer's log was durable, as this node has heard.
    pub heard: LogPosition,
    /// Whether the peer was given up, and is not let in any more, on whatever directory.
    pub fenced: bool,
}

impl Remembered {
    /// The newest start that this node has let in, whether the peer has noted that or not.
    #[must_use]
    pub fn newest(&self) -> Option<Start> {
        self.welcomed.or(self.let_in)
    }

    /// The same, when the peer has noted that its newest start was let in.
    #[must_use]
    pub fn confirmed(self) -> Self {
        Self { let_in: self.newest(), welcomed: None, ..self }
    }
}
