//! A node of the cluster: its disk, its state machine, and what a crash takes from it.

use logboat_raft::{
    BootCount, Configuration, Entry, EntryKind, Grant, HardState, Index, LogId, LogReadTarget,
    LogWrite, Message, NodeId, Persist, Raft, ReplicaId, Resignation, Restored, SnapshotMeta,
    Support, Term, TermRun, Time, WriteSeq,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the state machine holds: everything it was ever given.
pub(crate) type History = Vec<Entry>;

/// A snapshot: its last entry, the configuration there, and the state.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) history: History,
}

impl Snapshot {
    /// A replica that never made one has this.
    pub(crate) fn of_nothing(disk: &Disk) -> Self {
        let meta = SnapshotMeta { last: disk.start, configuration: Arc::clone(&disk.base) };
        Self { meta, history: Vec::new() }
    }
}

/// The configurations that entries hold.
pub(crate) fn configurations(
    entries: &[Entry],
) -> impl DoubleEndedIterator<Item = Arc<Configuration>> {
    let holders = entries.iter().filter(|entry| entry.kind == EntryKind::Configuration);
    holders.map(|entry| Configuration::decode(&entry.data).expect("it was encoded").into())
}

/// A log on disk, or as it will be when all writes are durable.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) start: LogId,
    /// The configuration where the log begins.
    pub(crate) base: Arc<Configuration>,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    /// A log without entries of a replica that goes by `base`.
    pub(crate) fn new(base: Arc<Configuration>) -> Self {
        let (hard_state, start) = (HardState::default(), LogId::default());
        Self { hard_state, start, base, entries: Vec::new() }
    }

    /// The configuration in force at `index`.
    pub(crate) fn configuration_at(&self, index: Index) -> Arc<Configuration> {
        let mut entries = configurations(&self.entries).rev();
        let found = entries.find(|it| it.id().index <= index);
        found.unwrap_or_else(|| Arc::clone(&self.base))
    }

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
        if let Some(hard_state) = &persist.hard_state {
            self.hard_state = **hard_state;
        }
        match &persist.log {
            LogWrite::Keep | LogWrite::Founding(_) | LogWrite::Tombstone(_) => {}
            LogWrite::Append(entries) => {
                let first = entries[0].index;
                assert!(first > self.start.index && first <= self.last().next());
                let keep = first.0 - self.start.index.0 - 1;
                self.entries.truncate(keep as usize);
                self.entries.extend(entries.iter().cloned());
            }
            LogWrite::Compact(meta) => {
                assert_eq!(self.term_at(meta.last.index), Some(meta.last.term));
                assert_eq!(self.configuration_at(meta.last.index), meta.configuration);
                self.cut(meta);
            }
            LogWrite::Reset(meta) => {
                self.entries.clear();
                self.begin_after(meta);
            }
        }
    }

    /// Lets the log begin after a snapshot; what follows stays if its last entry is in the log.
    pub(crate) fn cut(&mut self, meta: &SnapshotMeta) {
        let last = meta.last;
        if self.term_at(last.index) == Some(last.term) {
            let gone = last.index.0 - self.start.index.0;
            self.entries.drain(..gone as usize);
        } else {
            self.entries.clear();
        }
        self.begin_after(meta);
    }

    fn begin_after(&mut self, meta: &SnapshotMeta) {
        self.start = meta.last;
        self.base = Arc::clone(&meta.configuration);
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
    /// The durable snapshot.
    pub(crate) snapshot: Snapshot,
    /// Snapshots that came from leaders.
    pub(crate) arrived: Vec<Snapshot>,
    pub(crate) history: History,
    /// Whether writes are durable, and loads answered, at once.
    pub(crate) sync: bool,
    /// The smallest id that a replica here may have, if one is gone.
    pub(crate) tombstone: Option<ReplicaId>,
    /// What the replicas that are gone have to say until it is answered, and when.
    pub(crate) departed: Vec<(Resignation, Time)>,
    /// The tombstone of the replica that is to be buried when its step is over.
    pub(crate) gone: Option<ReplicaId>,
}

impl Host {
    pub(crate) fn new(disk: Disk) -> Self {
        Self {
            snapshot: Snapshot::of_nothing(&disk),
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
            arrived: Vec::new(),
            history: Vec::new(),
            sync: true,
            tombstone: None,
            departed: Vec::new(),
            gone: None,
        }
    }

    /// Loses all that is not on disk. Of the writes under way, the oldest `survivors` had got there
    /// already, though nobody knew.
    pub(crate) fn crash(&mut self, survivors: usize) {
        self.raft = None;
        self.gone = None;
        for persist in self.unsynced.drain(..).take(survivors) {
            self.disk.write(&persist);
        }
        self.held.clear();
        self.loads.clear();
        self.arrived.clear();
        self.newest = WriteSeq(0);
        self.durable = WriteSeq(0);
    }

    /// A snapshot of what was applied.
    pub(crate) fn take_snapshot(&self) -> Snapshot {
        let Snapshot { meta, .. } = &self.snapshot;
        let last = self.history.last().map_or(meta.last, Entry::id);
        let since = configurations(&self.history).next_back();
        let configuration = since.unwrap_or_else(|| Arc::clone(&meta.configuration));
        let meta = SnapshotMeta { last, configuration };
        Snapshot { meta, history: self.history.clone() }
    }

    /// What a node finds on its disk. A snapshot may be ahead of the log.
    pub(crate) fn recover(&mut self) -> Restored {
        if self.snapshot.meta.last.index > self.disk.start.index {
            self.disk.cut(&self.snapshot.meta);
        }
        self.view = self.disk.clone();
        self.history.clone_from(&self.snapshot.history);
        let mut runs: Vec<TermRun> = Vec::new();
        for entry in &self.disk.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(TermRun { term: entry.term, first: entry.index });
            }
        }
        let base = (self.disk.start.index > Index(0)).then(|| Arc::clone(&self.disk.base));
        Restored {
            hard_state: self.disk.hard_state,
            snapshot: self.disk.start,
            last: self.disk.last(),
            runs,
            configurations: base.into_iter().chain(configurations(&self.disk.entries)).collect(),
        }
    }
}
