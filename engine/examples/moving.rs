//! A group that moves from nodes 1, 2, 3 to nodes 4, 5, 6 while clients write to it.
//!
//! `cargo run -p logboat --example moving`
//!
//! All six nodes run in this process, over TCP on loopback. Every write that was acknowledged is
//! there in the end, and none is there twice.

use logboat::{
    Bytes, Change, ChangeError, GroupHandle, GroupId, GroupSpec, Membership, Node, NodeConfig,
    NodeId, RequestError, RoleKind, SnapshotWriter, StateMachine,
};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::{self, Read};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

const GROUP: GroupId = GroupId(1);
const OLD: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const NEW: [NodeId; 3] = [NodeId(4), NodeId(5), NodeId(6)];

const CLIENTS: u64 = 8;

/// How long a client waits before it looks again who leads.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Numbers, and how often each was written.
#[derive(Clone, Default)]
struct Ledger(BTreeMap<u64, u64>);

impl StateMachine for Ledger {
    fn apply(&mut self, command: Bytes) -> Bytes {
        if let Some(number) = command.first_chunk() {
            *self.0.entry(u64::from_le_bytes(*number)).or_default() += 1;
        }
        Bytes::new()
    }

    /// Pairs of a number and how often it was written.
    fn query(&self, _query: Bytes) -> Bytes {
        let words = self.0.iter().flat_map(|(number, times)| [*number, *times]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let state = self.query(Bytes::new());
        Box::new(move |writer| writer.write_all(&state))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut state = Vec::new();
        reader.read_to_end(&mut state)?;
        self.0 = pairs(&state).collect();
        Ok(())
    }
}

/// The pairs of a [`Ledger::query`].
fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let (words, _) = bytes.as_chunks();
    let (pairs, _) = words.as_chunks();
    pairs.iter().map(|[number, times]| (u64::from_le_bytes(*number), u64::from_le_bytes(*times)))
}

/// What a client knows of its writes. Those that timed out may be there or not.
#[derive(Default)]
struct Account {
    acknowledged: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    longest: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let nodes = start_nodes(dir.path())?;
    let mut replicas = Vec::new();
    for node in &nodes[..3] {
        replicas.push(node.create_group(GroupSpec {
            group: GROUP,
            replicas: OLD.to_vec(),
            preferred: Some(OLD[0]),
            machine: Box::new(Ledger::default()),
        })?);
    }
    // The replicas to be wait for their leader.
    for node in &nodes[3..] {
        replicas.push(node.join_group(GROUP, Box::new(Ledger::default()))?);
    }
    let replicas: Arc<[GroupHandle]> = replicas.into();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(write_on(client, Arc::clone(&replicas), Arc::clone(&stop)));
    }
    sleep(Duration::from_millis(500)).await;

    let begin = Instant::now();
    let members = move_group(&replicas).await?;
    println!("the group has moved in {:?}: {members}", begin.elapsed());
    // The old replicas learn that they are no members, and remove themselves.
    while nodes[..3].iter().any(|node| !node.stored_groups().is_empty()) {
        sleep(RETRY_INTERVAL).await;
    }
    println!("the old replicas are gone");
    sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);

    let mut total = Account::default();
    while let Some(account) = clients.join_next().await {
        let Account { acknowledged, unknown, longest } = account?;
        total.acknowledged.extend(acknowledged);
        total.unknown.extend(unknown);
        total.longest = total.longest.max(longest);
    }
    let ledger: BTreeMap<u64, u64> = loop {
        match leader(&replicas).await.read(Bytes::new()).await {
            Ok(answer) => break pairs(&answer).collect(),
            Err(_) => sleep(RETRY_INTERVAL).await,
        }
    };
    check(&ledger, &total);
    let (acknowledged, unknown) = (total.acknowledged.len(), total.unknown.len());
    println!(
        "{acknowledged} writes were acknowledged, and all are there; {unknown} timed out; the \
         longest took {:?}",
        total.longest
    );
    nodes.iter().for_each(Node::stop);
    Ok(())
}

