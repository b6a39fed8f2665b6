//! A node of the cluster: its disk, its state machine, and what a crash takes from it.

use bytes::Bytes;
use logboat_raft::{
    BootCount, Entry, Grant, HardState, Index, LogId, LogReadTarget, LogWrite, Message, NodeId,
    Persist, Raft, Restored, Support, Term, TermRun, WriteSeq,
};
use std::collections::{BTreeMap, VecDeque};

/// What the state machine holds: everything it was ever given.
pub(crate) type History = Vec<(LogId, Bytes)>;

/// A log on disk, or as it will be when all writes are durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) start: LogId,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn last(&self) -> Index {
        self.start.index.plus(self.entries.len() as u64)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.start.index.0 + 1)?;
        self.entries.get(at as usize)
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    pub(crate) fn write(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        match &persist.log {
            LogWrite::Keep | LogWrite::Voters(_) => {}
            LogWrite::Append(entries) => {
                let first = entries[0].index;
                assert!(first > self.start.index && first <= self.last().next());
                let keep = first.0 - self.start.index.0 - 1;
                self.entries.truncate(keep as usize);
                self.entries.extend(entries.iter().cloned());
            }
            LogWrite::Compact(last) => {
                assert_eq!(self.term_at(last.index), Some(last.term));
                self.cut(*last);
            }
            LogWrite::Reset(last) => {
                self.entries.clear();
                self.start = *last;
            }
        }
    }

    /// Lets the log begin after `last`; what follows stays if `last` is in the log.
    pub(crate) fn cut(&mut self, last: LogId) {
        if self.term_at(last.index) == Some(last.term) {
            let gone = last.index.0 - self.start.index.0;
            self.entries.drain(..gone as usize);
        } else {
            self.entries.clear();
        }
        self.start = last;
    }
}

#[derive(Debug)]
pub(crate) struct Host {
    /// `None` while the node is down.
    pub(crate) raft: Option<Raft>,
    /// What the node knows of its peers.
    pub(crate) support: Support,
    /// What it promised to them. Durable before anybody goes by it.
    pub(crate) grants: BTreeMap<NodeId, Grant>,
    /// Counts the node's starts.
    pub(crate) boot: BootCount,
    /// What is durable.
    pub(crate) disk: Disk,
    /// What will be, when all writes are.
    pub(crate) view: Disk,
    pub(crate) unsynced: VecDeque<Persist>,
    /// Messages that wait for a mark.
    pub(crate) held: VecDeque<(WriteSeq, NodeId, Message)>,
    pub(crate) newest: WriteSeq,
    pub(crate) durable: WriteSeq,
    pub(crate) loads: VecDeque<(LogReadTarget, Index, Index, usize)>,
    /// The durable snapshot: its last entry, and the state.
    pub(crate) snapshot: (LogId, History),
    /// Snapshots that came from leaders.
    pub(crate) arrived: Vec<(LogId, History)>,
    pub(crate) history: History,
    /// Whether writes are durable, and loads answered, at once.
    pub(crate) sync: bool,
}

impl Host {
    pub(crate) fn new(disk: Disk) -> Self {
        Self {
            raft: None,
            support: Support::default(),
            grants: BTreeMap::new(),
            boot: BootCount(0),
            view: disk.clone(),
            disk,
            unsynced: VecDeque::new(),
            held: VecDeque::new(),
            newest: WriteSeq(0),
            durable: WriteSeq(0),
            loads: VecDeque::new(),
            snapshot: (LogId::default(), Vec::new()),
            arrived: Vec::new(),
            history: Vec::new(),
            sync: true,
        }
    }

    /// Loses all that is not on disk. Of the writes under way, the oldest `survivors` had got there
    /// already, though nobody knew.
    pub(crate) fn crash(&mut self, survivors: usize) {
        self.raft = None;
        for persist in self.unsynced.drain(..).take(survivors) {
            self.disk.write(&persist);
        }
        self.held.clear();
        self.loads.clear();
        self.arrived.clear();
        self.newest = WriteSeq(0);
        self.durable = WriteSeq(0);
    }

    /// What a node finds on its disk. A snapshot may be ahead of the log.
    pub(crate) fn recover(&mut self) -> Restored {
        if self.snapshot.0.index > self.disk.start.index {
            self.disk.cut(self.snapshot.0);
        }
        self.view = self.disk.clone();
        self.history.clone_from(&self.snapshot.1);
        let mut runs: Vec<TermRun> = Vec::new();
        for entry in &self.disk.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(TermRun { term: entry.term, first: entry.index });
            }
        }
        Restored {
            hard_state: self.disk.hard_state,
            snapshot: self.disk.start,
            last: self.disk.last(),
            runs,
            voters: None,
        }
    }
}
