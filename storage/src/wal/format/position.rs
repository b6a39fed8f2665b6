//! Places in the log, and the names of segment files.

use logboat_raft::LogPosition;

/// The largest segment that [`LogPosition`] can address.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 1 << 31;

/// The place at `offset` of a segment, which is no longer than [`MAX_SEGMENT_BYTES`].
pub(crate) const fn position(segment: u32, offset: u64) -> LogPosition {
    LogPosition { segment, offset: offset as u32 }
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
