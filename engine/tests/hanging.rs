//! User code that hangs is one replica's matter: its neighbours go on, its group elects another
//! leader, and the node can be stopped.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, impatient, number, patient, pause};
use logboat::{
    ApplyOn, GroupError, GroupId, GroupRequest, GroupSpec, Index, NodeConfig, NodeId, ReadMode,
    RequestError, RoleKind, SnapshotWriter, StateMachine, UserCode,
};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const GROUP: GroupId = GroupId(3);
/// Its neighbour, which prefers the same leader.
const OTHER: GroupId = GroupId(6);

/// Where a state machine hangs while its gate is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Apply,
    Query,
    Snapshot,
    Writer,
    Restore,
}

/// What a call passes, once it is open.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// Where it is shut.
    shut_at: Option<Place>,
    /// How many calls wait.
    waiting: usize,
}

impl Gate {
    fn shut(&self, place: Place) {
        self.state.lock().shut_at = Some(place);
    }

    fn open(&self) {
        self.state.lock().shut_at = None;
        self.changed.notify_all();
    }

    fn pass(&self, place: Place) {
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.shut_at == Some(place) {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }

    async fn await_waiting(&self) {
        while self.state.lock().waiting == 0 {
            pause().await;
        }
    }
}

/// A counter that hangs while its gate is shut, but for commands that say "pass".
struct Hanging {
    counter: Counter,
    gate: Arc<Gate>,
    apply_on: ApplyOn,
}

impl StateMachine for Hanging {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.gate.pass(Place::Apply);
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.gate.pass(Place::Query);
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.gate.pass(Place::Snapshot);
        let (writer, gate) = (self.counter.snapshot(), Arc::clone(&self.gate));
        Box::new(move |file| {
            gate.pass(Place::Writer);
            writer(file)
        })
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.gate.pass(Place::Restore);
        self.counter.restore(reader)
    }

    fn apply_on(&self) -> ApplyOn {
        self.apply_on
    }
}

/// A cluster in which the replicas of one group may hang.
struct Nodes {
    cluster: Cluster,
    gates: BTreeMap<NodeId, Arc<Gate>>,
}

impl Nodes {
    fn new(
        count: u64,
        apply_on: ApplyOn,
        configure: fn(&mut NodeConfig),
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let cluster = Cluster::configured(count, configure)?;
        let gates = cluster.ids().into_iter().map(|id| (id, Arc::default())).collect();
        let nodes = Self { cluster, gates };
        for id in nodes.cluster.ids() {
            let (counter, gate) = (Counter::default(), Arc::clone(nodes.gate(id)));
            nodes.cluster.start_with(id, GROUP, Box::new(Hanging { counter, gate, apply_on }))?;
        }
        nodes.cluster.start_group(OTHER)?;
        Ok(nodes)
    }

    /// Has a follower hang, and fall so many commands behind its leader.
    async fn leave_behind(&self, commands: u64) -> NodeId {
        self.cluster.propose(GROUP, b"+").await;
        let leader = self.cluster.leader(GROUP).await;
        let follower = self.others(leader)[0];
        self.gate(follower).shut(Place::Apply);
        self.cluster.propose(GROUP, b"+").await;
        self.await_stuck(follower, Some(UserCode::StateMachine)).await;
        for _ in 0..commands {
            self.cluster.propose(GROUP, &[0; 1 << 10]).await;
        }
        follower
    }

