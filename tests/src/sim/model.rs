//! What a replica's log should be, from the writes alone: the measure for the log on disk, after a
//! crash, and for the log that the core believes in.

use logboat_raft::{
    Configuration, EntryKind, Fortification, HardState, Index, LogId, LogWrite, Message, Payload,
    Persist, ReplicaId, Restored, SnapshotMeta, Term, TermRun, WriteSeq,
};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// A log as a list of the term and checksum of each entry.
#[derive(Clone, Debug, Default)]
pub(super) struct LogModel {
    /// The smallest id that a replica may have, if one is gone and no other has written anything.
    pub(super) tombstone: Option<ReplicaId>,
    pub(super) hard_state: HardState,
    pub(super) snapshot: LogId,
    entries: VecDeque<(Term, u32)>,
    /// The configuration where the log begins, if the log says so, and those of entries, by index.
    configurations: BTreeMap<Index, Arc<Configuration>>,
}

impl LogModel {
    pub(super) fn last(&self) -> LogId {
        let index = self.snapshot.index.plus(self.entries.len() as u64);
        LogId::new(self.entries.back().map_or(self.snapshot.term, |(term, _)| *term), index)
    }

    /// Later than the id of any replica that was ever here.
    pub(super) fn next_id(&self) -> ReplicaId {
        self.tombstone.unwrap_or(self.hard_state.replica.next())
    }

    /// Term and checksum of an entry that the log holds.
    pub(super) fn entry(&self, index: Index) -> Option<(Term, u32)> {
        let place = index.0.checked_sub(self.snapshot.index.0 + 1)?;
        self.entries.get(place as usize).copied()
    }

    /// The term at an index that the log, or its beginning, holds.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entry(index).map(|(term, _)| term)
    }

    /// The configuration in force at an index; `None` if the log knows none.
    pub(super) fn configuration_at(&self, index: Index) -> Option<&Arc<Configuration>> {
        self.configurations.range(..=index).next_back().map(|(_, configuration)| configuration)
    }

    pub(super) fn write(&mut self, persist: &Persist) {
        if let Some(hard_state) = &persist.hard_state {
            self.hard_state = **hard_state;
            self.tombstone = None;
        }
        match &persist.log {
            LogWrite::Keep => {}
            LogWrite::Tombstone(floor) => {
                *self = Self { tombstone: Some(*floor), ..Self::default() };
            }
            LogWrite::Founding(founding) => {
                self.configurations.insert(Index(0), Arc::clone(founding));
            }
            LogWrite::Append(entries) => {
                let Some(first) = entries.first() else { return };
                self.configurations.split_off(&first.index);
                let holders = entries.iter().filter(|it| it.kind == EntryKind::Configuration);
                self.configurations.extend(holders.map(|entry| {
                    let held = Configuration::decode(&entry.data).expect("it was encoded");
                    (entry.index, held.into())
                }));
                let keep = (first.index.0 - self.snapshot.index.0 - 1) as usize;
                assert!(keep <= self.entries.len(), "a write leaves no gap in the log");
                self.entries.truncate(keep);
                self.entries.extend(entries.iter().map(|entry| (entry.term, entry.checksum)));
            }
            LogWrite::Compact(meta) => {
                let gone = meta.last.index.0.saturating_sub(self.snapshot.index.0) as usize;
                self.entries.drain(..gone.min(self.entries.len()));
                self.begin_after(meta);
            }
            LogWrite::Reset(meta) => {
                self.entries.clear();
                self.configurations.clear();
                self.begin_after(meta);
            }
        }
    }

    fn begin_after(&mut self, meta: &SnapshotMeta) {
        self.snapshot = meta.last;
        self.configurations = self.configurations.split_off(&meta.last.index.next());
        let configuration = Arc::clone(&meta.configuration);
        self.configurations.insert(configuration.id().index, configuration);
    }

    fn is(&self, restored: &Restored, tombstone: Option<ReplicaId>) -> bool {
        let mut runs: Vec<TermRun> = Vec::new();
        for (offset, (term, _)) in self.entries.iter().enumerate() {
            if runs.last().is_none_or(|run| run.term != *term) {
                let first = self.snapshot.index.plus(offset as u64 + 1);
                runs.push(TermRun { term: *term, first });
            }
        }
        (self.hard_state, self.snapshot, self.last().index)
            == (restored.hard_state, restored.snapshot, restored.last)
            && runs == restored.runs
            && self.configurations.values().eq(&restored.configurations)
            && self.tombstone == tombstone
    }
}

