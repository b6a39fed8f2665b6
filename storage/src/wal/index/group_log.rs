//! The index of one group: which record holds which entry.

use super::accounts::{Accounts, POINT_BYTES};
use super::runs::{Run, Runs};
use crate::wal::format::Change;
use logboat_raft::{HardState, Index, LogId, LogPosition, NodeId};
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
    pub(crate) hard_state: HardState,
    /// The segment of the record that holds the hard state; zero when there is none.
    pub(crate) hard_state_in: u32,
    pub(crate) snapshot: LogId,
    /// The segment of the record that holds `snapshot`; zero when there is none.
    pub(crate) snapshot_in: u32,
    /// The voters, if they were written, and the segment of the record that holds them.
    pub(crate) voters: Option<(Arc<[NodeId]>, u32)>,
    /// The last entry, or that of the snapshot.
    pub(crate) last: Index,
    /// By first index. A run ends where the next one begins, though its record may go on.
    runs: Runs,
}

impl GroupLog {
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
                accounts.release(self.hard_state_in, POINT_BYTES);
                accounts.pin(place.segment, POINT_BYTES);
                self.hard_state = state;
                self.hard_state_in = place.segment;
            }
            Change::Append { first, count } => {
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
            Change::Rewrite { first, count } => {
                self.last = self.last.max(first.plus(u64::from(count) - 1));
                self.replace(Run { first, place, count, bytes }, accounts);
            }
            Change::Voters(voters) => {
                if let Some((_, segment)) = self.voters {
                    accounts.release(segment, POINT_BYTES);
                }
                accounts.pin(place.segment, POINT_BYTES);
                self.voters = Some((voters, place.segment));
            }
            Change::Compact(last) if last.index < self.snapshot.index => {}
            Change::Compact(last) => {
                self.last = self.last.max(last.index);
                self.begin_after(last, place.segment, accounts);
            }
            Change::Reset(last) => {
                self.last = last.index;
                for piece in self.pieces() {
                    accounts.release(piece.run.place.segment, piece.run.bytes);
                }
                self.runs = Runs::default();
                self.begin_after(last, place.segment, accounts);
            }
        }
    }

    /// Whether this segment holds something that the group still needs.
    pub(crate) fn needs(&self, segment: u32) -> bool {
        let points = [self.hard_state_in, self.snapshot_in];
        points.contains(&segment)
            || self.voters.as_ref().is_some_and(|(_, voters_in)| *voters_in == segment)
            || self.runs().any(|run| run.place.segment == segment)
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

    fn begin_after(&mut self, last: LogId, segment: u32, accounts: &mut Accounts) {
        accounts.release(self.snapshot_in, POINT_BYTES);
        accounts.pin(segment, POINT_BYTES);
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
