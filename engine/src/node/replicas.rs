//! The replicas of a node: they are founded or join, and stop.

use crate::background::guard::contain;
use crate::background::removals::write_tombstone;
use crate::background::restores::Watched;
use crate::background::shortage::read_patiently;
use crate::error::GroupError;
use crate::events::NodeEvent;
use crate::groups::{Origin, Removal, Stored};
use crate::handle::GroupHandle;
use crate::node::{Inner, Node};
use crate::replica::event::GroupEvent;
use crate::replica::recovery::{Recovery, is_unborn, recover};
use crate::service::SERVICE;
use crate::start::Parts;
use crate::state_machine::{StateMachine, StateReader};
use crate::status::StoredGroup;
use crate::view::GroupView;
use crate::worker::event::{Event, StartGroup};
use logboat_raft::{
    Config, Configuration, GroupId, MAX_MEMBERS, NodeId, ReplicaId, Restored, RoleKind,
    VotersDigest,
};
use logboat_storage::{ReadError, SnapshotError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use tokio::sync::{oneshot, watch};

/// A group to found, with its replica on this node.
pub struct GroupSpec {
    /// The group. Its id is never used again, even if the group is given up.
    pub group: GroupId,
    /// The nodes that hold its first replicas, this one among them, each once. The same on all of
    /// them.
    pub replicas: Vec<NodeId>,
    /// The node that should lead, so that leaderships are evenly spread: it campaigns first, and
    /// gets the leadership back some time after it was lost. The same on all nodes.
    /// [`Change::Prefer`](crate::Change::Prefer) changes it later. Without it, the replicas take
    /// turns by the group's number.
    pub preferred: Option<NodeId>,
    /// Its state machine, in its initial state.
    pub machine: Box<dyn StateMachine>,
}

impl Node {
    /// Founds a group with this node's replica, or starts that replica again if the node has it
    /// stored: so the same call does at each start of the node. All founders make it with the same
    /// replicas. Blocks until the replica runs: its snapshot has been read then. A call that fails
    /// leaves all as it was, and may be repeated.
    ///
    /// What counts is with whom the group was founded first. Its members may be others by now
    /// ([`GroupHandle::change`]). Other founders than those that are stored are refused. Before a
    /// new group promises anything, its replica asks all nodes of the cluster whether they have one
    /// with other founders, and fails if one has. Nodes that are silent for an election timeout are
    /// not waited for. A replica that hears of one with other founders later refuses it, and says
    /// so in [`NodeStatus::other_voters`](crate::NodeStatus). It fails if that one leads, and is on
    /// a node that is no member of its own group.
    ///
    /// A replica that has failed ([`GroupView::failure`]) or was stopped is started again by the
    /// same call, from its log and its snapshot as after a restart of the node. Handles of the
    /// former one go on to refuse what they are asked.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub fn create_group(&self, spec: GroupSpec) -> Result<GroupHandle, GroupError> {
        let replicas = self.0.check_replicas(&spec)?;
        let GroupSpec { group, preferred, machine, .. } = spec;
        let in_turn = || replicas[group.0 as usize % replicas.len()];
        let founding = self.0.founding(&replicas, preferred.unwrap_or_else(in_turn));
        self.start_replica(group, founding, machine)
    }

    /// Starts a replica of a group that others have founded. If the node has it stored, starts it
    /// again, whoever founded the group: so the same call does at each start of the node. `machine`
    /// is in its initial state. Blocks until the replica runs.
    ///
    /// A replica that is new knows nothing: it waits until a leader sends it the log or a snapshot,
    /// after [`Change::AddLearner`](crate::Change::AddLearner) has named this node. In which order
    /// the two happen does not matter. Where a replica of the group was removed, another one joins
    /// in the same way. If nobody adds it, it waits: this node can't know whether the group goes on
    /// elsewhere. Until then [`GroupHandle::membership`] has no members.
    ///
    /// # Errors
    /// See [`GroupError`].
    ///
    /// ```no_run
    /// use logboat::{Change, GroupHandle, GroupId, Node, NodeId, StateMachine};
    ///
    /// # async fn join(
    /// #     leader: GroupHandle, fourth: Node, machine: Box<dyn StateMachine>,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// // On node 4, which the leader's node knows.
    /// let replica = fourth.join_group(GroupId(1), machine)?;
    /// // On the leader's node.
    /// leader.change(&[Change::AddLearner(NodeId(4))]).await?;
    /// replica.view().led().await;
    /// assert!(replica.membership().learners().contains(&NodeId(4)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn join_group(
        &self,
        group: GroupId,
        machine: Box<dyn StateMachine>,
    ) -> Result<GroupHandle, GroupError> {
        self.start_replica(group, Arc::clone(&self.0.unknown), machine)
    }

    /// Stops this node's replica of a group. If it leads, it hands over first. It may stop even if
    /// the caller gives up. What is stored of it stays, and [`Self::join_group`] or
    /// [`Self::create_group`] starts it again. The group goes on as without a node that is down:
    /// its other replicas are not told, and the stopped one still counts among them.
    ///
    /// # Errors
    /// [`GroupError::NotStarted`], and [`GroupError::Stopped`].
    pub async fn stop_group(&self, group: GroupId) -> Result<(), GroupError> {
        let handle = self.group(group).ok_or(GroupError::NotStarted(group))?;
        self.hand_over_group(&handle).await;
        let (done, stopped) = oneshot::channel();
        let (groups, ended) = (Arc::clone(&self.0.parts.groups), handle.clone());
        // The worker notes it, since whoever asked for it may wait no more.
        let note = Box::new(move || {
            groups.stopped(&ended);
            let _ = done.send(());
        });
        handle.worker.post(Event::Local(handle.slot, GroupEvent::Stop(note)));
        stopped.await.map_err(|_| GroupError::Stopped)
    }

    /// Removes this node's replica of a group, whether it runs, was stopped, has failed or was
    /// never started. Returns when a tombstone is durable and its data are deleted. If it leads, it
    /// hands over first. A removal that has begun goes on if the caller gives up; another call
    /// waits for it as well.
    ///
    /// The group is not asked: to it, the replica is lost from then on, and still a member. So
    /// remove it from the group first ([`Change::Demote`](crate::Change::Demote),
    /// [`Change::Remove`](crate::Change::Remove)): then it removes itself here. This call is for a
    /// replica whose data are damaged, and for one that no leader reaches.
    ///
    /// The replica that was here never lives again: whoever has an old message for it is told.
    /// [`Self::join_group`] starts another one, which becomes a member when the group has removed
    /// the former one and adds this node again. [`Self::create_group`] is refused as
    /// [`GroupError::Removed`].
    ///
    /// # Errors
    /// [`GroupError::NotStored`], [`GroupError::Starting`] and [`GroupError::Stopped`].
    ///
    /// ```
    /// # use logboat::GroupError;
    /// # use logboat::{Bytes, GroupId, GroupSpec, Node, NodeConfig, NodeId, StateMachine};
    /// # use std::collections::BTreeMap;
    /// # struct Counter(u8);
    /// # impl StateMachine for Counter {
    /// #     fn apply(&mut self, command: Bytes) -> Bytes {
    /// #         self.0 += command[0];
    /// #         Bytes::copy_from_slice(&[self.0])
    /// #     }
    /// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
    /// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
    /// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    /// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
    /// # let counter = node.create_group(GroupSpec {
    /// #     group: GroupId(1),
    /// #     replicas: vec![NodeId(1)],
    /// #     preferred: None,
    /// #     machine: Box::new(Counter(0)),
    /// # })?;
    /// # counter.view().led().await;
    /// // A stopped replica is stored, and starts again.
    /// node.stop_group(GroupId(1)).await?;
    /// assert!(!node.stored_groups()[0].is_running);
    /// node.join_group(GroupId(1), Box::new(Counter(0)))?;
    /// assert!(node.stored_groups()[0].is_running);
    ///
    /// // A removed one is gone.
    /// node.remove_group(GroupId(1)).await?;
    /// assert!(node.stored_groups().is_empty());
    /// let founded = node.create_group(GroupSpec {
    ///     group: GroupId(1),
    ///     replicas: vec![NodeId(1)],
    ///     preferred: None,
    ///     machine: Box::new(Counter(0)),
    /// });
    /// assert!(matches!(founded, Err(GroupError::Removed(GroupId(1)))));
    /// # node.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_group(&self, group: GroupId) -> Result<(), GroupError> {
        let groups = &self.0.parts.groups;
        if let Some(handle) = self.group(group) {
            self.hand_over_group(&handle).await;
        }
        let Removal { begun, mut removed } = groups.remove(group)?;
        if let Some((stored, done)) = begun {
            self.remove_stored(group, stored, done);
        }
        removed.wait_for(|removed| *removed).await.map_err(|_| GroupError::Stopped)?;
        groups.forget_failure(group);
        Ok(())
    }

    /// What this node has stored of groups, whether their replicas run or not.
    #[must_use]
    pub fn stored_groups(&self) -> Vec<StoredGroup> {
        self.0.parts.groups.stored()
    }

    /// The smallest id that a replica of `group` may have on this node, if one was here and is
    /// gone, and no later one has written anything. Of a smaller one nothing is left.
    #[must_use]
    pub fn tombstone(&self, group: GroupId) -> Option<ReplicaId> {
        self.0.parts.wal.tombstone(group)
    }

    /// The replica of `group` on this node, while it runs, or if it has failed.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<GroupHandle> {
        self.0.parts.groups.started(group)
    }

    /// All groups whose replica on this node runs, or has failed.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.0.parts.groups.all_started().iter().map(GroupHandle::group).collect()
    }

    /// How many bytes another node has to be sent for a copy of a group: those of the last snapshot
    /// of the replica here, and of the commands that it has applied since. Zero if none runs here.
    #[must_use]
    pub fn copy_bytes(&self, group: GroupId) -> u64 {
        let since = self.group(group).map_or(0, |handle| handle.view().applied_bytes());
        let snapshot = self.0.parts.snapshots.latest(group);
        snapshot.map_or(0, |snapshot| snapshot.bytes) + since
    }

    /// Has removed what is stored of a group, whether anybody waits for it or not.
    fn remove_stored(&self, group: GroupId, stored: Stored, done: watch::Sender<bool>) {
        match stored {
            Stored::Replica(handle) => {
                let buried = Box::new(move || {
                    // Whoever asked may wait no more.
                    let _ = done.send(true);
                });
                handle.worker.post(Event::Local(handle.slot, GroupEvent::Remove(group, buried)));
            }
            Stored::Log(log) => {
                let Parts { wal, snapshot_queue, groups, .. } = &self.0.parts;
                let groups = Arc::clone(groups);
                let buried = Box::new(move || {
                    groups.erased(group);
                    let _ = done.send(true);
                });
                // Its tombstone, if data were lost, becomes that of a replica that was removed.
                let floor = wal.tombstone(group).unwrap_or(log.hard_state.replica.next());
                write_tombstone(wal, snapshot_queue, group, floor, buried);
            }
        }
    }

    /// Has another voter lead, if this replica does and another can.
    async fn hand_over_group(&self, handle: &GroupHandle) {
        let voters = handle.membership().voters();
        for node in voters.into_iter().filter(|node| self.reaches(*node)) {
            if handle.view().role() != RoleKind::Leader || handle.transfer(node).await.is_ok() {
                return;
            }
        }
    }

    fn start_replica(
        &self,
        group: GroupId,
        founding: Arc<Configuration>,
        machine: Box<dyn StateMachine>,
    ) -> Result<GroupHandle, GroupError> {
        if group == SERVICE {
            let reason = "this number stands for no group".to_owned();
            return Err(GroupError::Replicas { group, reason });
        }
        if let Some(reason) = self.0.lost_data(group, &founding) {
            return Err(GroupError::Log { group, reason });
        }
        let started = self.0.try_start_replica(group, founding, machine);
        if let Err(error @ (GroupError::Snapshot { .. } | GroupError::Log { .. })) = &started {
            let reason = error.to_string();
            self.0.parts.groups.not_started(group, reason.clone());
            self.0.parts.shared.mending.failed(group, reason.clone());
            self.0.parts.shared.events.publish(|| NodeEvent::Failed { group, reason });
        }
        started
    }
}

