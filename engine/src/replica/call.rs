//! Calls of a replica's state machine.
//!
//! User code takes as long as it likes. So a replica never calls its state machine while it runs.
//! It notes [`Tasks`], in their order, and whoever runs the replica has a [`Call`] carry them out.
//! A call owns the state machine and borrows nothing. It may run on any thread, and the replica may
//! run while the call does: the replica then goes on without its state machine.

use crate::background::guard::contain;
use crate::background::pool::Progress;
use crate::background::restores::Watched;
use crate::replica::request::{Capture, Responder};
use crate::state_machine::command_batch::{CommandBatch, Ended, passed};
use crate::state_machine::{DiskStateMachine, SnapshotWriter, StateMachine, StateReader};
use crate::turn::storage::Storage;
use bytes::Bytes;
use logboat_raft::{Configuration, Entries, GroupId, LogId, SnapshotMeta};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Something that a replica wants of its state machine.
pub(crate) enum Task {
    /// Apply these committed entries.
    Apply(Entries),
    /// Pass these committed entries, which its state on disk holds.
    Pass(Entries),
    /// Answer a query.
    Query(Bytes),
    /// Answer a query, and say from which state.
    QueryLocal(Bytes),
    /// Capture the state for a snapshot.
    Capture,
    /// Capture the state for a caller who wants a copy of it.
    CaptureFor(Box<Capture>),
    /// Make the state on disk durable.
    Sync,
    /// Take over the snapshot that a leader sent.
    Restore { storage: Arc<dyn Storage>, group: GroupId, meta: SnapshotMeta },
}

/// What came of it.
pub(crate) enum Outcome {
    /// An entry was applied. There is an answer if it held a command.
    Applied { id: LogId, answer: Option<Bytes> },
    /// An entry was passed that holds a configuration.
    Configured { id: LogId, configuration: Arc<Configuration> },
    /// A query was answered.
    Answered(Bytes),
    /// A query was answered that wants to know from which state.
    AnsweredLocal(Bytes),
    /// The state was captured.
    Captured(SnapshotWriter),
    /// The state was captured for this caller.
    CapturedFor(Box<Capture>, SnapshotWriter),
    /// The state on disk is durable up to this entry.
    Synced(LogId),
    /// The snapshot's state was taken over, which has this reader.
    Restored(Option<Arc<dyn StateReader>>),
    /// The state machine panicked or refused its task, for this reason. It gets no other.
    Failed(String),
}

/// Tasks in their order, and those who wait for the answers to the queries among them.
#[derive(Default)]
pub(crate) struct Tasks {
    list: Vec<Task>,
    readers: VecDeque<Responder>,
}

impl Tasks {
    pub(crate) fn apply(&mut self, entries: Entries) {
        self.list.push(Task::Apply(entries));
    }

    pub(crate) fn pass(&mut self, entries: Entries) {
        self.list.push(Task::Pass(entries));
    }

    pub(crate) fn query(&mut self, query: Bytes, reader: Responder) {
        self.list.push(Task::Query(query));
        self.readers.push_back(reader);
    }

    pub(crate) fn query_local(&mut self, query: Bytes, reader: Responder) {
        self.list.push(Task::QueryLocal(query));
        self.readers.push_back(reader);
    }

    pub(crate) fn capture(&mut self) {
        self.list.push(Task::Capture);
    }

    pub(crate) fn capture_for(&mut self, capture: Box<Capture>) {
        self.list.push(Task::CaptureFor(capture));
    }

    pub(crate) fn sync(&mut self) {
        self.list.push(Task::Sync);
    }

