//! What the benches share that change the members of groups.

use crate::report::Place;
use logboat::{Change, GroupHandle, GroupId, GroupSpec, Node, NodeId, StateMachine};
use logboat_bench::Failure;
use logboat_bench::cluster::{Cluster, Shape, leading, with_nodes};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How many nodes found each group.
pub(crate) const FOUNDERS: usize = 3;

/// How long a change is put off that may be taken a little later.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Starts so many nodes, measures, and prints the report.
pub(crate) fn run<R: Serialize>(
    nodes: u64,
    place: &Place,
    measure: impl AsyncFnOnce(&Cluster) -> Result<R, Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shape = Shape { nodes, ..Shape::default() };
    let report = with_nodes(shape, place.data_dir(), |cluster| runtime.block_on(measure(cluster)))?;
    place.print(&report)
}

/// Founds a group on the first three nodes, the preferred one among them, and has the others wait
/// to be added to it. Returns the replicas in the order of their nodes.
pub(crate) fn start(
    cluster: &Cluster,
    group: GroupId,
    preferred: usize,
    machine: impl Fn() -> Box<dyn StateMachine>,
) -> Result<Arc<[GroupHandle]>, Failure> {
    let (old, new) = cluster.nodes().split_at(FOUNDERS);
    let founders: Vec<NodeId> = old.iter().map(Node::id).collect();
    let mut replicas = Vec::new();
    for node in old {
        replicas.push(node.create_group(GroupSpec {
            group,
            replicas: founders.clone(),
            preferred: Some(founders[preferred]),
            machine: machine(),
        })?);
    }
    for node in new {
        replicas.push(node.join_group(group, machine())?);
    }
    Ok(replicas.into())
}

/// Asks whichever replica leads, again while the same change may be taken a little later.
pub(crate) async fn change(replicas: &[GroupHandle], changes: &[Change]) -> Result<(), Failure> {
    loop {
        let Some(leader) = leading(replicas) else {
            sleep(RETRY_INTERVAL).await;
            continue;
        };
        match leader.change(changes).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() => sleep(RETRY_INTERVAL).await,
            Err(error) => return Err(error.into()),
        }
    }
}
