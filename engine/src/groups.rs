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
use tokio::sync::watch;

/// The groups that the node has a log or a replica of.
pub(crate) struct Groups {
    stages: RwLock<BTreeMap<GroupId, Stage>>,
    /// Why replicas do not run whose last start failed for what the node has stored.
    not_started: Mutex<BTreeMap<GroupId, String>>,
}

/// How far a group is started. Nearly all of thousands are started, so what others take is boxed.
enum Stage {
    /// The log holds it, and no replica has been started.
    Stored(Box<Restored>),
    /// A caller is starting its replica, of a group with this founding.
    Starting {
        founding: Membership,
        /// The members of the group by what is stored of it, or by its founding.
        members: Membership,
    },
    /// Its replica runs, or has failed.
    Started(GroupHandle),
    /// Its replica was stopped by a caller.
    Stopped(GroupHandle),
    /// A caller has it removed, with this replica if one was started. It goes on if the caller
    /// gives up.
    Removing(Box<Removing>),
}

const _: () = assert!(size_of::<Stage>() <= size_of::<GroupHandle>() + 8);

/// What a group is that a caller has removed.
struct Removing {
    replica: Option<GroupHandle>,
    members: Membership,
    /// Becomes true when nothing is left.
    removed: watch::Receiver<bool>,
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

/// The removal of what the node has of a group.
pub(crate) struct Removal {
    /// What goes, if this call has to see to it, and who is told when it has gone. Nobody else has
    /// begun it.
    pub(crate) begun: Option<(Stored, watch::Sender<bool>)>,
    /// Becomes true when nothing is left. Closed before that if the node has ended.
    pub(crate) removed: watch::Receiver<bool>,
}

/// What a node has of a group.
pub(crate) enum Stored {
    /// A replica, be it that it runs or that it has failed or was stopped.
    Replica(GroupHandle),
    /// What the log held when the node started: nothing of a group that had lost data.
    Log(Restored),
}

impl Groups {
    /// The groups that the log holds, none of them started, and those that lost data in it.
    pub(crate) fn new(recovered: &mut Recovered) -> Self {
        let stored = std::mem::take(&mut recovered.groups).into_iter();
        let stored = stored.map(|(group, log)| (group, Stage::Stored(Box::new(log))));
        let reason = |(group, damage): (&GroupId, &Damage)| (*group, damage.to_string());
        let not_started = Mutex::new(recovered.damaged.iter().map(reason).collect());
        Self { stages: RwLock::new(stored.collect()), not_started }
    }

    /// Reserves the start of a group's replica, which is to belong to this founding.
    ///
    /// # Errors
    /// [`GroupError::Exists`], [`GroupError::Starting`] and [`GroupError::Removed`].
    pub(crate) fn reserve(
        &self,
        group: GroupId,
        founding: &Arc<Configuration>,
    ) -> Result<Reservation<'_>, GroupError> {
        let mut groups = self.stages.write();
        match groups.get(&group) {
            Some(Stage::Starting { .. }) => return Err(GroupError::Starting(group)),
            Some(Stage::Removing(_)) => return Err(GroupError::Removed(group)),
            Some(Stage::Started(handle)) if handle.view().failure().is_none() => {
                return Err(GroupError::Exists(group));
            }
            // In this order: it may go meanwhile, and one that has stopped has gone by now or never
            // goes by itself.
            Some(Stage::Started(handle) | Stage::Stopped(handle)) if handle.view().is_gone() => {
                return Err(GroupError::Removed(group));
            }
            Some(Stage::Started(_) | Stage::Stopped(_) | Stage::Stored(_)) | None => {}
        }
        let founding = || Membership::new(Arc::clone(founding));
        let known = match groups.get(&group) {
            Some(Stage::Stored(log)) => Some(members(log)),
            _ => None,
        };
        let former = groups.get(&group).and_then(Stage::replica).map(GroupHandle::membership);
        let founding = known.unwrap_or_else(founding);
        let members = former.unwrap_or_else(|| founding.clone());
        let then = groups.insert(group, Stage::Starting { founding, members });
        Ok(Reservation { groups: self, group, then })
    }

