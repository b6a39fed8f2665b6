//! Which cluster a node belongs to, apart from others with the same name and nodes.

use crate::node::Node;
use logboat_raft::ClusterId;
use std::io;

impl Node {
    /// The id that was drawn for the cluster, if this node knows it.
    #[must_use]
    pub fn drawn_cluster(&self) -> Option<ClusterId> {
        self.0.parts.inbound.cluster.id()
    }

    /// Notes durably that this id was drawn for the cluster, when that has made sure that there is
    /// one alone. Peers that don't know it yet take it over, and those of another cluster are
    /// refused from the next connection on. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the node belongs to another cluster, or that can't be written.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> io::Result<()> {
        self.0.parts.inbound.cluster.adopt(cluster)
    }
}