/// The log of one replica: as it is on the disk for certain, the writes that may be there, and as
/// it will be when all of them are.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplicaModel {
    pub(super) durable: LogModel,
    pub(super) view: LogModel,
    /// The newest snapshot file, which a restart would begin with though the log be behind it.
    pub(super) snapshot: LogId,
    /// Those that were to take its place, as far as is known.
    coming: Vec<LogId>,
    submitted: VecDeque<Persist>,
    /// The last replica that is gone, if any.
    pub(super) former: Option<ReplicaId>,
    /// The bonds that were ever durable.
    pub(super) bonds: HashSet<Fortification>,
    /// Whether the first replica here founds the group.
    founds: bool,
}

impl ReplicaModel {
    pub(super) fn new(founds: bool) -> Self {
        Self { founds, ..Self::default() }
    }

    /// A write was handed to the log.
    pub(super) fn submit(&mut self, persist: Persist) {
        self.submitted.push_back(persist);
    }

    /// All writes of the replica up to `seq` are durable. Returns them, and the hard state before
    /// each. Its tombstone is none of them, and has no number: a sync may have begun before it.
    pub(super) fn synced(&mut self, seq: WriteSeq) -> Vec<(HardState, Persist)> {
        let is_synced = |persist: &Persist| persist.seq <= seq && !is_tombstone(persist);
        let count = self.submitted.iter().take_while(|persist| is_synced(persist)).count();
        self.advance(count)
    }

    /// The tombstone of the replica is durable, and so is all that it wrote before. Returns the
    /// same.
    pub(super) fn buried(&mut self) -> Vec<(HardState, Persist)> {
        let tombstone = self.submitted.iter().position(is_tombstone);
        self.advance(tombstone.expect("it was submitted") + 1)
    }

    fn advance(&mut self, count: usize) -> Vec<(HardState, Persist)> {
        let mut synced = Vec::new();
        for persist in self.submitted.drain(..count).collect::<Vec<_>>() {
            synced.push((self.durable.hard_state, persist));
            self.follow(&synced[synced.len() - 1].1);
            self.bonds.extend(self.durable.hard_state.fortified);
        }
        synced
    }

    /// A write is durable.
    fn follow(&mut self, persist: &Persist) {
        if is_tombstone(persist) {
            self.former = Some(self.durable.hard_state.replica);
        }
        self.durable.write(persist);
        if is_tombstone(persist) {
            self.snapshot = LogId::default();
            self.coming.clear();
        }
    }

    /// A snapshot file is on its way to its place.
    pub(super) fn snapshot_coming(&mut self, last: LogId) {
        self.coming.push(last);
    }

    /// A snapshot file is current and durable.
    ///
    /// # Panics
    /// When it was made of another replica than the one that is here now.
    pub(super) fn snapshot_durable(&mut self, last: LogId) {
        if last.index > self.snapshot.index {
            let is_own = self.coming.contains(&last);
            assert!(is_own, "a snapshot up to {last} is there, and nothing here has made it");
            self.snapshot = last;
            self.coming.retain(|coming| coming.index > last.index);
        }
    }

    /// A restart found this snapshot: the one that was durable, or one that was to take its place.
    ///
    /// # Panics
    /// When that is not so.
    pub(super) fn snapshot_found(&mut self, found: LogId) {
        let Self { snapshot, coming, .. } = self;
        let is_newer = found.index > snapshot.index && coming.contains(&found);
        assert!(
            found == *snapshot || is_newer,
            "a restart found a snapshot up to {found}, not {snapshot} nor one of {coming:?}"
        );
        self.snapshot = found;
        self.coming.clear();
    }

    /// The snapshot that a start would begin with. While the log does not say which replica is
    /// here, a start removes what there is, though the next one has taken it over.
    fn usable_snapshot(&self) -> LogId {
        if self.is_unborn() { LogId::default() } else { self.snapshot }
    }

    /// Whether the log says nothing of a replica, but perhaps that a former one is gone.
    fn is_unborn(&self) -> bool {
        let LogModel { tombstone, hard_state, .. } = self.durable;
        let is_empty = hard_state == HardState::default() && self.durable.configurations.is_empty();
        tombstone.is_some() || is_empty && !self.founds
    }

    /// Whether a message is of another replica than the one on the disk: of an earlier one, of
    /// which nothing is left. A tombstone that is not durable yet may answer in place of one that
    /// never came: that is gone by what its leader says.
    ///
    /// # Panics
    /// When anything else comes from a replica that never was.
    pub(super) fn is_of_another(&self, message: &Message) -> bool {
        let LogModel { tombstone, hard_state, .. } = self.durable;
        let is_other = tombstone.is_some() || message.from != hard_state.replica;
        let rests_on_nothing = matches!(message.payload, Payload::Left | Payload::Resigned { .. });
        let was_there = !is_other || message.from < self.durable.next_id();
        assert!(was_there || rests_on_nothing, "one that never was says {message:?}");
        is_other
    }