    pub(crate) fn restore(
        &mut self,
        storage: Arc<dyn Storage>,
        group: GroupId,
        meta: SnapshotMeta,
    ) {
        self.list.push(Task::Restore { storage, group, meta });
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is left of a call's tasks, and those who still wait for answers: all or, if the call
    /// took too long, nobody.
    pub(crate) fn of_call(list: Vec<Task>, readers: VecDeque<Responder>) -> Self {
        let mut tasks = Self { list, readers };
        if tasks.readers.is_empty() {
            tasks.retain_no_queries();
        }
        tasks
    }

    /// Adds what comes later.
    pub(crate) fn append(&mut self, later: &mut Self) {
        self.list.append(&mut later.list);
        self.readers.append(&mut later.readers);
    }

    /// Takes out those who wait for answers.
    pub(crate) fn take_readers(&mut self) -> VecDeque<Responder> {
        std::mem::take(&mut self.readers)
    }

    /// Takes out those who wait for answers, with their queries.
    pub(crate) fn take_queries(&mut self) -> VecDeque<Responder> {
        self.retain_no_queries();
        self.take_readers()
    }

    fn retain_no_queries(&mut self) {
        self.list.retain(|task| !matches!(task, Task::Query(_) | Task::QueryLocal(_)));
    }

    /// Drops all tasks, and returns those who waited for answers.
    pub(crate) fn clear(&mut self) -> VecDeque<Responder> {
        self.list.clear();
        self.take_readers()
    }

    /// Goes on with the memory of lists that are empty by now.
    pub(crate) fn reuse(&mut self, list: Vec<Task>, readers: VecDeque<Responder>) {
        if self.list.capacity() == 0 {
            self.list = list;
        }
        if self.readers.capacity() == 0 {
            self.readers = readers;
        }
    }
}

/// A call: the state machine of a replica, and what it is to do.
pub(crate) struct Call {
    machine: Box<dyn StateMachine>,
    tasks: Vec<Task>,
    outcomes: Vec<Outcome>,
}

/// A call that has ended.
pub struct EndedCall {
    pub(crate) machine: Box<dyn StateMachine>,
    /// Of the tasks, in their order, up to the first that failed.
    pub(crate) outcomes: Vec<Outcome>,
    /// What is to be done after a while, if the state machine wants that. Otherwise an empty list,
    /// for its memory.
    pub(crate) tasks: Vec<Task>,
    /// After which time.
    pub(crate) retry: Option<Duration>,
}

/// Why a call ends before its last task.
enum Stop {
    Failed(String),
    Retry { after: Duration, entries: Entries },
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl Call {
    /// Has `machine` carry out all of `tasks`. Those who wait for answers stay there. The outcomes
    /// use the memory of `outcomes`, which is empty.
    pub(crate) fn new(
        machine: Box<dyn StateMachine>,
        tasks: &mut Tasks,
        outcomes: Vec<Outcome>,
    ) -> Self {
        Self { machine, tasks: std::mem::take(&mut tasks.list), outcomes }
    }

    /// Whether a snapshot of the leader is to be taken over, which takes as long as it is large.
    pub(crate) fn restores(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task, Task::Restore { .. }))
    }

    /// Carries out the tasks, up to the first that fails.
    pub(crate) fn run(self) -> EndedCall {
        self.run_watched(&Progress::default())
    }

    /// Does the same, and shows how it gets on with a snapshot.
    pub(crate) fn run_watched(self, progress: &Progress) -> EndedCall {
        let Self { mut machine, mut tasks, mut outcomes } = self;
        let mut left = tasks.drain(..);
        let mut retry = None;
        while let Some(task) = left.next() {
            match perform(&mut *machine, task, &mut outcomes, progress) {
                Ok(()) => {}
                Err(Stop::Failed(reason)) => {
                    outcomes.push(Outcome::Failed(reason));
                    break;
                }
                Err(Stop::Retry { after, entries }) => {
                    let rest = std::iter::once(Task::Apply(entries)).chain(left.by_ref());
                    retry = Some((after, rest.collect()));
                    break;
                }
            }
        }
        drop(left);
        let (retry, tasks) = match retry {
            Some((after, rest)) => (Some(after), rest),
            None => (None, tasks),
        };
        EndedCall { machine, outcomes, tasks, retry }
    }
}

