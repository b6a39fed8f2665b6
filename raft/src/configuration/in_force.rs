//! The configuration in force at a replica, and the one that takes its place if an entry is
//! truncated.

use super::Configuration;
use crate::Index;
use alloc::sync::Arc;

/// The configurations that a replica keeps. A configuration is in force from the moment on at which
/// its entry is appended. A leader proposes one only when the one before is committed. So there is
/// never more than one that is not.
#[derive(Debug)]
pub(crate) struct InForce {
    /// The newest one that is known to be committed.
    committed: Arc<Configuration>,
    /// The one after it, which is in force although it is not known to be committed.
    pending: Option<Arc<Configuration>>,
}

impl InForce {
    /// As it is after a start: the configuration at the begin of the log, and then those of its
    /// entries. Returns also up to where the log is certainly committed.
    pub(crate) fn new(
        first: Arc<Configuration>,
        later: impl IntoIterator<Item = Arc<Configuration>>,
    ) -> (Self, Index) {
        let mut in_force = Self { committed: first, pending: None };
        let mut commit = Index(0);
        for configuration in later {
            commit = in_force.append(configuration).unwrap_or(commit);
        }
        (in_force, commit)
    }

    /// The configuration by which everything is counted.
    pub(crate) fn newest(&self) -> &Arc<Configuration> {
        self.pending.as_ref().unwrap_or(&self.committed)
    }

    /// The newest one that is known to be committed.
    pub(crate) const fn committed(&self) -> &Arc<Configuration> {
        &self.committed
    }

    /// Whether the newest one is known to be committed.
    pub(crate) const fn is_committed(&self) -> bool {
        self.pending.is_none()
    }

    /// A configuration was appended. Returns up to where the log is committed by that alone:
    /// whoever proposed this one had committed the one before.
    pub(crate) fn append(&mut self, configuration: Arc<Configuration>) -> Option<Index> {
        self.committed = self.pending.replace(configuration)?;
        Some(self.committed.id().index)
    }

    /// The entries from `first` on were truncated. Returns the configuration that one of them held.
    pub(crate) fn truncate(&mut self, first: Index) -> Option<Arc<Configuration>> {
        self.pending.take_if(|pending| pending.id().index >= first)
    }

    /// The log is committed up to `index`. Returns the configuration before the one in force, if
    /// that is committed by this.
    pub(crate) fn commit(&mut self, index: Index) -> Option<Arc<Configuration>> {
        let committed = self.pending.take_if(|pending| pending.id().index <= index)?;
        Some(core::mem::replace(&mut self.committed, committed))
    }

    /// A snapshot took the place of the log.
    pub(crate) fn reset(&mut self, configuration: Arc<Configuration>) {
        *self = Self { committed: configuration, pending: None };
    }

    /// Panics when the configurations contradict each other or how far the log is committed.
    pub(crate) fn invariants(&self, commit: Index) {
        assert!(self.committed.id().index <= commit);
        if let Some(pending) = &self.pending {
            assert!(pending.id().index > commit && pending.id() > self.committed.id());
        }
    }
}