    /// Begins to remove what there is of a group, or finds that it has begun. No replica of the
    /// group is started until nothing is left.
    ///
    /// # Errors
    /// [`GroupError::NotStored`] and [`GroupError::Starting`].
    pub(crate) fn remove(&self, group: GroupId) -> Result<Removal, GroupError> {
        let mut stages = self.stages.write();
        let stored = match stages.get(&group) {
            Some(Stage::Starting { .. }) => return Err(GroupError::Starting(group)),
            Some(Stage::Removing(removing)) => {
                return Ok(Removal { begun: None, removed: removing.removed.clone() });
            }
            Some(Stage::Started(handle) | Stage::Stopped(handle)) => {
                Stored::Replica(handle.clone())
            }
            Some(Stage::Stored(log)) => Stored::Log(Restored::clone(log)),
            // Of one whose data were damaged, the log has a tombstone that says so.
            None if self.why_not_started(group).is_some() => Stored::Log(Restored::default()),
            None => return Err(GroupError::NotStored(group)),
        };
        let (replica, members) = match &stored {
            Stored::Replica(handle) => (Some(handle.clone()), handle.membership()),
            Stored::Log(log) => (None, members(log)),
        };
        let (done, removed) = watch::channel(false);
        let removing = Removing { replica, members, removed: removed.clone() };
        stages.insert(group, Stage::Removing(Box::new(removing)));
        Ok(Removal { begun: Some((stored, done)), removed })
    }

    /// By whom a group was founded, or is to be, for all that this node knows. A replica that has
    /// ended before it took part in an election has founded nothing.
    pub(crate) fn founding(&self, group: GroupId) -> Option<Membership> {
        let stages = self.stages.read();
        let stage = stages.get(&group)?;
        match stage {
            Stage::Stored(log) => Some(members(log)),
            Stage::Starting { founding, .. } => Some(founding.clone()),
            Stage::Removing(_) => None,
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
        match self.stages.read().get(&group) {
            Some(Stage::Starting { .. }) => true,
            Some(Stage::Started(handle)) => !handle.view().is_gone(),
            Some(Stage::Stored(_) | Stage::Stopped(_) | Stage::Removing(_)) | None => false,
        }
    }

    /// Whether there is anything of `group` here: a replica, a log, or the beginnings or remains of
    /// either.
    pub(crate) fn is_known(&self, group: GroupId) -> bool {
        self.stages.read().contains_key(&group)
    }

    /// Nothing is left of the replica that was in this slot of its worker.
    pub(crate) fn buried(&self, group: GroupId, slot: Slot) {
        let mut groups = self.stages.write();
        let is_it = |stage: &Stage| stage.replica().is_some_and(|handle| handle.slot == slot);
        if groups.get(&group).is_some_and(is_it) {
            groups.remove(&group);
        }
    }

    /// Nothing is left of what the log held of a group, of which no replica was started.
    pub(crate) fn erased(&self, group: GroupId) {
        let mut groups = self.stages.write();
        if matches!(groups.get(&group), Some(Stage::Removing(it)) if it.replica.is_none()) {
            groups.remove(&group);
        }
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
            Stage::Starting { members, .. } => {
                StoredGroup { members: members.clone(), ..StoredGroup::unknown(group) }
            }
            Stage::Removing(removing) => {
                StoredGroup { members: removing.members.clone(), ..StoredGroup::unknown(group) }
            }
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

    /// Forgets why the replica of a group does not run.
    pub(crate) fn forget_failure(&self, group: GroupId) {
        self.not_started.lock().remove(&group);
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
            Self::Stored(_) | Self::Starting { .. } | Self::Stopped(_) | Self::Removing(_) => None,
        }
    }

    const fn replica(&self) -> Option<&GroupHandle> {
        match self {
            Self::Started(handle) | Self::Stopped(handle) => Some(handle),
            Self::Removing(removing) => removing.replica.as_ref(),
            Self::Stored(_) | Self::Starting { .. } => None,
        }
    }
}

impl Reservation<'_> {
    /// The state that the replica starts from.
    pub(crate) fn origin(&self) -> Origin<'_> {
        match &self.then {
            Some(Stage::Stored(log)) => Origin::Log(Restored::clone(log)),
            Some(Stage::Started(handle) | Stage::Stopped(handle)) => Origin::Ended(handle),
            // None is reserved while it is started or removed.
            Some(Stage::Starting { .. } | Stage::Removing(_)) | None => {
                Origin::Log(Restored::default())
            }
        }
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
