//! The log as the core knows it: the terms of all its entries, and those entries that are not yet
//! both durable and applied. It never reads the disk.

use crate::{Conflict, Entries, Entry, Index, LogId, Term, TermRun, WriteSeq, reserve_one};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The log of a replica: snapshot, then entries up to `last`.
#[derive(Debug)]
pub(crate) struct Log {
    /// The last entry that the newest snapshot covers, where the log begins; zero without one.
    snapshot: LogId,
    /// The terms of the entries after `snapshot` up to `last`, ascending; empty if there are none.
    /// A handful: one run for each leader that left entries.
    runs: Vec<TermRun>,
    /// The last entry, or that of the snapshot if there is none after it.
    last: Index,
    /// The newest entries, up to `last`. An entry stays in memory until it is applied, and it is
    /// durable by then. Entries that were durable before a restart are not in memory.
    tail: VecDeque<Entry>,
    /// Up to here the log is durable. Behind `snapshot` only while a reset is being written.
    durable: Index,
    /// The writes under way, in their order.
    writes: VecDeque<PendingWrite>,
}

/// A write of the log that is not durable yet.
#[derive(Clone, Copy, Debug)]
struct PendingWrite {
    /// Its number.
    seq: WriteSeq,
    /// Up to where it makes the log durable. A later write that replaces entries lowers this: bytes
    /// of entries that were replaced count for nothing when they become durable.
    through: Index,
}

impl Log {
    /// The log as found on disk.
    ///
    /// # Panics
    /// When the term runs do not describe a log from `snapshot` to `last`.
    pub(crate) fn new(snapshot: LogId, last: Index, runs: Vec<TermRun>) -> Self {
        assert!(last >= snapshot.index, "the log ends before its snapshot");
        let first = runs.first().map(|run| run.first);
        let expected = (last > snapshot.index).then(|| snapshot.index.next());
        assert_eq!(first, expected, "the term runs begin with the log");
        assert!(
            runs.iter().all(|run| run.first <= last && run.term >= snapshot.term)
                && runs.is_sorted_by(|a, b| a.term < b.term && a.first < b.first),
            "the term runs ascend within the log"
        );
        Self { snapshot, runs, last, tail: VecDeque::new(), durable: last, writes: VecDeque::new() }
    }

    /// The last entry that the newest snapshot covers.
    pub(crate) const fn snapshot(&self) -> LogId {
        self.snapshot
    }

    /// The index of the last entry.
    pub(crate) const fn last(&self) -> Index {
        self.last
    }

    /// The last entry.
    pub(crate) fn last_id(&self) -> LogId {
        let term = self.runs.last().map_or(self.snapshot.term, |run| run.term);
        LogId::new(term, self.last)
    }

    /// Up to where the log is durable.
    pub(crate) const fn durable(&self) -> Index {
        self.durable
    }

    /// The first index whose entry is in memory; one past the last when none is.
    pub(crate) fn memory_start(&self) -> Index {
        Index(self.last.0 + 1 - self.tail.len() as u64)
    }

