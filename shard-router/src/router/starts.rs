//! A node's replicas are started with the router, one after the other. A state machine that hangs
//! while it takes over its snapshot keeps the thread of its start, and the others are started on
//! another thread.

use crate::error::RouterStartError;
use crate::map::{META_GROUP, Range};
use crate::table::{Members, Table};
use logboat::{
    GroupError, GroupHandle, GroupId, GroupSpec, Node, NodeId, ReplicaId, StateMachine,
    StoredGroup, StuckReplica,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// How long a start may take before it is asked whether it hangs.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How many threads may be left to starts that hang. The start of the router waits for others.
const MAX_LEFT: usize = 64;

/// Makes the state machine of a range.
pub(super) type MakeMachine = Box<dyn Fn(&Range) -> Box<dyn StateMachine> + Send>;

/// The replicas of a node by their groups. None stands for a replica that has not started.
pub(super) type LocalReplicas = FxHashMap<GroupId, Option<GroupHandle>>;

/// How a replica is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It founds the group with these, the first one to lead.
    Founds(Vec<NodeId>),
    /// It is stored, or waits for its leader.
    Joins,
}

/// What a node has to start.
pub(super) struct Planned {
    pub(super) range: Range,
    pub(super) how: How,
}

/// What the threads share.
struct Starts {
    node: Node,
    machine: Arc<Mutex<MakeMachine>>,
    /// What is to be started.
    todo: Mutex<VecDeque<Planned>>,
}

/// What a thread says.
enum Step {
    Begins(GroupId),
    /// Without a replica if it can't be started, and its group has to go on without it.
    Ended(GroupId, Result<Option<GroupHandle>, GroupError>),
    /// Nothing is left to be started.
    Done,
    Panicked,
}

/// Starts this node's replicas. A replica whose snapshot is damaged is left out, and so is one
/// whose state machine hangs: it starts once that returns. The groups' other replicas go on
/// without it.
pub(super) async fn start_groups(
    node: Node,
    table: &Table,
    machine: Arc<Mutex<MakeMachine>>,
) -> Result<LocalReplicas, RouterStartError> {
    let todo = Mutex::new(planned(&node, table).into());
    let (sender, steps) = unbounded_channel();
    let starts = Arc::new(Starts { node, machine, todo });
    Watch { starts, sender, steps, running: FxHashMap::default(), threads: 0 }.run().await
}

/// The replicas that a node has stored, and those that it is to have by the table, and how they are
/// started. Replicas of the meta group are not among them.
pub(super) fn planned(node: &Node, table: &Table) -> Vec<Planned> {
    let stored: FxHashMap<_, _> =
        node.stored_groups().into_iter().map(|stored| (stored.group, stored)).collect();
    let ranges = table.ranges().iter().filter(|record| record.group != META_GROUP);
    let planned = ranges.filter_map(|record| {
        let stored = stored.get(&record.group);
        let tombstone = node.tombstone(record.group);
        let how = how(node.id(), &record.founders, &record.members, stored, tombstone)?;
        Some(Planned { range: record.range(), how })
    });
    planned.collect()
}

/// How a replica on `node` is started, if it is to be. One that is stored is started again. One
/// that lost its data is started as before they were lost, so that it is found to have failed. One
/// that is gone by its tombstone is not: the table is old, or will say what has taken its place.
pub(super) fn how(
    node: NodeId,
    founders: &[NodeId],
    members: &Members,
    stored: Option<&StoredGroup>,
    tombstone: Option<ReplicaId>,
) -> Option<How> {
    let founds = || How::Founds(founders.to_vec());
    match stored {
        Some(stored) if stored.is_running => None,
        Some(stored) if stored.failure.is_some() && founders.contains(&node) => Some(founds()),
        Some(stored) if stored.failure.is_some() => None,
        Some(_) => Some(How::Joins),
        None if members.is_gone(node, tombstone) => None,
        None if members.founding.contains(&node) => Some(founds()),
        None => members.contains(node).then_some(How::Joins),
    }
}

/// Starts a replica. Blocks until its snapshot has been read.
pub(super) fn start_replica(
    node: &Node,
    Planned { range, how }: Planned,
    machine: Box<dyn StateMachine>,
) -> Result<GroupHandle, GroupError> {
    let group = range.group;
    match how {
        How::Joins => node.join_group(group, machine),
        How::Founds(replicas) => {
            let preferred = replicas.first().copied();
            node.create_group(GroupSpec { group, replicas, preferred, machine })
        }
    }
}