impl Inner {
    /// Whether nobody needs what the node reads any more.
    fn is_stopped(&self) -> bool {
        self.parts.gate.stopped.load(Ordering::Relaxed)
    }

    fn try_start_replica(
        &self,
        group: GroupId,
        founding: Arc<Configuration>,
        machine: Box<dyn StateMachine>,
    ) -> Result<GroupHandle, GroupError> {
        let parts = &self.parts;
        let reservation = parts.groups.reserve(group, &founding)?;
        let log = match reservation.origin() {
            Origin::Log(log) => log,
            Origin::Ended(handle) => self.retire(handle)?,
        };
        // Before anything is looked at that a call of a former one may still write.
        if !parts.user_code.disk_machines.await_none(group) {
            return Err(GroupError::Stopped);
        }
        let mut machine = parts.user_code.disk_machines.count(group, machine);
        check_founders(group, &log, &founding)?;
        // All that a former replica submitted is through, or dropped.
        parts.wal.readmit(group);
        let replica = self.replica_id(group, &log, &founding)?;
        if log == Restored::default() {
            self.check_founders_are_peers(group, &founding)?;
        }
        let is_unborn = is_unborn(&log, !founding.members().is_empty());
        let (recovery, reader) = self.recover(group, log, is_unborn, &mut *machine)?;
        let apply_on = machine.apply_on();
        let node = self.config.node;
        let tuning = Arc::clone(&self.tuning);
        let config = Config { group, node, replica, founding, seed: seed(node, group), tuning };
        let view = Arc::<GroupView>::default();
        let worker = Arc::clone(parts.workers.of(group));
        let (done, slot) = mpsc::channel();
        worker.post(Event::Start(Box::new(StartGroup {
            config,
            recovery,
            machine,
            reader,
            apply_on,
            view: Arc::clone(&view),
            done,
        })));
        let slot = slot.recv().map_err(|_| GroupError::Stopped)?;
        let gate = Arc::clone(&parts.gate);
        let handle = GroupHandle { group, slot, worker, view, gate };
        if !is_unborn {
            parts.shared.mending.runs_again(group);
        }
        reservation.started(handle.clone());
        Ok(handle)
    }

