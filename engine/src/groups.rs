//! The groups of a node, and how far each of them is started.

use crate::error::GroupError;
use crate::handle::GroupHandle;
use crate::membership::Membership;
use crate::status::{FailedReplica, StoredGroup};
use crate::turn::slot::Slot;
use logboat_raft::{Configuration, GroupId, Restored, Term};
use logboat_storage::{Damage, Recovered};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The groups that the node has a log or a replica of.
pub(crate) struct Groups {
    stages: RwLock<BTreeMap<GroupId, Stage>>,
    /// Why replicas do not run whose last start failed for what the node has stored.
    not_started: Mutex<BTreeMap<GroupId, String>>,
}

/// How far a group is started.
enum Stage {
    /// The log holds it, and no replica has been started.
    Stored(Restored),
    /// A caller is starting its replica, with this founding.
    Starting(Arc<Configuration>),
    /// Its replica runs, or has failed.
    Started(GroupHandle),
    /// Its replica was stopped by a caller.
    Stopped(GroupHandle),
}

/// The right to start the replica of a group, which one caller has at a time. Dropped without
/// [`Self::started`], it leaves the group as it was, its log with it.
pub(crate) struct Reservation<'a> {
    groups: &'a Groups,
    group: GroupId,
    /// The group's stage when the reservation ends; `None` when the node does not know the group.
    then: Option<Stage>,
}

/// The state that a replica starts from.
pub(crate) enum Origin<'a> {
    /// What the log held when the node started.
    Log(Restored),
    /// A replica that has failed or was stopped; the log has what it wrote.
    Ended(&'a GroupHandle),
}

impl Groups {
    /// The groups that the log holds, none of them started, and those that lost data in it.
    pub(crate) fn new(recovered: &mut Recovered) -> Self {
        let stored = std::mem::take(&mut recovered.groups).into_iter();
        let stored = stored.map(|(group, log)| (group, Stage::Stored(log)));
        let reason = |(group, damage): (&GroupId, &Damage)| (*group, damage.to_string());
        let not_started = Mutex::new(recovered.damaged.iter().map(reason).collect());
        Self { stages: RwLock::new(stored.collect()), not_started }
    }

