//! The replicas of this node come and go as the table says, while the router runs.

use super::RETRY;
use crate::map::{META_GROUP, RangeMap};
use crate::meta::MetaMachine;
use crate::router::starts::{LocalReplicas, Planned, how, start_replica};
use crate::router::{Inner, Routes};
use crate::table::{Members, Table};
use logboat::{GroupError, GroupId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The most time between two looks at the replicas here.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a replica waits to hear from its group that it is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The least time between two looks at the table.
const PAUSE: Duration = Duration::from_millis(20);

/// Keeps routes and replicas as the table says, for as long as the router runs.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut tables = inner.feed.watch();
    let mut unheard = BTreeMap::new();
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        inner.follow_map(&table);
        inner.remove_remains(&table, &mut unheard).await;
        let is_done = inner.start_missing(&table).await & inner.start_missing_meta(&table).await;
        inner.forget_gone();
        // Something could not be done yet, or a replica may be found that nobody knows any more.
        let wait = if is_done { LOOK_INTERVAL } else { RETRY };
        if let Ok(Err(_)) = timeout(wait, tables.changed()).await {
            return;
        }
        sleep(PAUSE).await;
    }
}

impl Inner {
    /// Knows the groups of this map from now on. There are never others.
    pub(super) fn know_groups(&self, map: &RangeMap) {
        let groups = map.ranges().iter().map(|range| range.group).chain([META_GROUP]);
        self.answered_last.get_or_init(|| groups.map(|it| (it, AtomicU64::new(0))).collect());
        let map = Arc::new(map.clone());
        self.change_routes(|routes, _| *routes = map);
    }

    /// Changes where requests go.
    pub(super) fn change_routes(
        &self,
        change: impl FnOnce(&mut Arc<RangeMap>, &mut LocalReplicas),
    ) {
        let _changing = self.changing_routes.lock();
        let routes = self.routes.load_full();
        let (mut map, mut local) = (Arc::clone(&routes.map), routes.local.clone());
        change(&mut map, &mut local);
        self.routes.store(Arc::new(Routes { map, local }));
    }

    /// Goes by the replicas that the table knows.
    fn follow_map(&self, table: &Table) {
        if table.version() <= self.routes.load().map.epoch() {
            return;
        }
        match table.map() {
            Ok(map) => self.change_routes(|routes, _| *routes = Arc::new(map)),
            Err(error) => tracing::error!("the table of the cluster makes no map: {error}"),
        }
    }

    /// Starts the replicas that the table has here, and of which nothing is stored. Returns whether
    /// all run.
    async fn start_missing(self: &Arc<Self>, table: &Table) -> bool {
        let me = self.node.id();
        let here = table.ranges().iter().filter(|record| record.members.contains(me));
        let routes = self.routes.load_full();
        let is_missing = |group| {
            routes.replica(&self.node, group).is_none_or(|replica| replica.view().is_gone())
        };
        let missing: Vec<_> = here.filter(|record| is_missing(record.group)).collect();
        if missing.is_empty() {
            return true;
        }
        let stored = self.node.stored_groups();
        let is_stored =
            |group: GroupId| stored.binary_search_by_key(&group, |stored| stored.group).is_ok();
        let mut is_done = true;
        for record in missing {
            if is_stored(record.group) {
                // What is left of a former replica goes, or it has failed.
                is_done &= self.node.group(record.group).is_some_and(|it| !it.view().is_gone());
                continue;
            }
            let tombstone = self.node.tombstone(record.group);
            let how = how(me, &record.founders, &record.members, None, tombstone);
            let Some(how) = how else { continue };
            is_done &= self.start_one(Planned { range: record.range(), how }).await;
        }
        is_done
    }

