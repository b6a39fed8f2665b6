//! From a key to an answer: which range holds the key, which group holds the range, and which node
//! leads the group.
//!
//! The [`RangeMap`] cuts the key space into ranges, each held by one group. It follows from the
//! [`Table`] of the cluster, which knows all nodes, and all groups with their replicas. The table
//! is the state of a replicated group, the meta group, which has three to five replicas. The other
//! nodes follow it.
//!
//! [`Router::start`] starts a node's part of all that: its replica of the meta group, if it has
//! one, and its replicas of the groups. Then [`Router::propose`] and [`Router::read`] bring a
//! request to its group's leader, on whatever node. When the link to that node is down, a third
//! node forwards the request. [`Joining`] makes a node part of a cluster that there is already.
//!
//! [`placement`] says which replicas should be on which nodes, and the next steps toward that.

// What only `internals` hands out is out of reach without it.
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]

mod error;
mod map;
mod meta;
pub mod placement;
mod plan;
mod router;
mod table;
mod wire;

#[cfg(feature = "internals")]
pub mod internals {
    //! What keeps a cluster's table and places its replicas, for simulators: the state machine of
    //! the meta group, and what the driver decides without I/O and clock. Only the tests of this
    //! workspace turn the feature `internals` on; what stands here may change at any time.

    pub use crate::meta::MetaMachine;
    pub use crate::router::cluster::driver::helm::{Helm, Progress, Reported};
    pub use crate::router::cluster::driver::orders::{Ended, Next, Order};
    pub use crate::router::cluster::operate::{expulsion, may_leave};
    pub use crate::table::{Change, Command, Feed, Foundation, News, Note, Outcome};
}

pub use error::{ClusterError, MapError, RouteError, RouterStartError};
pub use map::{META_GROUP, Range, RangeMap};
pub use plan::Plan;
pub use router::{
    Access, ExportPart, FormerNode, GroupExport, JoinError, Joined, Joining, RangeRequest,
    RoutedBatch, Router, RouterOptions, former_node, has_joined, known_members,
};
pub use table::{
    ClusterSettings, HistoryEntry, Members, NodeCard, NodeRecord, NodeState, RangeRecord, Ranges,
    Table, WantedMove,
};
