//! A node's replicas are started, one after the other. A state machine that hangs while it takes
//! over its snapshot keeps the thread of its start, and the others are started on another thread.

use crate::error::RouterStartError;
use crate::map::{Range, RangeMap};
use logboat::{GroupError, GroupHandle, GroupId, GroupSpec, Node, StateMachine, StuckReplica};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
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

/// What the threads share.
struct Starts {
    node: Node,
    map: Arc<RangeMap>,
    /// What is to be started.
    todo: Mutex<Todo>,
}

struct Todo {
    machine: MakeMachine,
    /// The place in the map of the range that comes next.
    next: usize,
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
    map: Arc<RangeMap>,
    machine: MakeMachine,
) -> Result<LocalReplicas, RouterStartError> {
    let todo = Mutex::new(Todo { machine, next: 0 });
    let (sender, steps) = unbounded_channel();
    let starts = Arc::new(Starts { node, map, todo });
    Watch { starts, sender, steps, running: FxHashMap::default(), threads: 0 }.run().await
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
        while let Some(spec) = self.next() {
            let group = spec.group;
            if !say(Step::Begins(group)) || !say(Step::Ended(group, self.start(spec))) {
                return;
            }
        }
    }

    fn next(&self) -> Option<GroupSpec> {
        let mut todo = self.todo.lock();
        let mut ranges = self.map.ranges().iter().enumerate().skip(todo.next);
        let here = |(_, range): &(usize, &Range)| range.replicas.contains(&self.node.id());
        let (place, range) = ranges.find(here)?;
        todo.next = place + 1;
        Some(GroupSpec {
            group: range.group,
            replicas: range.replicas.clone(),
            preferred: range.replicas.first().copied(),
            machine: (todo.machine)(range),
        })
    }

    fn start(&self, spec: GroupSpec) -> Result<Option<GroupHandle>, GroupError> {
        match self.node.create_group(spec) {
            Ok(handle) => Ok(Some(handle)),
            Err(error @ (GroupError::Snapshot { .. } | GroupError::Log { .. })) => {
                self.node.metrics().failed_replicas.inc();
                tracing::error!("this replica does not start: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
