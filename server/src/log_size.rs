//! How large the log may grow: as the operator says, or as the disk allows.

use crate::output::Failure;
use logboat::WalOptions;
use rustix::fs::statvfs;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The part of a disk that the log may take. Snapshots need the rest: the state, and a part of it
/// twice while it is written anew.
const PART_OF_DISK: u64 = 4;
/// So many segments make a log of the full size, or more: with few, each holds something that is
/// needed.
const SEGMENTS: u64 = 16;
/// The unit of a segment's size.
const BLOCK_BYTES: u64 = 4096;
/// No log is smaller, however small the disk.
const LEAST_BYTES: u64 = 1 << 20;

/// What `--wal-max-bytes` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSize {
    /// A part of the disk.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u64),
}

impl LogSize {
    /// The size in bytes of the log of a node with this data directory, which need not exist yet.
    ///
    /// # Errors
    /// When the disk does not say how large it is.
    pub(crate) fn bytes(self, data_dir: &Path) -> Result<u64, Failure> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Auto => Ok(size_on_disk(disk_bytes(data_dir)?)),
        }
    }
}

impl FromStr for LogSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Bytes).map_err(|_| "expected auto or a number of bytes".to_owned())
    }
}

impl<'de> Deserialize<'de> for LogSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = LogSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto or a number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LogSize, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<LogSize, E> {
                let wrong = |_| E::invalid_value(Unexpected::Signed(bytes), &self);
                u64::try_from(bytes).map(LogSize::Bytes).map_err(wrong)
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<LogSize, E> {
                Ok(LogSize::Bytes(bytes))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

/// The size of a segment of a log that may take `max_bytes`.
pub(crate) fn segment_bytes(max_bytes: u64) -> u64 {
    let part = (max_bytes / SEGMENTS / BLOCK_BYTES).max(2) * BLOCK_BYTES;
    part.min(WalOptions::default().segment_bytes)
}

fn size_on_disk(disk_bytes: u64) -> u64 {
    (disk_bytes / PART_OF_DISK).clamp(LEAST_BYTES, WalOptions::default().max_bytes)
}

/// The size of the disk that a directory is on, or will be.
fn disk_bytes(directory: &Path) -> Result<u64, Failure> {
    let absolute = std::path::absolute(directory)?;
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let disk = statvfs(existing)
        .map_err(|error| format!("the size of the disk of {}: {error}", existing.display()))?;
    Ok(disk.f_blocks.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_leaves_most_of_a_small_disk_alone() {
        let bytes = size_on_disk(382 << 20);
        assert_eq!(bytes, (382 << 20) / 4);
        assert!((15..=17).contains(&(bytes / segment_bytes(bytes))));
        assert_eq!(size_on_disk(1 << 40), 2 << 30);
        assert_eq!(segment_bytes(2 << 30), 64 << 20);
        assert_eq!(size_on_disk(0), LEAST_BYTES);
        for max_bytes in [0, 1, 100_000, 1 << 20] {
            let segment = segment_bytes(max_bytes);
            assert!(segment >= 8192 && segment.is_multiple_of(BLOCK_BYTES));
        }
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_on_a_disk() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = disk_bytes(&directory.path().join("not/there")).unwrap();
        assert_eq!(bytes, disk_bytes(directory.path()).unwrap());
        assert!(bytes > 0);
    }

    #[test]
    fn the_size_is_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(LogSize::Auto));
        assert_eq!("4096".parse(), Ok(LogSize::Bytes(4096)));
        assert!("-1".parse::<LogSize>().is_err() && "many".parse::<LogSize>().is_err());
    }
}
