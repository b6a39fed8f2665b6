//! Carrying out a plan. Each step is durable before the next one begins, and does no harm alone, so
//! that an interrupted run is finished by another one.

use super::start_over;
use super::{GroupCopy, GroupPlan, RecoverError, RecoverPlan, Survivor, Survivors, Verdict};
use logboat_raft::{
    Entry, EntryKind, GroupId, HardState, LogWrite, NodeId, Persist, Term, WriteSeq,
};
use logboat_storage::simulation::{FileDisk, InlineWal};
use logboat_storage::{SegmentState, WalOptions};
use std::io;

impl Survivors {
    /// Gives up the lost nodes, and has the groups start over that the plan says.
    ///
    /// First all survivors note that the lost nodes are not let in any more. Then the copies that
    /// learn enter the new term, and last those that vote get the entry with the new members. Until
    /// a group has that entry, it is as it was. So after a crash the same call finishes the rest.
    ///
    /// # Errors
    /// [`RecoverError`] when the plan can't be carried out, or a directory can't be written.
    pub fn apply(&self, plan: &RecoverPlan) -> Result<(), RecoverError> {
        plan.check()?;
        if plan.starting_over().next().is_none() {
            return Ok(());
        }
        self.fence(plan)?;
        self.write(plan, learn)?;
        self.write(plan, vote)
    }

    /// Has all survivors note that the lost nodes are not let in any more.
    pub(super) fn fence(&self, plan: &RecoverPlan) -> Result<(), RecoverError> {
        for survivor in self.nodes.values() {
            for node in &plan.lost {
                survivor.known_peers.fence(*node).map_err(|source| survivor.failed(source))?;
            }
        }
        Ok(())
    }

    /// Has all copies write what they are to.
    pub(super) fn write(&self, plan: &RecoverPlan, change: Changes) -> Result<(), RecoverError> {
        let mut survivors = self.nodes.iter();
        survivors.try_for_each(|(node, survivor)| survivor.write(&writes(plan, *node, change)))
    }
}

/// What a copy of a group writes, if anything.
type Changes = fn(&GroupPlan, &GroupCopy) -> Option<LogWrite>;

/// What a node has to write for all groups.
fn writes(plan: &RecoverPlan, node: NodeId, change: Changes) -> Vec<(GroupId, Term, LogWrite)> {
    let mut writes = Vec::new();
    for group in plan.starting_over() {
        let Verdict::StartsOver { term, .. } = group.verdict else { continue };
        let copy = group.copies.iter().find(|copy| copy.node == node);
        if let Some(change) = copy.and_then(|copy| change(group, copy)) {
            writes.push((group.group, term, change));
        }
    }
    writes
}

/// What a copy that learns writes beside its hard state.
pub(super) fn learn(group: &GroupPlan, copy: &GroupCopy) -> Option<LogWrite> {
    let Verdict::StartsOver { learners, .. } = &group.verdict else { return None };
    learners.contains(&copy.node).then_some(LogWrite::Keep)
}

/// What the copy writes from which the group starts over.
fn vote(group: &GroupPlan, copy: &GroupCopy) -> Option<LogWrite> {
    let Verdict::StartsOver { from, learners, term } = &group.verdict else { return None };
    let next = (*from == copy.node).then(|| start_over(copy, *term, learners)).flatten()?;
    let entry = Entry::new(group.group, next.id(), EntryKind::Configuration, next.encode());
    Some(LogWrite::Append([entry].into_iter().collect()))
}

impl Survivor {
    /// Writes to the log, each group's part as a whole, all of it durable in the end.
    fn write(&self, writes: &[(GroupId, Term, LogWrite)]) -> Result<(), RecoverError> {
        if writes.is_empty() {
            return Ok(());
        }
        let disk = FileDisk::open(&self.data_dir.wal()).map_err(|source| self.failed(source))?;
        let known_end = self.data_dir.boot().record().log_end;
        // As at any start of the node: peers are told where the log ended before this.
        let found = |end| self.known_peers.begin(end);
        let opened = InlineWal::open_past(disk, self.wal_options(), known_end, found);
        let (mut wal, recovered) = opened.map_err(|error| self.failed(io::Error::other(error)))?;
        for (group, term, change) in writes {
            let Some(log) = recovered.groups.get(group) else {
                let (group, node) = (*group, self.node);
                let what = "its log lost entries when it was opened".to_owned();
                return Err(RecoverError::Unusable { group, node, what });
            };
            // The bond to a leader stays: it ends with the support for the leader's node.
            let hard_state = HardState { term: *term, vote: None, ..log.hard_state };
            let hard_state = Some(Box::new(hard_state));
            let persist = Persist { seq: WriteSeq::default(), hard_state, log: change.clone() };
            let written = wal.write(&[], &[(*group, persist)]);
            written.map_err(|error| self.failed(io::Error::other(error)))?;
        }
        wal.close().map_err(|error| self.failed(io::Error::other(error)))
    }

    /// As the log is: a node on a small disk has small segments, and room for no others.
    fn wal_options(&self) -> WalOptions {
        let default = WalOptions::default();
        let segments = self.log.segments.iter();
        let readable = segments.filter(|segment| segment.state != SegmentState::Unreadable);
        // One that was made for a large batch is larger.
        let segment_bytes = readable.map(|segment| segment.bytes).min();
        WalOptions { segment_bytes: segment_bytes.unwrap_or(default.segment_bytes), ..default }
    }

    fn failed(&self, source: io::Error) -> RecoverError {
        RecoverError::Io { path: self.path.clone(), source }
    }
}
