//! The server's own stores of keys as state machines of simulated groups, in memory and on disk.
//!
//! A store counts its commands in a database that no client chooses, so that its snapshots and its
//! tables carry the number. What it is asked and answers goes into the journal, where the
//! simulation looks whether keys expire as they should (`checks::keys`).

use super::disk_machine::{DiskState, MachineDisk};
use super::machine::{Journal, let_in, take_command_head, take_query_id};
use bytes::Bytes;
use logboat::state::StateOptions;
use logboat::{
    CommandAdmission, DiskStateMachine, GroupId, LogId, SnapshotWriter, StateMachine, StateReader,
};
use logboat_server::kv::{
    Answer, Command, DiskStore, GroupTime, NodeClock, Proposal, Query, SharedTables, Store,
    StoreAdmission,
};
use logboat_storage::state::{ModelDisk, ModelState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store of keys was asked, and what came of it.
#[derive(Debug)]
pub(super) enum KeyEvent {
    /// A leader has let a command in, with this time or with none. What was applied there had come
    /// to the time `applied_ms`, at the least.
    Stamped { stamp_ms: Option<u64>, applied_ms: u64 },
    /// A command was applied, the one with this number from 0 on.
    Applied { number: u64, command: Bytes, answer: Bytes },
    /// A query was answered from a state of `count` commands, on a node whose clock shows `now_ms`.
    Answered { count: u64, query: Bytes, answer: Bytes, now_ms: u64 },
}

/// Where the number of commands is kept.
const COUNT_DATABASE: u8 = 15;
const COUNT: Bytes = Bytes::from_static(b"count");

/// The longest value that anybody asks for, in bytes.
pub(super) const LONGEST_VALUE_BYTES: u64 = 1 << 20;

/// What is known of a replica's store besides what it holds.
#[derive(Clone)]
struct Notes {
    journal: Journal,
    clock: Arc<NodeClock>,
    /// The latest time of a command that was applied here.
    applied_ms: Arc<AtomicU64>,
}

impl Notes {
    fn new(journal: Journal, clock: Arc<NodeClock>) -> Self {
        Self { journal, clock, applied_ms: Arc::default() }
    }

    fn group_time(&self) -> Arc<GroupTime> {
        Arc::new(GroupTime::new(Arc::clone(&self.clock)))
    }

    /// Has a store carry out a command, and notes it.
    fn apply(&self, mut command: Bytes, mut execute: impl FnMut(&Bytes) -> Bytes) -> Bytes {
        let crc = crc32fast::hash(&command);
        let operation = take_command_head(&mut command);
        let counted = execute(&Command::Increment { key: COUNT, by: 1 }.encode_in(COUNT_DATABASE));
        let Ok(Answer::Integer(count)) = Answer::decode(&counted) else {
            panic!("a store counts its commands");
        };
        let number = count as u64 - 1;
        let answer = execute(&command);
        self.applied_ms.fetch_max(stamp_of(&command).unwrap_or(0), Ordering::Relaxed);
        let mut journal = self.journal.lock();
        journal.applied.push((number, operation, crc));
        journal.keys.push(KeyEvent::Applied { number, command, answer: answer.clone() });
        answer
    }

    /// Has a store answer a query, and notes it. The answer begins with how many commands the state
    /// reflects.
    fn answer(&self, query: Bytes, ask: impl Fn(&Bytes) -> Bytes) -> Bytes {
        let (count, answer) = (count_of(&ask), ask(&query));
        let now_ms = self.clock.now_ms();
        let whole = [&count.to_le_bytes()[..], &answer].concat();
        self.journal.lock().keys.push(KeyEvent::Answered { count, query, answer, now_ms });
        whole.into()
    }

    fn admission(&self, inner: StoreAdmission) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::new(Stamping { inner, notes: self.clone() }))
    }
}

/// How many commands a store reflects that answers by `ask`.
pub(super) fn count_of(ask: &impl Fn(&Bytes) -> Bytes) -> u64 {
    let query = Query::Get { key: COUNT, limit_bytes: LONGEST_VALUE_BYTES };
    match Answer::decode(&ask(&query.encode_in(COUNT_DATABASE))) {
        Ok(Answer::Value(None)) => 0,
        Ok(Answer::Value(Some(count))) => {
            let text = std::str::from_utf8(&count).expect("a store counts in digits");
            text.parse().expect("a store counts in digits")
        }
        other => panic!("a store knows how many commands it reflects, and says {other:?}"),
    }
}

