//! Logs, and the configurations in them.

use super::configuration::Configuration;
use crate::ids::{NodeId, Term};
use std::fmt;

/// The most entries that a log has here.
const MOST: usize = 12;

/// Which entry it is. Ordered by term, then by index. It is also the id of a replica: that of the
/// entry that added it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its place in the log, from one.
    pub index: u8,
}

impl LogId {
    /// The id of the replicas that a group was founded with.
    pub const FOUNDER: Self = Self { term: Term(0), index: 1 };

    /// The smallest id above this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { term: self.term, index: self.index + 1 }
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.0, self.index)
    }
}

/// A replica of the group: the node that holds it, and which one it is there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// The entry that added it.
    pub id: LogId,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:?}", self.node.0, self.id)
    }
}

/// An entry. It has the configuration that is in force from it on. It *changes* the configuration
/// if the entry before has another; otherwise it is the no-op of a new leader, which stands for the
/// writes of its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Entry {
    term: Term,
    configuration: Configuration,
}

/// A log. The first entry has the configuration that the group was founded with.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Log {
    len: u8,
    entries: [Entry; MOST],
}

impl Log {
    /// The log with one more entry.
    #[must_use]
    pub(crate) fn with(mut self, term: Term, configuration: Configuration) -> Self {
        self.entries[usize::from(self.len)] = Entry { term, configuration };
        self.len += 1;
        self
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..usize::from(self.len)]
    }

    /// The index of its last entry; zero if it is empty.
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// Whether it has no entries, as the log of a replica that was just added.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its last entry. A voter compares logs by it.
    pub fn last(&self) -> LogId {
        self.id_at(self.len)
    }

    /// The entry at `index`.
    pub(crate) fn id_at(&self, index: u8) -> LogId {
        let entry = index.checked_sub(1).map(|at| self.entries[usize::from(at)]);
        LogId { term: entry.unwrap_or_default().term, index }
    }

    /// Its beginning, up to `index`.
    pub(crate) fn prefix(&self, index: u8) -> Self {
        let mut prefix = Self { len: index, ..Self::default() };
        let range = ..usize::from(index);
        prefix.entries[range].copy_from_slice(&self.entries[range]);
        prefix
    }

    /// Whether it begins with all of `other`.
    pub(crate) fn starts_with(&self, other: &Self) -> bool {
        self.entries().starts_with(other.entries())
    }

    /// The newest configuration; nobody if the log is empty.
    pub fn configuration(&self) -> Configuration {
        self.entries().last().copied().unwrap_or_default().configuration
    }

    /// The entries that changed the configuration, the founding one among them, each with what it
    /// made of it.
    pub(crate) fn changes(&self) -> impl DoubleEndedIterator<Item = (LogId, Configuration)> {
        let entries = self.entries();
        (1..=self.len).filter_map(move |index| {
            let at = usize::from(index) - 1;
            let Entry { term, configuration } = entries[at];
            let before = at.checked_sub(1).map(|before| entries[before].configuration);
            (before != Some(configuration)).then_some((LogId { term, index }, configuration))
        })
    }

    /// The newest entry that changed the configuration.
    pub(crate) fn last_change(&self) -> LogId {
        self.changes().next_back().unwrap_or_default().0
    }

    /// The replica on `node` that the newest configuration names.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        let is_in = |entry: &Entry| entry.configuration.members().has(node);
        let since = self.entries().iter().rev().take_while(|entry| is_in(entry)).count();
        let since = u8::try_from(since).expect("a log is short");
        (since > 0).then(|| Member { node, id: self.id_at(self.len - since + 1) })
    }

    /// The same among nodes that have other names.
    pub(crate) fn renamed(mut self, name: impl Fn(NodeId) -> NodeId + Copy) -> Self {
        for entry in &mut self.entries[..usize::from(self.len)] {
            entry.configuration = entry.configuration.renamed(name);
        }
        self
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        let mut changes = self.changes().peekable();
        for index in 1..=self.len {
            let gap = if index > 1 { ", " } else { "" };
            write!(f, "{gap}{:?}", self.id_at(index))?;
            if let Some((_, configuration)) = changes.next_if(|(id, _)| id.index == index) {
                write!(f, " {configuration:?}")?;
            }
        }
        write!(f, "]")
    }
}
