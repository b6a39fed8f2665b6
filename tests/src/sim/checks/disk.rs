//! What is on the disks: what replicas write, what is durable of it, and what a start finds.

use super::{Checks, GroupChecks, node_id, place_of};
use crate::sim::disk::FoundSnapshot;
use crate::sim::machine::was_let_in;
use logboat_raft::{
    Configuration, EntryKind, HardState, Index, LogId, LogWrite, Persist, ReplicaId, Restored,
    SnapshotMeta, WriteSeq,
};

impl Checks {
    /// A replica wants to write.
    pub(in crate::sim) fn writing(&mut self, node: usize, group: usize, persist: &Persist) {
        let group = &mut self.groups[group];
        let view = &group.replicas[node].model.view;
        if let LogWrite::Append(entries) = &persist.log {
            let first = &entries[0];
            // One that was started again may have lost what it appended as a leader.
            let leads = group.replicas[node].leads == Some(first.term);
            assert!(
                first.index > view.last().index || !leads,
                "leader append-only: a leader of term {} replaces entry {}",
                first.term,
                first.index
            );
            for index in first.index.0..=view.last().index.0 {
                let replaced = view.entry(Index(index)).expect("it lies in the log");
                assert!(
                    group.committed.get(index as usize - 1) != Some(&replaced)
                        || Index(index) > group.replicas[node].commit,
                    "a committed entry is replaced"
                );
            }
            let mut before = view.term_at(first.index.prev()).expect("an append leaves no gap");
            for entry in entries {
                let known = group.entries.entry(entry.id()).or_insert((entry.checksum, before));
                assert_eq!(
                    *known,
                    (entry.checksum, before),
                    "log matching: two logs differ at or before {}",
                    entry.id()
                );
                before = entry.term;
                match entry.kind {
                    EntryKind::Configuration => {
                        let held = Configuration::decode(&entry.data);
                        group.members.appended(held.expect("it was encoded"));
                    }
                    EntryKind::Command => assert!(
                        was_let_in(&entry.data),
                        "the command of {} was not let in by its leader",
                        entry.id()
                    ),
                    EntryKind::Noop => {}
                }
            }
        }
        if let Some(hard_state) = &persist.hard_state {
            group.votes(node, **hard_state);
        }
        if let Some(hard_state) = &persist.hard_state
            && hard_state.vote.is_some_and(|vote| place_of(vote.node) == node)
        {
            group.entered = group.entered.max(hard_state.term);
        }
        if let LogWrite::Compact(meta) | LogWrite::Reset(meta) = &persist.log {
            let last = meta.last;
            let committed = group.committed.get(last.index.0 as usize - 1);
            assert_eq!(
                committed.map(|(term, _)| *term),
                Some(last.term),
                "a snapshot covers {last}, which is not what was committed there"
            );
            let kept = group.replicas[node].model.snapshot;
            assert!(last.index <= kept.index, "a log is cut to {last}, the snapshot to {kept}");
        }
        group.replicas[node].model.view.write(persist);
    }

    /// A write was handed to the log.
    pub(in crate::sim) fn submitted(&mut self, node: usize, group: usize, persist: &Persist) {
        self.groups[group].replicas[node].model.submit(persist.clone());
    }

    /// All writes of a replica up to `seq` are durable. Returns whether one of them replaced the
    /// log by a snapshot.
    pub(in crate::sim) fn durable(&mut self, node: usize, group: usize, seq: WriteSeq) -> bool {
        let written = self.groups[group].replicas[node].model.synced(seq);
        self.hard_states_changed(node, group, &written);
        written.iter().any(|(_, persist)| matches!(persist.log, LogWrite::Reset(_)))
    }

    /// The tombstone of a replica is durable.
    pub(in crate::sim) fn buried(&mut self, node: usize, group: usize) {
        let written = self.groups[group].replicas[node].model.buried();
        self.hard_states_changed(node, group, &written);
    }

    /// A replica's state goes to a file, which a crash may find in place from now on.
    pub(in crate::sim) fn snapshot_captured(
        &mut self,
        node: usize,
        group: usize,
        meta: &SnapshotMeta,
        content: &[u8],
    ) {
        self.groups[group].snapshot_is(meta, content);
        self.snapshot_received(node, group, meta.last);
    }

    /// A leader's snapshot is there, which a crash may find in place from now on.
    pub(in crate::sim) fn snapshot_received(&mut self, node: usize, group: usize, last: LogId) {
        self.groups[group].replicas[node].model.snapshot_coming(last);
    }

    /// A snapshot is current and durable.
    pub(in crate::sim) fn snapshot_durable(&mut self, node: usize, group: usize, last: LogId) {
        self.groups[group].replicas[node].model.snapshot_durable(last);
    }

    /// A restart found this snapshot, and that the state on disk holds all up to an entry.
    pub(in crate::sim) fn snapshot_found(
        &mut self,
        node: usize,
        group: usize,
        found: Option<&FoundSnapshot>,
        state_holds: LogId,
    ) {
        let group = &mut self.groups[group];
        if let Some((meta, content)) = found {
            group.snapshot_is(meta, content);
        }
        let last = found.map(|(meta, _)| meta.last).unwrap_or_default();
        let last = if state_holds.index > last.index { state_holds } else { last };
        group.replicas[node].model.snapshot_found(last);
    }

    /// A restart found this on the disk, after the node's [grants](Self::started).
    pub(in crate::sim) fn recovered(
        &mut self,
        node: usize,
        group: usize,
        restored: &Restored,
        tombstone: Option<ReplicaId>,
    ) {
        let replica = &mut self.groups[group].replicas[node];
        let written = replica.model.recovered(restored, tombstone);
        replica.commit = Index(0);
        replica.leads = None;
        self.hard_states_changed(node, group, &written);
    }

    /// The log that a restart found and its snapshot, if there is one, became `agreed`.
    pub(in crate::sim) fn reconciled(
        &self,
        node: usize,
        group: usize,
        snapshot: Option<&SnapshotMeta>,
        agreed: &Restored,
    ) {
        self.groups[group].replicas[node].model.reconciled(snapshot, agreed);
    }

    /// Writes of a replica became durable, in this order, each with the hard state before it.
    fn hard_states_changed(
        &mut self,
        node: usize,
        number: usize,
        written: &[(HardState, Persist)],
    ) {
        let GroupChecks { bonds, leaders, .. } = &mut self.groups[number];
        let grant = |peer| self.grants.get(&(node_id(node), peer)).copied().unwrap_or_default();
        for (before, persist) in written {
            if let Some(after) = &persist.hard_state {
                let now_us = self.now_us;
                bonds.written(node_id(node), (*before, **after), grant, leaders, now_us);
            }
        }
        self.bonds_stand(number);
    }
}
