//! The configurations that a group has had, and until when each of them could count.

use logboat_raft::{Configuration, LogId, NodeId};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Members {
    /// The newest one that a leader called committed.
    committed: Arc<Configuration>,
    /// All that any replica has had.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    configuration: Arc<Configuration>,
    /// When a later one was committed, in microseconds.
    over_us: Option<u64>,
}

impl Members {
    pub(super) fn new(founding: Configuration) -> Self {
        let founding = Arc::new(founding);
        let known = vec![Known { configuration: Arc::clone(&founding), over_us: None }];
        Self { committed: founding, known }
    }

    /// The newest configuration that is committed.
    pub(super) const fn committed(&self) -> &Arc<Configuration> {
        &self.committed
    }

    /// A replica appends a configuration.
    pub(super) fn appended(&mut self, configuration: Configuration) {
        if self.known.iter().all(|known| known.configuration.id() != configuration.id()) {
            let configuration = Arc::new(configuration);
            self.known.push(Known { configuration, over_us: None });
        }
    }

    /// This entry is committed, and with it the configuration that it holds, if any.
    pub(super) fn committed_entry(&mut self, id: LogId, now_us: u64) {
        let Some(at) = self.known.iter().position(|known| known.configuration.id() == id) else {
            return;
        };
        self.committed = Arc::clone(&self.known[at].configuration);
        for known in &mut self.known {
            if known.configuration.id().index < id.index {
                known.over_us.get_or_insert(now_us);
            }
        }
    }

    /// Whether those that `holds` is true for are a majority of each half of a configuration that
    /// could count after `since_us`.
    pub(super) fn had_quorum(&self, since_us: u64, holds: impl Fn(NodeId) -> bool) -> bool {
        let counted = |known: &&Known| known.over_us.is_none_or(|over| over >= since_us);
        self.known.iter().filter(counted).any(|known| known.configuration.is_quorum(&holds))
    }
}