    /// The term of the entry at `index`: `None` when it is compacted or beyond the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        if index < self.snapshot.index || index > self.last {
            return None;
        }
        Some(self.run_of(index).term)
    }

    /// The identity of the entry at `index`: `None` when it is compacted or beyond the end.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        Some(LogId::new(self.term_at(index)?, index))
    }

    /// Whether the log holds this entry. What a snapshot covers is committed, so whatever a
    /// legitimate leader has there is the same.
    pub(crate) fn holds(&self, id: LogId) -> bool {
        id.index < self.snapshot.index || self.term_at(id.index) == Some(id.term)
    }

    /// Where this log parts from one that has `prev`; `None` when it holds `prev` too.
    pub(crate) fn conflict_with(&self, prev: LogId) -> Option<Conflict> {
        if self.holds(prev) {
            return None;
        }
        let x_len = self.last.next();
        if prev.index > self.last {
            return Some(Conflict { x_term: None, x_index: x_len, x_len });
        }
        let (x_term, x_index) = if prev.index == self.snapshot.index {
            (self.snapshot.term, self.snapshot.index)
        } else {
            let run = self.run_of(prev.index);
            (run.term, run.first)
        };
        Some(Conflict { x_term: Some(x_term), x_index, x_len })
    }

    /// The last index of `term`, if the log knows an entry of it.
    pub(crate) fn last_of_term(&self, term: Term) -> Option<Index> {
        match self.runs.binary_search_by_key(&term, |run| run.term) {
            Ok(at) => Some(self.runs.get(at + 1).map_or(self.last, |next| next.first.prev())),
            Err(_) => (term == self.snapshot.term && term > Term(0)).then_some(self.snapshot.index),
        }
    }

    /// Appends consecutive entries, which write `seq` makes durable. What the log held from the
    /// first one on is replaced.
    ///
    /// # Panics
    /// When the entries leave a gap, or reach into what a snapshot covers.
    pub(crate) fn append(&mut self, entries: &[Entry], seq: WriteSeq) {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return;
        };
        assert!(
            first > self.snapshot.index && first <= self.last.next(),
            "an append leaves no gap"
        );
        self.truncate(first);
        for entry in entries {
            assert_eq!(entry.index, self.last.next(), "entries are consecutive");
            if entry.term != self.last_id().term || self.runs.is_empty() {
                reserve_one::push(&mut self.runs, TermRun { term: entry.term, first: entry.index });
            }
            self.last = entry.index;
            reserve_one::push_back(&mut self.tail, entry.clone());
        }
        reserve_one::push_back(&mut self.writes, PendingWrite { seq, through: self.last });
    }

    /// Forgets the entries that a durable snapshot covers. All of them have been applied, so none
    /// is in memory.
    pub(crate) fn compact(&mut self, last: LogId) {
        let first = last.index.next();
        let gone = self.runs.partition_point(|run| run.first <= first);
        // The run that `first` lies in stays, unless the log ends here.
        let gone = if last.index == self.last { gone } else { gone - 1 };
        self.runs.drain(..gone);
        if let Some(run) = self.runs.first_mut() {
            run.first = first;
        }
        self.snapshot = last;
    }

    /// Replaces the whole log by a snapshot. Until write `seq` is durable, only what the old log
    /// has of committed entries (up to `commit`) counts as durable.
    pub(crate) fn reset(&mut self, last: LogId, commit: Index, seq: WriteSeq) {
        self.lower_durable(commit);
        self.runs = Vec::new();
        self.tail = VecDeque::new();
        self.snapshot = last;
        self.last = last.index;
        reserve_one::push_back(&mut self.writes, PendingWrite { seq, through: last.index });
    }

    /// Notes that all writes up to `seq` are durable.
    pub(crate) fn persisted(&mut self, seq: WriteSeq) {
        while let Some(&write) = self.writes.front()
            && write.seq <= seq
        {
            self.durable = self.durable.max(write.through);
            self.writes.pop_front();
        }
    }

    /// Moves the entries in memory up to `through` out. Taking all of many costs no copy and leaves
    /// no memory behind.
    pub(crate) fn take(&mut self, through: Index) -> Entries {
        if through == self.last && self.tail.len() > 1 {
            return Vec::from(core::mem::take(&mut self.tail)).into();
        }
        let count = through.0 + 1 - self.memory_start().0;
        self.tail.drain(..count as usize).collect()
    }

    /// Copies of the entries from `first` on, which must be in memory: as many as fit into
    /// `max_bytes` of payload, but at least one. Empty when even that exceeds `room`. An entry
    /// without payload counts for a byte, or any number of them would fit.
    pub(crate) fn read(&self, first: Index, max_bytes: usize, room: usize) -> Entries {
        let skip = (first.0 - self.memory_start().0) as usize;
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.tail.range(skip..) {
            bytes += entry.data.len().max(1);
            if bytes > room || (count > 0 && bytes > max_bytes) {
                break;
            }
            count += 1;
        }
        self.tail.range(skip..skip + count).cloned().collect()
    }

    /// The payload bytes in memory of the entries after `after` up to `through`.
    pub(crate) fn payload_bytes(&self, after: Index, through: Index) -> usize {
        let start = self.memory_start().0;
        let from = after.next().0.saturating_sub(start) as usize;
        let to = through.next().0.saturating_sub(start) as usize;
        self.tail.range(from..to).map(|entry| entry.data.len()).sum()
    }

    /// Panics when the fields contradict each other.
    pub(crate) fn invariants(&self) {
        assert!(self.snapshot.index <= self.last && self.durable <= self.last);
        assert!(self.memory_start() > self.snapshot.index);
        assert_eq!(self.runs.is_empty(), self.last == self.snapshot.index);
        assert!(self.runs.iter().all(|run| run.term >= self.snapshot.term));
        assert!(self.runs.is_sorted_by(|a, b| a.term < b.term && a.first < b.first));
        if let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) {
            assert_eq!(first.first, self.snapshot.index.next());
            assert!(last.first <= self.last);
        }
        if let (Some(first), Some(last)) = (self.tail.front(), self.tail.back()) {
            assert_eq!(first.index, self.memory_start());
            assert_eq!(Some(first.term), self.term_at(first.index));
            assert_eq!(last.id(), self.last_id());
        }
        assert!(self.writes.iter().all(|write| write.through <= self.last));
        assert!(self.writes.iter().is_sorted_by_key(|write| write.seq));
    }

    /// The run that `index`, an index of the log, lies in.
    fn run_of(&self, index: Index) -> TermRun {
        let after = self.runs.partition_point(|run| run.first <= index);
        self.runs[after - 1]
    }

    /// Drops the entries from `first` on.
    fn truncate(&mut self, first: Index) {
        if first > self.last {
            return;
        }
        let keep = first.0.saturating_sub(self.memory_start().0) as usize;
        self.tail.truncate(keep);
        let keep = self.runs.partition_point(|run| run.first < first);
        self.runs.truncate(keep);
        self.last = first.prev();
        self.lower_durable(self.last);
    }

    /// Notes that what follows `through` was replaced, on its way to the disk or there already.
    fn lower_durable(&mut self, through: Index) {
        self.durable = self.durable.min(through);
        for write in &mut self.writes {
            write.through = write.through.min(through);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Log;
    use crate::{Entry, EntryKind, GroupId, Index, LogId, Term, WriteSeq};
    use alloc::vec::Vec;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// A log as a list of all its terms, with what a snapshot covers still in it.
    #[derive(Default)]
    struct Model {
        terms: Vec<u64>,
        start: usize,
    }

    impl Model {
        fn term_at(&self, index: u64) -> Option<Term> {
            let index = index as usize;
            let known = index >= self.start && index <= self.terms.len();
            let term = |index: usize| self.terms.get(index.wrapping_sub(1)).copied().unwrap_or(0);
            known.then(|| Term(term(index)))
        }

        fn indexes(&self) -> core::ops::RangeInclusive<u64> {
            self.start as u64..=self.terms.len() as u64
        }

        fn check(&self, log: &Log) {
            log.invariants();
            let last = self.terms.len() as u64;
            assert_eq!(log.last(), Index(last));
            for index in 0..last + 3 {
                assert_eq!(log.term_at(Index(index)), self.term_at(index), "term of {index}");
            }
            for term in 1..9 {
                let last_of_term = self.indexes().rfind(|&i| self.term_at(i) == Some(Term(term)));
                assert_eq!(log.last_of_term(Term(term)), last_of_term.map(Index), "term {term}");
                for index in self.start as u64..last + 3 {
                    self.check_conflict(log, LogId::new(Term(term), Index(index)));
                }
            }
        }

        fn check_conflict(&self, log: &Log, prev: LogId) {
            let here = self.term_at(prev.index.0);
            let Some(conflict) = log.conflict_with(prev) else {
                return assert_eq!(here, Some(prev.term));
            };
            assert_ne!(here, Some(prev.term));
            assert_eq!(conflict.x_len, log.last().next());
            assert_eq!(conflict.x_term, here);
            if here.is_some() && prev.index > log.snapshot().index {
                let mut entries = self.indexes().skip(1);
                let first = entries.find(|&index| self.term_at(index) == here);
                assert_eq!(Some(conflict.x_index), first.map(Index));
            }
        }
    }

    proptest! {
        /// Appends that replace, compactions and resets, in any order.
        #[test]
        fn terms_equal_those_of_a_plain_list(
            steps in prop::collection::vec((0u8..6, any::<u8>(), 1usize..4), 1..40),
        ) {
            let mut model = Model::default();
            let mut log = Log::new(LogId::default(), Index(0), Vec::new());
            let mut seq = WriteSeq(0);
            for (kind, place, count) in steps {
                seq = seq.next();
                let length = model.terms.len() - model.start;
                let at = model.start + usize::from(place) % (length + 1);
                match kind {
                    0 => {
                        // A log never takes entries back once they were applied.
                        log.take(log.last());
                        log.compact(log.id_at(Index(at as u64)).expect("it is in the log"));
                        model.start = at;
                    }
                    1 => {
                        let term = model.terms.last().copied().unwrap_or(1);
                        let last = model.terms.len() + count;
                        model.terms.resize(last, term);
                        model.start = last;
                        let commit = log.snapshot().index;
                        log.reset(LogId::new(Term(term), Index(last as u64)), commit, seq);
                    }
                    _ => {
                        model.terms.truncate(at);
                        let term = model.terms.last().copied().unwrap_or(1) + u64::from(place % 2);
                        let indexes = at as u64 + 1..=(at + count) as u64;
                        let entry = |index| {
                            let id = LogId::new(Term(term), Index(index));
                            Entry::new(GroupId(1), id, EntryKind::Command, Bytes::new())
                        };
                        log.append(&indexes.map(entry).collect::<Vec<_>>(), seq);
                        model.terms.resize(at + count, term);
                    }
                }
                log.persisted(seq);
                model.check(&log);
            }
        }
    }
}
