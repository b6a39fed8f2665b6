//! Copies of all data of a cluster, outside of it: `logboat backup` and `logboat restore`.
//!
//! A backup is a directory. Each group has a file `group-ID.kv`, which is its state after one entry
//! of its log, in the form of snapshots ([`kv`](crate::kv)). `MANIFEST` says what belongs to the
//! backup ([`manifest`]). It is written last, when all else is durable, so a directory without it
//! is no backup. Files are written under other names (`.part`) and renamed when they are whole.
//!
//! All that is said of a group by a backup is true of one moment, and holds all that was
//! acknowledged before the copy of that group was begun. Groups are copied a few at a time,
//! so the moments differ between them.
//!
//! A node hands out copies through its admin port, and takes keys in there ([`pages`]). The two
//! commands are programs apart from the cluster ([`save`], [`restore`]), which reach it in no other
//! way ([`session`](crate::admin_session)).

mod directory;
mod group_file;
mod manifest;
pub(crate) mod pages;
pub(crate) mod restore;
pub(crate) mod save;
mod tally;
mod whole;

use crate::admin_session::CallError;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How a command shows how far it is.
pub(crate) const BAR: &str = "{msg} {wide_bar} {pos} of {len} groups";

/// For how long something is tried again while nothing gets on, unless somebody says so.
const DEFAULT_PATIENCE_SECS: u64 = 60;

/// How long to wait before something is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Asks a node again and again, for as long as it may answer later.
fn patiently<T>(
    patience: Duration,
    mut ask: impl FnMut() -> Result<T, CallError>,
) -> Result<T, CallError> {
    let begin = Instant::now();
    loop {
        match ask() {
            Err(error) if error.is_transient() && begin.elapsed() < patience => sleep(RETRY),
            answered => return answered,
        }
    }
}

/// The time of this machine, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