    /// Has a follower of a leader with so many commands need a snapshot, and hang over that.
    async fn await_restore(&self, follower: NodeId, commands: u64) {
        let cluster = &self.cluster;
        cluster.isolate(follower);
        let others = self.others(follower);
        for _ in 0..commands {
            let command = Bytes::from_static(&[0; 1 << 10]);
            loop {
                let leader = cluster.leader_among(&others, GROUP).await;
                match cluster.handle(leader, GROUP).propose(command.clone()).await {
                    Ok(_) => break,
                    // There may be another by now.
                    Err(RequestError::NotLeader { .. }) => pause().await,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let written = |id: &NodeId| cluster.node(*id).metrics().snapshots_written.get() > 0;
        while !others.iter().all(written) {
            pause().await;
        }
        self.gate(follower).shut(Place::Restore);
        cluster.heal(follower);
        self.gate(follower).await_waiting().await;
    }

    fn gate(&self, node: NodeId) -> &Arc<Gate> {
        &self.gates[&node]
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.cluster.ids().into_iter().filter(|other| *other != node).collect()
    }

    /// Waits until the status of a node names the group, or names none.
    async fn await_stuck(&self, node: NodeId, code: Option<UserCode>) {
        let stuck = || {
            let stuck = self.cluster.node(node).status().stuck;
            assert!(stuck.iter().all(|replica| replica.group == GROUP && !replica.blocks_others));
            stuck.first().map(|replica| replica.code)
        };
        while stuck() != code {
            pause().await;
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.gates.values().for_each(|gate| gate.open());
    }
}

#[tokio::test]
async fn when_a_leader_hangs_its_neighbours_go_on_and_another_leads() -> TestResult {
    for apply_on in [ApplyOn::Worker, ApplyOn::Pool] {
        let nodes = Nodes::new(3, apply_on, impatient)?;
        let cluster = &nodes.cluster;
        cluster.propose(GROUP, b"+").await;
        let leader = cluster.leader(GROUP).await;
        nodes.gate(leader).shut(Place::Apply);
        let handle = cluster.handle(leader, GROUP);
        let hung = tokio::spawn(async move { handle.propose(Bytes::from_static(b"+")).await });
        nodes.gate(leader).await_waiting().await;

        let next = cluster.leader_among(&nodes.others(leader), GROUP).await;
        assert_eq!(hung.await?, Err(RequestError::TimedOut), "it may be committed, or be lost");
        nodes.await_stuck(leader, Some(UserCode::StateMachine)).await;
        let refused = cluster.handle(leader, GROUP).propose(Bytes::from_static(b"+")).await;
        assert!(matches!(refused, Err(RequestError::NotLeader { .. })), "{refused:?}");
        assert_eq!(number(&cluster.propose_at(next, GROUP, b"+").await), 3, "{apply_on:?}");
        for count in 1..=20 {
            assert_eq!(number(&cluster.propose(OTHER, b"+").await), count);
        }
        // On the node of the one that hangs as well.
        cluster.await_applied(leader, OTHER, 20).await;
        assert_eq!(cluster.handle(leader, GROUP).view().applied(), Index(2));

        nodes.gate(leader).open();
        nodes.await_stuck(leader, None).await;
        cluster.await_applied(leader, GROUP, 3).await;
        assert_eq!(number(&cluster.read(GROUP).await), 3);
        // It can lead again.
        while cluster.handle(leader, GROUP).view().role() != RoleKind::Leader {
            let handle = cluster.handle(cluster.leader(GROUP).await, GROUP);
            // It may lead again a little later.
            let _ = handle.transfer(leader).await;
            pause().await;
        }
        assert_eq!(number(&cluster.propose(GROUP, b"+").await), 4);
        assert_eq!(cluster.node(leader).status().failed, []);
    }
    Ok(())
}

#[tokio::test]
async fn when_all_state_machines_of_a_node_hang_all_its_groups_are_led_elsewhere() -> TestResult {
    // More than a node leaves threads to.
    const GROUPS: u64 = 80;
    let cluster = Cluster::configured(3, impatient)?;
    let (victim, gate) = (NodeId(1), Arc::<Gate>::default());
    let others: Vec<_> = cluster.ids().into_iter().filter(|node| *node != victim).collect();
    for node in cluster.ids() {
        for group in (1..=GROUPS).map(GroupId) {
            let gate = if node == victim { Arc::clone(&gate) } else { Arc::default() };
            let machine = Hanging { counter: Counter::default(), gate, apply_on: ApplyOn::Worker };
            cluster.node(node).create_group(GroupSpec {
                group,
                replicas: cluster.ids(),
                preferred: Some(victim),
                machine: Box::new(machine),
            })?;
        }
    }
    for group in (1..=GROUPS).map(GroupId) {
        cluster.leader_among(&[victim], group).await;
    }
    gate.shut(Place::Apply);
    for group in (1..=GROUPS).map(GroupId) {
        let handle = cluster.handle(victim, group);
        tokio::spawn(async move { handle.propose(Bytes::from_static(b"+")).await });
    }
    for group in (1..=GROUPS).map(GroupId) {
        // What leads may be asked to hand over to the preferred node, as long as that looks well.
        loop {
            let leader = cluster.handle(cluster.leader_among(&others, group).await, group);
            if leader.propose(Bytes::from_static(b"+")).await.is_ok() {
                break;
            }
        }
    }
    gate.open();
    for group in (1..=GROUPS).map(GroupId) {
        cluster.await_applied(victim, group, 1).await;
    }
    while !cluster.node(victim).status().stuck.is_empty() {
        pause().await;
    }
    Ok(())
}

#[tokio::test]
async fn who_reads_from_a_leader_that_hangs_is_sent_to_another() -> TestResult {
    let nodes = Nodes::new(3, ApplyOn::Worker, impatient)?;
    let cluster = &nodes.cluster;
    cluster.propose(GROUP, b"+").await;
    let leader = cluster.leader(GROUP).await;
    nodes.gate(leader).shut(Place::Query);
    let answer = cluster.handle(leader, GROUP).read(Bytes::new()).await;
    assert_eq!(answer, Err(RequestError::NotLeader { leader: None }));
    cluster.leader_among(&nodes.others(leader), GROUP).await;
    assert_eq!(number(&cluster.read(GROUP).await), 1);
    Ok(())
}

#[tokio::test]
async fn a_request_ends_when_the_connection_for_its_answer_does() -> TestResult {
    for is_forwarded in [false, true] {
        let nodes = Nodes::new(3, ApplyOn::Worker, patient)?;
        let cluster = &nodes.cluster;
        cluster.propose(GROUP, b"+").await;
        let leader = cluster.leader(GROUP).await;
        nodes.gate(leader).shut(Place::Query);
        let [caller, via] = nodes.others(leader)[..] else { panic!("there are three nodes") };
        let node = cluster.node(caller).clone();
        let request = GroupRequest::read(ReadMode::default(), Bytes::new());
        let asked = tokio::spawn(async move {
            if is_forwarded {
                node.call_via(via, leader, GROUP, &request).await
            } else {
                node.call(leader, GROUP, &request).await
            }
        });
        nodes.gate(leader).await_waiting().await;
        cluster.cut(leader, if is_forwarded { via } else { caller });
        let answer = tokio::time::timeout(Duration::from_secs(12), asked).await??;
        assert_eq!(answer, Err(RequestError::TimedOut));
    }
    Ok(())
}

#[tokio::test]
async fn a_group_whose_only_replica_hangs_goes_on_when_that_does() -> TestResult {
    let nodes = Nodes::new(1, ApplyOn::Worker, impatient)?;
    let (cluster, node) = (&nodes.cluster, NodeId(1));
    cluster.propose(GROUP, b"+").await;
    nodes.gate(node).shut(Place::Apply);
    let answer = cluster.handle(node, GROUP).propose(Bytes::from_static(b"+")).await;
    assert_eq!(answer, Err(RequestError::TimedOut));
    assert_eq!(number(&cluster.propose(OTHER, b"+").await), 1);
    nodes.gate(node).open();
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 3);
    Ok(())
}

#[tokio::test]
async fn a_state_machine_on_the_pool_holds_nobody_up_and_keeps_the_order() -> TestResult {
    let nodes = Nodes::new(1, ApplyOn::Pool, patient)?;
    let (cluster, node) = (&nodes.cluster, NodeId(1));
    cluster.propose(GROUP, b"+").await;
    nodes.gate(node).shut(Place::Apply);
    let handle = cluster.handle(node, GROUP);
    let proposals: Vec<_> = (0..10)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.propose(Bytes::from_static(b"+")).await })
        })
        .collect();
    nodes.gate(node).await_waiting().await;
    let commands = (0..20).map(|_| cluster.propose(OTHER, b"+"));
    for command in commands {
        command.await;
    }
    nodes.gate(node).open();
    let mut counts = Vec::new();
    for proposal in proposals {
        counts.push(number(&proposal.await??));
    }
    counts.sort_unstable();
    assert_eq!(counts, (2..=11).collect::<Vec<_>>(), "each was applied once");
    assert_eq!(number(&cluster.read(GROUP).await), 11);
    handle.compact();
    while cluster.node(node).metrics().snapshots_written.get() == 0 {
        pause().await;
    }
    assert_eq!(cluster.node(node).status().stuck, []);
    Ok(())
}

