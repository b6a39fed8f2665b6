//! Calls of a replica's state machine.
//!
//! User code takes as long as it likes. So a replica never calls its state machine while it runs.
//! It notes [`Tasks`], in their order, and whoever runs the replica has a [`Call`] carry them out.
//! A call owns the state machine and borrows nothing. It may run on any thread, and the replica may
//! run while the call does: the replica then goes on without its state machine.

use crate::background::guard::contain;
use crate::replica::request::Responder;
use crate::state_machine::{SnapshotWriter, StateMachine};
use crate::turn::storage::Storage;
use bytes::Bytes;
use logboat_raft::{Configuration, Entries, EntryKind, GroupId, LogId, SnapshotMeta};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something that a replica wants of its state machine.
pub(crate) enum Task {
    /// Apply these committed entries.
    Apply(Entries),
    /// Answer a query.
    Query(Bytes),
    /// Answer a query, and say from which state.
    QueryLocal(Bytes),
    /// Capture the state for a snapshot.
    Capture,
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
    /// The snapshot's state was taken over.
    Restored,
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
        self.list.retain(|task| !matches!(task, Task::Query(_) | Task::QueryLocal(_)));
        self.take_readers()
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
    /// An empty list, for its memory.
    pub(crate) tasks: Vec<Task>,
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

    /// Carries out the tasks, up to the first that fails.
    pub(crate) fn run(self) -> EndedCall {
        let Self { mut machine, mut tasks, mut outcomes } = self;
        for task in tasks.drain(..) {
            if let Err(reason) = perform(&mut *machine, task, &mut outcomes) {
                outcomes.push(Outcome::Failed(reason));
                break;
            }
        }
        EndedCall { machine, outcomes, tasks }
    }
}

fn perform(
    machine: &mut dyn StateMachine,
    task: Task,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), String> {
    match task {
        Task::Apply(entries) => {
            for entry in entries {
                let id = entry.id();
                outcomes.push(match entry.kind {
                    EntryKind::Noop => Outcome::Applied { id, answer: None },
                    EntryKind::Command => {
                        let answer = contain(|| machine.apply(entry.data));
                        let answer = answer.map_err(|panic| panicked(&format!("at {id}"), &panic));
                        Outcome::Applied { id, answer: Some(answer?) }
                    }
                    EntryKind::Configuration => {
                        let configuration = Configuration::decode(&entry.data);
                        let configuration = configuration.map_err(|e| format!("at {id}: {e}"))?;
                        Outcome::Configured { id, configuration: configuration.into() }
                    }
                });
            }
        }
        Task::Query(query) => outcomes.push(Outcome::Answered(answer(machine, query)?)),
        Task::QueryLocal(query) => outcomes.push(Outcome::AnsweredLocal(answer(machine, query)?)),
        Task::Capture => {
            let writer = contain(|| machine.snapshot());
            let writer = writer.map_err(|panic| panicked("at a snapshot", &panic))?;
            outcomes.push(Outcome::Captured(writer));
        }
        Task::Restore { storage, group, meta } => {
            let last = meta.last;
            let restored = contain(|| {
                let mut reader = storage.open_received(group, &meta)?;
                machine.restore(&mut *reader)
            });
            restored
                .map_err(|panic| panicked(&format!("at the leader's snapshot at {last}"), &panic))?
                .map_err(|error| format!("the leader's snapshot at {last}: {error}"))?;
            outcomes.push(Outcome::Restored);
        }
    }
    Ok(())
}

fn answer(machine: &dyn StateMachine, query: Bytes) -> Result<Bytes, String> {
    contain(|| machine.query(query)).map_err(|panic| panicked("at a query", &panic))
}

fn panicked(at: &str, panic: &str) -> String {
    format!("its state machine panicked {at}: {panic}")
}
