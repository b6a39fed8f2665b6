//! Which node should lead which group of a cluster of processes, and which does.

use crate::servers::{NODES, Server, Servers};
use logboat::NodeId;
use logboat_bench::Failure;
use logboat_router::Plan;
use logboat_server::layout::Partition;
use std::time::{Duration, Instant};

/// How often the nodes are asked what they lead.
const LOOK: Duration = Duration::from_millis(20);

/// A key of each group, and who should lead the group.
pub(crate) struct Placement {
    /// The keys, each with the place of the node, counted from 0 on.
    keys: Vec<(String, usize)>,
    /// How many groups each node should lead.
    leaders: Vec<usize>,
}

impl Placement {
    /// By the map that the servers make for `groups` groups.
    pub(crate) fn of(groups: usize) -> Result<Self, Failure> {
        let nodes: Vec<_> = (1..=NODES).map(NodeId).collect();
        let layout = Partition::default();
        let replicas = nodes.len();
        let plan = Plan {
            layout: layout.to_string(),
            groups: Some(groups),
            keeps_layout: false,
            edge_bits: layout.edge_bits(),
            split_keys: None,
            replicas,
        };
        let map = plan.map(&nodes)?;
        let mut keys = vec![None; groups];
        let mut missing = groups;
        for key in (0_u64..).map(|number| format!("key-{number}")) {
            let place = &mut keys[map.locate(&layout.stored(key.as_bytes()))];
            missing -= usize::from(place.is_none());
            place.get_or_insert(key);
            if missing == 0 {
                break;
            }
        }
        let mut placement = Self { keys: Vec::new(), leaders: vec![0; nodes.len()] };
        for (key, range) in keys.into_iter().flatten().zip(map.ranges()) {
            let leader = nodes.iter().position(|node| *node == range.replicas[0]);
            let leader = leader.ok_or("a range's first replica is on no node")?;
            placement.leaders[leader] += 1;
            placement.keys.push((key, leader));
        }
        if placement.leaders.contains(&0) {
            return Err("there must be a group for each node".into());
        }
        Ok(placement)
    }

    /// A key of each group.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(key, _)| &**key)
    }

    /// Keys of the groups that a node should lead, and of all others.
    pub(crate) fn led_by(&self, node: usize) -> (Vec<String>, Vec<String>) {
        let keys = |led| {
            let keys = self.keys.iter().filter(move |(_, leader)| (*leader == node) == led);
            keys.map(|(key, _)| key.clone()).collect()
        };
        (keys(true), keys(false))
    }

    /// Waits until all nodes serve clients and each leads the groups that it should.
    pub(crate) async fn await_leaders(
        &self,
        servers: &mut Servers,
        patience: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let mut all_lead = true;
            let mut seen = Vec::new();
            for (server, expected) in servers.nodes.iter_mut().zip(&self.leaders) {
                let status = server.status()?;
                all_lead &=
                    status.as_ref().is_some_and(|page| page.ready && page.leaders >= *expected);
                seen.push(status.map_or(0, |page| page.leaders));
            }
            if all_lead {
                return Ok(());
            }
            if Instant::now() > deadline {
                let expected = &self.leaders;
                return Err(
                    format!("the nodes lead {seen:?} groups and should {expected:?}").into()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How many groups each of the nodes reports to lead.
pub(crate) fn leaders(servers: &mut [Server]) -> Result<Vec<usize>, Failure> {
    let leaders = servers.iter_mut().map(|server| {
        let page = server.status()?.ok_or("a node does not answer")?;
        Ok(page.leaders)
    });
    leaders.collect()
}