#[tokio::test]
async fn a_follower_that_hangs_takes_in_no_more_than_it_has_room_for() -> TestResult {
    let nodes = Nodes::new(3, ApplyOn::Worker, impatient)?;
    let cluster = &nodes.cluster;
    let commands = 300;
    let follower = nodes.leave_behind(commands).await;
    let behind = cluster.handle(follower, GROUP).view().commit();
    assert!(behind < Index(commands / 2), "it knows of {behind}");
    nodes.gate(follower).open();
    cluster.await_applied(follower, GROUP, commands + 2).await;
    Ok(())
}

#[tokio::test]
async fn a_snapshot_that_is_captured_or_taken_over_for_long_holds_up_its_replica_alone()
-> TestResult {
    let mut nodes = Nodes::new(3, ApplyOn::Worker, impatient)?;
    nodes.cluster.propose(GROUP, b"+").await;
    let leader = nodes.cluster.leader(GROUP).await;
    let follower = nodes.others(leader)[0];
    nodes.cluster.await_applied(follower, GROUP, 1).await;
    nodes.gate(follower).shut(Place::Snapshot);
    nodes.cluster.handle(follower, GROUP).compact();
    nodes.await_stuck(follower, Some(UserCode::StateMachine)).await;
    nodes.cluster.propose(OTHER, b"+").await;
    nodes.cluster.await_applied(follower, OTHER, 1).await;
    nodes.gate(follower).open();
    nodes.await_stuck(follower, None).await;

    let commands = 100;
    nodes.await_restore(follower, commands).await;
    nodes.await_stuck(follower, Some(UserCode::StateMachine)).await;
    let refused = nodes.cluster.handle(follower, GROUP).propose(Bytes::from_static(b"+")).await;
    assert!(matches!(refused, Err(RequestError::NotLeader { .. })), "{refused:?}");
    nodes.cluster.propose(OTHER, b"+").await;
    nodes.cluster.await_applied(follower, OTHER, 2).await;
    nodes.gate(follower).open();
    nodes.cluster.await_applied(follower, GROUP, commands + 1).await;
    assert_eq!(nodes.cluster.node(follower).status().failed, []);

    // What it took over is what its node keeps.
    nodes.cluster.stop(follower);
    Ok(())
}

