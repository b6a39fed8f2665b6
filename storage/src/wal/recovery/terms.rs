//! The terms of a group's entries, as recovery learns them from the records. The index does not
//! keep terms, and to ask each record again would read the whole log a second time.

use logboat_raft::{Index, LogId, Term, TermRun};

/// Which indexes have which terms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms(
    /// By index, without overlaps.
    Vec<Stretch>,
);

/// Consecutive entries of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    first: Index,
    last: Index,
    term: Term,
}

impl Terms {
    /// Entries were appended; those from `first` on that were there before are gone.
    pub(crate) fn append(&mut self, first: Index, last: Index, term: Term) {
        while let Some(stretch) = self.0.last_mut()
            && stretch.last >= first
        {
            if stretch.first >= first {
                self.0.pop();
            } else {
                stretch.last = first.prev();
            }
        }
        match self.0.last_mut() {
            Some(stretch) if stretch.term == term && stretch.last.next() == first => {
                stretch.last = last;
            }
            _ => self.0.push(Stretch { first, last, term }),
        }
    }

    /// Entries were copied: they are there, and so are those around them.
    pub(crate) fn rewrite(&mut self, first: Index, last: Index, term: Term) {
        let start = self.0.partition_point(|stretch| stretch.last < first);
        let end = self.0.partition_point(|stretch| stretch.first <= last);
        let before = self.0.get(start).filter(|stretch| stretch.first < first);
        let before = before.map(|stretch| Stretch { last: first.prev(), ..*stretch });
        let after = self.0[..end].last().filter(|stretch| stretch.last > last);
        let after = after.map(|stretch| Stretch { first: last.next(), ..*stretch });
        let middle = Some(Stretch { first, last, term });
        self.0.splice(start..end, [before, middle, after].into_iter().flatten());
    }

    /// All entries are gone.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The terms of the entries after `snapshot` up to `last`, all of which are known.
    ///
    /// # Errors
    /// The first entry whose term is earlier than that of the one before it: no log has one.
    pub(crate) fn runs(&self, snapshot: LogId, last: Index) -> Result<Vec<TermRun>, Index> {
        let mut runs: Vec<TermRun> = Vec::new();
        let mut before = snapshot.term;
        for stretch in &self.0 {
            let (first, term) = (stretch.first.max(snapshot.index.next()), stretch.term);
            if first > stretch.last || first > last {
                continue;
            }
            if term < before {
                return Err(first);
            }
            if runs.last().is_none_or(|run| run.term != term) {
                runs.push(TermRun { term, first });
            }
            before = term;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The same, an entry at a time.
    #[derive(Default)]
    struct Model(BTreeMap<u64, u64>);

    impl Model {
        fn runs(&self, snapshot: LogId, last: Index) -> Result<Vec<TermRun>, Index> {
            let mut runs: Vec<TermRun> = Vec::new();
            let mut before = snapshot.term;
            for (index, term) in &self.0 {
                let (first, term) = (Index(*index), Term(*term));
                if first <= snapshot.index || first > last {
                    continue;
                }
                if term < before {
                    return Err(first);
                }
                if runs.last().is_none_or(|run| run.term != term) {
                    runs.push(TermRun { term, first });
                }
                before = term;
            }
            Ok(runs)
        }
    }

    #[test]
    fn they_are_those_of_the_entries_one_by_one() {
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut failures = 0;
        for _ in 0..2_000 {
            let (mut terms, mut model) = (Terms::default(), Model::default());
            for step in 0..12 {
                let (first, count) = (1 + below(20), 1 + below(6));
                let (last, term) = (first + count - 1, 1 + step / 3 + below(2));
                let ends = (Index(first), Index(last), Term(term));
                if below(3) == 0 {
                    terms.rewrite(ends.0, ends.1, ends.2);
                } else {
                    terms.append(ends.0, ends.1, ends.2);
                    model.0.retain(|index, _| *index < first);
                }
                model.0.extend((first..=last).map(|index| (index, term)));
            }
            let snapshot = LogId::new(Term(below(3)), Index(below(10)));
            let last = Index(snapshot.index.0 + below(20));
            let found = terms.runs(snapshot, last);
            failures += u64::from(found.is_err());
            assert_eq!(found, model.runs(snapshot, last), "{terms:?}");
        }
        assert!((200..1_800).contains(&failures), "{failures}");
    }
}