    /// Removes replicas that have failed, or that hear of no leader, if their groups are known to
    /// have removed them. Then the groups may add others here.
    ///
    /// A group tells a replica itself that it is gone, within some election timeouts. This is for
    /// those that nobody tells, `unheard` of since then.
    async fn remove_remains(&self, table: &Table, unheard: &mut BTreeMap<GroupId, Instant>) {
        let (me, now) = (self.node.id(), Instant::now());
        let before = std::mem::take(unheard);
        for stored in self.node.stored_groups() {
            let group = stored.group;
            let replica = self.node.group(group);
            if replica.as_ref().is_some_and(|it| it.view().is_gone()) {
                continue;
            }
            let hears_leader = replica.is_some_and(|it| it.view().leader().is_some());
            let Some(members) = table.members(group) else { continue };
            // What is committed without a replica that is not later stays without it for ever.
            let added = stored.members.replica(me);
            // One that knows no members waits for a leader, and has promised nothing.
            let is_removed =
                !members.contains(me) && added.is_none_or(|replica| replica.0 <= members.entry);
            if !is_removed || (stored.failure.is_none() && hears_leader) {
                continue;
            }
            let since = *unheard.entry(group).or_insert(*before.get(&group).unwrap_or(&now));
            if stored.failure.is_none() && now - since < PATIENCE {
                continue;
            }
            match timeout(RETRY, self.node.remove_group(group)).await {
                Ok(Ok(())) => tracing::info!("removed what was left of a replica of group {group}"),
                Ok(Err(error)) => tracing::info!("what is left of group {group} stays: {error}"),
                // The removal goes on.
                Err(_) => {}
            }
        }
    }

    /// Starts one replica. Returns whether it runs, or never will.
    async fn start_one(self: &Arc<Self>, planned: Planned) -> bool {
        let group = planned.range.group;
        let (node, machine) = (self.node.clone(), (self.machine.lock())(&planned.range));
        let starting = tokio::task::spawn_blocking(move || start_replica(&node, planned, machine));
        match starting.await {
            Ok(Ok(handle)) => {
                self.change_routes(|_, local| _ = local.insert(group, Some(handle)));
                true
            }
            // The former replica is being removed, or somebody else starts it.
            Ok(Err(GroupError::Removed(_) | GroupError::Starting(_))) => false,
            Ok(Err(GroupError::Exists(_) | GroupError::Stopped)) => true,
            Ok(Err(error)) => {
                self.node.metrics().failed_replicas.inc();
                tracing::error!("this replica does not start: {error}");
                true
            }
            Err(error) => {
                tracing::error!("the start of the replica of group {group}: {error}");
                true
            }
        }
    }

    /// The same for the replica of the meta group.
    async fn start_missing_meta(&self, table: &Table) -> bool {
        let (me, tombstone) = (self.node.id(), self.node.tombstone(META_GROUP));
        let is_live = |meta: &Members| meta.contains(me) && !meta.is_gone(me, tombstone);
        let is_here = table.meta().is_some_and(is_live);
        if !is_here || self.node.stored_groups().iter().any(|it| it.group == META_GROUP) {
            return true;
        }
        let (node, feed) = (self.node.clone(), Arc::clone(&self.feed));
        let start = move || node.join_group(META_GROUP, Box::new(MetaMachine::new(feed)));
        match tokio::task::spawn_blocking(start).await {
            Ok(Ok(_)) | Err(_) => true,
            Ok(Err(error)) => {
                tracing::info!("the replica of the meta group does not start yet: {error}");
                false
            }
        }
    }

    /// Forgets the handles of replicas that are no more.
    fn forget_gone(&self) {
        let is_gone = |(_, handle): (&GroupId, &Option<logboat::GroupHandle>)| {
            handle.as_ref().is_some_and(|handle| handle.view().is_gone())
        };
        if self.routes.load().local.iter().any(is_gone) {
            self.change_routes(|_, local| {
                local.retain(|_, handle| {
                    handle.as_ref().is_none_or(|handle| !handle.view().is_gone())
                });
            });
        }
    }
}
