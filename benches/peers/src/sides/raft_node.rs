//! raft-rs on raft-engine over TCP: what TiKV's raftstore is made of, put together as raftstore
//! does it, without the rest of TiKV.
//!
//! A node has one engine and some pollers. Each poller has groups of its own, and a connection to
//! the poller of the same groups on every other node. Settings are TiKV's (`raft_rs`,
//! `raft_engine`). Where it could be cheaper than TiKV, it is. It has no region epochs and no apply
//! state, and writes no commit index for its own sake. It proposes the commands of one group at
//! once, and collects no log.

mod event;
mod poller;
mod storage;
mod wire;

use crate::sides::raft_engine;
use crate::sides::raft_rs::{config, logger};
use crate::work::clients::Target;
use ::raft_engine::{Engine, LogBatch, ReadableSize};
use bytes::Bytes;
use event::{Event, Proposal};
use logboat_bench::Failure;
use parking_lot::Mutex;
use poller::{Poller, Replica};
use raft::RawNode;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use storage::GroupLog;
use tokio::sync::oneshot;
use wire::Link;

const NODES: u64 = 3;

/// Three nodes in this process.
pub(crate) struct RaftNodes {
    /// Pollers a node.
    pollers: u64,
    /// By node, then by poller.
    inboxes: Vec<Vec<Sender<Event>>>,
    threads: Mutex<Vec<JoinHandle<Result<(), String>>>>,
}

/// A poller: its node, from 1 on, and its number there, from 0 on.
type Place = (u64, u64);

/// A poller's links, by node.
type Links = BTreeMap<u64, Link>;

/// The poller of the replica that shall lead a group. Groups begin with 1.
const fn home(group: u64, pollers: u64) -> Place {
    (1 + group % NODES, group / NODES % pollers)
}

impl RaftNodes {
    /// Starts the nodes, with data in `dir`, and waits until every group has a leader.
    pub(crate) fn start(dir: &Path, groups: u64) -> Result<Self, Failure> {
        // The nodes share the cores. More threads than that did no more, and cost more.
        let pollers = (thread::available_parallelism()?.get() as u64).div_ceil(NODES);
        let (inboxes, receivers): (Vec<Vec<_>>, Vec<Vec<_>>) =
            (0..NODES).map(|_| (0..pollers).map(|_| channel()).unzip()).unzip();
        let nodes = Self { pollers, inboxes, threads: Mutex::default() };
        let mut links = nodes.connect()?;
        let led = Arc::new(AtomicUsize::new(0));
        let open = |node| {
            let dir = dir.join(format!("node-{node}"));
            std::fs::create_dir(&dir)?;
            Ok(Arc::new(raft_engine::open(&dir, Some(ReadableSize::mb(256)))?))
        };
        let engines = (1..=NODES).map(open).collect::<Result<Vec<_>, Failure>>()?;
        // What was prepared must not be paid for by the first syncs.
        rustix::fs::sync();
        for ((node, receivers), engine) in (1..).zip(receivers).zip(engines) {
            for (poller, inbox) in (0..).zip(receivers) {
                let links = links.remove(&(node, poller)).unwrap_or_default();
                nodes.spawn_poller((node, poller), groups, inbox, links, &engine, &led)?;
            }
        }
        nodes.await_leaders(&led, usize::try_from(groups)?)?;
        Ok(nodes)
    }

    /// Connects each poller with those of the same groups on other nodes, both ways.
    fn connect(&self) -> Result<BTreeMap<Place, Links>, Failure> {
        let mut links: BTreeMap<Place, Links> = BTreeMap::new();
        for (to, inboxes) in (1..).zip(&self.inboxes) {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            for from in (1..=NODES).filter(|from| *from != to) {
                for (poller, inbox) in (0..).zip(inboxes) {
                    let outgoing = TcpStream::connect(listener.local_addr()?)?;
                    outgoing.set_nodelay(true)?;
                    let (incoming, _) = listener.accept()?;
                    let inbox = inbox.clone();
                    self.spawn(move || wire::receive(incoming, &inbox));
                    links.entry((from, poller)).or_default().insert(to, Link::new(outgoing));
                }
            }
        }
        Ok(links)
    }

    fn spawn_poller(
        &self,
        (node, poller): Place,
        groups: u64,
        inbox: Receiver<Event>,
        links: Links,
        engine: &Arc<Engine>,
        led: &Arc<AtomicUsize>,
    ) -> Result<(), Failure> {
        let (config, logger) = (config(node), logger());
        let home = |group: &u64| home(*group, self.pollers);
        let groups: Vec<u64> = (1..=groups).filter(|group| home(group).1 == poller).collect();
        let replica = |group: &u64| {
            let log = GroupLog::new(*group, Arc::clone(engine), (1..=NODES).collect());
            Ok((*group, Replica::new(RawNode::new(&config, log, &logger)?)))
        };
        let poller = Poller {
            replicas: groups.iter().map(replica).collect::<Result<_, Failure>>()?,
            inbox,
            links,
            engine: Arc::clone(engine),
            batch: LogBatch::default(),
            led: Arc::clone(led),
            woken: Vec::new(),
        };
        let preferred: Vec<u64> =
            groups.into_iter().filter(|group| home(group).0 == node).collect();
        self.spawn(move || poller.run(&preferred));
        Ok(())
    }

    fn spawn(&self, run: impl FnOnce() -> Result<(), Failure> + Send + 'static) {
        let thread = thread::spawn(|| run().map_err(|error| error.to_string()));
        self.threads.lock().push(thread);
    }

    fn await_leaders(&self, led: &AtomicUsize, groups: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while led.load(Ordering::Relaxed) < groups {
            if Instant::now() > deadline {
                self.stop()?;
                return Err("some groups have no leader after 60 s".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops all nodes and says what failed.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        for inbox in self.inboxes.iter().flatten() {
            // A thread that has failed has stopped already, and its error is reported below.
            let _ = inbox.send(Event::Stop);
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(())
    }
}

impl Target for RaftNodes {
    async fn write(&self, group: usize, command: Bytes) -> bool {
        let group = group as u64 + 1;
        let (node, poller) = home(group, self.pollers);
        let (done, applied) = oneshot::channel();
        let inbox = &self.inboxes[node as usize - 1][poller as usize];
        let sent = inbox.send(Event::Propose(Proposal { group, command, done }));
        sent.is_ok() && applied.await.is_ok()
    }
}
