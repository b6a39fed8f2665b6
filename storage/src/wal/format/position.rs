//! Places in the log, and the names of segment files.

use std::fmt;

/// The largest segment that [`Position`] can address.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 31;

/// A place in the log. Segments are numbered from 1 on, so that the default comes before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment.
    pub segment: u32,
    /// The offset in its file.
    pub offset: u32,
}

impl Position {
    pub(crate) const fn new(segment: u32, offset: u64) -> Self {
        Self { segment, offset: offset as u32 }
    }

    /// One number that orders as the position does.
    pub(crate) const fn pack(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    pub(crate) const fn unpack(packed: u64) -> Self {
        Self { segment: (packed >> 32) as u32, offset: packed as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// The file name of a segment.
pub(crate) fn segment_name(segment: u32) -> String {
    format!("{segment:010}.wal")
}

/// The segment that a file name stands for. The last number is none, so that each has a next one.
pub(crate) fn segment_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".wal")?;
    let segment = digits.parse().ok()?;
    (segment_name(segment) == name && (1..u32::MAX).contains(&segment)).then_some(segment)
}
