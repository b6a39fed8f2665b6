//! Which record holds which entry, what the node granted its peers last, and which segments are
//! needed: the log's index in memory.

use super::format::Position;
use super::runs::{Run, Runs};
use logboat_raft::{Grant, GroupId, HardState, Index, LogId, NodeId};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

const SHARDS: usize = 64;

/// What one record changes, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The log of a group.
    Group(GroupId, Change),
    /// What the node granted a peer.
    Grant(NodeId, Grant),
}

/// What one record changes in its group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The hard state.
    HardState(HardState),
    /// Entries follow; those from `first` on that were there before are gone.
    Append { first: Index, count: u32 },
    /// Copies of live entries; the places of the originals are not needed any more.
    Rewrite { first: Index, count: u32 },
    /// Entries up to this one are gone.
    Compact(LogId),
    /// All entries are gone, and the log goes on after this one.
    Reset(LogId),
}

/// The live part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) run: Run,
    pub(super) first: Index,
    pub(super) last: Index,
}

/// What the log knows of one group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupLog {
    pub(super) hard_state: HardState,
    /// The segment of the record that holds the hard state; zero when there is none.
    pub(super) hard_state_in: u32,
    pub(super) snapshot: LogId,
    /// The segment of the record that holds `snapshot`; zero when there is none.
    pub(super) snapshot_in: u32,
    /// The last entry, or that of the snapshot.
    pub(super) last: Index,
    /// By first index. A run ends where the next one begins, though its record may go on.
    runs: Runs,
}

/// How much of a segment is needed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    /// Records that are needed.
    pub(super) pins: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// How much of each segment is needed.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<u32, Live>);

impl Accounts {
    pub(super) fn live(&self, segment: u32) -> Live {
        self.0.get(&segment).copied().unwrap_or_default()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.0.values().map(|live| live.bytes).sum()
    }

    pub(super) fn forget(&mut self, segment: u32) {
        self.0.remove(&segment);
    }

    fn pin(&mut self, segment: u32, bytes: u32) {
        let live = self.0.entry(segment).or_default();
        live.pins += 1;
        live.bytes += u64::from(bytes);
    }

    fn release(&mut self, segment: u32, bytes: u32) {
        if let Some(live) = self.0.get_mut(&segment) {
            live.pins -= 1;
            live.bytes -= u64::from(bytes);
        }
    }
}

/// About what a record of a hard state, compaction point or grant takes. They are accounted alike,
/// so that the index need not remember the size of each.
const POINT_BYTES: u32 = 16;

impl GroupLog {
    /// Follows one record, `bytes` long, at `place`.
    fn apply(&mut self, change: Change, place: Position, bytes: u32, accounts: &mut Accounts) {
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

    /// The runs that are live, at least in part.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter()
    }

    /// The live pieces, by index.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        (0..self.runs.len()).map_while(|at| self.piece(at))
    }

    /// The pieces that hold the entries from `first` to `last`, as many as are worth `max_bytes`
    /// but at least one; none when the log does not hold `first`.
    pub(super) fn find(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Piece> {
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
    pub(super) fn gap(&self) -> Option<Index> {
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

/// What the node granted a peer last.
#[derive(Clone, Copy, Debug, Default)]
struct Granted {
    grant: Grant,
    /// The segment of the record that holds it; zero when there is none.
    segment: u32,
}

/// The index of all groups and grants. The log's own thread changes it, any thread reads it.
#[derive(Debug)]
pub(super) struct LogIndex {
    shards: Vec<RwLock<FxHashMap<GroupId, GroupLog>>>,
    grants: RwLock<BTreeMap<NodeId, Granted>>,
}

impl LogIndex {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, grants: RwLock::default() }
    }

    /// Follows one record, `bytes` long, at `place`.
    pub(super) fn apply(
        &self,
        effect: Effect,
        place: Position,
        bytes: u32,
        accounts: &mut Accounts,
    ) {
        match effect {
            Effect::Group(group, change) => {
                let mut shard = self.shard(group).write();
                shard.entry(group).or_default().apply(change, place, bytes, accounts);
            }
            Effect::Grant(peer, grant) => {
                let mut grants = self.grants.write();
                let granted = grants.entry(peer).or_default();
                accounts.release(granted.segment, POINT_BYTES);
                accounts.pin(place.segment, POINT_BYTES);
                *granted = Granted { grant, segment: place.segment };
            }
        }
    }

    /// Looks at a group; one that was never written is empty.
    pub(super) fn with<T>(&self, group: GroupId, look: impl FnOnce(&GroupLog) -> T) -> T {
        match self.shard(group).read().get(&group) {
            Some(log) => look(log),
            None => look(&GroupLog::default()),
        }
    }

    /// Looks at every group, in no order.
    pub(super) fn each(&self, mut look: impl FnMut(GroupId, &GroupLog)) {
        for shard in &self.shards {
            for (group, log) in &*shard.read() {
                look(*group, log);
            }
        }
    }

    /// What the node granted each peer last.
    pub(super) fn grants(&self) -> BTreeMap<NodeId, Grant> {
        let grants = self.grants.read();
        grants.iter().map(|(peer, granted)| (*peer, granted.grant)).collect()
    }

    /// Those of the grants whose records lie in this segment.
    pub(super) fn grants_in(&self, segment: u32) -> Vec<(NodeId, Grant)> {
        let grants = self.grants.read();
        let within = grants.iter().filter(|(_, granted)| granted.segment == segment);
        within.map(|(peer, granted)| (*peer, granted.grant)).collect()
    }

    fn shard(&self, group: GroupId) -> &RwLock<FxHashMap<GroupId, GroupLog>> {
        &self.shards[group.0 as usize % SHARDS]
    }
}
