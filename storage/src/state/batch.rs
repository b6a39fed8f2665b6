//! What is written to a state engine, in one step.

use bytes::Bytes;
use logboat_raft::LogId;
use std::fmt;

/// The longest key, in bytes.
pub(super) const MAX_KEY_BYTES: usize = 60_000;

/// A space of keys within a state engine, such as the state of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub u64);

impl Namespace {
    /// The one for the notes of whoever uses the engine, such as which group's state is where. It
    /// is always there.
    pub const NOTES: Self = Self(1);
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the writes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key has this value from now on.
    Put {
        /// Where.
        namespace: Namespace,
        /// The key, of at most 60,000 bytes.
        key: Bytes,
        /// Its value, of less than 4 GiB.
        value: Bytes,
    },
    /// The key has no value from now on.
    Delete {
        /// Where.
        namespace: Namespace,
        /// The key.
        key: Bytes,
    },
}

/// Writes that happen in one step: a crash leaves all of them or none, and a view shows all of them
/// or none. They may concern several namespaces.
#[derive(Clone, Debug, Default)]
pub struct StateBatch {
    pub(super) writes: Vec<Write>,
    pub(super) applied: Vec<(Namespace, LogId)>,
    pub(super) deleted: Vec<Namespace>,
}

impl StateBatch {
    /// Sets a key's value. The last write to a key counts.
    pub fn put(&mut self, namespace: Namespace, key: Bytes, value: Bytes) {
        self.writes.push(Write::Put { namespace, key, value });
    }

    /// Takes a key's value away.
    pub fn delete(&mut self, namespace: Namespace, key: Bytes) {
        self.writes.push(Write::Delete { namespace, key });
    }

    /// Says that the state of a namespace is now the one after the entry `last`.
    pub fn applied(&mut self, namespace: Namespace, last: LogId) {
        self.applied.push((namespace, last));
    }

    /// Deletes a namespace, for ever. Nothing else in the batch may concern it.
    pub fn delete_namespace(&mut self, namespace: Namespace) {
        self.deleted.push(namespace);
    }

    /// The writes to keys, in their order.
    #[must_use]
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Whether the batch says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.applied.is_empty() && self.deleted.is_empty()
    }

    /// The namespaces that the batch writes to.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = Namespace> {
        let written = self.writes.iter().map(|write| match write {
            Write::Put { namespace, .. } | Write::Delete { namespace, .. } => *namespace,
        });
        written.chain(self.applied.iter().map(|applied| applied.0))
    }

    /// The longest key.
    pub(super) fn max_key_bytes(&self) -> usize {
        let keys = self.writes.iter().map(|write| match write {
            Write::Put { key, .. } | Write::Delete { key, .. } => key.len(),
        });
        keys.max().unwrap_or_default()
    }
}
