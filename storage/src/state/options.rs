//! How a state engine uses memory and disk.

use std::time::Duration;

/// How a state engine uses memory and disk.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// How many bytes of blocks of tables are cached.
    pub cache_bytes: u64,
    /// How many bytes of writes are gathered in memory before they are flushed. Up to four times as
    /// many may wait while the disk is slow.
    pub memtable_bytes: u64,
    /// How long a write may stay in memory. What is not flushed pins the log.
    pub max_age: Duration,
    /// How large tables become, in bytes.
    pub table_bytes: u64,
    /// How many tables may be open at a time.
    pub descriptors: usize,
    /// How many bytes of the disk stay free. With fewer nothing is flushed or merged until there is
    /// room again.
    pub reserve_bytes: u64,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 32 << 20,
            max_age: Duration::from_secs(60),
            table_bytes: 16 << 20,
            descriptors: 256,
            reserve_bytes: 16 << 20,
        }
    }
}
