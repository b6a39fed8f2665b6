//! What a person wants of placement, for the cluster as a whole.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a person wants of placement. The cluster keeps it in its table: it is made with it, and
/// [`Router::set_settings`](crate::Router::set_settings) changes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// After how long a node that is silent counts as lost, if replicas are to be placed by
    /// themselves ([`placement`](crate::placement)): those of lost nodes are replaced, nodes are
    /// emptied, and replicas and leaders are evened out. Without it, groups move by calls alone.
    pub lost_after: Option<Duration>,
    /// How many MiB of groups a node receives in a second, and how many it sends, for replicas that
    /// move.
    pub move_mib_per_s: u64,
}

/// How many MiB of groups a node receives and sends in a second, unless somebody says so.
pub(crate) const MOVE_MIB_PER_S: u64 = 128;

impl Default for ClusterSettings {
    /// Groups move by calls alone, at 128 MiB/s.
    fn default() -> Self {
        Self { lost_after: None, move_mib_per_s: MOVE_MIB_PER_S }
    }
}

impl fmt::Display for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost_after {
            Some(time) => write!(f, "lost after {} ms", time.as_millis())?,
            None => f.write_str("nothing moves by itself")?,
        }
        write!(f, ", moves at {} MiB/s", self.move_mib_per_s)
    }
}
