//! The index of one group: which record holds which entry.

use super::accounts::{Accounts, POINT_BYTES};
use super::later::Later;
use super::packed_state::PackedState;
use super::runs::{Run, Runs};
use crate::wal::format::Change;
use logboat_raft::{
    Configuration, HardState, Index, LogId, LogPosition, ReplicaId, Restored, SnapshotMeta,
};
use std::sync::Arc;

/// The live part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) run: Run,
    pub(crate) first: Index,
    pub(crate) last: Index,
}

/// What the log knows of one group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupLog {
    state: PackedState,
    pub(crate) snapshot: LogId,
    /// The segment of the record that holds `snapshot`; zero when there is none.
    pub(crate) snapshot_in: u32,
    /// The configuration in force at `snapshot`; without a snapshot, the founding one, if it was
    /// written.
    base: Option<Arc<Configuration>>,
    /// The segment of the record that holds the founding configuration; zero when there is none,
    /// or when a snapshot took its place.
    founding_in: u32,
    /// The configurations that entries hold, one at least. Most groups have none.
    later: Option<Box<Later>>,
    /// The last entry, or that of the snapshot.
    pub(crate) last: Index,
    /// By first index. A run ends where the next one begins, though its record may go on.
    runs: Runs,
}

const _: () = assert!(size_of::<GroupLog>() <= 160, "there are thousands of them");

impl GroupLog {
    /// What the group's replica has promised last.
    pub(crate) fn hard_state(&self) -> HardState {
        self.state.unpack()
    }