    /// Has a state machine restored, and says what the replica goes on from.
    fn recover(
        &self,
        group: GroupId,
        log: Restored,
        is_unborn: bool,
        machine: &mut dyn StateMachine,
    ) -> Result<(Recovery, Option<Arc<dyn StateReader>>), GroupError> {
        let Parts { snapshots, user_code, .. } = &self.parts;
        let failed = |reason| GroupError::Snapshot { group, reason };
        if is_unborn {
            let cleared = user_code.restores.watch(group, |_| self.clear_unborn(group, machine));
            cleared.map_err(failed)?;
        }
        let read = || snapshots.read(group);
        let snapshot = read_patiently(group, read, SnapshotError::passes, || self.is_stopped());
        let snapshot = snapshot.map_err(|error| failed(error.to_string()))?;
        let recovered = user_code.restores.watch(group, |progress| {
            let watched = |reader| Watched { reader, progress: Arc::clone(progress) };
            let snapshot = snapshot.map(|(last, reader)| (last, watched(reader)));
            let recovery = recover(log, snapshot, machine)?;
            let reader = contain(|| machine.reader());
            Ok((recovery, reader.map_err(|panic| format!("its reader: {panic}"))?))
        });
        recovered.map_err(|reason: String| match machine.on_disk().is_some() {
            true => failed(reason),
            false => failed(format!("{}: {reason}", snapshots.current_path(group).display())),
        })
    }