fn perform(
    machine: &mut dyn StateMachine,
    task: Task,
    outcomes: &mut Vec<Outcome>,
    progress: &Progress,
) -> Result<(), Stop> {
    match task {
        Task::Apply(entries) => return apply(machine, entries, outcomes),
        Task::Pass(entries) => {
            for entry in &entries {
                outcomes.push(passed(entry)?);
            }
        }
        Task::Query(query) => outcomes.push(Outcome::Answered(answer(machine, query)?)),
        Task::QueryLocal(query) => outcomes.push(Outcome::AnsweredLocal(answer(machine, query)?)),
        Task::Capture => outcomes.push(Outcome::Captured(captured(machine)?)),
        // A state in memory is copied for that, which is not done for nobody.
        Task::CaptureFor(capture) if !capture.is_awaited() => {}
        Task::CaptureFor(capture) => {
            outcomes.push(Outcome::CapturedFor(capture, captured(machine)?));
        }
        Task::Sync => {
            let synced = contain(|| machine.on_disk().map_or(Ok(None), DiskStateMachine::sync));
            let synced = synced.map_err(|panic| panicked("at a sync", &panic))?;
            let synced = synced.map_err(|error| format!("making its state durable: {error}"))?;
            outcomes.push(Outcome::Synced(synced.unwrap_or_default()));
        }
        Task::Restore { storage, group, meta } => {
            let last = meta.last;
            let restored = contain(|| restore(machine, &*storage, group, &meta, progress));
            restored
                .map_err(|panic| panicked(&format!("at the leader's snapshot at {last}"), &panic))?
                .map_err(|error| format!("the leader's snapshot at {last}: {error}"))?;
            let reader = contain(|| machine.reader());
            let reader = reader.map_err(|panic| panicked("at its reader", &panic))?;
            outcomes.push(Outcome::Restored(reader));
        }
    }
    Ok(())
}

fn apply(
    machine: &mut dyn StateMachine,
    entries: Entries,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Stop> {
    let mut batch = CommandBatch::new(entries, outcomes);
    let applied = contain(|| machine.apply_batch(&mut batch));
    let at = |batch: &CommandBatch<'_>| format!("at {}", batch.position());
    let applied = applied.map_err(|panic| panicked(&at(&batch), &panic))?;
    match batch.end(applied) {
        Ended::Applied => Ok(()),
        Ended::Retry { after, entries } => Err(Stop::Retry { after, entries }),
        Ended::Failed(reason) => Err(Stop::Failed(reason)),
    }
}

fn captured(machine: &mut dyn StateMachine) -> Result<SnapshotWriter, String> {
    contain(|| machine.snapshot()).map_err(|panic| panicked("at a snapshot", &panic))
}

/// A state on disk is replaced only when the snapshot is the replica's own, which says what the log
/// has to be: a crash right after that finds it, and completes the restore.
fn restore(
    machine: &mut dyn StateMachine,
    storage: &dyn Storage,
    group: GroupId,
    meta: &SnapshotMeta,
    progress: &Progress,
) -> io::Result<()> {
    let open = || storage.open_received(group, meta).map(|reader| Watched { reader, progress });
    match machine.on_disk() {
        Some(machine) => {
            storage.adopt_snapshot(group, meta.last)?;
            machine.restore(&mut open()?, meta.last)
        }
        None => machine.restore(&mut open()?),
    }
}

fn answer(machine: &mut dyn StateMachine, query: Bytes) -> Result<Bytes, String> {
    let answer = contain(|| match machine.on_disk() {
        Some(machine) => {
            machine.query(query).map_err(|error| format!("reading its state: {error}"))
        }
        None => Ok(machine.query(query)),
    });
    answer.map_err(|panic| panicked("at a query", &panic))?
}

fn panicked(at: &str, panic: &str) -> String {
    format!("its state machine panicked {at}: {panic}")
}
