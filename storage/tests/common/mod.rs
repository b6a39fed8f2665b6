//! A model of the log to compare with, and random writes that keep to a replica's rules.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use logboat_raft::{
    BootCount, Change, Configuration, Entry, EntryKind, Epoch, Fortification, Grant, GroupId,
    HardState, Index, LogId, LogPosition, LogWrite, NodeId, Persist, ReplicaAddress, ReplicaId,
    Restored, SnapshotMeta, Term, TermRun, WriteSeq,
};
use logboat_storage::simulation::{Disk, InlineWal};
use logboat_storage::{Recovered, WalOptions};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What one group should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelGroup {
    pub hard_state: HardState,
    pub snapshot: LogId,
    pub entries: BTreeMap<Index, Entry>,
    /// The configuration at the snapshot, or the founding one.
    pub base: Option<Arc<Configuration>>,
}

/// What the log should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub groups: BTreeMap<GroupId, ModelGroup>,
    pub grants: BTreeMap<NodeId, Grant>,
    pub tombstones: BTreeMap<GroupId, ReplicaId>,
}

impl ModelGroup {
    pub fn last(&self) -> Index {
        let last = self.entries.keys().next_back();
        last.copied().unwrap_or(self.snapshot.index)
    }

    pub fn restored(&self) -> Restored {
        let mut runs: Vec<TermRun> = Vec::new();
        for (first, entry) in &self.entries {
            if runs.last().is_none_or(|run| run.term != entry.term) {
                runs.push(TermRun { term: entry.term, first: *first });
            }
        }
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot,
            last: self.last(),
            runs,
            configurations: self.configurations().collect(),
        }
    }

    /// The base, and the configurations that entries hold.
    fn configurations(&self) -> impl Iterator<Item = Arc<Configuration>> {
        let entries = self.entries.values();
        let holders = entries.filter(|entry| entry.kind == EntryKind::Configuration);
        let held = holders.map(|entry| Configuration::decode(&entry.data).unwrap().into());
        self.base.iter().cloned().chain(held)
    }

    /// What a snapshot up to an entry is of.
    pub fn meta(&self, last: LogId) -> SnapshotMeta {
        let before = self.configurations().filter(|it| it.id().index <= last.index).last();
        SnapshotMeta { last, configuration: before.unwrap_or_else(|| founding(3)) }
    }
}

impl Model {
    pub fn apply(&mut self, grants: &[(NodeId, Grant)], writes: &[(GroupId, Persist)]) {
        self.grants.extend(grants.iter().copied());
        for (group, persist) in writes {
            if let LogWrite::Tombstone(floor) = persist.log {
                self.groups.remove(group);
                self.tombstones.insert(*group, floor);
                continue;
            }
            self.tombstones.remove(group);
            let group = self.groups.entry(*group).or_default();
            if let Some(hard_state) = &persist.hard_state {
                group.hard_state = **hard_state;
            }
            match &persist.log {
                LogWrite::Keep | LogWrite::Tombstone(_) => {}
                // A snapshot says more.
                LogWrite::Founding(_) if group.snapshot != LogId::default() => {}
                LogWrite::Founding(founding) => group.base = Some(Arc::clone(founding)),
                LogWrite::Append(entries) => {
                    group.entries.split_off(&entries[0].index);
                    group.entries.extend(entries.iter().map(|e| (e.index, e.clone())));
                }
                LogWrite::Compact(meta) => {
                    group.snapshot = meta.last;
                    group.base = Some(Arc::clone(&meta.configuration));
                    group.entries = group.entries.split_off(&meta.last.index.next());
                }
                LogWrite::Reset(meta) => {
                    group.snapshot = meta.last;
                    group.base = Some(Arc::clone(&meta.configuration));
                    group.entries.clear();
                }
            }
        }
    }