    /// Which replica of the group the log is of.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.state.replica()
    }

    /// The segment of the record that holds the hard state; zero when there is none.
    pub(crate) const fn hard_state_in(&self) -> u32 {
        self.state.segment
    }

    /// Follows one record, `bytes` long, at `place`.
    pub(crate) fn apply(
        &mut self,
        change: Change,
        place: LogPosition,
        bytes: u32,
        accounts: &mut Accounts,
    ) {
        match change {
            Change::HardState(state) => {
                accounts.release(self.state.segment, POINT_BYTES);
                accounts.pin(place.segment, POINT_BYTES);
                self.state = PackedState::pack(&state, place.segment);
            }
            Change::Append { first, count, configurations } => {
                self.change_later(|later| later.truncate(first));
                self.hold(&configurations);
                let begin = self.snapshot.index.next();
                // Of the first run, only what lies behind the snapshot counts.
                while let Some(run) = self.runs.last()
                    && run.first.max(begin) >= first
                {
                    self.runs.pop_last();
                    accounts.release(run.place.segment, run.bytes);
                }
                self.last = first.plus(u64::from(count) - 1);
                self.insert(Run { first, place, count, bytes }, accounts);
            }
            Change::Rewrite { first, count, configurations } => {
                self.hold(&configurations);
                self.last = self.last.max(first.plus(u64::from(count) - 1));
                self.replace(Run { first, place, count, bytes }, accounts);
            }
            // A snapshot says more.
            Change::Founding(_) if self.snapshot != LogId::default() => {}
            Change::Founding(founding) => {
                accounts.release(self.founding_in, POINT_BYTES);
                accounts.pin(place.segment, POINT_BYTES);
                self.founding_in = place.segment;
                self.base = Some(founding);
            }
            Change::Compact(meta) if meta.last.index < self.snapshot.index => {}
            Change::Compact(meta) => {
                self.last = self.last.max(meta.last.index);
                self.begin_after(meta, place.segment, accounts);
            }
            Change::Reset(meta) => {
                self.last = meta.last.index;
                self.later = None;
                for piece in self.pieces() {
                    accounts.release(piece.run.place.segment, piece.run.bytes);
                }
                self.runs = Runs::default();
                self.begin_after(meta, place.segment, accounts);
            }
            Change::Tombstone { .. } => unreachable!("the index drops the whole group"),
        }
    }

    /// Nothing of the group is needed any more.
    pub(crate) fn release(&self, accounts: &mut Accounts) {
        for segment in [self.state.segment, self.snapshot_in, self.founding_in] {
            accounts.release(segment, POINT_BYTES);
        }
        for run in self.runs() {
            accounts.release(run.place.segment, run.bytes);
        }
    }

    /// Whether this segment holds something that the group still needs.
    pub(crate) fn needs(&self, segment: u32) -> bool {
        let points = [self.state.segment, self.snapshot_in, self.founding_in];
        points.contains(&segment) || self.runs().any(|run| run.place.segment == segment)
    }

    /// The founding configuration, if this segment holds it and the group still needs it.
    pub(crate) fn founding_in(&self, segment: u32) -> Option<&Arc<Configuration>> {
        self.base.as_ref().filter(|_| self.founding_in == segment)
    }

    /// The snapshot where the log begins, if this segment holds the record of it.
    pub(crate) fn snapshot_in(&self, segment: u32) -> Option<SnapshotMeta> {
        let configuration = self.base.as_ref().filter(|_| self.snapshot_in == segment)?;
        Some(SnapshotMeta { last: self.snapshot, configuration: Arc::clone(configuration) })
    }

    /// What a replica starts from, but for the terms.
    pub(crate) fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state(),
            snapshot: self.snapshot,
            last: self.last,
            runs: Vec::new(),
            configurations: self.base.iter().cloned().chain(self.later()).collect(),
        }
    }

    /// Whether entries are needed that the record at `place` holds.
    pub(crate) fn holds(&self, place: LogPosition) -> bool {
        self.runs().any(|run| run.place == place)
    }

    /// The runs that are live, at least in part.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter()
    }

    /// The live pieces, by index.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        (0..self.runs.len()).map_while(|at| self.piece(at))
    }

    /// The pieces that hold the entries from `first` to `last`, up to `max_bytes` but at least one
    /// entry. None when the log does not hold `first`.
    pub(crate) fn find(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Piece> {
        let mut found = Vec::new();
        if first <= self.snapshot.index || first > self.last {
            return found;
        }
        let mut bytes = 0;
        let start = self.runs.before(first.next()).saturating_sub(1);
        for mut piece in (start..).map_while(|at| self.piece(at)) {
            if piece.first > last || (bytes >= max_bytes && !found.is_empty()) {
                break;
            }
            piece.first = piece.first.max(first);
            piece.last = piece.last.min(last);
            let wanted = (piece.last.0 - piece.first.0 + 1) as usize;
            bytes += piece.run.bytes as usize / piece.run.count as usize * wanted;
            found.push(piece);
        }
        found
    }

    /// The first entry that should be there and is not.
    pub(crate) fn gap(&self) -> Option<Index> {
        let mut expected = self.snapshot.index.next();
        for piece in self.pieces() {
            if piece.first != expected || piece.last < piece.first {
                return Some(expected);
            }
            expected = piece.last.next();
        }
        (expected != self.last.next()).then_some(expected)
    }

    fn piece(&self, at: usize) -> Option<Piece> {
        let run = self.runs.get(at)?;
        let next = self.runs.get(at + 1).map_or(self.last.next(), |run| run.first);
        Some(Piece {
            run,
            first: run.first.max(self.snapshot.index.next()),
            last: run.first.plus(u64::from(run.count)).min(next).prev(),
        })
    }

    /// The configurations that entries hold, by index.
    fn later(&self) -> impl Iterator<Item = Arc<Configuration>> + '_ {
        self.later.iter().flat_map(|later| later.iter())
    }

    /// Changes the configurations that entries hold, if there are any.
    fn change_later(&mut self, change: impl FnOnce(&mut Later)) {
        if let Some(later) = &mut self.later {
            change(later);
            self.later.take_if(|later| later.is_empty());
        }
    }

    /// Entries hold these. Copies of entries hold what is known.
    fn hold(&mut self, configurations: &[Arc<Configuration>]) {
        for configuration in configurations {
            if configuration.id().index > self.snapshot.index {
                self.later.get_or_insert_default().hold(configuration);
            }
        }
    }

    fn begin_after(&mut self, meta: SnapshotMeta, segment: u32, accounts: &mut Accounts) {
        let SnapshotMeta { last, configuration } = meta;
        accounts.release(self.snapshot_in, POINT_BYTES);
        accounts.release(self.founding_in, POINT_BYTES);
        accounts.pin(segment, POINT_BYTES);
        self.founding_in = 0;
        self.change_later(|later| later.forget(last.index));
        self.base = Some(configuration);
        self.snapshot = last;
        self.snapshot_in = segment;
        let covered = self.pieces().take_while(|piece| piece.last <= last.index);
        let covered = covered.map(|piece| {
            accounts.release(piece.run.place.segment, piece.run.bytes);
        });
        let covered = covered.count();
        self.runs.drop_first(covered);
    }

    fn insert(&mut self, run: Run, accounts: &mut Accounts) {
        accounts.pin(run.place.segment, run.bytes);
        self.runs.insert(run);
    }

    /// Puts a run in the place of those whose live entries it copies.
    fn replace(&mut self, new: Run, accounts: &mut Accounts) {
        let last = new.first.plus(u64::from(new.count) - 1);
        let start = self.runs.before(new.first);
        // The run before begins earlier, but what is live of it may not.
        let mut at = start.saturating_sub(1);
        while let Some(piece) = self.piece(at)
            && piece.run.first <= last
        {
            if new.first <= piece.first && piece.last <= last {
                self.runs.remove(at);
                accounts.release(piece.run.place.segment, piece.run.bytes);
            } else {
                at += 1;
            }
        }
        self.insert(new, accounts);
    }
}