    /// The term and the last index that survive a crash.
    pub(super) fn survives(&self) -> (Term, Index) {
        let (term, index) = (self.durable.hard_state.term, self.durable.last().index);
        let snapshot = self.usable_snapshot();
        (term.max(snapshot.term), index.max(snapshot.index))
    }

    /// Whether this entry, or a snapshot that covers it, survives a crash.
    pub(super) fn holds(&self, id: LogId) -> bool {
        self.durable.snapshot.index >= id.index
            || self.usable_snapshot().index >= id.index
            || self.durable.term_at(id.index) == Some(id.term)
    }

    /// A restart found `restored`. Everything that was durable is there, of the later writes the
    /// first few, and nothing else. Returns these, and the hard state before each.
    ///
    /// # Panics
    /// When that is not so.
    pub(super) fn recovered(
        &mut self,
        restored: &Restored,
        tombstone: Option<ReplicaId>,
    ) -> Vec<(HardState, Persist)> {
        let LogModel { hard_state, snapshot, .. } = self.durable;
        let durable = (hard_state, snapshot, self.durable.last(), self.durable.tombstone);
        let mut later = std::mem::take(&mut self.submitted).into_iter();
        let mut survived = Vec::new();
        while !self.durable.is(restored, tombstone) {
            let Some(persist) = later.next() else {
                panic!(
                    "recovery lost or made up data: found {restored:?} and {tombstone:?}, durable \
                     were {durable:?}"
                );
            };
            survived.push((self.durable.hard_state, persist.clone()));
            self.follow(&persist);
        }
        if self.is_unborn() {
            self.snapshot = LogId::default();
            self.coming.clear();
        }
        self.bonds.extend(self.durable.hard_state.fortified);
        self.view = self.durable.clone();
        survived
    }

    /// A restart with what was [recovered](Self::recovered) and with this snapshot, if there is
    /// one, goes on from `agreed`: with what follows the snapshot if the log holds the snapshot's
    /// last entry, and with nothing but the snapshot otherwise (Raft paper, section 7).
    ///
    /// # Panics
    /// When that is not so.
    pub(super) fn reconciled(&self, snapshot: Option<&SnapshotMeta>, agreed: &Restored) {
        let mut expected = self.durable.clone();
        if let Some(meta) = snapshot.filter(|meta| meta.last != expected.snapshot) {
            let holds = expected.term_at(meta.last.index) == Some(meta.last.term);
            let meta = meta.clone();
            let log = if holds { LogWrite::Compact(meta) } else { LogWrite::Reset(meta) };
            let hard_state = Some(agreed.hard_state.into());
            expected.write(&Persist { seq: WriteSeq::default(), hard_state, log });
        }
        assert!(
            expected.is(agreed, expected.tombstone),
            "a log up to {} and a snapshot {snapshot:?} became {agreed:?}",
            self.durable.last()
        );
    }
}

const fn is_tombstone(persist: &Persist) -> bool {
    matches!(persist.log, LogWrite::Tombstone(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_when_the_log_says_which_replica_is_here_or_it_founds_the_group() {
        let last = LogId::new(Term(4), Index(9));
        for founds in [false, true] {
            let mut model = ReplicaModel::new(founds);
            model.snapshot_coming(last);
            model.snapshot_durable(last);
            assert_eq!(model.holds(last), founds);
            model.recovered(&Restored::default(), None);
            model.snapshot_found(if founds { last } else { LogId::default() });
        }
    }

    #[test]
    fn what_stands_beside_a_tombstone_alone_goes_at_the_next_start() {
        let floor = ReplicaId(LogId::new(Term(3), Index(7)));
        let persist = |seq, hard_state, log| Persist { seq: WriteSeq(seq), hard_state, log };
        let mut model = ReplicaModel::default();
        model.submit(persist(0, None, LogWrite::Tombstone(floor)));
        assert!(model.synced(WriteSeq(7)).is_empty(), "that sync began before");
        model.buried();
        // The next replica takes over a snapshot before anything that it writes is durable.
        let last = LogId::new(Term(4), Index(9));
        model.snapshot_coming(last);
        model.snapshot_durable(last);
        assert!(!model.holds(last));
        assert_eq!(model.survives(), (Term(0), Index(0)));
        let mut restarted = model.clone();
        restarted.recovered(&Restored::default(), Some(floor));
        restarted.snapshot_found(LogId::default());
        // Its id is durable: so is the snapshot.
        let hard_state = HardState { replica: floor, ..HardState::default() };
        model.submit(persist(1, Some(hard_state.into()), LogWrite::Keep));
        model.synced(WriteSeq(1));
        assert!(model.holds(last));
        model.recovered(&Restored { hard_state, ..Restored::default() }, None);
        model.snapshot_found(last);
    }
}