/// What was acknowledged is there once. What is there more than that was not acknowledged, and is
/// there once, too.
fn check(ledger: &BTreeMap<u64, u64>, total: &Account) {
    assert!(!total.acknowledged.is_empty());
    for number in &total.acknowledged {
        assert_eq!(ledger.get(number), Some(&1), "write {number}");
    }
    for (number, times) in ledger {
        assert_eq!(*times, 1, "write {number}");
        assert!(total.acknowledged.contains(number) || total.unknown.contains(number));
    }
}

/// Takes the group to the new nodes, in three steps.
async fn move_group(replicas: &[GroupHandle]) -> Result<Membership, ChangeError> {
    change(replicas, &NEW.map(Change::AddLearner)).await?;
    println!("the new replicas get the log");
    // The learners become voters and the voters learners, all at once: at no time can the group
    // be without a majority that has all of it.
    let promotions = NEW.map(Change::Promote).into_iter();
    let swap = promotions.chain(OLD.map(Change::Demote)).chain([Change::Prefer(NEW[0])]);
    change(replicas, &swap.collect::<Vec<_>>()).await?;
    println!("the new replicas vote");
    change(replicas, &OLD.map(Change::Remove)).await
}

/// Asks whichever replica leads, again while the same change may be taken a little later: when the
/// learners have caught up, or when another replica leads.
async fn change(replicas: &[GroupHandle], changes: &[Change]) -> Result<Membership, ChangeError> {
    loop {
        match leader(replicas).await.change(changes).await {
            Err(error) if error.is_transient() => sleep(RETRY_INTERVAL).await,
            outcome => return outcome,
        }
    }
}

/// Writes numbers that no other client writes.
async fn write_on(client: u64, replicas: Arc<[GroupHandle]>, stop: Arc<AtomicBool>) -> Account {
    let mut account = Account::default();
    for number in (client..).step_by(CLIENTS as usize) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begin = Instant::now();
        let is_known = write(&replicas, number).await;
        let written = if is_known { &mut account.acknowledged } else { &mut account.unknown };
        written.insert(number);
        account.longest = account.longest.max(begin.elapsed());
    }
    account
}

/// Writes a number. Only an attempt that certainly had no effect is followed by another. Returns
/// whether it was acknowledged.
async fn write(replicas: &[GroupHandle], number: u64) -> bool {
    let command = Bytes::copy_from_slice(&number.to_le_bytes());
    loop {
        match leader(replicas).await.propose(command.clone()).await {
            Ok(_) => return true,
            Err(RequestError::TimedOut) => return false,
            Err(_) => sleep(RETRY_INTERVAL).await,
        }
    }
}

/// The replica that leads. All are in this process. A client elsewhere would go by
/// [`RequestError::NotLeader`] and call the node that it names ([`Node::call`]).
async fn leader(replicas: &[GroupHandle]) -> &GroupHandle {
    loop {
        let leads = |replica: &&GroupHandle| replica.view().role() == RoleKind::Leader;
        match replicas.iter().find(leads) {
            Some(leader) => return leader,
            None => sleep(RETRY_INTERVAL).await,
        }
    }
}

fn start_nodes(dir: &Path) -> Result<Vec<Node>, Box<dyn Error>> {
    let listeners = (0..6).map(|_| TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
    drop(listeners);
    let members: BTreeMap<_, _> = OLD.into_iter().chain(NEW).zip(addresses).collect();
    let nodes = members.keys().map(|node| {
        let mut config = NodeConfig::new(*node, members.clone(), dir.join(node.to_string()))?;
        config.wal.segment_bytes = 4 << 20;
        Ok(Node::start(config)?)
    });
    nodes.collect()
}

/// `cargo test` runs the example, too.
#[test]
fn nothing_is_lost_when_a_group_moves() -> Result<(), Box<dyn Error>> {
    main()
}
