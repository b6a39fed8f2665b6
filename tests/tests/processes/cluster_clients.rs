//! Clients that ask which node leads which slot, and go there by themselves.

use crate::support::{TestResult, spec};
use logboat_tests::process::{Cluster, ProcessError, eventually};
use redis::{Connection, RedisResult, Value, cmd};
use std::collections::{BTreeMap, BTreeSet};

const KEYS: usize = 60;

/// The slots of a reply to CLUSTER SLOTS, with the port of who leads them.
pub(crate) type Spans = Vec<(u16, u16, u16)>;

fn spans(client: &mut Connection) -> RedisResult<Spans> {
    type Node = (String, u16, String, Vec<Value>);
    let reply: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query(client)?;
    let span = |span: Vec<Value>| -> RedisResult<_> {
        let leader: Node = redis::from_redis_value(span[2].clone())?;
        let (first, last) =
            (redis::from_redis_value(span[0].clone())?, redis::from_redis_value(span[1].clone())?);
        Ok((first, last, leader.1))
    };
    reply.into_iter().map(span).collect()
}

/// Waits until a node knows where clients reach all nodes, and who leads which slot.
pub(crate) fn settled(cluster: &Cluster, node: usize) -> Result<(Connection, Spans), ProcessError> {
    let mut client = cluster.node(node).client()?;
    let spans = eventually("a topology with all nodes", || {
        let spans = spans(&mut client)?;
        let leaders: BTreeSet<_> = spans.iter().map(|(_, _, port)| *port).collect();
        Ok((leaders.len() == cluster.nodes.len()).then_some(spans))
    })?;
    Ok((client, spans))
}

#[test]
fn clients_that_ask_for_the_topology_are_told_where_slots_are_and_others_are_not() -> TestResult {
    let cluster = Cluster::start(&spec(3, &["--groups", "12"]))?;
    let (mut follower, spans) = settled(&cluster, 1)?;
    let mut next = 0;
    for (first, last, _) in &spans {
        assert_eq!(*first, next, "{spans:?}");
        next = last + 1;
    }
    assert_eq!(next, 16_384);
    let mut plain = cluster.node(1).client()?;
    let mut moved = 0;
    for number in 0..KEYS {
        let key = format!("key:{number}");
        // Who has not asked is served.
        cmd("SET").arg(&key).arg(number).query::<()>(&mut plain)?;
        let slot: u16 = cmd("CLUSTER").arg("KEYSLOT").arg(&key).query(&mut plain)?;
        match cmd("GET").arg(&key).query::<usize>(&mut follower) {
            Ok(value) => assert_eq!(value, number),
            Err(error) => {
                assert_eq!(error.code(), Some("MOVED"), "{error}");
                let (address, to) = error.redirect_node().expect("a place to go");
                assert_eq!(to, slot);
                let node = cluster
                    .nodes
                    .iter()
                    .position(|node| node.client_address().to_string() == address);
                let mut there = cluster.node(node.expect("a node") + 1).client()?;
                let _: Value = cmd("CLUSTER").arg("SLOTS").query(&mut there)?;
                let value: usize = cmd("GET").arg(&key).query(&mut there)?;
                assert_eq!(value, number);
                moved += 1;
            }
        }
        let count: usize = cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot).query(&mut plain)?;
        let keys: Vec<String> =
            cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(10).query(&mut plain)?;
        assert!(count == keys.len() && keys.contains(&key), "{count}, {keys:?}");
    }
    assert!(moved > 0 && moved < KEYS, "{moved}");
    // With READONLY any node serves reads, and a write still goes to the leader.
    cmd("READONLY").query::<()>(&mut follower)?;
    for number in 0..KEYS {
        let value: usize = cmd("GET").arg(format!("key:{number}")).query(&mut follower)?;
        assert_eq!(value, number);
    }
    let nodes: String = cmd("CLUSTER").arg("NODES").query(&mut plain)?;
    assert_eq!(nodes.lines().count(), 3, "{nodes}");
    let info: String = cmd("CLUSTER").arg("INFO").query(&mut plain)?;
    assert!(info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384"), "{info}");
    Ok(())
}

/// Their names take more than a page.
#[test]
fn all_keys_of_a_slot_are_counted_and_named() -> TestResult {
    const LONG: usize = 300;
    let cluster = Cluster::start(&spec(1, &["--groups", "6"]))?;
    let mut client = cluster.node(1).client()?;
    let mut pairs = cmd("MSET");
    for number in 0..LONG {
        pairs.arg(format!("{{t}}{number}{}", "n".repeat(2_000))).arg(number);
    }
    pairs.query::<()>(&mut client)?;
    let slot: u16 = cmd("CLUSTER").arg("KEYSLOT").arg("{t}").query(&mut client)?;
    for (slot, expected) in [(slot, LONG), (slot - 1, 0), (slot + 1, 0)] {
        let count: usize = cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot).query(&mut client)?;
        assert_eq!(count, expected);
        for wanted in [0, 10, LONG, 10 * LONG] {
            let mut names = cmd("CLUSTER");
            names.arg("GETKEYSINSLOT").arg(slot).arg(wanted);
            let names: BTreeSet<String> = names.query(&mut client)?;
            assert_eq!(names.len(), wanted.min(expected));
        }
    }
    Ok(())
}