    /// Reserves the start of a group's replica, which is to belong to this founding.
    ///
    /// # Errors
    /// [`GroupError::Exists`] and [`GroupError::Starting`].
    pub(crate) fn reserve(
        &self,
        group: GroupId,
        founding: &Arc<Configuration>,
    ) -> Result<Reservation<'_>, GroupError> {
        let mut groups = self.stages.write();
        match groups.get(&group) {
            Some(Stage::Starting(_)) => return Err(GroupError::Starting(group)),
            Some(Stage::Started(handle)) if handle.view().is_gone() => {
                return Err(GroupError::Removed(group));
            }
            Some(Stage::Started(handle)) if handle.view().failure().is_none() => {
                return Err(GroupError::Exists(group));
            }
            Some(Stage::Started(_) | Stage::Stopped(_) | Stage::Stored(_)) | None => {}
        }
        let known = match groups.get(&group) {
            Some(Stage::Stored(log)) => log.configurations.last(),
            _ => None,
        };
        let founding = Arc::clone(known.unwrap_or(founding));
        let then = groups.insert(group, Stage::Starting(founding));
        Ok(Reservation { groups: self, group, then })
    }

    /// By whom a group was founded, or is to be, for all that this node knows. A replica that has
    /// ended before it took part in an election has founded nothing.
    pub(crate) fn founding(&self, group: GroupId) -> Option<Membership> {
        let stages = self.stages.read();
        let stage = stages.get(&group)?;
        match stage {
            Stage::Stored(log) => Some(members(log)),
            Stage::Starting(founding) => Some(Membership::new(Arc::clone(founding))),
            Stage::Started(handle) | Stage::Stopped(handle) => {
                let view = handle.view();
                let runs = stage.handle().is_some() && view.failure().is_none();
                (runs || view.term() > Term(0)).then(|| view.membership())
            }
        }
    }

    /// The replica of `group`, if it was started.
    pub(crate) fn started(&self, group: GroupId) -> Option<GroupHandle> {
        self.stages.read().get(&group).and_then(Stage::handle).cloned()
    }

    /// Whether a replica of `group` runs here, or is about to: whether what peers send for it is of
    /// use.
    pub(crate) fn is_hosted(&self, group: GroupId) -> bool {
        matches!(self.stages.read().get(&group), Some(Stage::Starting(_) | Stage::Started(_)))
    }

    /// Nothing is left of the replica that was in this slot of its worker.
    pub(crate) fn buried(&self, group: GroupId, slot: Slot) {
        let mut groups = self.stages.write();
        let is_it = |stage: &Stage| stage.replica().is_some_and(|handle| handle.slot == slot);
        if groups.get(&group).is_some_and(is_it) {
            groups.remove(&group);
        }
    }

    /// The replica of `group` that was started, be it stopped by now or not.
    pub(crate) fn replica(&self, group: GroupId) -> Option<GroupHandle> {
        self.stages.read().get(&group).and_then(Stage::replica).cloned()
    }

    /// All replicas that were started, by group.
    pub(crate) fn all_started(&self) -> Vec<GroupHandle> {
        self.stages.read().values().filter_map(Stage::handle).cloned().collect()
    }

    /// Notes that a replica was stopped, unless another has taken its place.
    pub(crate) fn stopped(&self, handle: &GroupHandle) {
        if let Some(stage) = self.stages.write().get_mut(&handle.group)
            && matches!(stage, Stage::Started(started) if started.slot == handle.slot)
        {
            *stage = Stage::Stopped(handle.clone());
        }
    }

    /// What is stored of each group.
    pub(crate) fn stored(&self) -> Vec<StoredGroup> {
        let failures = self.not_started.lock().clone();
        let stages = self.stages.read();
        let stored = stages.iter().map(|(&group, stage)| match stage {
            Stage::Stored(log) => StoredGroup {
                group,
                members: members(log),
                applied: log.snapshot.index,
                is_running: false,
                failure: failures.get(&group).cloned(),
            },
            Stage::Starting(_) => StoredGroup::unknown(group),
            Stage::Started(handle) | Stage::Stopped(handle) => {
                let view = handle.view();
                let failure = view.failure().map(str::to_owned);
                let is_running = stage.handle().is_some() && failure.is_none();
                let (members, applied) = (view.membership(), view.applied());
                StoredGroup { group, members, applied, is_running, failure }
            }
        });
        let mut stored: BTreeMap<_, _> = stored.map(|stored| (stored.group, stored)).collect();
        for (group, reason) in &failures {
            let lost =
                || StoredGroup { failure: Some(reason.clone()), ..StoredGroup::unknown(*group) };
            stored.entry(*group).or_insert_with(lost);
        }
        stored.into_values().collect()
    }

    /// Why the replica of a group does not run.
    pub(crate) fn why_not_started(&self, group: GroupId) -> Option<String> {
        self.not_started.lock().get(&group).cloned()
    }

    /// Forgets why the replica of a group does not run. Returns whether there was a reason.
    pub(crate) fn forget_failure(&self, group: GroupId) -> bool {
        self.not_started.lock().remove(&group).is_some()
    }

    /// Notes that a start of a group's replica failed for what the node has stored.
    pub(crate) fn not_started(&self, group: GroupId, reason: String) {
        self.not_started.lock().insert(group, reason);
    }

    /// The replicas that have failed, by group: those that stopped, and those that did not start.
    pub(crate) fn failed(&self) -> Vec<FailedReplica> {
        let mut failed = self.not_started.lock().clone();
        let stopped = self.all_started().into_iter().filter_map(|handle| {
            let reason = handle.view().failure()?.to_owned();
            Some((handle.group(), reason))
        });
        failed.extend(stopped);
        failed.into_iter().map(|(group, reason)| FailedReplica { group, reason }).collect()
    }
}

/// The members by the newest entry of a log.
fn members(log: &Restored) -> Membership {
    let unknown = || Arc::new(Configuration::unknown());
    Membership::new(log.configurations.last().cloned().unwrap_or_else(unknown))
}

impl Stage {
    const fn handle(&self) -> Option<&GroupHandle> {
        match self {
            Self::Started(handle) => Some(handle),
            Self::Stored(_) | Self::Starting(_) | Self::Stopped(_) => None,
        }
    }

    const fn replica(&self) -> Option<&GroupHandle> {
        match self {
            Self::Started(handle) | Self::Stopped(handle) => Some(handle),
            Self::Stored(_) | Self::Starting(_) => None,
        }
    }
}

impl Reservation<'_> {
    /// The state that the replica starts from.
    pub(crate) fn origin(&self) -> Origin<'_> {
        match &self.then {
            Some(Stage::Stored(log)) => Origin::Log(log.clone()),
            Some(Stage::Started(handle) | Stage::Stopped(handle)) => Origin::Ended(handle),
            Some(Stage::Starting(_)) | None => Origin::Log(Restored::default()),
        }
    }

    /// Nothing of the group is here any more.
    pub(crate) fn removed(mut self) {
        self.then = None;
    }

    /// The replica was started.
    pub(crate) fn started(mut self, handle: GroupHandle) {
        self.groups.not_started.lock().remove(&self.group);
        self.then = Some(Stage::Started(handle));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut groups = self.groups.stages.write();
        match self.then.take() {
            Some(stage) => groups.insert(self.group, stage),
            None => groups.remove(&self.group),
        };
    }
}