    pub fn recovered(&self) -> Recovered {
        let groups = self.groups.iter();
        let groups = groups.map(|(group, model)| (*group, model.restored())).collect();
        Recovered { groups, grants: self.grants.clone(), ..Recovered::default() }
    }

    /// Reads every entry back and compares.
    pub fn check_reads<D: Disk>(&self, wal: &InlineWal<D>) {
        for (group, model) in &self.groups {
            let (first, last) = (model.snapshot.index.next(), model.last());
            let read = wal.read(*group, first, last, usize::MAX).unwrap();
            let expected: Vec<Entry> = model.entries.values().cloned().collect();
            assert_eq!(read, expected, "group {group}");
        }
        assert_eq!(self.kept_tombstones(wal), self.tombstones);
    }

    /// Whether this is what a log has recovered, tombstones included.
    pub fn is_of<D: Disk>(&self, wal: &InlineWal<D>, recovered: &Recovered) -> bool {
        self.recovered() == *recovered && self.kept_tombstones(wal) == self.tombstones
    }

    /// What a log has of the tombstones of the groups that are known here.
    fn kept_tombstones<D: Disk>(&self, wal: &InlineWal<D>) -> BTreeMap<GroupId, ReplicaId> {
        let groups = self.groups.keys().chain(self.tombstones.keys());
        groups.filter_map(|group| Some((*group, wal.log().tombstone(*group)?))).collect()
    }
}

/// A write that a replica or its node could make, told by small numbers.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub group: u64,
    pub kind: u8,
    pub size: u8,
    pub back: u8,
    pub bytes: u16,
}

pub fn op() -> impl Strategy<Value = Op> {
    (0..5_u64, 0..16_u8, 1..5_u8, 0..4_u8, 0..400_u16)
        .prop_map(|(group, kind, size, back, bytes)| Op { group, kind, size, back, bytes })
}

impl Op {
    pub fn is_grant(self) -> bool {
        matches!(self.kind, 12 | 13)
    }
}

/// Turns an op into a grant that continues what the model holds.
pub fn next_grant(model: &Model, op: Op) -> (NodeId, Grant) {
    let peer = NodeId(op.group * op.group * 1000 + 1);
    let before = model.grants.get(&peer).copied().unwrap_or_default();
    let epoch = Epoch(before.epoch.0 + u64::from(op.bytes) * u64::from(op.back));
    let boot = BootCount(before.boot.0 + u64::from(op.back / 2));
    let lease = Duration::from_micros(op.size as u64);
    let log_end = LogPosition::unpack(op.size.into());
    (peer, Grant { epoch, boot, live: op.size.is_multiple_of(2), lease, log_end })
}

/// Turns an op into a write that continues what the model holds.
pub fn persist(model: &Model, op: Op) -> (GroupId, Persist) {
    let group = GroupId(op.group * op.group * 1000 + 1);
    let state = model.groups.get(&group).cloned().unwrap_or_default();
    let last = state.last();
    let term = state.entries.values().next_back().map_or(state.snapshot.term, |e| e.term);
    let term = Term(term.0.max(1));
    let tombstone = model.tombstones.get(&group).copied();
    let replica = tombstone.unwrap_or(state.hard_state.replica);
    let other = ReplicaAddress::new(NodeId(u64::from(op.size)), replica);
    let hard_state = HardState {
        replica,
        term: Term(term.0 + u64::from(op.back)),
        vote: (op.size.is_multiple_of(2)).then_some(other),
        commit: last,
        fortified: op.bytes.is_multiple_of(3).then(|| Fortification {
            leader: other.node,
            replica: other.replica,
            epoch: Epoch(u64::from(op.bytes)),
            term,
        }),
    };
    let point = |back: u8| {
        let index = Index(last.0.saturating_sub(u64::from(back))).max(state.snapshot.index);
        let term = state.entries.get(&index).map_or(state.snapshot.term, |e| e.term);
        LogId::new(term, index)
    };
    let log = match op.kind {
        0..=6 => append(group, term, last.next(), op),
        7 => {
            let first = Index(last.next().0.saturating_sub(u64::from(op.back)));
            append(group, term.next(), first.max(state.snapshot.index.next()), op)
        }
        8 => LogWrite::Keep,
        9 | 10 => LogWrite::Compact(state.meta(point(op.back))),
        14 => LogWrite::Founding(founding(op.size.into())),
        15 => LogWrite::Tombstone(ReplicaId(LogId::new(term, last.next())).max(replica.next())),
        _ => LogWrite::Reset(SnapshotMeta {
            last: LogId::new(term, last.plus(u64::from(op.size))),
            configuration: founding(op.back.into()),
        }),
    };
    // A replica that comes after another says so before anything else.
    let is_first = tombstone.is_some() && op.kind != 15;
    let says = is_first || op.kind == 8 || (op.bytes.is_multiple_of(5) && op.kind != 15);
    let hard_state = says.then(|| hard_state.into());
    (group, Persist { seq: WriteSeq(0), hard_state, log })
}

