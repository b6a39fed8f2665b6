//! Peers that come, go and move while a node runs.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Counter, TestResult, number};
use logboat::{
    ApplyOn, Change, GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeConfig, NodeId,
    PeerError, RequestError, RoleKind, SnapshotWriter, StateMachine, Tuning,
};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const GROUP: GroupId = GroupId(1);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// An address on loopback that was free a moment ago.
fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Starts a node of a cluster that node 1 has made alone.
fn start(
    node: NodeId,
    members: &[(NodeId, &str)],
    dir: &Path,
) -> Result<Node, Box<dyn std::error::Error>> {
    let members: BTreeMap<_, _> =
        members.iter().map(|(node, address)| (*node, (*address).to_owned())).collect();
    let mut config = NodeConfig::new(node, members, dir.join(node.to_string()))?;
    config.founders = Some([ONE].into());
    config.heartbeat_interval = Duration::from_millis(20);
    config.tuning = Tuning { election_timeout: Duration::from_millis(300), ..Tuning::default() };
    config.wal.segment_bytes = 1 << 20;
    config.workers = 1;
    Ok(Node::start(config)?)
}

/// Changes members, again while that may be taken a little later.
async fn change(group: &GroupHandle, changes: &[Change]) {
    let changed = async {
        while let Err(error) = group.change(changes).await {
            assert!(error.is_transient(), "{error}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap();
}

async fn until(condition: impl Fn() -> bool) {
    let waits = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waits).await.unwrap();
}

#[tokio::test]
async fn a_group_starts_again_although_one_of_its_founders_has_left_the_cluster() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (first, second) = (free_address()?, free_address()?);
    let one = start(ONE, &[(ONE, &first)], dir.path())?;
    one.add_peer(TWO, &second)?;
    let two = start(TWO, &[(ONE, &first), (TWO, &second)], dir.path())?;
    let create = |node: &Node, group| {
        let (replicas, machine) = (vec![ONE, TWO], Box::<Counter>::default());
        node.create_group(GroupSpec { group, replicas, preferred: Some(ONE), machine })
    };
    let group = create(&one, GROUP)?;
    create(&two, GROUP)?;
    until(|| group.view().role() == RoleKind::Leader).await;
    change(&group, &[Change::Demote(TWO)]).await;
    change(&group, &[Change::Remove(TWO)]).await;
    until(|| one.remove_peer(TWO) == Ok(())).await;

    one.stop_group(GROUP).await?;
    let group = create(&one, GROUP)?;
    until(|| group.view().role() == RoleKind::Leader).await;
    assert_eq!(number(&group.propose(Bytes::from_static(b"+")).await?), 1);
    // What is gone is said to be gone, and nothing new is founded with a stranger.
    one.remove_group(GROUP).await?;
    assert!(matches!(create(&one, GROUP), Err(GroupError::Removed(GROUP))));
    let stranger = create(&one, GroupId(2)).err().unwrap().to_string();
    assert!(stranger.contains("node 2 is to hold a replica and is not a member"), "{stranger}");
    two.stop();
    one.stop();
    Ok(())
}

#[tokio::test]
async fn a_node_is_added_moves_and_is_removed_while_the_others_run() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (first, second, third) = (free_address()?, free_address()?, free_address()?);
    let one = start(ONE, &[(ONE, &first)], dir.path())?;
    assert_eq!(one.add_peer(NodeId(0), &second), Err(PeerError::NodeZero));
    assert_eq!(one.add_peer(ONE, &second), Err(PeerError::Itself(ONE)));
    assert_eq!(one.remove_peer(TWO), Err(PeerError::Unknown(TWO)));
    let group = one.create_group(GroupSpec {
        group: GROUP,
        replicas: vec![ONE],
        preferred: None,
        machine: Box::<Counter>::default(),
    })?;
    group.view().led().await;
    group.propose(Bytes::from_static(b"+")).await?;

    // A new node takes part when node 1 knows it.
    let two = start(TWO, &[(ONE, &first), (TWO, &second)], dir.path())?;
    assert_eq!(two.status().waiting_for, [ONE]);
    one.add_peer(TWO, &second)?;
    assert_eq!((one.members(), two.members()), (vec![ONE, TWO], vec![ONE, TWO]));
    until(|| two.status().waiting_for.is_empty() && one.reaches(TWO)).await;
    let replica = two.join_group(GROUP, Box::<Counter>::default())?;
    change(&group, &[Change::AddLearner(TWO)]).await;
    change(&group, &[Change::Promote(TWO)]).await;
    let holds = PeerError::HoldsReplica { node: TWO, group: GROUP };
    assert_eq!(one.remove_peer(TWO), Err(holds));

    // It comes back at another address.
    drop(replica);
    two.stop();
    drop(two);
    until(|| !one.reaches(TWO)).await;
    let two = start(TWO, &[(ONE, &first), (TWO, &third)], dir.path())?;
    let replica = two.join_group(GROUP, Box::<Counter>::default())?;
    one.add_peer(TWO, &third)?;
    until(|| one.reaches(TWO)).await;
    let status = one.status();
    assert_eq!((status.peers.len(), &status.peers[0].address), (1, &third));
    let counted = async {
        loop {
            match group.propose(Bytes::from_static(b"+")).await {
                Ok(count) => return number(&count),
                Err(RequestError::NotLeader { leader: Some(TWO) }) => {
                    let _ = replica.transfer(ONE).await;
                }
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let count = timeout(PATIENCE, counted).await?;
    assert!(count >= 2, "{count}");

    // Without its replica, it may go.
    change(&group, &[Change::Demote(TWO)]).await;
    change(&group, &[Change::Remove(TWO)]).await;
    one.remove_peer(TWO)?;
    assert_eq!((one.members(), one.status().peers), (vec![ONE], vec![]));
    until(|| !two.reaches(ONE)).await;
    until(|| two.status().peers[0].last_error.is_some()).await;
    assert_eq!(number(&group.propose(Bytes::from_static(b"+")).await?), count + 1);
    one.stop();
    two.stop();
    Ok(())
}

/// Tells when its start begins, and goes on when it is told.
struct Slow {
    counter: Counter,
    begins: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl StateMachine for Slow {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.counter.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.counter.restore(reader)
    }

    fn apply_on(&self) -> ApplyOn {
        self.begins.send(()).unwrap();
        self.go_on.recv().unwrap();
        ApplyOn::Worker
    }
}

#[tokio::test]
async fn a_member_of_a_group_that_is_starting_stays_a_peer() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (first, second) = (free_address()?, free_address()?);
    let node = start(ONE, &[(ONE, &first)], dir.path())?;
    node.add_peer(TWO, &second)?;
    let group = node.create_group(GroupSpec {
        group: GROUP,
        replicas: vec![ONE],
        preferred: None,
        machine: Box::<Counter>::default(),
    })?;
    group.view().led().await;
    change(&group, &[Change::AddLearner(TWO)]).await;
    node.stop_group(GROUP).await?;
    let holds = |group| Err(PeerError::HoldsReplica { node: TWO, group });
    assert_eq!(node.remove_peer(TWO), holds(GROUP));
    // One goes by what is stored, and one is founded.
    for (group, founders) in [(GROUP, vec![]), (GroupId(2), vec![ONE, TWO])] {
        let (begins, begun) = mpsc::channel();
        let (goes_on, go_on) = mpsc::channel();
        let machine = Box::new(Slow { counter: Counter::default(), begins, go_on });
        let starting = node.clone();
        let starting = thread::spawn(move || match founders.is_empty() {
            true => starting.join_group(group, machine),
            false => starting.create_group(GroupSpec {
                group,
                replicas: founders,
                preferred: None,
                machine,
            }),
        });
        begun.recv()?;
        assert_eq!(node.remove_peer(TWO), holds(group));
        goes_on.send(())?;
        starting.join().unwrap()?;
        node.remove_group(group).await?;
    }
    node.remove_peer(TWO)?;
    node.stop();
    Ok(())
}