/// A large one takes longer than others should wait, and not as long as a call that hangs.
#[tokio::test]
async fn no_group_of_its_worker_waits_for_a_snapshot_that_is_taken_over() -> TestResult {
    let nodes = Nodes::new(3, ApplyOn::Worker, patient)?;
    nodes.cluster.propose(GROUP, b"+").await;
    let leader = nodes.cluster.leader(GROUP).await;
    let follower = nodes.others(leader)[0];
    nodes.await_restore(follower, 100).await;
    nodes.cluster.propose(OTHER, b"+").await;
    let applied = nodes.cluster.await_applied(follower, OTHER, 1);
    tokio::time::timeout(Duration::from_secs(20), applied).await?;
    nodes.gate(follower).open();
    nodes.cluster.await_applied(follower, GROUP, 101).await;
    Ok(())
}

#[tokio::test]
async fn who_is_sent_a_snapshot_while_it_hangs_can_lead_when_it_goes_on() -> TestResult {
    let nodes = Nodes::new(3, ApplyOn::Worker, impatient)?;
    let cluster = &nodes.cluster;
    // It takes in so little of these that it is sent a snapshot.
    let commands = 300;
    let follower = nodes.leave_behind(commands).await;
    while cluster.snapshots_sent() == 0 {
        pause().await;
    }
    // What arrives later than the snapshot.
    cluster.propose(OTHER, b"+").await;
    cluster.await_applied(follower, OTHER, 1).await;
    nodes.gate(follower).open();
    cluster.await_applied(follower, GROUP, commands + 2).await;
    let handle = cluster.handle(follower, GROUP);
    let leads = async {
        while handle.view().role() != RoleKind::Leader {
            let leader = cluster.handle(cluster.leader(GROUP).await, GROUP);
            // It may not be up to date yet.
            let _ = leader.transfer(follower).await;
            pause().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(25), leads).await?;
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), commands + 3);
    Ok(())
}