fn append(group: GroupId, term: Term, first: Index, op: Op) -> LogWrite {
    let entries = (0..u64::from(op.size)).map(|at| {
        // The last entries of some writes are of the next term.
        let term = if op.bytes.is_multiple_of(7) && at > 1 { term.next() } else { term };
        if (op.bytes + u16::from(op.back) + at as u16).is_multiple_of(5) {
            return configuration(group, LogId::new(term, first.plus(at)));
        }
        entry(group, term, first.plus(at), usize::from(op.bytes) + at as usize)
    });
    LogWrite::Append(entries.collect())
}

/// The configuration that a group of so many voters and one more is founded with.
pub fn founding(others: u64) -> Arc<Configuration> {
    let voters: Vec<_> = (1..=others + 1).map(NodeId).collect();
    Configuration::founding(&voters, None).into()
}

/// An entry that holds a configuration.
pub fn configuration(group: GroupId, id: LogId) -> Entry {
    let added = [Change::AddLearner(NodeId(100 + id.index.0))];
    let data = founding(2).change(id, &added).unwrap().encode();
    Entry::new(group, id, EntryKind::Configuration, data)
}

/// What a snapshot is of, of a group whose members never changed.
pub fn meta(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, configuration: founding(2) }
}

/// An entry whose data tell its group and index.
pub fn entry(group: GroupId, term: Term, index: Index, bytes: usize) -> Entry {
    let data: Vec<u8> =
        (0..bytes).map(|at| (at as u64 + index.0 * 31 + group.0 * 7 + term.0) as u8).collect();
    Entry::new(group, LogId::new(term, index), EntryKind::Command, Bytes::from(data))
}

/// Support that stands.
pub fn grant(peer: u64, epoch: u64) -> (NodeId, Grant) {
    let (epoch, boot) = (Epoch(epoch), BootCount(1));
    (NodeId(peer), Grant { epoch, boot, live: true, ..Grant::default() })
}

/// A write of entries alone.
pub fn append_entries(
    group: GroupId,
    first: Index,
    count: u64,
    bytes: usize,
) -> (GroupId, Persist) {
    let entries = (0..count).map(|at| entry(group, Term(1), first.plus(at), bytes));
    let log = LogWrite::Append(entries.collect());
    (group, Persist { seq: WriteSeq(0), hard_state: None, log })
}

/// A write of a compaction alone.
pub fn compact(group: GroupId, through: Index) -> (GroupId, Persist) {
    let log = LogWrite::Compact(meta(LogId::new(Term(1), through)));
    (group, Persist { seq: WriteSeq(0), hard_state: None, log })
}

/// Segments so small that tests see many of them.
pub fn small(segment_bytes: u64, max_bytes: u64) -> WalOptions {
    WalOptions { segment_bytes, max_bytes, mark_delay: Duration::from_millis(5) }
}