    /// Removes what is here of a group of which the log holds no replica.
    fn clear_unborn(&self, group: GroupId, machine: &mut dyn StateMachine) -> Result<(), String> {
        let Parts { wal, snapshots, .. } = &self.parts;
        if wal.tombstone(group).is_none() && snapshots.latest(group).is_none() {
            return Ok(());
        }
        if let Some(machine) = machine.on_disk() {
            machine.clear().map_err(|error| format!("clearing the state: {error}"))?;
        }
        snapshots.remove(group).map_err(|error| error.to_string())
    }

    /// Why the group can't be founded here, if its replica lost data in the log and no other was
    /// started since.
    fn lost_data(&self, group: GroupId, founding: &Configuration) -> Option<String> {
        let founds = !founding.members().is_empty();
        self.parts.wal.tombstone(group).filter(|_| founds)?;
        self.parts.groups.why_not_started(group)
    }

    /// Which replica of the group is started here: the one that is stored, a founder, or one that
    /// will be later than those that were here.
    fn replica_id(
        &self,
        group: GroupId,
        log: &Restored,
        founding: &Configuration,
    ) -> Result<ReplicaId, GroupError> {
        let tombstone = self.parts.wal.tombstone(group);
        let founds = !founding.members().is_empty();
        match tombstone {
            Some(_) if founds => Err(GroupError::Removed(group)),
            Some(floor) => Ok(floor),
            None if founds || *log != Restored::default() => Ok(log.hard_state.replica),
            None => Ok(ReplicaId::FOUNDER.next()),
        }
    }