#[tokio::test]
async fn a_writer_that_hangs_holds_up_no_other_snapshot_and_keeps_its_directory() -> TestResult {
    let mut nodes = Nodes::new(1, ApplyOn::Worker, |config| {
        config.state_machine_timeout = Duration::from_millis(20);
    })?;
    let node = NodeId(1);
    nodes.cluster.propose(GROUP, b"+").await;
    nodes.cluster.propose(OTHER, b"+").await;
    nodes.gate(node).shut(Place::Writer);
    nodes.cluster.handle(node, GROUP).compact();
    nodes.gate(node).await_waiting().await;
    nodes.await_stuck(node, Some(UserCode::SnapshotWriter)).await;
    nodes.cluster.handle(node, OTHER).compact();
    while nodes.cluster.node(node).metrics().snapshots_written.get() == 0 {
        pause().await;
    }
    // Writing does not concern the leadership.
    assert_eq!(number(&nodes.cluster.propose(GROUP, b"+").await), 2);
    nodes.cluster.stop(node);
    nodes.await_stuck(node, Some(UserCode::SnapshotWriter)).await;
    let Err(error) = nodes.cluster.restart_without_groups(node) else {
        return Err("two nodes write to one directory".into());
    };
    assert!(error.to_string().contains("in use"), "{error}");
    nodes.gate(node).open();
    while nodes.cluster.restart_without_groups(node).is_err() {
        pause().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_whose_state_machine_hangs_is_named_and_holds_up_nobody() -> TestResult {
    for stops_meanwhile in [false, true] {
        let mut nodes = Nodes::new(1, ApplyOn::Worker, impatient)?;
        let node = NodeId(1);
        nodes.cluster.propose(GROUP, b"+").await;
        nodes.cluster.handle(node, GROUP).compact();
        while nodes.cluster.node(node).metrics().snapshots_written.get() == 0 {
            pause().await;
        }
        nodes.cluster.stop(node);
        nodes.cluster.restart_without_groups(node)?;
        let gate = Arc::clone(nodes.gate(node));
        gate.shut(Place::Restore);
        let (counter, apply_on) = (Counter::default(), ApplyOn::Worker);
        let machine = Hanging { counter, gate: Arc::clone(&gate), apply_on };
        let starting = nodes.cluster.node(node).clone();
        let spec = GroupSpec {
            group: GROUP,
            replicas: vec![node],
            preferred: None,
            machine: Box::new(machine),
        };
        let started = thread::spawn(move || starting.create_group(spec).map(drop));
        gate.await_waiting().await;
        nodes.await_stuck(node, Some(UserCode::StateMachine)).await;
        nodes.cluster.start_group(OTHER)?;
        nodes.cluster.propose(OTHER, b"+").await;
        if stops_meanwhile {
            let stopping = nodes.cluster.node(node).clone();
            tokio::task::spawn_blocking(move || stopping.stop()).await?;
        }
        gate.open();
        let started = started.join().unwrap();
        assert_eq!(nodes.cluster.node(node).status().stuck, []);
        if stops_meanwhile {
            assert!(matches!(started, Err(GroupError::Stopped)), "{started:?}");
        } else {
            started?;
            assert_eq!(number(&nodes.cluster.propose(GROUP, b"+").await), 2);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_node_stops_although_a_state_machine_hangs() -> TestResult {
    for (configure, is_noticed) in [(impatient as fn(&mut _), true), (patient, false)] {
        let nodes = Nodes::new(1, ApplyOn::Worker, configure)?;
        let (cluster, node) = (&nodes.cluster, NodeId(1));
        cluster.propose(GROUP, b"+").await;
        nodes.gate(node).shut(Place::Apply);
        let handle = cluster.handle(node, GROUP);
        let hung = tokio::spawn(async move { handle.propose(Bytes::from_static(b"+")).await });
        nodes.gate(node).await_waiting().await;
        let stopping = cluster.node(node).clone();
        tokio::task::spawn_blocking(move || stopping.stop()).await?;
        assert_eq!(!cluster.node(node).status().stuck.is_empty(), is_noticed);
        if is_noticed {
            assert_eq!(hung.await?, Err(RequestError::TimedOut));
        }
        nodes.gate(node).open();
    }
    Ok(())
}
