//! The log's sizes and limits.

use std::time::Duration;

/// The log's sizes and limits.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Size of a segment file in bytes, a multiple of 4,096 up to 2 GiB. A batch that is larger
    /// gets a segment of its own size.
    pub segment_bytes: u64,
    /// Above this many bytes of segments, live entries are moved out of the oldest segments. The
    /// groups that pin those segments are named to the pressure callback. No hard limit: what is
    /// needed is kept. Up to it, segments that nobody needs any more wait to be used again.
    pub max_bytes: u64,
    /// After so long without a write, the durable mark of the last one is recorded.
    pub mark_delay: Duration,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 2 << 30, mark_delay: Duration::from_secs(1) }
    }
}