/// What a start came to. No replica if what is stored of it can't be used, or if it is gone: its
/// group goes on without it, and replaces it.
pub(super) fn without_unusable(
    node: &Node,
    started: Result<GroupHandle, GroupError>,
) -> Result<Option<GroupHandle>, GroupError> {
    match started {
        Ok(handle) => Ok(Some(handle)),
        Err(error @ (GroupError::Snapshot { .. } | GroupError::Log { .. })) => {
            node.metrics().failed_replicas.inc();
            tracing::error!("this replica does not start: {error}");
            Ok(None)
        }
        // It has been replaced since, or goes.
        Err(error @ GroupError::Removed(_)) => {
            tracing::info!("this replica does not start: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Watches the threads.
struct Watch {
    starts: Arc<Starts>,
    sender: UnboundedSender<(usize, Step)>,
    steps: UnboundedReceiver<(usize, Step)>,
    /// What each thread does.
    running: FxHashMap<usize, Running>,
    /// How many threads there have been.
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    /// It is between two starts.
    Idle,
    Starts(GroupId),
    /// It is left to a start.
    Hangs,
}

impl Watch {
    async fn run(mut self) -> Result<LocalReplicas, RouterStartError> {
        let mut local = LocalReplicas::default();
        self.add_thread()?;
        while self.running.values().any(|running| *running != Running::Hangs) {
            match timeout(LOOK_INTERVAL, self.steps.recv()).await {
                Ok(step) => {
                    let (thread, step) = step.expect("this holds a sender");
                    self.take(thread, step, &mut local)?;
                }
                Err(_) => self.leave_hanging(&mut local)?,
            }
        }
        Ok(local)
    }

    fn add_thread(&mut self) -> Result<(), RouterStartError> {
        let (starts, sender, thread) =
            (Arc::clone(&self.starts), self.sender.clone(), self.threads);
        // Who starts the router may have turned away, or have it without this replica.
        let say = move |step| sender.send((thread, step)).is_ok();
        let work = move || {
            let worked = catch_unwind(AssertUnwindSafe(|| starts.work(&say)));
            say(worked.map_or(Step::Panicked, |()| Step::Done));
        };
        let started = thread::Builder::new().name("logboat-starts".to_owned()).spawn(work);
        started.map_err(RouterStartError::Thread)?;
        self.running.insert(thread, Running::Idle);
        self.threads += 1;
        Ok(())
    }

    fn take(
        &mut self,
        thread: usize,
        step: Step,
        local: &mut LocalReplicas,
    ) -> Result<(), RouterStartError> {
        match step {
            Step::Begins(group) => self.running.insert(thread, Running::Starts(group)),
            Step::Ended(group, started) => {
                local.insert(group, started?);
                self.running.insert(thread, Running::Idle)
            }
            Step::Done => self.running.remove(&thread),
            Step::Panicked => return Err(RouterStartError::Panicked),
        };
        Ok(())
    }

    /// Looks for starts whose state machine hangs, and has another thread go on behind them.
    fn leave_hanging(&mut self, local: &mut LocalReplicas) -> Result<(), RouterStartError> {
        let stuck = self.starts.node.status().stuck;
        let hangs = |group| stuck.iter().any(|it: &StuckReplica| it.group == group);
        let left = self.running.values().filter(|it| **it == Running::Hangs).count();
        let mut newly = 0;
        for running in self.running.values_mut() {
            if let Running::Starts(group) = *running
                && hangs(group)
                && left + newly < MAX_LEFT
            {
                tracing::error!(
                    "the node goes on without its replica of group {group}, which hangs"
                );
                *running = Running::Hangs;
                newly += 1;
                local.insert(group, None);
            }
        }
        (0..newly).try_for_each(|_| self.add_thread())
    }
}

impl Starts {
    /// Starts what nobody has started yet, for as long as somebody hears of it.
    fn work(&self, say: &impl Fn(Step) -> bool) {
        while let Some(planned) = self.next() {
            let group = planned.range.group;
            let machine = (self.machine.lock())(&planned.range);
            if !say(Step::Begins(group)) || !say(Step::Ended(group, self.start(planned, machine))) {
                return;
            }
        }
    }

    fn next(&self) -> Option<Planned> {
        self.todo.lock().pop_front()
    }

    fn start(
        &self,
        planned: Planned,
        machine: Box<dyn StateMachine>,
    ) -> Result<Option<GroupHandle>, GroupError> {
        without_unusable(&self.node, start_replica(&self.node, planned, machine))
    }
}
