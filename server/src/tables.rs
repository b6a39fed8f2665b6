//! The tables of a node that keeps keys and values on disk: all its groups share them.

use crate::kv::SharedTables;
use crate::output::Failure;
use crate::process::available_memory;
use logboat::state::{
    LsmState, StateEngine, StateError, StateOptions, StateStatistics, StateUpkeep,
};
use logboat::transport::Incarnation;
use logboat::{GroupId, Node, NodeEvent};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Where they are in the data directory.
pub(crate) const DIRECTORY: &str = "state";

/// A cache of blocks gets one part in so many of the memory for keys and values.
const CACHE_SHARE: u64 = 2;

/// A memtable gets one part in so many. There are up to five while the disk is slow.
const MEMTABLE_SHARE: u64 = 16;

/// The sizes of memtables, in bytes.
const LEAST_MEMTABLE: u64 = 1 << 20;
const MOST_MEMTABLE: u64 = 64 << 20;

/// Logs are cut no more often than this, so that it costs next to nothing.
const CUT_INTERVAL: Duration = Duration::from_secs(10);

/// How often is looked whether a merge has met damage.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The tables, with the threads that flush and compact them.
pub struct Tables {
    shared: SharedTables,
    /// How often they were flushed, or why they can't go on.
    flushes: watch::Receiver<Result<u64, String>>,
    _upkeep: StateUpkeep,
}

impl Tables {
    /// Opens the tables in a data directory, or makes them. They take about `memory_bytes` of
    /// memory, zero for what is usual.
    ///
    /// # Errors
    /// When they can't be opened; the file is named.
    pub fn open(data_dir: &Path, owner: Incarnation, memory_bytes: u64) -> Result<Self, Failure> {
        let options = options(memory_bytes);
        let engine = LsmState::open(&data_dir.join(DIRECTORY), owner, options)?;
        let engine: Arc<dyn StateEngine> = Arc::new(engine);
        let (sender, flushes) = watch::channel(Ok(0));
        let report = Box::new(move |flushed: Result<(), StateError>| {
            sender.send_modify(|before| {
                *before = match flushed {
                    Ok(()) => before.as_ref().map_or(Ok(0), |count| Ok(count + 1)),
                    Err(error) => Err(error.to_string()),
                }
            });
        });
        let upkeep = StateUpkeep::start(Arc::clone(&engine), report);
        Ok(Self { shared: SharedTables::new(engine), flushes, _upkeep: upkeep })
    }

    /// The tables, for the stores of groups.
    #[must_use]
    pub const fn shared(&self) -> &SharedTables {
        &self.shared
    }

    /// What there is.
    #[must_use]
    pub fn statistics(&self) -> StateStatistics {
        self.shared.engine().statistics()
    }

    /// Waits until the tables can't go on, and says why.
    pub async fn failed(&self) -> String {
        let mut flushes = self.flushes.clone();
        let failed = flushes.wait_for(Result::is_err).await;
        if let Ok(Err(reason)) = failed.as_deref() {
            return reason.clone();
        }
        // The threads have ended with the tables.
        std::future::pending().await
    }

    /// Waits until a merge has met a damaged table. What is in it may never be read, and so never
    /// be found, and no merge gets past it: the tables fill up until they take nothing any more.
    pub async fn damaged(&self) -> String {
        while !self.statistics().is_damaged {
            sleep(LOOK_INTERVAL).await;
        }
        "a merge of the tables has met a damaged one".to_owned()
    }

    /// Has the groups of `node` cut their logs when the tables were flushed, so that a start has
    /// little to go over. Returns when the tables have ended.
    pub async fn cut_logs(&self, node: Node) {
        let mut flushes = self.flushes.clone();
        while flushes.changed().await.is_ok() {
            let groups = node.groups().into_iter().filter_map(|group| node.group(group));
            groups.for_each(|group| group.compact());
            sleep(CUT_INTERVAL).await;
        }
    }

    /// Deletes what is left of groups of which `node` has nothing stored. To be called before any
    /// replica is started.
    ///
    /// # Errors
    /// When the tables can't be read or written.
    pub fn forget_others(&self, node: &Node) -> Result<(), Failure> {
        let stored: BTreeSet<GroupId> =
            node.stored_groups().into_iter().map(|stored| stored.group).collect();
        Ok(self.shared.retain(&stored)?)
    }

    /// Makes all durable, so that the next start has nothing to apply again.
    pub fn flush(&self) {
        if let Err(error) = self.shared.engine().flush() {
            tracing::warn!("the tables were not flushed at the end: {error}");
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

/// Deletes what replicas leave that are removed from `node`. Returns when the node has stopped.
pub async fn forget_removed(node: Node, shared: SharedTables) {
    let mut events = node.events();
    while let Some(event) = events.next().await {
        // What was missed is found at the next start.
        if let NodeEvent::Removed { group } = event {
            shared.forget(group);
        }
    }
}

fn options(memory_bytes: u64) -> StateOptions {
    let memory_bytes = if memory_bytes == 0 { available_memory() / 2 } else { memory_bytes };
    StateOptions {
        cache_bytes: memory_bytes / CACHE_SHARE,
        memtable_bytes: (memory_bytes / MEMTABLE_SHARE).clamp(LEAST_MEMTABLE, MOST_MEMTABLE),
        ..StateOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_and_memtables_stay_within_the_memory_for_data() {
        for memory_bytes in [16 << 20, 100 << 20, 10 << 30] {
            let StateOptions { cache_bytes, memtable_bytes, .. } = options(memory_bytes);
            assert!(cache_bytes + 5 * memtable_bytes <= memory_bytes, "{memory_bytes}");
        }
        assert!(options(0).cache_bytes > 0);
    }
}
