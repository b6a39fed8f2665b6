//! From a key to an answer: which range holds the key, which group holds the range, and which node
//! leads the group.
//!
//! The [`RangeMap`] cuts the key space into ranges, each held by one group. The map is itself the
//! state of a replicated group, the meta group. So every node has the same map, after a restart as
//! well. [`Router::start`] starts the meta group on a node, waits until the cluster has agreed on a
//! map, and starts the node's replicas of the map's groups. Then [`Router::propose`] and
//! [`Router::read`] bring a request to its group's leader, on whatever node. When the link to that
//! node is down, a third node forwards the request.

mod error;
mod map;
mod meta;
mod plan;
mod router;

pub use error::{MapError, RouteError, RouterStartError};
pub use map::{Range, RangeMap};
pub use plan::Plan;
pub use router::{Access, RangeRequest, RoutedBatch, Router};
