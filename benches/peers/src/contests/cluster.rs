//! The contests of whole clusters: three nodes in this process, all under the same clients.

use crate::contest::{Better, Contest, Figure};
use crate::sides::openraft;
use crate::sides::raft_node::RaftNodes;
use crate::testbed::Testbed;
use crate::work::clients::{Load, Target, drive};
use bytes::Bytes;
use logboat::GroupHandle;
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, leading};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

const RAFT_NODE: &str = "raft-rs 0.7 + raft-engine 0.4";
const MANY_GROUPS: Load = Load { groups: 1_000, clients_a_group: 8, payload_bytes: 128 };
const BUSY_GROUPS: Load = Load { groups: 48, clients_a_group: 64, payload_bytes: 16 };

/// Synced and over loopback TCP, against one in memory without a network.
pub(crate) fn openraft(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    Ok(Contest {
        peer: "openraft 0.10 in memory, no network",
        figures: &[
            Figure {
                what: "cluster: 1,000 groups × 8 clients, 128 B",
                unit: "writes/s",
                better: Better::More,
            },
            Figure {
                what: "cluster: CPU a write on 3 replicas, same work",
                unit: "µs",
                better: Better::Less,
            },
        ],
        logboat: Box::new(|| logboat(testbed, MANY_GROUPS)),
        other: Box::new(|| {
            let runtime = runtime()?;
            let nodes = Arc::new(runtime.block_on(openraft::Groups::start(MANY_GROUPS.groups))?);
            let figures = drive(&runtime, &nodes, MANY_GROUPS, testbed.time);
            runtime.block_on(nodes.stop());
            figures
        }),
    })
}

/// Both synced and over loopback TCP; many groups with few clients each.
pub(crate) fn raft_node(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    Ok(against_raft_node(
        testbed,
        MANY_GROUPS,
        &[
            Figure {
                what: "cluster: 1,000 groups × 8 clients, 128 B",
                unit: "writes/s",
                better: Better::More,
            },
            Figure {
                what: "cluster: CPU a write on 3 replicas, same work",
                unit: "µs",
                better: Better::Less,
            },
        ],
    ))
}

/// The same with few groups and many clients each.
pub(crate) fn raft_node_busy_groups(testbed: &Testbed) -> Result<Contest<'_>, Failure> {
    Ok(against_raft_node(
        testbed,
        BUSY_GROUPS,
        &[
            Figure {
                what: "cluster: 48 groups × 64 clients, 16 B",
                unit: "writes/s",
                better: Better::More,
            },
            Figure {
                what: "cluster: CPU a write on 3 replicas, these groups",
                unit: "µs",
                better: Better::Less,
            },
        ],
    ))
}

fn against_raft_node<'a>(
    testbed: &'a Testbed,
    load: Load,
    figures: &'static [Figure],
) -> Contest<'a> {
    Contest {
        peer: RAFT_NODE,
        figures,
        logboat: Box::new(move || logboat(testbed, load)),
        other: Box::new(move || {
            let dir = testbed.scratch()?;
            let nodes = Arc::new(RaftNodes::start(dir.path(), load.groups)?);
            let figures = drive(&runtime()?, &nodes, load, testbed.time);
            nodes.stop()?;
            figures
        }),
    }
}

fn logboat(testbed: &Testbed, load: Load) -> Result<Vec<f64>, Failure> {
    let dir = testbed.scratch()?;
    let shape = Shape { groups: load.groups, ..Shape::default() };
    let cluster = Cluster::start(shape, dir.path())?;
    let handles = Arc::new(Handles(cluster.groups.clone()));
    let figures = drive(&runtime()?, &handles, load, testbed.time);
    cluster.stop();
    figures
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

/// The replicas of Logboat's groups.
struct Handles(Vec<Arc<[GroupHandle]>>);

impl Target for Handles {
    async fn write(&self, group: usize, command: Bytes) -> bool {
        match leading(&self.0[group]) {
            Some(leader) => leader.propose(command).await.is_ok(),
            None => false,
        }
    }
}