fn stamp_of(command: &[u8]) -> Option<u64> {
    Proposal::decode(command).expect("clients send commands").stamp_ms
}

/// What the store itself decides about a command, which stands behind the simulation's head.
struct Stamping {
    inner: StoreAdmission,
    notes: Notes,
}

impl CommandAdmission for Stamping {
    fn admit(&self, command: &Bytes) -> Result<u64, Bytes> {
        let mut command = command.clone();
        take_command_head(&mut command);
        self.inner.admit(&command)
    }

    fn stamp(&self, command: Bytes) -> Bytes {
        let mut rest = command.clone();
        take_command_head(&mut rest);
        let head = let_in(&command[..command.len() - rest.len()]);
        let stamped = self.inner.stamp(rest);
        let stamp_ms = stamp_of(&stamped);
        let applied_ms = self.notes.applied_ms.load(Ordering::Relaxed);
        self.notes.journal.lock().keys.push(KeyEvent::Stamped { stamp_ms, applied_ms });
        [head, stamped].concat().into()
    }

    fn release(&self, amount: u64) {
        self.inner.release(amount);
    }
}

/// A store in memory.
pub(super) struct KeyMachine {
    store: Store,
    notes: Notes,
}

impl KeyMachine {
    pub(super) fn new(journal: Journal, clock: Arc<NodeClock>) -> Self {
        let notes = Notes::new(journal, clock);
        Self { store: Store::timed(Arc::default(), notes.group_time()), notes }
    }
}

impl StateMachine for KeyMachine {
    fn apply(&mut self, command: Bytes) -> Bytes {
        self.notes.apply(command, |command| self.store.apply(command))
    }

    fn query(&self, mut query: Bytes) -> Bytes {
        let id = take_query_id(&mut query);
        self.notes.journal.lock().answered.push(id);
        self.notes.answer(query, |query| self.store.query(query))
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.store.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.store.restore(reader)
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.notes.admission(self.store.admission())
    }
}

/// A store on disk.
pub(super) struct StoredKeys {
    store: DiskStore,
    notes: Notes,
    tables: SharedTables,
}

impl StoredKeys {
    /// The store of a group (by place), in tables of its own on this disk.
    pub(super) fn new(
        group: usize,
        journal: Journal,
        clock: Arc<NodeClock>,
        disk: &ModelDisk,
    ) -> Self {
        let notes = Notes::new(journal, clock);
        let engine = ModelState::open(disk, StateOptions::default());
        let tables = SharedTables::new(Arc::new(engine));
        let (group, time) = (GroupId(group as u64 + 1), notes.group_time());
        let store = DiskStore::new(tables.clone(), group, Arc::default(), time);
        Self { store, notes, tables }
    }
}

impl DiskState for StoredKeys {
    fn open(&mut self, _: &MachineDisk) -> io::Result<Option<LogId>> {
        self.store.open()
    }

    fn apply(&mut self, id: LogId, command: Bytes) -> Bytes {
        let Self { store, notes, .. } = self;
        notes.apply(command, |command| {
            store.apply_alone(command, id).expect("tables in memory take what they are given")
        })
    }

    fn save(&mut self, _: LogId) -> io::Result<Option<(LogId, Bytes)>> {
        self.tables.engine().flush().map_err(io::Error::other)?;
        Ok(self.store.sync()?.map(|last| (last, Bytes::new())))
    }

    fn reader(&self) -> Arc<dyn StateReader> {
        let inner = self.store.reader().expect("a store on disk has a reader");
        Arc::new(KeyReader { inner, notes: self.notes.clone() })
    }

    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        self.store.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read, last: LogId) -> io::Result<()> {
        self.store.restore(reader, last)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.store.clear()
    }

    fn admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        self.notes.admission(self.store.admission())
    }
}

/// Reads a store on disk. The simulation notes itself which queries it is asked.
struct KeyReader {
    inner: Arc<dyn StateReader>,
    notes: Notes,
}

impl StateReader for KeyReader {
    fn query(&self, mut query: Bytes) -> io::Result<Bytes> {
        take_query_id(&mut query);
        let ask = |query: &Bytes| {
            let answer = self.inner.query(query.clone());
            answer.expect("tables in memory can be read")
        };
        Ok(self.notes.answer(query, ask))
    }
}