#[test]
fn in_another_layout_any_node_has_all_slots() -> TestResult {
    for layout in ["hash", "range"] {
        let cluster = Cluster::start(&spec(1, &["--groups", "6", "--partition", layout]))?;
        let mut client = cluster.node(1).client()?;
        let spans = spans(&mut client)?;
        assert_eq!(spans, [(0, 16_383, cluster.node(1).client_address().port())]);
        for number in 0..KEYS {
            cmd("SET").arg(format!("key:{number}")).arg(number).query::<()>(&mut client)?;
        }
        let info: String = cmd("INFO").arg("cluster").query(&mut client)?;
        assert!(info.contains("cluster_enabled:0"), "{info}");
    }
    Ok(())
}

#[test]
fn clients_are_told_the_address_that_a_node_advertises() -> TestResult {
    let options = ["--groups", "6", "--client-advertise", "front.example:7000"];
    let cluster = Cluster::start(&spec(1, &options))?;
    let mut client = cluster.node(1).client()?;
    let nodes: String = cmd("CLUSTER").arg("NODES").query(&mut client)?;
    assert!(nodes.contains(" front.example:7000@7000 myself,master "), "{nodes}");
    assert_eq!(spans(&mut client)?, [(0, 16_383, 7_000)]);
    Ok(())
}

/// A client of a cluster: it goes by a table of slots, and asks for a new one when it is moved.
pub(crate) struct Follower {
    /// A connection to each node that lives, by port.
    connections: BTreeMap<u16, Connection>,
    spans: Spans,
    moved: usize,
}

impl Follower {
    /// Connects to the nodes that live.
    fn new(cluster: &Cluster, nodes: &[usize]) -> Result<Self, ProcessError> {
        let mut connections = BTreeMap::new();
        for &node in nodes {
            let node = cluster.node(node);
            connections.insert(node.client_address().port(), node.client()?);
        }
        Ok(Self { connections, spans: Vec::new(), moved: 0 })
    }

    /// Asks all nodes for the topology, so that all of them may move it, and goes by the last.
    /// Returns whether each of them says of each slot that somebody who lives leads it.
    fn refresh(&mut self) -> RedisResult<bool> {
        let mut has_leaders = true;
        let ports: Vec<_> = self.connections.keys().copied().collect();
        for client in self.connections.values_mut() {
            self.spans = spans(client)?;
            has_leaders &= self.spans.iter().all(|(_, _, leader)| ports.contains(leader));
        }
        Ok(has_leaders)
    }

    /// Adds one to a key, wherever that is led.
    fn add(&mut self, key: &str) -> TestResult<u64> {
        let any = self.connections.values_mut().next().expect("no node lives");
        let slot: u16 = cmd("CLUSTER").arg("KEYSLOT").arg(key).query(any)?;
        let span = |(first, last, _): &&(u16, u16, u16)| (*first..=*last).contains(&slot);
        let mut port = self.spans.iter().find(span).expect("a slot that nobody leads").2;
        loop {
            let there = self.connections.get_mut(&port).expect("a leader that has ended");
            match cmd("INCR").arg(key).query(there) {
                Ok(value) => return Ok(value),
                Err(error) if error.code() == Some("MOVED") => {
                    self.moved += 1;
                    let (address, _) = error.redirect_node().expect("nowhere to go");
                    let (_, to) = address.rsplit_once(':').expect("no port to go to");
                    port = to.parse()?;
                    eventually("leaders that live", || Ok(self.refresh()?.then_some(())))?;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A client of the nodes that live, if all of them say that each slot is led by one of them.
pub(crate) fn living_leaders(
    cluster: &Cluster,
    nodes: &[usize],
) -> Result<Option<Follower>, ProcessError> {
    let mut follower = Follower::new(cluster, nodes)?;
    Ok(follower.refresh()?.then_some(follower))
}

#[test]
fn hardly_any_command_is_moved_once_a_failover_is_over() -> TestResult {
    const COMMANDS: usize = 400;
    let mut cluster = Cluster::start(&spec(3, &["--groups", "12"]))?;
    drop(settled(&cluster, 1)?);
    cluster.nodes[2].kill()?;
    let mut follower = eventually("leaders that live", || living_leaders(&cluster, &[1, 2]))?;
    for number in 0..COMMANDS {
        follower.add(&format!("key:{number}"))?;
    }
    let moved = follower.moved;
    assert!(moved * 100 < COMMANDS, "{moved} of {COMMANDS} commands were moved");
    Ok(())
}