    /// The configuration with these voters, shared by all groups that are founded with it.
    fn founding(&self, voters: &[NodeId], preferred: NodeId) -> Arc<Configuration> {
        let founding = Configuration::founding(voters, Some(preferred));
        let mut known = self.founding.lock();
        if let Some(shared) = known.get(&founding) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(founding);
        known.insert(Arc::clone(&shared));
        shared
    }

    /// The nodes of a group's first replicas, sorted.
    fn check_replicas(&self, spec: &GroupSpec) -> Result<Vec<NodeId>, GroupError> {
        let GroupSpec { group, ref replicas, preferred, .. } = *spec;
        let refuse = |reason| Err(GroupError::Replicas { group, reason });
        let mut replicas = replicas.clone();
        replicas.sort_unstable();
        if replicas.is_empty() {
            return refuse("it has no replicas".to_owned());
        }
        if replicas.len() > MAX_MEMBERS {
            return refuse(format!("it has more than {MAX_MEMBERS} replicas"));
        }
        if let Some(pair) = replicas.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse(format!("node {} is to hold more than one replica", pair[0]));
        }
        if let Some(node) = preferred.filter(|node| !replicas.contains(node)) {
            return refuse(format!("node {node} is preferred and holds no replica"));
        }
        if !replicas.contains(&self.config.node) {
            return Err(GroupError::NotAReplica(group));
        }
        Ok(replicas)
    }

    /// Checks that all nodes are there with which a group is about to be founded. Of a group that
    /// was founded before, some may have left the cluster since.
    fn check_founders_are_peers(
        &self,
        group: GroupId,
        founding: &Configuration,
    ) -> Result<(), GroupError> {
        let is_stranger =
            |node: &NodeId| *node != self.config.node && !self.parts.shared.peers.contains(*node);
        match founding.voters().find(is_stranger) {
            Some(node) => {
                let reason = format!("node {node} is to hold a replica and is not a member");
                Err(GroupError::Replicas { group, reason })
            }
            None => Ok(()),
        }
    }

    /// Ends a replica that has failed or was stopped, and reads back what it left in the log.
    fn retire(&self, ended: &GroupHandle) -> Result<Restored, GroupError> {
        let group = ended.group();
        let (done, retired) = mpsc::channel();
        ended.worker.post(Event::Retire(group, ended.slot, done));
        match retired.recv() {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(GroupError::Stopped),
        }
        let read = || self.parts.wal.restored(group);
        let restored = read_patiently(group, read, ReadError::passes, || self.is_stopped());
        restored.map_err(|error| GroupError::Log { group, reason: error.to_string() })
    }
}

/// Checks that the group was founded as it is to be now, if that matters.
fn check_founders(
    group: GroupId,
    log: &Restored,
    founding: &Configuration,
) -> Result<(), GroupError> {
    let nodes = |configuration: &Configuration| -> Vec<NodeId> {
        configuration.members().iter().map(|member| member.node).collect()
    };
    let given = nodes(founding);
    let is_other = |before: &&Arc<Configuration>| before.founders() != VotersDigest::of(&given);
    match log.configurations.last().filter(is_other) {
        Some(before) if !given.is_empty() => {
            Err(GroupError::OtherReplicas { group, before: nodes(before), given })
        }
        _ => Ok(()),
    }
}

/// Differs between the replicas of a group, and between the groups of a node.
fn seed(node: NodeId, group: GroupId) -> u64 {
    node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ group.0.wrapping_mul(0xd1b5_4a32_d192_ed03)
}

#[cfg(test)]
mod tests;
